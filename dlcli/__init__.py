"""dlcli: train, compare, understand and scale deep-learning models from one small command line."""

from __future__ import annotations

__version__ = "0.1.0"
