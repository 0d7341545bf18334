"""ImageData: pictures that fit in memory as bytes, turned into floats batch by batch on the training device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcli.data.augmentation import Augmentation
from dlcli.data.base import ImageBatch, TensorData
from dlcli.spec import DataSpec


class ImageData(TensorData):
    """Labelled pictures: per split, images (N, C, H, W) uint8 and labels (N,) int64.

    A batch holds float32 images, divided by ``maximum`` (the largest pixel value), and, if ``normalize``, with the mean
    0 and the standard deviation 1 over all pixels of the training part; with ``normalize="symmetric"``, from -1 to 1.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_classes")

    def __init__(
        self,
        splits: dict[str, tuple[Tensor, Tensor]],
        label_names: list[str],
        maximum: int,
        *,
        batch_size: int,
        normalize: bool | Literal["symmetric"],
        resize: int | None,
        augmentation: Mapping[str, Any] | None,
    ):
        super().__init__(batch_size=batch_size)
        self.tensors = dict(splits)
        self.label_names = label_names
        self.resize = resize
        images = splits["train"][0]
        channels, height, width = images.shape[1:]
        self.spec = DataSpec(
            input_shape=(channels, resize or height, resize or width),
            num_outputs=len(label_names),
            num_classes=len(label_names),
        )
        if augmentation:
            self.augmenting = True
            self.augmentation = Augmentation(augmentation, tuple(images.shape[1:]), maximum, len(label_names))
        if normalize == "symmetric":
            mean = deviation = maximum / 2
        else:
            mean, deviation = pixel_statistics(images) if normalize else (0.0, float(maximum))
        self.scale = 1 / deviation
        self.shift = -mean / deviation

    def collate(self, *tensors: Tensor) -> ImageBatch:
        pixels, labels = tensors
        return ImageBatch(self._standardised(pixels.float()), labels)

    def augmented(self, random: torch.Generator, *tensors: Tensor) -> ImageBatch:
        pixels, labels = tensors
        return self.augmentation.batch(pixels, labels, self._standardised, random)

    def _standardised(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W) as float, which are overwritten -> what the model sees."""
        images = images.mul_(self.scale).add_(self.shift)
        if self.resize:
            size = (self.resize, self.resize)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        return images


def pixel_statistics(images: Tensor, rows: Tensor | None = None) -> tuple[float, float]:
    """Mean and standard deviation over all values of a uint8 tensor (or of these rows), exactly, from a histogram."""
    counts = torch.zeros(256, dtype=torch.float64)
    # In small pieces: counting needs integers of four bytes.
    parts = (
        images.reshape(-1).chunk(16) if rows is None else (images[part].reshape(-1) for part in torch.split(rows, 256))
    )
    for part in parts:
        counts += torch.bincount(part.int(), minlength=256)
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean) ** 2).sum() / counts.sum()
    return float(mean), max(float(variance.sqrt()), 1.0)  # a constant picture is only shifted
