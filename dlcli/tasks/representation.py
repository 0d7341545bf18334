"""What tasks have in common that learn features without labels: how good these are, measured with the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.data.base import DataModule
from dlcli.errors import ConfigError
from dlcli.functional.contrastive import alignment, mean_closeness
from dlcli.functional.embeddings import in_the_plane, names_of
from dlcli.functional.inference import evaluating, uncompiled
from dlcli.functional.pictures import drawable, grid, thumbnails
from dlcli.functional.plots import scatter
from dlcli.hyperparameters import Count, Natural
from dlcli.metrics.accuracy import Accuracy
from dlcli.metrics.base import Mean, Metric
from dlcli.spec import DataSpec
from dlcli.tasks import feature_probe
from dlcli.tasks.base import Networks, Task
from dlcli.tasks.feature_probe import FeatureProbe, Features
from dlcli.tensorboard_projector import Embedding


class RepresentationLearning(Task):
    """Measures ``model.features(images) -> (B, F)`` beside those of an untrained copy of the model, and the pixels.

    Of each: ``linear_probe``, the accuracy of a linear classifier on the frozen features; ``knn``, that of the nearest
    neighbours' votes; ``uniformity``, how evenly the features are spread over the sphere (less is better); and
    ``alignment``, how far apart two random changes of a picture are (less is better), or, where the data have none, a
    picture and its mirror image. The classifiers are fitted to training pictures and measured on the split. Labels
    serve for nothing else.
    """

    requires: ClassVar[tuple[str, ...]] = ("input_shape", "num_classes")
    model_methods: ClassVar[tuple[str, ...]] = ("features",)
    samples: ClassVar[str] = "pictures"
    sample_split: ClassVar[str | None] = "val"
    views: ClassVar[Literal["none", "wanted", "needed"]] = "wanted"
    metric_directions = {
        "loss": "min",
        "linear_probe": "max",
        "knn": "max",
        "uniformity": "min",
        "alignment": "min",
        "untrained_linear_probe": "max",
        "untrained_knn": "max",
        "untrained_uniformity": "min",
        "untrained_alignment": "min",
        "pixels_linear_probe": "max",
        "pixels_knn": "max",
        "pixels_uniformity": "min",
        "pixels_alignment": "min",
    }

    def __init__(self, *, neighbors: Count, probe_per_class: Count | None, tsne: bool, sample: dict[str, Any]):
        """
        Args:
            neighbors: that vote.
            probe_per_class: training pictures of each class that the classifiers are fitted to; None for all.
            tsne: draw the features by t-SNE after each evaluation.
            sample: the defaults of ``sample``'s options, which the check of the configuration has looked at.
        """
        self.neighbors = neighbors
        self.probe_per_class = probe_per_class
        self.tsne = tsne
        self.sample_defaults = sample
        self.num_classes = 0
        self.label_names: Sequence[str] | None = None
        self.probes: dict[str, tuple[Features, FeatureProbe]] = {}  # by the prefix of the metrics' names

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        assert spec.num_classes is not None
        self.num_classes = spec.num_classes
        self.label_names = label_names

    def check(self, model: nn.Module, data: DataModule) -> None:
        """
        Raises:
            ConfigError: a model of which there is no untrained copy to compare with.
        """
        feature_probe.check_resets(model)

    def loss_of(self, networks: Networks, batch: Any) -> Tensor:
        """The loss of a batch that is only measured; it may draw from torch's global generator."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Metric]:
        metrics: dict[str, Metric] = {"loss": Mean()}
        for prefix in ("", "untrained_", "pixels_"):
            metrics |= {f"{prefix}linear_probe": Accuracy(), f"{prefix}knn": Accuracy()}
            metrics |= {f"{prefix}uniformity": Mean(torch.log), f"{prefix}alignment": Mean()}
        return metrics

    def begin_evaluation(self, networks: Networks, training: Iterator[Any]) -> None:
        """Fit the classifiers. Those on pixels and on untrained features stay the same, and are fitted once."""
        model: Any = uncompiled(networks["model"])
        images, labels = feature_probe.some_of_each(training, self.probe_per_class, self.num_classes)
        sources = {"": features(model)}
        if not self.probes:
            sources["untrained_"] = features(feature_probe.untrained(model, images, self.seed))
            sources["pixels_"] = lambda pictures: pictures.flatten(1).float()
        found = {name: feature_probe.features_of(source, images) for name, source in sources.items()}
        with torch.autocast(images.device.type, enabled=False):
            for name, values in found.items():
                self.probes[name] = sources[name], feature_probe.fit(values, labels, self.num_classes)

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        images, labels = batch[:2]
        with same_draws(images.device):
            metrics["loss"].update(self.loss_of(networks, batch), len(images))  # type: ignore[arg-type]
        for prefix, (source, probe) in self.probes.items():
            values = source(images)
            changes = map(source, batch.views.unbind(1)) if self.paired else (values, source(images.flip(3)))
            with torch.autocast(images.device.type, enabled=False):
                metrics[f"{prefix}linear_probe"].update(probe.linear(values), labels)
                metrics[f"{prefix}knn"].update(probe.nearest(values, self.neighbors), labels)
                if len(images) > 1:
                    pairs = len(images) * (len(images) - 1)
                    metrics[f"{prefix}uniformity"].update(mean_closeness(F.normalize(values)), pairs)  # type: ignore[arg-type]
                apart = alignment(*map(F.normalize, changes))
                metrics[f"{prefix}alignment"].update(apart, len(images))  # type: ignore[arg-type]

    def prediction_rows(self, model: nn.Module, batch: Any) -> dict[str, list[Any]]:
        """The features of each input, one column for each: "feature_0", "feature_1" and so on."""
        values = self.predict(model, batch)
        return {f"feature_{number}": column for number, column in enumerate(values.T.tolist())}

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Any) -> Tensor:
        """The features, (B, F) float32."""
        with evaluating(model):
            return features(model)(batch[0])

    @torch.no_grad()
    def sample(
        self, model: Any, batch: Any, *, num_samples: Count, num_neighbors: Count, seed: Natural
    ) -> Iterator[Tensor]:
        """One picture: some images of the batch, drawn by ``seed``, each with those beside it that are most like it.

        Raises:
            ConfigError: the inputs are no pictures.
        """
        images = batch[0]
        if not drawable(images):
            raise ConfigError(f"cannot sample: inputs of the shape {tuple(images.shape[1:])} are no pictures")
        values = F.normalize(self.predict(model, batch))
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        queries = order[:num_samples].to(values.device)
        cosines = values[queries] @ values.T
        cosines[torch.arange(len(queries)), queries] = 2  # each is its own neighbour, and comes first
        rows = cosines.topk(min(1 + num_neighbors, len(images))).indices  # (samples, 1 + neighbours)
        yield grid(images[rows.flatten()], columns=rows.shape[1])

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """ "features" for the projector and "tsne", their picture in the plane."""
        images = batch[0]
        values = features(uncompiled(networks["model"]))(images).cpu()
        labels = names_of(batch, self.label_names)
        shown: dict[str, Any] = {
            "features": Embedding(values, labels, thumbnails(images) if drawable(images) else None)
        }
        drawn = scatter(in_the_plane(values), labels) if self.tsne and len(values) > 1 else None
        return shown if drawn is None else {**shown, "tsne": drawn}


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Random numbers that are the same each time; afterwards torch's global generators are as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def features(model: Any) -> Features:
    """What the model makes of images, in full precision."""
    return lambda images: model.features(images).float()
