"""Regression with a distribution instead of a number: a normal distribution of the targets for each input.

Source: d2l 18.3 "Gaussian Process Inference".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dlcli.data.base import generator
from dlcli.errors import ConfigError
from dlcli.functional.inference import evaluating, uncompiled
from dlcli.functional.pictures import heatmap
from dlcli.functional.plots import uncertain_function
from dlcli.hyperparameters import Drawn, Natural
from dlcli.metrics.base import Mean, Metric
from dlcli.registry import TASKS
from dlcli.spec import DataSpec
from dlcli.tasks.base import Loss, Networks
from dlcli.tasks.regression import Regression

BAND = 1.959964  # standard deviations to either side of the mean that hold 95 % of a normal distribution
POINTS = 200  # inputs at which functions are drawn; also the most rows of the picture of a kernel matrix
MARGIN = 0.1  # of the range of the training inputs, drawn beyond it at either end


@TASKS.register("probabilistic_regression")
class ProbabilisticRegression(Regression):
    """-log p(target | input) for each number to predict, over batches (features, targets (B, K)).

    Model contract: ``model(features) -> means (B, K)`` and ``model.predictive(features) -> (means (B, K), variances
    (B, 1) or (B, K))`` of the targets, noise included. Pictures and samples are those of a Gaussian process: its
    ``inputs``, ``targets``, ``kernel`` and ``functions(inputs, count, generator, prior=…)``.

    Metrics: loss (nats for each number, in the unit that is trained on), mae, rmse and r2 of the means, coverage (the
    share of the targets inside the band that should hold 95 %), deviation (the mean standard deviation, in the
    targets' own unit as mae and rmse are).
    """

    calls_model_only: ClassVar[bool] = False
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("gaussian_process",)}
    metric_directions = {"loss": "min", "mae": "min", "rmse": "min", "r2": "max"}

    def __init__(self, *, sample: dict[str, Any]):
        """
        Args:
            sample: the defaults of ``sample``'s options.
        """
        super().__init__(loss="mse", delta=1.0, plots=False)
        self.sample_defaults = sample

    samples: ClassVar[str] = "pictures"

    def bind(self, spec: DataSpec, vocabulary: Any, label_names: Any) -> None:
        super().bind(spec, vocabulary, label_names)
        self.one_input = math.prod(spec.input_shape or ()) == 1

    def training_step(self, networks: Networks, batch: Any) -> Iterator[Loss]:
        model: Any = uncompiled(networks["model"])
        means, variances = model.predictive(batch[0])
        yield Loss(surprise(means, variances, batch[1]))

    def metrics(self) -> dict[str, Metric]:
        return {**super().metrics(), "coverage": Mean(), "deviation": Mean()}

    def evaluation_step(self, networks: Networks, batch: Any, metrics: dict[str, Metric]) -> None:
        model: Any = uncompiled(networks["model"])
        means, variances = model.predictive(batch[0])
        means, targets = self._beside_targets(means, batch)
        number = len(targets)
        deviations = variances.sqrt()
        inside = (targets - means).abs() <= BAND * deviations
        spread = self._in_target_unit(means + deviations) - self._in_target_unit(means - deviations)
        metrics["loss"].update(surprise(means, variances, targets), number)  # type: ignore[arg-type]
        metrics["coverage"].update(inside.double().mean(), number)  # type: ignore[arg-type]
        metrics["deviation"].update(spread.mean() / 2, number)  # type: ignore[arg-type]
        for name in ("mae", "rmse", "r2"):
            metrics[name].update(self._in_target_unit(means), self._in_target_unit(targets))

    @torch.no_grad()
    def prediction_rows(self, model: nn.Module, batch: Any) -> dict[str, list[Any]]:
        """The mean and the ends of the band that holds 95 %, in the targets' unit: prediction, lower, upper."""
        with evaluating(model):
            means, variances = model.predictive(batch[0])  # type: ignore[operator]
        columns = self.rows_of(self._in_target_unit(means))
        for name, sign in (("lower", -1), ("upper", 1)):
            ends = self.rows_of(self._in_target_unit(means + sign * BAND * variances.sqrt()))
            columns |= {key.replace("prediction", name): values for key, values in ends.items()}
        return columns

    # ------------------------------------------------------------------ pictures

    def sample(
        self, model: nn.Module, *, source: Literal["posterior", "prior"], num_samples: Drawn, seed: Natural
    ) -> Iterator[Tensor]:
        """A picture of functions, with the band that holds 95 % of them.

        Args:
            model: a Gaussian process over one number.
            source: what the functions are drawn from: "posterior" or "prior".
            num_samples: how many.
            seed: decides which.

        Raises:
            ConfigError: the data have more than one feature or target, or matplotlib is not installed.
        """
        if not self.one_input or self.num_targets != 1:
            raise ConfigError("functions are drawn for one feature and one target; see 'dlcli eval' for the metrics")
        picture = self._functions(model, num_samples, seed, prior=source == "prior")
        if picture is None:
            raise ConfigError("a picture of functions needs matplotlib: pip install 'dlcli[plot]'")
        yield picture

    def preview(self, networks: Networks, batch: Any) -> dict[str, Any]:
        """ "kernel_matrix" of (some of) the training inputs in ascending order; "posterior" and "prior": functions of
        one feature, where matplotlib is installed."""
        model: Any = uncompiled(networks["model"])
        order = model.inputs[:, 0].argsort()
        some = model.inputs[order[:: -(-len(order) // POINTS)]]
        shown = {"kernel_matrix": heatmap(model.kernel(some, some))}
        if self.one_input and self.num_targets == 1:
            count, seed = self.sample_defaults["num_samples"], self.sample_defaults["seed"]
            pictures = {
                name: self._functions(model, count, seed, prior=name == "prior") for name in ("posterior", "prior")
            }
            shown |= {name: picture for name, picture in pictures.items() if picture is not None}
        return shown

    @torch.no_grad()
    def _functions(self, model: Any, count: int, seed: int, *, prior: bool) -> Tensor | None:
        low, high = (float(end) for end in model.inputs.aminmax())
        margin = MARGIN * (high - low)
        line = torch.linspace(low - margin, high + margin, POINTS, dtype=torch.float64)
        inputs = line.unsqueeze(1).to(model.inputs)  # (POINTS, 1)
        with evaluating(model):
            drawn = model.functions(inputs, count, generator(seed), prior=prior)[:, :, 0]  # (count, POINTS)
            if prior:
                mean = model.mean.double().expand(POINTS, 1)
                deviation = model.kernel.diagonal(inputs).sqrt().unsqueeze(1)
            else:
                mean, variance = model.predictive(inputs)
                deviation = (variance - model.noise).clamp(min=0).sqrt()
        band = [mean, mean - BAND * deviation, mean + BAND * deviation]
        middle, lower, upper = (self._in_target_unit(part).flatten().cpu() for part in band)
        points = None if prior else torch.stack([model.inputs[:, 0], self._in_target_unit(model.targets)[:, 0]], 1)
        return uncertain_function(line, middle, lower, upper, self._in_target_unit(drawn).cpu(), points)


def surprise(means: Tensor, variances: Tensor, targets: Tensor) -> Tensor:
    """The mean of -log N(target | mean, variance) over targets (B, K), float64; the arguments broadcast to them."""
    variances = variances.double()
    errors = (targets.double() - means.double()).square() / variances
    return (errors + (2 * math.pi * variances).log()).mean() / 2
