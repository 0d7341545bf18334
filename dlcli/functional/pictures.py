"""Pictures made of tensors: a grid of images, and a matrix as colours. All pictures are (3, H, W) uint8, RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlcli.errors import ConfigError

GREEN, RED = (46, 160, 67), (218, 54, 51)
PREVIEW_IMAGES = 64  # of a batch, in a grid for people
BACKGROUND, MISSING = 24, 128
BORDER = 2  # pixels around each image of a grid
SMALLEST_SIDE = 32  # smaller images are enlarged by a whole factor
HEATMAP_SIDE = 320  # pixels, about
CAPTIONED_SIDE, LINE = 96, 12  # of an image with text below, and of its letters

RAMP = ((13, 17, 38), (30, 80, 140), (40, 160, 150), (245, 225, 90), (255, 255, 240))
"""The colours of a heat map from its smallest to its largest value; the brightness grows all the way."""


def drawable(inputs: Tensor) -> bool:
    """Whether these are images (N, 1 or 3, H, W)."""
    return inputs.ndim == 4 and inputs.shape[1] in (1, 3)


def grid(images: Tensor, colours: Tensor | None = None, columns: int | None = None) -> Tensor:
    """Images side by side in a grid, row by row.

    Args:
        images: (N, C, H, W), N > 0, C = 1 (grey) or 3. uint8 is shown as it is; of floats, the smallest value of all
            is black and the largest white, so that normalised images can be seen too.
        colours: (N, 3) uint8, the colour of the frame around each image; None draws no frames.
        columns: images in a row; None for as many as make the grid almost square.

    Returns:
        (3, H', W') uint8.

    Raises:
        ValueError: ``images`` has another shape.
    """
    if not drawable(images) or not len(images):
        raise ValueError(f"a grid needs images of shape (N, 1 or 3, H, W), not {tuple(images.shape)}")
    pixels = thumbnails(images)
    factor = max(1, math.ceil(SMALLEST_SIDE / min(pixels.shape[2:])))
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    count, _, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = height + 2 * BORDER, width + 2 * BORDER
    tiles = torch.full((rows * columns, 3, height, width), BACKGROUND, dtype=torch.uint8)
    if colours is not None:
        tiles[:count] = colours.cpu()[:, :, None, None]
    tiles[:count, :, BORDER:-BORDER, BORDER:-BORDER] = pixels
    tiles = tiles.view(rows, columns, 3, height, width).permute(2, 0, 3, 1, 4)  # (3, rows, H, columns, W)
    return tiles.reshape(3, rows * height, columns * width)


def thumbnails(images: Tensor) -> Tensor:
    """Images (N, 1 or 3, H, W) as colours (N, 3, H, W) uint8 on the CPU, of floats the smallest of all is black."""
    return _to_pixels(images.detach().cpu()).expand(-1, 3, -1, -1)


def captioned(images: Tensor, captions: Sequence[Sequence[str]]) -> Tensor:
    """Images side by side in an almost square grid, with lines of text below each.

    Args:
        images: (N, C, H, W) float, N > 0, C = 1 (grey) or 3; shown as ``grid`` shows them.
        captions: for each image as many lines as for the others; what is too long is cut off.

    Returns:
        (3, H', W') uint8.
    """
    from PIL import Image, ImageDraw, ImageFont

    pixels = thumbnails(images)
    factor = max(1, CAPTIONED_SIDE // max(pixels.shape[2:]))
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    font = ImageFont.load_default(LINE)
    width, height = max(CAPTIONED_SIDE, pixels.shape[3]), pixels.shape[2] + (LINE + BORDER) * len(captions[0]) + BORDER
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    whole = Image.new("RGB", (columns * (width + BORDER), rows * (height + BORDER)), (BACKGROUND,) * 3)
    for number, (image, lines) in enumerate(zip(pixels, captions, strict=True)):
        tile = Image.new("RGB", (width, height), (BACKGROUND,) * 3)  # cuts long lines off
        tile.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), ((width - image.shape[2]) // 2, 0))
        for line, text in enumerate(lines):
            below = image.shape[1] + line * (LINE + BORDER)
            ImageDraw.Draw(tile).text((BORDER, below), text, font=font, fill=(255, 255, 255))
        whole.paste(tile, (number % columns * (width + BORDER), number // columns * (height + BORDER)))
    return torch.from_numpy(np.array(whole)).permute(2, 0, 1)


def heatmap(matrix: Tensor) -> Tensor:
    """A matrix (R, C) of numbers as a picture: one square cell each, dark for the smallest, light for the largest.

    A matrix of equal numbers is dark; numbers that are not finite are grey.

    Raises:
        ValueError: ``matrix`` is not a matrix.
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"a heat map needs a matrix, not a tensor of shape {tuple(matrix.shape)}")
    matrix = matrix.detach().cpu().double()
    finite = matrix.isfinite()
    position = _to_unit(matrix.masked_fill(~finite, float(matrix[finite].min()) if finite.any() else 0.0))
    ramp = torch.tensor(RAMP, dtype=torch.float64)  # (K, 3)
    position = position * (len(RAMP) - 1)
    lower = position.long().clamp(max=len(RAMP) - 2)  # (R, C) the ramp's colour before the position
    part = (position - lower).unsqueeze(-1)
    colour = ramp[lower] * (1 - part) + ramp[lower + 1] * part  # (R, C, 3)
    colour[~finite] = MISSING
    cell = max(1, HEATMAP_SIDE // max(matrix.shape))
    picture = colour.round().to(torch.uint8).permute(2, 0, 1)  # (3, R, C)
    return picture.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def save_png(picture: Tensor, file: Path) -> None:
    """Write a picture (3, H, W) uint8.

    Raises:
        ConfigError: the file cannot be written.
    """
    from PIL import Image

    try:
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, format="PNG")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror or error})") from None


def _to_pixels(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    values = _to_unit(images.double().nan_to_num(0.0, 0.0, 0.0))
    return (values * 255).round().to(torch.uint8)


def _to_unit(values: Tensor) -> Tensor:
    """Shifted and scaled to [0, 1]; zeros where all values are equal."""
    smallest, largest = values.min(), values.max()
    spread = largest - smallest
    return (values - smallest) / spread if spread > 0 else torch.zeros_like(values)
