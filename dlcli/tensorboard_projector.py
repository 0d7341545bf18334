"""Vectors for TensorBoard's projector, which turns them in space: files that its plug-in reads. Imports no torch.

In the run's folder: ``projector_config.pbtxt``, and ``projector/`` with the vectors, their labels and, on one sheet, a
thumbnail for each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = "projector_config.pbtxt"
FOLDER = "projector"


class Embedding(NamedTuple):
    """Vectors that stand for something, such as the codes of pictures."""

    vectors: Any  # tensor or array of numbers, (N, D)
    labels: Sequence[str]  # N texts
    images: Any = None  # tensor or array of uint8, (N, 3, H, W), or None


def write(directory: Path, name: str, embedding: Embedding) -> None:
    """Write the embedding for the projector, in place of an earlier one.

    Args:
        directory: the run's folder.
        name: what the projector calls it.
        embedding: N vectors; each label is put on one line.

    Raises:
        OSError: a file cannot be written.
    """
    import numpy as np

    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    np.savetxt(folder / "tensors.tsv", np.asarray(embedding.vectors), fmt="%.6g", delimiter="\t")
    (folder / "metadata.tsv").write_text("".join(" ".join(text.split()) + "\n" for text in embedding.labels))
    entry = f'  tensor_name: {json.dumps(name)}\n  tensor_path: "{FOLDER}/tensors.tsv"\n'
    entry += f'  metadata_path: "{FOLDER}/metadata.tsv"\n'
    if embedding.images is not None:
        from PIL import Image

        thumbnails = np.asarray(embedding.images)
        Image.fromarray(sheet(thumbnails)).save(folder / "sprite.png", format="PNG")
        height, width = thumbnails.shape[2:]
        entry += (
            f'  sprite {{ image_path: "{FOLDER}/sprite.png" single_image_dim: {width} single_image_dim: {height} }}\n'
        )
    (directory / CONFIG).write_text(f"embeddings {{\n{entry}}}\n")


def sheet(images: Any) -> Any:
    """Images (N, 3, H, W) on a square sheet, row by row and without gaps, (side · H, side · W, 3) for N <= side²."""
    import numpy as np

    count, channels, height, width = images.shape
    side = math.ceil(math.sqrt(count))
    tiles = np.zeros((side * side, channels, height, width), images.dtype)
    tiles[:count] = images
    tiles = tiles.reshape(side, side, channels, height, width).transpose(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    return tiles.reshape(side * height, side * width, channels)
