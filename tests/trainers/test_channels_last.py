"""Convolutions with channels innermost in memory: the same numbers, written resolved, kept by resume and evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dlcli import checkpoint
from dlcli.cli.train import resume_run, start_run
from dlcli.errors import ConfigError
from dlcli.run import Run
from dlcli.saved_run import SavedRun

CONV = [
    "data=digits",
    "data.resize=16",
    "data.batch_size=64",
    "model=lenet",
    "optimizer.lr=1e-3",
    "trainer.eval_every=null",
]

VIEWING = '''
"""A convolution whose output is flattened by view."""
from torch import nn

from dlcli.registry import MODELS


@MODELS.register("viewing")
class Viewing(nn.Module):
    def __init__(self, *, input_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.linear = nn.Linear(4 * (input_shape[1] - 2) * (input_shape[2] - 2), num_outputs)

    def forward(self, inputs):
        return self.linear(self.convolution(inputs).view(len(inputs), -1))
'''


def fit(folder: Path, *overrides: str, plugins: tuple[str, ...] = ()) -> Run:
    options = [*CONV, "trainer.max_steps=12", f"run_dir={folder}", *overrides]
    run: Run = start_run(options, command="test", config_dirs=[], plugins=list(plugins), quiet=True)
    run.train()
    return run


def innermost(run: Run | SavedRun) -> bool:
    kernel = run.model.get_parameter("convolutions.3.weight")  # (16, 6, 5, 5)
    return kernel.is_contiguous(memory_format=torch.channels_last)


def losses(run: Run) -> list[float]:
    assert run.directory is not None
    lines = map(json.loads, (run.directory / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_auto_is_written_resolved_and_evaluation_uses_the_same_layout(tmp_path: Path) -> None:
    low, full = fit(tmp_path, "trainer.precision=bf16"), fit(tmp_path, "trainer.precision=fp32")
    for run, expected in ((low, True), (full, False)):
        assert run.directory is not None
        assert run.config["trainer"]["channels_last"] is expected
        assert f"channels_last: {str(expected).lower()}" in (run.directory / "config.yaml").read_text()
        saved = SavedRun(run.directory, device="cpu")
        assert innermost(run) is innermost(saved) is expected
        assert saved.evaluate("test") == run.summary["metrics"]["test"]


def test_the_numbers_are_those_of_the_other_layout(tmp_path: Path) -> None:
    common = ["trainer.log_every=1", "trainer.precision=fp32"]
    ours, usual = (fit(tmp_path, *common, f"trainer.channels_last={value}") for value in ("true", "false"))
    assert innermost(ours)
    assert losses(ours) == pytest.approx(losses(usual), rel=1e-4)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", "trainer.precision=bf16", "trainer.ema_decay=0.9")
    part = fit(tmp_path / "part", "trainer.precision=bf16", "trainer.ema_decay=0.9", "trainer.max_steps=5")
    assert part.directory is not None
    assert whole.directory is not None
    rest = resume_run(part.directory, ["trainer.max_steps=12"], config_dirs=[], plugins=[], quiet=True)
    rest.train()
    assert innermost(rest)
    ends = [checkpoint.load(run / "last.pt") for run in (whole.directory, part.directory)]
    for kept in ("model", "ema"):
        assert all(torch.equal(ends[0][kept][name], ends[1][kept][name]) for name in ends[0][kept])


def test_a_model_that_views_images_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "viewing.py").write_text(VIEWING)
    (tmp_path / "model" / "viewing.yaml").write_text("# A convolution and a view\nname: viewing\n")
    options = ("model=viewing", "trainer.precision=bf16", "trainer.max_steps=1")
    with pytest.raises(ConfigError, match="'viewing' calls view on images .* or set trainer.channels_last=false"):
        fit(tmp_path / "runs", *options, plugins=(str(tmp_path),))
    fit(tmp_path / "runs", *options, "trainer.channels_last=false", plugins=(str(tmp_path),))
