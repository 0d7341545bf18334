"""Hydra's own compose of dlcli's configuration files, with nothing checked: what composing costs at least."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Figures, clock


def compose(folder: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir

    from dlcli.catalogue import CONFIGS

    def block() -> Figures:
        began = clock()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            compose("config", overrides)
        return {"seconds": clock() - began}

    return block
