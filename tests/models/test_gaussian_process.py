"""Exact inference against scikit-learn's Gaussian process, and what a posterior must be by definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from torch import Tensor

from dlcli import runtime
from dlcli.catalogue import CONFIGS, load_yaml
from dlcli.errors import ConfigError, NonFiniteError, ResourceError
from dlcli.models.gaussian_process import GaussianProcess
from dlcli.registry import MODELS
from dlcli.spec import DataSpec

NUMBERS = {"outputscale": 1.5, "lengthscale": 0.7, "noise": 0.1}


def build(*, features: int = 1, targets: int = 1, **options: Any) -> GaussianProcess:
    config = {**load_yaml(CONFIGS / "model" / "rbf.yaml"), **options}
    spec = DataSpec(input_shape=(features,), num_outputs=targets, num_targets=targets)
    model: GaussianProcess = MODELS.build(config, spec=spec, label="example").double().eval()
    return model


def rows(count: int = 30, features: int = 1, targets: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    inputs = 5 * torch.rand(count, features, generator=random, dtype=torch.float64)
    noise = 0.3 * torch.randn(count, targets, generator=random, dtype=torch.float64)
    return inputs, inputs.sum(1, keepdim=True).sin() + torch.arange(targets) + noise


@pytest.mark.parametrize("features", [1, 3])
def test_posterior_and_likelihood_are_those_of_scikit_learn(features: int) -> None:
    inputs, targets = rows(features=features)
    model = build(features=features, **NUMBERS)
    with torch.no_grad():
        model.mean.fill_(0.4)
    model.fit([(inputs[:20], targets[:20]), (inputs[20:], targets[20:])])
    reference = GaussianProcessRegressor(1.5 * kernels.RBF(0.7), alpha=0.1, optimizer=None)
    reference.fit(inputs.numpy(), targets.numpy()[:, 0] - 0.4)
    at, _ = rows(50, features=features)
    mean, deviation = reference.predict(at.numpy(), return_std=True)
    found, variance = model.predictive(at)
    torch.testing.assert_close(found[:, 0], torch.from_numpy(mean) + 0.4, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(variance[:, 0], torch.from_numpy(deviation).square() + 0.1, rtol=1e-6, atol=1e-7)
    assert model.loss().item() == pytest.approx(-reference.log_marginal_likelihood_value_ / len(inputs), rel=1e-7)


def test_several_targets_are_as_many_models_with_one_kernel() -> None:
    inputs, targets = rows(targets=2)
    both, first, second = build(targets=2, **NUMBERS), build(**NUMBERS), build(**NUMBERS)
    both.fit([(inputs, targets)])
    first.fit([(inputs, targets[:, :1])])
    second.fit([(inputs, targets[:, 1:])])
    torch.testing.assert_close(both(inputs), torch.cat([first(inputs), second(inputs)], 1))
    assert both.loss().item() == pytest.approx((first.loss() + second.loss()).item() / 2)
    assert {"mean_0", "mean_1"} < set(both.hyperparameters())


def test_without_rows_the_posterior_is_the_prior() -> None:
    mean, variance = build(**NUMBERS).predictive(torch.linspace(0, 1, 5).unsqueeze(1))
    torch.testing.assert_close(mean, torch.zeros(5, 1, dtype=torch.float64))
    torch.testing.assert_close(variance, torch.full((5, 1), 1.6, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("prior", [True, False])
def test_functions_have_the_mean_and_the_covariance_that_they_are_drawn_with(prior: bool) -> None:
    inputs, targets = rows(10)
    model = build(**NUMBERS)
    model.fit([(inputs, targets)])
    at = torch.linspace(0, 5, 6, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        drawn = model.functions(at, 20_000, torch.Generator().manual_seed(0), prior=prior)[:, :, 0]
        covariance, mean = model.kernel(at, at), torch.zeros(6, dtype=torch.float64)
        if not prior:
            inverse = torch.linalg.inv(model.kernel(inputs, inputs) + 0.1 * torch.eye(10))
            across = model.kernel(at, inputs)
            mean, covariance = (across @ inverse @ targets)[:, 0], covariance - across @ inverse @ across.T
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.04)
    torch.testing.assert_close(drawn.T.cov(), covariance, rtol=0, atol=0.06)


def test_a_band_of_95_percent_holds_95_percent_and_hyperparameters_are_found() -> None:
    """The book's set-up, 20 times: two sines, noise 0.25, 50 points, 50 steps of Adam at 0.1 on the likelihood."""
    inside, noise = [], []
    x = torch.linspace(0, 5, 50, dtype=torch.float64).unsqueeze(1)
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        y, held_out = (x.sin() + (4 * x).sin() / 2 + 0.25 * torch.randn(50, 1, generator=random) for _ in range(2))
        model = build()
        model.observe([(x, y)])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            model.loss().backward()
            optimizer.step()
        with torch.no_grad():
            mean, variance = model.predictive(x)
        inside.append(((held_out - mean).abs() <= 1.96 * variance.sqrt()).double().mean())
        noise.append(model.noise.item())
    assert 0.90 <= float(torch.stack(inside).mean()) <= 0.97
    assert sorted(noise)[10] == pytest.approx(0.25**2, rel=0.3)


def test_the_decomposition_is_kept_within_an_evaluation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = rows()
    model = build(**NUMBERS)
    model.fit([(inputs, targets)])
    made = []
    factorise = GaussianProcess._factorise
    monkeypatch.setattr(GaussianProcess, "_factorise", lambda self: made.append(1) or factorise(self))
    with torch.no_grad():
        before = model(inputs)
        assert torch.equal(model(inputs), before)
        assert len(made) == 1
        model.raw_noise.add_(1.0)
        model.eval()  # as every evaluation begins
        assert not torch.equal(model(inputs), before)
    assert len(made) == 2


def test_rows_that_repeat_are_no_problem() -> None:
    inputs, targets = rows(10)
    model = build(noise=1.01e-4)
    model.fit([(inputs.repeat(20, 1), targets.repeat(20, 1))])
    assert (model(inputs) - targets).abs().max().item() < 0.05


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.noise=1e-05: expected more than 0.0001"):
        build(noise=1e-5)
    model = build()
    with pytest.raises(NonFiniteError, match="the kernel matrix of 2 rows has numbers that are not finite"):
        model.fit([(torch.tensor([[1.0], [float("nan")]]), torch.zeros(2, 1))])


def test_a_matrix_that_is_not_positive_definite_is_said() -> None:
    from dlcli.models.gaussian_process import cholesky

    almost = torch.ones(3, 3, dtype=torch.float64)
    torch.testing.assert_close(cholesky(almost) @ cholesky(almost).T, almost, rtol=0, atol=1e-5)
    with pytest.raises(NonFiniteError, match="the kernel matrix of 2 rows is not positive definite; use another model"):
        cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64))


def test_a_matrix_beyond_memory_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "free_memory", lambda _: 2**30)
    with pytest.raises(
        ResourceError,
        match=r"^1,000,000 training rows: a kernel matrix takes 7,450.6 GiB, training on it 149,011.6, and 1.0 GiB are "
        r"free on cpu; use at most [\d,]+ rows$",
    ):
        build().fit([(torch.zeros(1_000_000, 1), torch.zeros(1_000_000, 1))])
