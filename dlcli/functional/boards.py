"""Pictures of grids: boards that are drawn by characters, and values of cells with arrows. (3, H, W) uint8, RGB."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcli.functional.pictures import heatmap

CELL = 24  # pixels
COLOURS = {"@": (218, 54, 51), "G": (46, 160, 67), "H": (60, 60, 70), "X": (60, 60, 70), "S": (245, 225, 90)}
WALLS, ICE = "+-|", (205, 228, 245)


def board_picture(rows: Sequence[str]) -> Tensor:
    """Rows of characters as cells: the agent @ red, goals green, holes dark; other letters are written."""
    import numpy as np
    from PIL import Image, ImageDraw

    width = max(map(len, rows))
    image = Image.new("RGB", (CELL * width, CELL * len(rows)), ICE)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(rows):
        for column, cell in enumerate(line):
            x, y = CELL * column, CELL * row
            if cell in COLOURS or cell in WALLS:
                draw.rectangle((x + 1, y + 1, x + CELL - 2, y + CELL - 2), fill=COLOURS.get(cell, (128, 128, 128)))
            elif cell not in "F.: ":
                draw.text((x + 8, y + 6), cell, fill=(0, 0, 0))
    return _tensor(np.asarray(image))


def policy_picture(values: Tensor, actions: Tensor, moves: Sequence[tuple[int, int]]) -> Tensor:
    """The values (R, C) of a grid's cells as colours, with an arrow towards where each cell's action (R, C) leads.

    A cell whose value is 0, where nothing is known or nothing can be done, has no arrow.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    pixels = heatmap(values)
    cell = pixels.shape[1] // values.shape[0]
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    draw = ImageDraw.Draw(image)
    for row, column in values.nonzero().tolist():
        down, right = moves[int(actions[row, column])]
        x, y, reach = cell * (column + 0.5), cell * (row + 0.5), cell * 0.3
        tip = (x + reach * right, y + reach * down)
        foot = (x - reach * right, y - reach * down)
        sides = [(foot[0] + 0.6 * s * reach * down, foot[1] + 0.6 * s * reach * right) for s in (-1, 1)]
        draw.polygon([tip, *sides], fill=(218, 54, 51), outline=(255, 255, 255))
    return _tensor(np.asarray(image))


def _tensor(pixels: object) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
