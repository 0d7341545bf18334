"""ImageData: pictures that fit in memory as bytes, turned into floats batch by batch on the training device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcli.data.augmentation import Augmentation
from dlcli.data.base import ImageBatch, TensorData
from dlcli.errors import ConfigError
from dlcli.hyperparameters import Normalize
from dlcli.spec import DataSpec

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue between 0 and 1 over the training pictures of ImageNet, as torchvision's weights have it."""


class ImageData(TensorData):
    """Labelled pictures: per split, images (N, C, H, W) uint8 and labels (N,) int64.

    A batch holds float32 images, divided by ``maximum`` (the largest pixel value), and changed as ``normalisation``
    says.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_classes")

    def __init__(
        self,
        splits: dict[str, tuple[Tensor, Tensor]],
        label_names: list[str],
        maximum: int,
        *,
        batch_size: int,
        normalize: Normalize,
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
        mean, deviation = normalisation(images, normalize, maximum)
        self.scale = per_channel([1 / d for d in deviation])
        self.shift = per_channel([-m / d for m, d in zip(mean, deviation, strict=True)])

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)

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


def normalisation(
    images: Tensor, normalize: Normalize, maximum: int, rows: Tensor | None = None
) -> tuple[list[float], list[float]]:
    """What is taken away from pixels (N, C, H, W), and what they are then divided by: one number each, or one for each
    channel.

    Args:
        images: uint8; where they are measured, ``rows`` says which ones train.
        normalize: true for mean 0 and standard deviation 1 over all pixels, "per_channel" over those of each channel,
            "imagenet" by the numbers of ImageNet, which trained weights expect, "symmetric" for -1 to 1, false for 0
            to 1.
        maximum: the largest pixel value.

    Raises:
        ConfigError: "imagenet" for pictures that are not in colour.
    """
    if normalize is False:
        return [0.0], [float(maximum)]
    if normalize == "symmetric":
        return [maximum / 2], [maximum / 2]
    if normalize == "imagenet":
        if images.shape[1] != len(IMAGENET_MEAN):
            raise ConfigError(
                f"data.normalize=imagenet: expected pictures of 3 channels, found {images.shape[1]}; use true"
            )
        return [maximum * m for m in IMAGENET_MEAN], [maximum * d for d in IMAGENET_DEVIATION]
    parts = images.unbind(1) if normalize == "per_channel" else [images]
    mean, deviation = zip(*[pixel_statistics(part, rows) for part in parts], strict=True)
    return list(mean), list(deviation)


def per_channel(values: Sequence[float] | float) -> Tensor:
    """One number, or one for each channel, in the shape (1, 1, 1) or (C, 1, 1), which fits pictures (B, C, H, W)."""
    return torch.tensor(values).view(-1, 1, 1)


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
