"""Pretexts: tasks that pictures pose by themselves, so that a network which solves them learns features on the way.

Sources: Gidaris, Singh, Komodakis 2018 (rotations); Noroozi & Favaro 2016 (order of patches); Vincent et al. 2008
(denoising); He et al. 2022 (masked patches); Zhang, Isola, Efros 2016 (colours); DLFS chapter 7 (autoencoders).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.data.base import DataModule
from dlcli.errors import ConfigError
from dlcli.functional import pretexts
from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.pictures import drawable, grid
from dlcli.hyperparameters import Count, PositiveFloat, Probability
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks
from dlcli.tasks.outputs import check_shape
from dlcli.tasks.representation import RepresentationLearning, same_draws

TELLING = {"rotation": pretexts.ROTATIONS, "shuffled_patches": len(pretexts.PATCH_ORDERS)}
"""The kinds that tell one of so many classes; the others rebuild a picture."""
PREVIEW_IMAGES = 32


@TASKS.register("pretext")
class Pretext(RepresentationLearning):
    """Tell what was done to a picture (cross-entropy), or undo it (mean squared error).

    rotation: by which of four quarters it was turned. shuffled_patches: in which of 24 orders its quarters stand.
    denoising: rebuild it from itself and normal noise. masked_patches: rebuild the squares that are hidden; the error
    counts there only. colourisation: rebuild the colours from the brightness. reconstruction: give it back as it is, as
    autoencoders do.

    Where the data have random changes, the pictures are changed first. Model contract: ``model(images) -> scores (B, 4
    or 24)``, or pictures of the images' shape; ``model.features`` as all tasks of this kind.
    """

    def __init__(
        self,
        *,
        kind: Literal["rotation", "shuffled_patches", "denoising", "masked_patches", "colourisation", "reconstruction"],
        noise: PositiveFloat,
        mask_share: Probability,
        patch_size: Count,
        **options: Any,
    ):
        """
        Args:
            kind: what is done to the pictures.
            noise: standard deviation of the noise, in the unit of the normalised pictures.
            mask_share: of the patches, at least one of which is hidden and at least one not.
            patch_size: side of the hidden squares in pixels, which divides that of the pictures.
        """
        super().__init__(**options)
        self.kind = kind
        self.noise = noise
        self.mask_share = mask_share
        self.patch_size = patch_size
        self.shape: tuple[int, ...] = ()

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        """
        Raises:
            ConfigError: the kind cannot be done to these pictures.
        """
        super().bind(spec, vocabulary, label_names)
        self.shape = shape = spec.input_shape or ()
        if len(shape) != 3:
            raise ConfigError(f"task 'pretext' needs images (channels, height, width), not inputs of shape {shape}")
        channels, height, width = shape
        size = f"the pictures have {channels}×{height}×{width} values"
        if self.kind == "rotation" and height != width:
            raise ConfigError(f"task.kind=rotation needs square pictures, and {size}; use another kind")
        if self.kind == "shuffled_patches" and (height % 2 or width % 2):
            raise ConfigError(f"task.kind=shuffled_patches needs even sides, and {size}; set data.resize")
        if self.kind == "colourisation" and channels != 3:
            raise ConfigError(f"task.kind=colourisation needs colours, and {size}; use another kind")
        fits = height % self.patch_size == 0 == width % self.patch_size and height * width > self.patch_size**2
        if self.kind == "masked_patches" and not fits:
            raise ConfigError(
                f"task.patch_size={self.patch_size}: expected a divisor of both sides, so that there are several "
                f"patches; {size}"
            )

    @torch.no_grad()
    def check(self, model: nn.Module, data: DataModule) -> None:
        super().check(model, data)
        weight = next(model.parameters())
        images = torch.zeros(2, *self.shape, dtype=weight.dtype, device=weight.device)
        with evaluating(model):
            self._check_outputs(model(images), images)

    def _check_outputs(self, outputs: Any, images: Tensor) -> None:
        if self.kind not in TELLING:
            axes = f"pictures, for kind {self.kind}: use model=pooled_autoencoder"
            return check_shape(outputs, tuple(images.shape), "pretext", axes)
        classes = TELLING[self.kind]
        axes = f"scores of {classes} classes, for kind {self.kind}: use model=simclr model.embedding_size={classes}"
        return check_shape(outputs, (len(images), classes), "pretext", axes)

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        yield Loss(self.loss_of(networks, batch))

    def loss_of(self, networks: Networks, batch: Any) -> Tensor:
        images = batch.views[:, 0] if hasattr(batch, "views") else batch[0]  # in sequence they are not changed
        inputs, targets, mask = self._posed(images)
        outputs = networks["model"](inputs)
        self._check_outputs(outputs, images)
        if self.kind in TELLING:
            return F.cross_entropy(at_least_float32(outputs), targets)
        errors = (at_least_float32(outputs) - targets).square()
        return errors.mean() if mask is None else (errors * mask).sum() / (mask.sum() * images.shape[1])

    def _posed(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the model sees, what it should say, and at which pixels (B, 1, H, W) it counts; None for all."""
        if self.kind == "rotation":
            return *pretexts.rotated(images), None
        if self.kind == "shuffled_patches":
            return *pretexts.shuffled_patches(images), None
        if self.kind == "denoising":
            return pretexts.noisy(images, self.noise), images, None
        if self.kind == "masked_patches":
            inputs, mask = pretexts.masked_patches(images, self.mask_share, self.patch_size)
            return inputs, images, mask
        if self.kind == "colourisation":
            return pretexts.without_colours(images), images, None
        return images, images, None

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """Beside the features: "pretext", some pictures, what the model sees of each, and what it makes of that."""
        shown = super().preview(networks, batch)
        images = batch[0][:PREVIEW_IMAGES]
        if drawable(images):
            model = uncompiled(networks["model"])
            with same_draws(images.device), evaluating(model):
                inputs = self._posed(images)[0]
                made = [] if self.kind in TELLING else [model(inputs).to(inputs)]
            shown["pretext"] = grid(torch.cat([images, inputs, *made], 3))
        return shown
