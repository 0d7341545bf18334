"""The suite behind scripts/bench: its measuring, its table, and that its rows run. Nothing is timed here.

What is installed for the suite only, such as Lightning, need not be here; with -m slow it is tried where it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks import __main__ as command_line
from benchmarks import measure, report, startup, suite, workloads
from benchmarks.measure import Absent, Command, Worker, paired, ratios
from benchmarks.rows import Bench, Finding, Row, at_least, at_most, compared, number, time_text

ROWS = {row.number: row for row in suite.ROWS}
LIGHT = (3, 9, 13, 16)  # they need no import of seconds, so that the fast tests can try them


class Scripted:
    """A side whose figures are known; ``log`` notes who was asked."""

    def __init__(self, name: str, figures: list[float], log: list[str]):
        self.name, self.figures, self.log = name, iter(figures), log

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def round(self) -> dict[str, float]:
        self.log.append(self.name)
        figure = next(self.figures)
        if figure < 0:
            raise Absent("it broke")
        return {"seconds": figure}

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")


def quiet(text: str) -> None:
    pass


def test_sides_take_turns_and_ratios_are_of_one_round():
    log: list[str] = []
    sides = {"a": Scripted("a", [1, 2, 3], log), "b": Scripted("b", [2, 2, 12], log)}
    measured = paired(sides, 3, quiet)
    assert log == ["start a", "start b", "a", "b", "a", "b", "a", "b", "stop a", "stop b"]
    finding = compared(measured, "a against b", "a", "b", goal=at_most(0.5))
    assert finding.values == [0.5, 1.0, 0.25]
    assert (finding.median, finding.met) == (0.5, True)
    assert compared(measured, "", "a", "b", faster=True, goal=at_least(3)).met is False


def test_a_side_that_breaks_is_left_out_and_the_others_go_on():
    log: list[str] = []
    sides = {"a": Scripted("a", [1, 2], log), "b": Scripted("b", [1, -1], log)}
    measured = paired(sides, 2, quiet)
    assert measured.values("a") == [1, 2]
    assert measured.absent == {"b": "it broke"}
    finding = compared(measured, "a against b", "a", "b", goal=at_most(2))
    assert (finding.absent, finding.met) == ("b: it broke", False)  # what was not measured is not met
    assert log[-2:] == ["stop a", "stop b"]


def test_one_side_under_two_names_is_started_once(tmp_path: Path):
    log: list[str] = []
    side = Scripted("a", [1, 2], log)
    assert paired({"a": side, "itself": side}, 1, quiet).rounds == {"a": [{"seconds": 1}], "itself": [{"seconds": 2}]}
    assert log == ["start a", "a", "a", "stop a"]
    assert Bench("quick", tmp_path).twin(side) is side
    assert Bench("full", tmp_path).twin(side) is not side


def test_commands_are_timed_and_their_failures_told(tmp_path: Path):
    code = "import sys; sum(range(200000)); open('here', 'w')"
    figures = Command([sys.executable, "-c", code], tmp_path).round()
    assert figures["cpu"] > 0
    assert 0 < figures["wall"] == figures["seconds"]
    assert (tmp_path / "here").exists()
    with pytest.raises(Absent, match="ValueError: no luck"):
        Command([sys.executable, "-c", "raise ValueError('no luck')"], tmp_path).start()


def test_a_worker_is_a_process_of_its_own_with_a_terminal(tmp_path: Path):
    (tmp_path / "benchmarks").mkdir()
    worker = Worker("peers.hydra_compose:compose", {"folder": str(tmp_path), "overrides": []}, tmp_path, warm=False)
    try:
        worker.start()
        assert worker.round()["seconds"] > 0
        assert worker.process is not None
        assert worker.process.poll() is None
    finally:
        worker.stop()
    assert worker.process is None


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("peers.hydra_compose:compose", {"overrides": ["model=nothing"]}, "Could not find 'model/nothing'|nothing"),
        ("ours:compose", {"overrides": ["model=lstn"]}, "no model 'lstn'"),
        ("ours:nothing", {}, "has no attribute 'nothing'"),
    ],
)
def test_what_fails_in_a_worker_is_told(tmp_path: Path, function: str, arguments: dict[str, object], message: str):
    worker = Worker(function, {"folder": str(tmp_path), **arguments}, tmp_path, warm=True)
    measured = paired({"it": worker}, 1, quiet)
    assert list(measured.absent) == ["it"]
    with pytest.raises(Absent, match=message):
        raise Absent(measured.absent["it"])


def test_a_peer_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "benchmarks.startup", None)
    with pytest.raises(Absent, match=r"benchmarks\.startup is not installed"):
        measure.prepared("startup:nothing", {})


def test_seconds_per_step_leave_the_first_tenth_out():
    times = [100.0, *range(30), 130.0]
    assert workloads.per_step(times[1:], 31) == pytest.approx((130 - 3) / 27)


def test_clocked_batches_are_those_of_the_data():
    times: list[float] = []
    batches = workloads.Clocked(["a", "b"], times)
    assert ([batches[0], batches[1]], len(batches), len(times)) == (["a", "b"], 2, 2)


@pytest.mark.parametrize("size", [1000, 600_000])
def test_made_up_texts_have_the_size_asked_for(tmp_path: Path, size: int):
    file = workloads.text(tmp_path, size)
    assert file.stat().st_size == size
    assert len(set(file.read_text())) < 60


def test_figures_are_readable():
    assert [number(value) for value in (0.0, 0.01234, 0.5, 1.0, 12.345, 1234.5, 43210.0)] == [
        *("0", "0.0123", "0.5", "1", "12.3", "1,234", "43,210")
    ]
    assert [time_text(seconds) for seconds in (12.3, 0.0801, 8.5e-6)] == ["12.3 s", "80.1 ms", "8.5 µs"]
    assert ratios([1, 4], [2, 2]) == [0.5, 2]


def test_the_table_shows_spread_goal_and_what_was_not_measured():
    found = {
        1: [
            Finding("help against pass", [2.0, 3.0, 2.5], "×", at_most(8), "30 ms", "12 ms"),
            Finding("help against LightningCLI", absent="lightning is not installed"),
        ]
    }
    table = report.markdown(found, "quick").splitlines()
    assert "| 1 | help against pass | 30 ms | 12 ms | 2 / 2.5 / 3 × | ≤ 8 × | yes |" in table
    assert "|  | help against LightningCLI |  |  | not measured: lightning is not installed |  |  |" in table
    assert "scripts/bench --quick" in table[0]
    record = json.loads(report.as_json(found, "quick"))
    assert record["rows"][0]["findings"][0]["median"] == 2.5
    assert record["rows"][0]["findings"][0]["values"] == [2.0, 3.0, 2.5]
    assert record["versions"]["torch"]


def test_rows_are_the_goals_in_their_order():
    assert list(ROWS) == sorted(ROWS)
    assert set(ROWS) == set(range(1, 17))
    assert len({row.name for row in ROWS.values()}) == len(ROWS)
    assert [row.number for row in ROWS.values() if row.gpu] == [15]


def test_the_command_line_chooses_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert command_line.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)
    assert [n for n, row in ROWS.items() if command_line.chosen(row, [], gpu=True)] == [15]
    assert [n for n, row in ROWS.items() if command_line.chosen(row, ["sampling", "4"], gpu=False)] == [4, 13]
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["17"])
    assert "no row 17; scripts/bench --list shows them" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["--reference", str(tmp_path)])
    assert "not a checkout of nanoGPT" in capsys.readouterr().err


def test_a_row_that_fails_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(_: Bench) -> list[Finding]:
        raise RuntimeError("a bug\nsecond line")

    row = Row(1, "one", "first", broken, gpu=False)
    monkeypatch.setattr(suite, "ROWS", (row,))
    assert command_line.main(["--quick", "--json", str(tmp_path / "json"), "--markdown", str(tmp_path / "md")]) == 1
    assert json.loads((tmp_path / "json").read_text())["rows"][0]["findings"][0]["absent"] == "RuntimeError: a bug"
    with pytest.raises(RuntimeError, match="a bug"):  # when rows are only tried out, it shows
        row.run(Bench("smoke", tmp_path))


@pytest.mark.parametrize("row", LIGHT)
def test_row_runs(row: int, tmp_path: Path):
    findings = ROWS[row].run(Bench("smoke", tmp_path))
    assert [finding.absent for finding in findings if finding.absent] == []
    assert any(finding.goal for finding in findings)
    assert all(finding.median >= 0 for finding in findings)


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted(set(ROWS) - set(LIGHT) - {15}))
def test_every_row_runs(row: int, tmp_path: Path):
    findings = ROWS[row].run(Bench("smoke", tmp_path))
    missing = {finding.absent for finding in findings if finding.absent}
    assert all("not installed" in reason or "No module named" in reason for reason in missing)
    assert len(missing) < len(findings)


def test_commands_that_are_measured_are_well_composed():
    from dlcli.config import compose
    from dlcli.sweep import plan

    assert compose(startup.ONE_STEP).config["trainer"]["max_steps"] == 1
    from benchmarks.sweep import JOBS, OURS

    assert len(plan(OURS[2:], [])) == JOBS


def test_the_reference_is_nanogpts_architecture(tmp_path: Path):
    import torch
    from benchmarks.peers.nanogpt import model_of

    from dlcli import build_model

    model = model_of(None, block_size=64, vocab_size=65)
    ours = build_model("gpt_nano", vocab_size=65, sequence_length=64)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in ours.parameters())
    tokens, targets = torch.randint(65, (2, 2, 64), generator=torch.Generator().manual_seed(0))
    logits, loss = model(tokens, targets)
    assert loss.item() == pytest.approx(torch.log(torch.tensor(65.0)).item(), abs=0.1)  # knows nothing yet
    torch.testing.assert_close(model(tokens)[0], logits[:, -1:])
    torch.testing.assert_close(
        model(tokens[:, :10], targets[:, :10].contiguous())[0], logits[:, :10]
    )  # looks back only
    assert model.generate(tokens, 3, top_k=1).shape == (2, 67)
    (tmp_path / "model.py").write_text("from benchmarks.peers.nanogpt import GPT, GPTConfig")
    assert model_of(str(tmp_path), block_size=8, vocab_size=5).config.block_size == 8  # as from a checkout


def test_the_references_batches_and_rates_are_nanogpts(tmp_path: Path):
    import numpy as np
    from benchmarks.peers.nanogpt import get_batch, rate

    np.arange(100, dtype=np.uint16).tofile(tmp_path / "train.bin")
    inputs, targets = get_batch(tmp_path / "train.bin", 3, 8)
    assert inputs.shape == (3, 8)
    assert (targets - inputs == 1).all()
    assert [rate(step, 2000) for step in (99, 100, 1050, 2000)] == pytest.approx([1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4])


def test_a_loss_is_reached_on_the_line_between_two_evaluations():
    from benchmarks.texts import reached

    assert reached({"100": 3.0, "200": 2.0, "300": 1.0}, 1.5) == 250
    assert reached({"100": 1.2}, 1.5) == 100
    with pytest.raises(Absent, match=r"1\.5 nats were not reached; the best was 2\.0000"):
        reached({"100": 2.0}, 1.5)
