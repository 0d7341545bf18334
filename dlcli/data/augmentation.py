"""Random changes of training pictures, drawn for each batch from the run's seed, the epoch and the batch's number.

Source: d2l 14.1 (flips, crops, colours) and 14.13 (crops of padded CIFAR-10 pictures); Zhong et al. 2020, "Random
Erasing Data Augmentation"; Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.data.base import ImageBatch
from dlcli.errors import ConfigError
from dlcli.functional import augmentation as change
from dlcli.hyperparameters import MIXING

ERASED_AREA = (0.02, 0.33)  # shares of the picture, and the shapes of what is erased: Zhong et al., section 3.2
ERASED_RATIO = (0.3, 3.3)
COLOURS = ("brightness", "contrast", "saturation", "hue")
WARPS = ("resized_crop", "rotation", "translation", "scale", "shear")


class Augmentation:
    """The changes that a configuration names (``dlcli.hyperparameters.AUGMENTATIONS``), in this order: crop and flips;
    resized crop, rotation, translation, scale and shear in one step; colours; and, after the pictures were
    standardised, erasing and mixing."""

    def __init__(self, options: Mapping[str, Any], input_shape: tuple[int, ...], maximum: float, num_classes: int):
        """
        Args:
            options: name -> value; None leaves a change out.
            input_shape: (C, H, W) of the pictures as they are stored.
            maximum: the largest value of a pixel.
            num_classes: K.

        Raises:
            ConfigError: changes that the pictures do not allow.
        """
        self.options = {name: value for name, value in options.items() if value is not None}
        self.maximum = maximum
        self.num_classes = num_classes
        channels, height, width = input_shape
        for name in ("saturation", "hue"):
            if name in self.options and channels != 3:
                raise ConfigError(f"data.augmentation.{name} changes colours, and the pictures are grey; leave it out")
        if self.options.get("crop_padding", 0) > min(height, width):
            raise ConfigError(
                f"data.augmentation.crop_padding={self.options['crop_padding']}: expected at most the side of the "
                f"pictures, {height}×{width}"
            )
        for name in ("resized_crop", "scale"):
            bounds = self.options.get(name, [])
            if any(low > high for low, high in zip(bounds[::2], bounds[1::2], strict=True)):
                raise ConfigError(f"data.augmentation.{name}={list(bounds)}: a lower bound is above its upper one")

    def batch(
        self, pixels: Tensor, labels: Tensor, standardise: Callable[[Tensor], Tensor], random: torch.Generator
    ) -> ImageBatch:
        """A training batch.

        Args:
            pixels: (B, C, H, W) uint8, as they are stored.
            labels: (B,) int64.
            standardise: pixels as float -> what the model sees.
            random: on the CPU, so that every device draws the same.
        """
        draw = Draws(random, len(pixels), pixels.device)
        images = standardise(self._coloured(self._warped(self._moved(pixels, draw).float(), draw), draw))
        return ImageBatch(*self._mixed(self._erased(images, draw), labels, draw))

    def _moved(self, pixels: Tensor, draw: Draws) -> Tensor:
        padding = self.options.get("crop_padding", 0)
        horizontal, vertical = (self.options.get(f"{axis}_flip", 0.0) for axis in ("horizontal", "vertical"))
        if not (padding or horizontal or vertical):
            return pixels
        top, left = draw.whole(2 * padding), draw.whole(2 * padding)
        return change.crop_and_flip(pixels, top, left, draw.chance(horizontal), draw.chance(vertical), padding)

    def _warped(self, images: Tensor, draw: Draws) -> Tensor:
        if not any(name in self.options for name in WARPS):
            return images
        height, width = images.shape[2:]
        options = self.options
        turn, lean = options.get("rotation", 0.0), options.get("shear", 0.0)
        far, (small, large) = options.get("translation", 0.0), options.get("scale", (1.0, 1.0))
        matrices = change.affine_matrices(
            draw.between(-turn, turn),
            draw.between(-far, far),
            draw.between(-far, far),
            draw.between(small, large),
            draw.between(-lean, lean),
            height / width,
        )
        if "resized_crop" in options:
            rows, columns = draw.box(options["resized_crop"][:2], options["resized_crop"][2:], width / height)
            top, left = draw.between(0, 1) * (1 - rows), draw.between(0, 1) * (1 - columns)
            inner = change.crop_matrices(top, left, rows, columns)
            last = inner.new_tensor([0, 0, 1]).expand(len(inner), 1, 3)
            matrices = inner @ torch.cat([matrices, last], 1)  # the crop is what is turned and moved
        return change.warp(images, matrices)

    def _coloured(self, images: Tensor, draw: Draws) -> Tensor:
        strengths = [(name, self.options[name]) for name in COLOURS if name in self.options]
        if not strengths:
            return images
        images = images / self.maximum  # 0 to 1
        for name, strength in strengths:
            low, high = (-strength, strength) if name == "hue" else (max(0.0, 1 - strength), 1 + strength)
            images = getattr(change, name)(images, draw.between(low, high))
        return images * self.maximum

    def _erased(self, images: Tensor, draw: Draws) -> Tensor:
        if "erasing" not in self.options:
            return images
        height, width = images.shape[2:]
        chosen = draw.chance(self.options["erasing"])
        mask = self._boxes(draw.box(ERASED_AREA, ERASED_RATIO, width / height), height, width, draw)
        return images.masked_fill(mask & chosen.view(-1, 1, 1, 1), 0.0)

    @staticmethod
    def _boxes(shares: tuple[Tensor, Tensor], height: int, width: int, draw: Draws) -> Tensor:
        rows = (shares[0] * height).round().clamp(1, height).long()
        columns = (shares[1] * width).round().clamp(1, width).long()
        top = (draw.between(0, 1) * (height - rows + 1)).long().clamp(max=height - 1)
        left = (draw.between(0, 1) * (width - columns + 1)).long().clamp(max=width - 1)
        return change.boxes_mask(top, left, rows, columns, height, width)

    def _mixed(self, images: Tensor, labels: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
        """Pictures and targets (B, K) mixed with those of the batch in another order; one share for the batch."""
        known = [name for name in MIXING if name in self.options]
        if not known:
            return images, labels
        name = known[int(draw.number() * len(known))]
        share = draw.beta(self.options[name])
        order = draw.order()
        targets = F.one_hot(labels, self.num_classes).to(images.dtype)
        if name == "mixup":
            images = change.mixed(images, images[order], share)
        else:  # one box for the whole batch, whose middle is anywhere; what sticks out is cut off
            height, width = images.shape[2:]
            side = math.sqrt(1 - share)
            middle = draw.number() * height, draw.number() * width
            top, bottom = (round(min(max(middle[0] + s * side * height / 2, 0), height)) for s in (-1, 1))
            left, right = (round(min(max(middle[1] + s * side * width / 2, 0), width)) for s in (-1, 1))
            other = images[order]
            images = images.clone()
            images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)
        return images, change.mixed(targets, targets[order], share)


class Draws:
    """Random numbers for the pictures of one batch, (B,) each, drawn on the CPU and moved to the device."""

    def __init__(self, random: torch.Generator, count: int, device: torch.device):
        self.random = random
        self.count = count
        self.device = device

    def between(self, low: float, high: float) -> Tensor:
        """Uniform numbers."""
        return (torch.rand(self.count, generator=self.random) * (high - low) + low).to(self.device)

    def whole(self, most: int) -> Tensor:
        """Whole numbers from 0 to ``most``, all equally likely."""
        return torch.randint(most + 1, (self.count,), generator=self.random).to(self.device)

    def chance(self, probability: float) -> Tensor:
        """True with this probability."""
        return (torch.rand(self.count, generator=self.random) < probability).to(self.device)

    def box(self, area: tuple[float, float], ratio: tuple[float, float], of_picture: float) -> tuple[Tensor, Tensor]:
        """Heights and widths, as shares of the picture, of an area and a ratio of width to height between bounds.

        ``of_picture``: width divided by height of the picture. A side longer than the picture is cut to it.
        """
        areas = self.between(*area)
        ratios = self.between(math.log(ratio[0]), math.log(ratio[1])).exp() / of_picture
        return (areas / ratios).sqrt().clamp(max=1.0), (areas * ratios).sqrt().clamp(max=1.0)

    def number(self) -> float:
        """One uniform number from 0 to 1 for the whole batch."""
        return float(torch.rand((), generator=self.random))

    def beta(self, alpha: float) -> float:
        """One number of the distribution Beta(alpha, alpha) for the whole batch."""
        parts = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), self.random)
        return float(parts[0] / parts.sum().clamp(min=torch.finfo(torch.float64).tiny))

    def order(self) -> Tensor:
        """The pictures of the batch in a random order."""
        return torch.randperm(self.count, generator=self.random).to(self.device)
