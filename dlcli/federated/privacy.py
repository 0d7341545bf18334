"""Differential privacy of clients: how much the models that came out can tell about whether one client took part.

Each update is cut to a largest norm, and Gaussian noise is added to the sum of the updates of every round. Source: H.
B. McMahan, D. Ramage, K. Talwar, L. Zhang, "Learning differentially private recurrent language models" (ICLR 2018).
"""

from __future__ import annotations

import importlib.util
import secrets

import numpy as np

from dlcli.errors import ConfigError
from dlcli.federated.fixed_point import Floats

ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
"""Of Rényi's divergence. Between whole numbers the accountant's series need not converge."""


def require_accountant() -> None:
    """
    Raises:
        ConfigError: the package that computes epsilon is not installed.
    """
    if importlib.util.find_spec("dp_accounting") is None:
        raise ConfigError(
            "trainer.noise_multiplier: epsilon is computed by dp-accounting, which is not installed: "
            "pip install 'dlcli[federated]'; or leave out the noise"
        )


def epsilon(noise_multiplier: float, client_fraction: float, rounds: int, delta: float) -> float:
    """The epsilon of (epsilon, delta)-differential privacy after some rounds, from Google's dp-accounting (Rényi).

    Two sets of clients are neighbours if one of them has one client more.

    Args:
        noise_multiplier: the noise's standard deviation, in largest norms of an update.
        client_fraction: the chance of each client to take part in a round, independently of the others.
        rounds: how many.
        delta: the probability with which epsilon may fail.
    """
    if rounds == 0:
        return 0.0
    import dp_accounting
    from dp_accounting import rdp

    event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(noise_multiplier)
    if client_fraction < 1:
        event = dp_accounting.PoissonSampledDpEvent(client_fraction, event)
    accountant = rdp.RdpAccountant(ORDERS)
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, rounds))
    return float(accountant.get_epsilon(delta))


def secret_random() -> np.random.Generator:
    """Random numbers for noise and for who takes part: from the operating system, never from a seed that is kept."""
    return np.random.default_rng(secrets.randbits(128))


def clipped(update: Floats, norm: float) -> Floats:
    """The update, shortened to the norm if it is longer."""
    return update * min(1.0, norm / max(float(np.linalg.norm(update)), np.finfo(np.float64).tiny))
