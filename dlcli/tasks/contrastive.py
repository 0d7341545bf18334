"""Contrastive learning: features in which two changes of a picture are near each other, and different pictures far.

Sources: those of ``dlcli.functional.contrastive``; He et al. 2020, "Momentum Contrast for Unsupervised Visual
Representation Learning" (keys of a second, slowly moving network); GDL chapter 16 (where to go on from).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.functional.contrastive import nt_xent, pair_masks, pairwise_margin, triplet_semi_hard
from dlcli.functional.inference import uncompiled
from dlcli.functional.pictures import PREVIEW_IMAGES, drawable, grid
from dlcli.hyperparameters import PositiveFloat
from dlcli.registry import TASKS
from dlcli.tasks.base import Loss, Networks
from dlcli.tasks.outputs import check_shape
from dlcli.tasks.representation import RepresentationLearning


@TASKS.register("contrastive")
class Contrastive(RepresentationLearning):
    """A loss over the pairs of a batch of 2B views, two random changes of each picture.

    Model contract: ``model(views (2B, C, H, W)) -> embeddings (2B, D)``, which are divided by their lengths, and
    ``model.features`` as all tasks of this kind. A model with ``keys(views) -> (2B, D)`` and ``update_keys()`` is
    compared with these keys instead of its own embeddings; the second is called after each step. Each of several
    processes compares the pictures of its own share of the batch only.
    """

    views: ClassVar[Literal["none", "wanted", "needed"]] = "needed"
    smallest_batch: ClassVar[int] = 2

    def __init__(
        self,
        *,
        loss: Literal["nt_xent", "triplet_semi_hard", "pairwise_margin"],
        positives: Literal["views", "labels"],
        temperature: PositiveFloat,
        margin: PositiveFloat,
        **options: Any,
    ):
        """
        Args:
            loss: a function of ``dlcli.functional.contrastive``.
            positives: what belongs together: the views of one picture, or those of all pictures of a class.
            temperature: of nt_xent.
            margin: of the other two.
        """
        super().__init__(**options)
        self.loss = loss
        self.positives = positives
        self.temperature = temperature
        self.margin = margin

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        yield Loss(self.loss_of(networks, batch))
        model: Any = uncompiled(networks["model"])
        if hasattr(model, "update_keys"):  # the step was taken
            model.update_keys()

    def loss_of(self, networks: Networks, batch: Any) -> Tensor:
        views = batch.views.flatten(0, 1)  # (2B, C, H, W), the two of a picture one after the other
        queries = networks["model"](views)
        check_shape(queries, (len(views), queries.shape[-1]), "contrastive", "(views, size of the embedding)")
        model: Any = uncompiled(networks["model"])
        keys = model.keys(views) if hasattr(model, "keys") else queries
        things = batch.labels if self.positives == "labels" else torch.arange(len(batch.images), device=views.device)
        masks = pair_masks(things.repeat_interleave(2))
        with torch.autocast(views.device.type, enabled=False):
            queries, keys = F.normalize(queries.float()), F.normalize(keys.float())
            if self.loss == "nt_xent":
                return nt_xent(queries, keys, *masks, self.temperature)
            function = triplet_semi_hard if self.loss == "triplet_semi_hard" else pairwise_margin
            return function(queries, keys, *masks, self.margin)

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """Beside the features: "views", the two changes of some pictures side by side."""
        shown = super().preview(networks, batch)
        views = batch.views[:PREVIEW_IMAGES]
        if drawable(batch.images):
            shown["views"] = grid(torch.cat(views.unbind(1), 3))
        return shown
