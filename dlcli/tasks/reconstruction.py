"""Reconstruction: a network learns to give back its own input, through a narrow code.

Source: DLFS chapter 7 (autoencoders; their codes in the plane).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.functional.embeddings import in_the_plane, names_of
from dlcli.functional.inference import at_least_float32, evaluating, uncompiled
from dlcli.functional.pictures import drawable, grid, thumbnails
from dlcli.functional.plots import scatter
from dlcli.hyperparameters import Drawn, Natural, PositiveFloat
from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.tasks.outputs import check_shape
from dlcli.tensorboard_projector import Embedding

PREVIEW_IMAGES = 32


@TASKS.register("reconstruction")
class Reconstruction(Task):
    """The mean squared error between inputs and outputs, over all examples and numbers of each; labels are not used.

    Model contract: ``model(inputs) -> reconstructions`` of the same shape; to sample and to show codes also
    ``model.encoder(inputs) -> codes (B, code_size)``, ``model.decoder(codes) -> reconstructions``. Metrics: loss.
    """

    requires: ClassVar[tuple[str, ...]] = ("input_shape",)
    metric_directions = {"loss": "min"}
    samples: ClassVar[str] = "pictures"
    sample_note: ClassVar[str] = (
        "an autoencoder learns to rebuild, not to generate: nothing says where its codes lie, so random ones mostly "
        "decode to no likely picture"
    )

    def __init__(self, *, tsne: bool, sample: dict[str, Any]):
        """
        Args:
            tsne: draw the codes by t-SNE after each evaluation.
            sample: the defaults of ``sample``'s options, which the check of the configuration has looked at.
        """
        self.tsne = tsne
        self.sample_defaults = sample
        self.label_names: Sequence[str] | None = None

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        self.label_names = label_names

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        yield Loss(F.mse_loss(self._forward(networks["model"], batch[0]), batch[0]))

    def metrics(self) -> dict[str, Metric]:
        return {"loss": Mean()}

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        inputs = batch[0]
        metrics["loss"].update(F.mse_loss(self._forward(networks["model"], inputs), inputs), len(inputs))  # type: ignore[arg-type]

    def _forward(self, model: Any, inputs: Tensor) -> Tensor:
        outputs = model(inputs)
        check_shape(outputs, tuple(inputs.shape), "reconstruction", "those of the inputs: use model=autoencoder")
        return at_least_float32(outputs)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Any) -> Tensor:
        """The reconstructions, of the inputs' shape."""
        with evaluating(model):
            return self._forward(model, batch[0])

    @torch.no_grad()
    def sample(self, model: Any, *, num_samples: Drawn, scale: PositiveFloat, seed: Natural) -> Iterator[Tensor]:
        """One picture: a grid of what the decoder makes of random codes. The global random state is never touched.

        Args:
            model: a model with a decoder of codes to images.
            num_samples: codes.
            scale: each of a code's numbers is uniform in ± this.
            seed: of the drawing; the first codes are the same for any number of them.

        Raises:
            ConfigError: the model has no decoder, or not one of images.
        """
        if not hasattr(model, "decoder"):
            raise ConfigError("cannot sample: the model has no decoder; use model=autoencoder or conv_autoencoder")
        random = torch.rand(num_samples, model.code_size, generator=torch.Generator().manual_seed(seed))
        weight = next(model.parameters())
        with evaluating(model):
            images = model.decoder(scale * (2 * random - 1).to(weight))
        if not drawable(images):
            raise ConfigError(f"cannot sample: what is decoded has the shape {tuple(images.shape[1:])}, no pictures")
        yield grid(images)

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """For images "reconstructions", each to the left of what the network makes of it; of a model with an encoder
        "codes" for the projector, and "tsne", their picture in the plane."""
        inputs = batch[0]
        model: Any = uncompiled(networks["model"])
        shown: dict[str, Any] = {}
        if drawable(inputs):
            images = inputs[:PREVIEW_IMAGES]
            rebuilt = self.predict(model, (images,))
            shown["reconstructions"] = grid(torch.cat([images, rebuilt.to(images)], 3))
        if hasattr(model, "encoder"):
            codes = at_least_float32(model.encoder(inputs)).cpu()
            labels = names_of(batch, self.label_names)
            shown["codes"] = Embedding(codes, labels, thumbnails(inputs) if drawable(inputs) else None)
            drawn = scatter(in_the_plane(codes), labels) if self.tsne and len(codes) > 1 else None
            if drawn is not None:
                shown["tsne"] = drawn
        return shown
