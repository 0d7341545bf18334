"""dlcli: train, compare, understand and scale deep-learning models from one small command line."""

from __future__ import annotations

__version__ = "0.1.0"

from dlcli.api import build_model, load_run, train

__all__ = ["__version__", "build_model", "load_run", "train"]
