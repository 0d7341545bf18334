"""Clipping, and epsilon against published and closed forms."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from dlcli.errors import ConfigError
from dlcli.federated import privacy

accountant = pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="dp-accounting is not installed"
)


def test_longer_updates_are_shortened_and_others_stay() -> None:
    update = np.array([3.0, 4.0])
    np.testing.assert_allclose(privacy.clipped(update, 1.0), [0.6, 0.8])
    assert (privacy.clipped(update, 10.0) == update).all()
    assert (privacy.clipped(np.zeros(2), 1.0) == 0).all()


def renyi_bound(noise: float, rounds: int, delta: float) -> float:
    """Gaussian noise without sampling is (a, rounds a / 2 noise²)-private; the classic conversion, best order a."""
    orders = np.linspace(1.01, 500, 50_000)
    return float((rounds * orders / (2 * noise**2) + math.log(1 / delta) / (orders - 1)).min())


@accountant
def test_epsilon_is_at_most_the_classic_bound_and_near_it() -> None:
    for noise, rounds in ((1.0, 1), (1.0, 10), (5.0, 100)):
        found, bound = privacy.epsilon(noise, 1.0, rounds, 1e-5), renyi_bound(noise, rounds, 1e-5)
        assert 0.75 * bound < found <= bound


@accountant
def test_epsilon_grows_with_rounds_and_shrinks_with_noise_and_sampling() -> None:
    base = privacy.epsilon(1.0, 0.1, 100, 1e-5)
    assert privacy.epsilon(1.0, 0.1, 200, 1e-5) > base
    assert privacy.epsilon(2.0, 0.1, 100, 1e-5) < base
    assert privacy.epsilon(1.0, 0.05, 100, 1e-5) < base
    assert privacy.epsilon(1.0, 1.0, 0, 1e-5) == 0


def test_without_the_accountant_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'dlcli\[federated\]'"):
        privacy.require_accountant()
