"""Generative adversarial training: a generator learns to make examples that a discriminator takes for the data's.

Source: Goodfellow et al. 2014, "Generative adversarial nets"; d2l 20.1 and 20.2.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dlcli.data.base import DataModule, generator
from dlcli.errors import ConfigError
from dlcli.functional.adversarial_losses import PROBABILISTIC, discriminator_loss, generator_loss, gradient_penalty
from dlcli.functional.features import features_and_scores, last_linear, pooled_pixels
from dlcli.functional.inference import at_least_float32, evaluating, frozen, uncompiled
from dlcli.functional.interpolation import on_the_way
from dlcli.functional.pictures import PREVIEW_IMAGES, drawable, grid, thumbnails
from dlcli.functional.plots import scatter
from dlcli.hyperparameters import Count, Drawn, Natural, NonNegativeFloat, Probability, RunReference
from dlcli.metrics.base import Mean, Metric
from dlcli.metrics.class_coverage import ClassShares, classes_hit
from dlcli.metrics.two_samples import TwoSamples, covariance_error, frechet_distance, mean_error, products
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks, Task
from dlcli.tasks.outputs import check_shape

PIXELS = 8  # the side to which pictures are averaged where there is no classifier
PREVIEW_POINTS = 500
DRAWN_TOGETHER = 16  # normal numbers, by torch; where fewer are left over, it draws the last 16 anew


@TASKS.register("gan")
class AdversarialTask(Task):
    """The discriminator takes ``discriminator_steps`` steps, each on its own part of the batch and as many generated
    examples, and then the generator one, on the latest of these. Where a batch has fewer examples, they are used again.

    Model contract: ``model.generator(noise (B, latent_size)) -> examples (B, …)`` like the data's,
    ``model.discriminator(examples) -> scores (B,)``, ``model.latent_size``; with ``model.output_range`` (lowest,
    highest) the data are checked to lie in it. Labels are not used.

    Logged: discriminator_loss, generator_loss, and the means of what the discriminator says of both kinds of examples:
    discriminator_on_data, D(x), and discriminator_on_generated, D(G(z)); probabilities, or the scores themselves for
    the losses hinge and wasserstein, which know no probabilities.

    Metrics compare the split with as many generated examples, by the features of ``classifier``, without one by
    the pixels of pictures averaged to 8×8, or by the numbers of other examples: frechet_distance, mean_error and
    covariance_error (relative). By the classifier also classes_hit, the shares smallest_class and largest_class of
    the generated examples, and confidence, the mean of the largest probability.
    """

    requires: ClassVar[tuple[str, ...]] = ("input_shape",)
    metric_directions = {"frechet_distance": "min", "mean_error": "min", "covariance_error": "min"}
    trains: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    samples: ClassVar[str] = "pictures"

    def __init__(
        self,
        *,
        loss: Literal["non_saturating", "minimax", "hinge", "wasserstein"],
        discriminator_steps: Count,
        label_smoothing: Probability,
        gradient_penalty: NonNegativeFloat | None,
        classifier: RunReference | None,
        sample: dict[str, Any],
    ):
        """
        Args:
            loss: what both minimise, see ``dlcli.functional.adversarial_losses``.
            discriminator_steps: for each step of the generator.
            label_smoothing: the data's examples count as real by 1 minus this.
            gradient_penalty: its coefficient, for the loss wasserstein; None for the others.
            classifier: the run of a classifier on the same data, by which generated examples are measured.
            sample: the defaults of ``sample``'s options, which the check of the configuration has looked at.

        Raises:
            ConfigError: label smoothing for a loss without probabilities, or a gradient penalty for another loss than
                wasserstein, or none for that.
        """
        if label_smoothing and loss not in PROBABILISTIC:
            raise ConfigError(
                f"task.label_smoothing={label_smoothing} belongs to the losses non_saturating and minimax, not to "
                f"{loss}; leave it out"
            )
        if loss == "wasserstein" and gradient_penalty is None:
            raise ConfigError("task.loss=wasserstein needs task.gradient_penalty, such as 10 (0 = none)")
        if loss != "wasserstein" and gradient_penalty is not None:
            raise ConfigError(
                f"task.gradient_penalty={gradient_penalty:g} belongs to the loss wasserstein, not {loss}; leave it out"
            )
        self.loss = loss
        self.discriminator_steps = discriminator_steps
        self.label_smoothing = label_smoothing
        self.gradient_penalty = gradient_penalty or 0.0
        self.sample_defaults = sample
        self.preview_seed: int = sample["seed"]
        self.feature_size = self.num_classes = 0

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        assert spec.input_shape is not None
        self.feature_size = pooled_pixels(torch.zeros(1, *spec.input_shape), PIXELS).shape[1]
        self.num_classes = spec.num_classes or 0

    def check(self, model: nn.Module, data: DataModule) -> None:
        """
        Raises:
            ConfigError: a batch norm where gradients are penalised for each example, a single example to compare with,
                or data out of the generator's range.
        """
        for split in data.splits:
            batches = data.batches(split, order="sequential")
            if len(batches) == 1 and len(batches[0][0]) < 2:
                raise ConfigError(
                    f"the data have 1 example in {split}, and task 'gan' compares the covariances of the examples with "
                    "those of generated ones: at least 2 are needed"
                )
        norms = (nn.BatchNorm1d, nn.BatchNorm2d)
        if self.gradient_penalty and any(isinstance(layer, norms) for layer in model.discriminator.modules()):  # type: ignore[union-attr]
            raise ConfigError(
                "task.loss=wasserstein penalises the gradient of each example, and batch norm in the discriminator "
                "mixes them; use model.discriminator_norm=false"
            )
        limits = getattr(model, "output_range", None)
        if limits is None:
            return
        examples = data.batches("train", order="sequential")[0][0]
        lowest, highest = (float(end) for end in examples.aminmax())
        if lowest < limits[0] - 1e-3 or highest > limits[1] + 1e-3:
            remedy = "data.normalize=symmetric" if drawable(examples) else "model.output=linear"
            raise ConfigError(
                f"the data go from {lowest:.2f} to {highest:.2f}, and the generator makes numbers from {limits[0]:g} "
                f"to {limits[1]:g}; use {remedy}"
            )

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        make, judge = networks["generator"], networks["discriminator"]
        model: Any = uncompiled(networks["model"])
        parts = batch[0].tensor_split(min(self.discriminator_steps, len(batch[0])))
        for step in range(self.discriminator_steps):  # as many in every process, also on the few of a last batch
            real = parts[step % len(parts)]
            noise = torch.randn(len(real), model.latent_size, device=real.device, dtype=real.dtype)
            generated = at_least_float32(make(noise))
            check_shape(generated, tuple(real.shape), "gan", "those of the data's examples")
            on_data, on_generated = self._scores(judge, real), self._scores(judge, generated.detach())
            value = discriminator_loss(self.loss, on_data, on_generated, self.label_smoothing)
            if self.gradient_penalty:
                value = value + self.gradient_penalty * gradient_penalty(uncompiled(judge), real, generated.detach())
            said = {"discriminator_on_data": on_data, "discriminator_on_generated": on_generated}
            yield Loss(value, "discriminator", logs={name: self._opinion(scores) for name, scores in said.items()})
        with frozen(judge):
            scores = self._scores(judge, generated)
        yield Loss(generator_loss(self.loss, scores), "generator")

    def metrics(self) -> dict[str, Metric]:
        size = self.feature_size if self.classifier is None else last_linear(self.classifier).in_features
        found: dict[str, Metric] = {
            "frechet_distance": TwoSamples(size, frechet_distance),
            "mean_error": TwoSamples(size, mean_error),
            "covariance_error": TwoSamples(size, covariance_error),
        }
        if self.classifier is not None:
            found["classes_hit"] = ClassShares(self.num_classes, classes_hit)
            found["smallest_class"] = ClassShares(self.num_classes, torch.min)
            found["largest_class"] = ClassShares(self.num_classes, torch.max)
            found["confidence"] = Mean()
        return found

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        model: Any = uncompiled(networks["model"])
        real = batch[0]
        generated = at_least_float32(model.generator(noise_for(model, len(real), noise_seed(real))))
        if self.classifier is None:
            features = [pooled_pixels(examples, PIXELS) for examples in (real, generated)]
        else:
            features = [features_and_scores(self.classifier, real)[0]]
            found, scores = features_and_scores(self.classifier, generated)
            features.append(found)
            for name in ("classes_hit", "smallest_class", "largest_class"):
                metrics[name].update(scores)
            likeliest = at_least_float32(scores).softmax(1).max(1).values
            metrics["confidence"].update(likeliest.mean(), len(real))  # type: ignore[arg-type]
        added = products(*features)
        for name in self.metric_directions:
            metrics[name].update(added)

    def exported(self, model: Any, batch: Any) -> tuple[nn.Module, Tensor]:
        """The generator, and noise."""
        return model.generator, noise_for(model, len(batch[0]), self.preview_seed)

    @torch.no_grad()
    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """ "samples": what the generator makes of the same noise each time; points beside some of the data's."""
        model: Any = uncompiled(networks["model"])
        real = batch[0][:PREVIEW_POINTS]
        count = PREVIEW_IMAGES if drawable(real) else len(real)
        picture = drawn(at_least_float32(model.generator(noise_for(model, count, self.preview_seed))), real)
        return {} if picture is None else {"samples": picture}

    @torch.no_grad()
    def sample(
        self, model: Any, *, num_samples: Drawn, interpolation: Count | None, singles: bool, seed: Natural
    ) -> Iterator[Tensor]:
        """A picture of what the generator makes of random noise. The global random state is never touched.

        Args:
            model: as the contract says, of pictures or of points in the plane.
            num_samples: noises; the first are the same for any number of them.
            interpolation: a row for each noise, with so many pictures on the way to the next one; None: only the
                noises themselves.
            singles: yield, after the grid, each picture by itself.
            seed: of the noise.

        Raises:
            ConfigError: what is generated can be drawn neither as pictures nor as points.
        """
        with evaluating(model):
            noise = noise_for(model, num_samples, seed)
            if interpolation is not None:
                noise = on_the_way(noise, interpolation)
            made = at_least_float32(model.generator(noise))
        drawing = drawn(made, columns=interpolation)
        if drawing is None:
            raise ConfigError(
                f"cannot sample: what is generated has the shape {tuple(made.shape[1:])}; expected pictures of 1 or 3 "
                "channels, or points in the plane (and matplotlib: pip install matplotlib)"
            )
        yield drawing
        if singles and drawable(made):
            yield from thumbnails(made)

    def _scores(self, judge: Any, examples: Tensor) -> Tensor:
        """What the discriminator says, (B,)."""
        scores = judge(examples)
        check_shape(scores, (len(examples),), "gan", "a score for each example")
        return at_least_float32(scores)

    def _opinion(self, scores: Tensor) -> Tensor:
        """The mean of scores, for the log."""
        return (scores.detach().sigmoid() if self.loss in PROBABILISTIC else scores.detach()).mean()


def noise_for(model: Any, count: int, seed: int) -> Tensor:
    """Standard normal noise (count, latent_size); the first rows are the same for any count."""
    size = count * model.latent_size
    drawn_together = -(-size // DRAWN_TOGETHER) * DRAWN_TOGETHER
    noise = torch.randn(drawn_together, generator=generator(seed))[:size]
    return noise.view(count, model.latent_size).to(next(model.parameters()))


def noise_seed(examples: Tensor) -> int:
    """A seed that depends on the first example alone: neither on the training so far nor on who measures this batch."""
    return zlib.crc32(examples[0].float().cpu().numpy().tobytes())


def drawn(generated: Tensor, real: Tensor | None = None, columns: int | None = None) -> Tensor | None:
    """A grid of pictures; of points (N, 2) where they are, with the real ones beside them. None for anything else."""
    if drawable(generated):
        return grid(generated, columns=columns)
    if generated.shape[1:] != (2,):
        return None
    kinds = [("data", real)] if real is not None else []
    points = {name: kind.float().cpu() for name, kind in [*kinds, ("generated", generated)]}
    return scatter(torch.cat(list(points.values())), [name for name, kind in points.items() for _ in kind])
