"""Both logs read back by their real readers: json and TensorBoard's own backend."""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlcli import tensorboard_events
from dlcli.tracking import EVENTS, METRICS, Tracker


def lines(folder: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (folder / METRICS).read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def accumulator(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    result.Reload()
    return result


def events(folder: Path) -> list[Any]:
    """Every event, without its time. The reader checks the checksums and stops at a broken record."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found = list(LegacyEventFileLoader(str(folder / EVENTS)).Load())
    for event in found:
        event.wall_time = 0
        for value in event.summary.value:
            if value.tag.startswith("_hparams_"):
                value.metadata.plugin_data.content = b""  # has times too
    return found


def without_times(folder: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    return [{key: value for key, value in line.items() if key != "time"} for line in lines(folder)], events(folder)


def session_groups(logs: Path) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    """What the HParams tab shows for a folder of runs: for each run its options and its metrics, by column."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(logs))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logs))
    backend = Context(TBContext(logdir=str(logs), multiplexer=multiplexer, data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN],
        aggregation_type=api_pb2.AGGREGATION_AVG,
    )
    experiment = get_experiment.Handler(RequestContext(), backend, "", api_pb2.GetExperimentRequest()).run()
    options = {info.name for info in experiment.hparam_infos}
    metrics = {info.name.tag for info in experiment.metric_infos}
    found = {}
    for group in list_session_groups.Handler(RequestContext(), backend, "", request).run().session_groups:
        (session,) = group.sessions
        assert session.status == api_pb2.STATUS_SUCCESS
        row = {key: getattr(value, value.WhichOneof("kind")) for key, value in group.hparams.items() if key in options}
        shown = {value.name.tag: value.value for value in group.metric_values if value.name.tag in metrics}
        found[session.name] = (row, shown)
    return found


def write_run(tracker: Tracker, first: int, last: int) -> None:
    for step in range(first, last):
        tracker.scalars(step, {"train/loss": 1 / (step + 1), "lr": 0.1})
        if step % 3 == 0:
            tracker.text(step, "sample", f"step {step}")
            tracker.image(step, "grid", np.full((3, 4, 5), step, np.uint8))


def in_child(function: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        signal.alarm(60)
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# What is written


def test_scalars_in_both_logs(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(1, {"train/loss": 2.5, "epoch": 0})
    tracker.scalars(2, {"train/loss": torch.tensor(0.5), "val/accuracy": np.float32(0.25)})
    tracker.close()
    first, second = lines(tmp_path)
    assert list(first) == ["step", "time", "train/loss", "epoch"]
    assert (first["step"], first["train/loss"], first["epoch"]) == (1, 2.5, 0)
    assert (second["step"], second["train/loss"], second["val/accuracy"]) == (2, 0.5, 0.25)
    read = accumulator(tmp_path)
    assert read.Tags()["scalars"] == ["train/loss", "epoch", "val/accuracy"]
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(1, 2.5), (2, 0.5)]
    assert read.Scalars("train/loss")[0].wall_time == pytest.approx(first["time"])
    assert read.FirstEventTimestamp() == pytest.approx(first["time"], abs=60)


def test_every_line_is_json_whatever_the_value(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    values = {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 1e300, 'é "quoted"\n': 1e-320}
    tracker.scalars(0, values)
    tracker.scalars(1, {"a": 2**70})
    tracker.close()
    first, second = lines(tmp_path)
    assert (first["a"], first["b"], first["c"]) == ("NaN", "Infinity", "-Infinity")
    for key, value in values.items():
        assert float(first[key]) == pytest.approx(value, nan_ok=True)
    assert second["a"] == 2**70
    assert [np.isnan(event.value) for event in accumulator(tmp_path).Scalars("a")] == [True, False]


def test_a_line_is_readable_as_soon_as_it_is_written(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for step in range(3):
        tracker.scalars(step, {"loss": 1.0})
        assert len(lines(tmp_path)) == step + 1
        assert len(events(tmp_path)) == step + 2
    tracker.close()


def test_text_is_shown_literally(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.text(7, "sample", "ROMEO:\n  *Ay* me — \ud800")
    tracker.close()
    read = accumulator(tmp_path)
    (event,) = read.Tensors("sample")
    assert event.step == 7
    assert event.tensor_proto.string_val[0].decode() == "    ROMEO:\n      *Ay* me — ?"
    assert read.SummaryMetadata("sample").plugin_data.plugin_name == "text"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_images_come_back_bit_for_bit(tmp_path: Path, channels: int, kind: str) -> None:
    image = torch.randint(0, 256, (channels, 6, 9), dtype=torch.uint8)
    tracker = Tracker(tmp_path)
    tracker.image(2, "inputs", image if kind == "torch" else image.numpy())
    tracker.close()
    (event,) = accumulator(tmp_path).Images("inputs")
    assert (event.step, event.width, event.height) == (2, 9, 6)
    pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    expected = image[0].numpy() if channels == 1 else image.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 4, dtype=torch.uint8), np.zeros((4, 4), np.uint8)]
)
def test_other_images_are_refused(tmp_path: Path, image: Any) -> None:
    with pytest.raises(ValueError, match=r"image 'grid' has shape \(.*\) of \w+; expected \(3, H, W\) or \(1, H, W\)"):
        Tracker(tmp_path).image(0, "grid", image)


def test_the_hparams_tab_shows_options_and_final_metrics_of_different_runs(tmp_path: Path) -> None:
    for name, config, metrics in (
        ("a", {"model.name": "lstm", "model.layers": 2, "trainer.patience": None, "on": True}, {"val/loss": 1.5}),
        ("b", {"model.name": "mlp", "optimizer.lr": 0.5, "on": False, "sizes": [1, 2]}, {"test/accuracy": 0.75}),
    ):
        (tmp_path / name).mkdir()
        tracker = Tracker(tmp_path / name)
        tracker.scalars(9, {"val/loss": 2.0})
        tracker.hparams(config, metrics)
        tracker.close()
    found = session_groups(tmp_path)
    assert set(found) == {"a", "b"}
    assert found["a"][0] == {"model.name": "lstm", "model.layers": 2, "on": True}
    assert found["b"][0] == {"model.name": "mlp", "optimizer.lr": 0.5, "on": False, "sizes": "[1, 2]"}
    assert found["a"][1] == {"val/loss": 2.0, "final/val/loss": 1.5}
    assert found["b"][1] == {"val/loss": 2.0, "final/test/accuracy": 0.75}
    (final,) = accumulator(tmp_path / "a").Scalars("final/val/loss")
    assert (final.step, final.value) == (9, 1.5)


def test_records_and_hparams_are_those_that_tensorboards_own_modules_make() -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = tensorboard_events.hparams_events(3, {"lr": 0.1, "name": "ünïcode" * 50}, {"loss": 0.5})
    for event in [tensorboard_events.first_event(), *events]:
        file = io.BytesIO()
        RecordWriter(file).write(event.SerializeToString())
        assert tensorboard_events.record(event) == file.getvalue()
    tags = [metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG]
    for event, tag in zip(events[:2], tags, strict=True):
        (value,) = event.summary.value
        content = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        assert (value.tag, value.tensor) == (tag, metadata.NULL_TENSOR)
        expected = metadata.create_summary_metadata(content)
        again = plugin_data_pb2.HParamsPluginData.FromString(expected.plugin_data.content)
        assert content == again  # their bytes may differ: the options of a map have no order
        expected.plugin_data.content = value.metadata.plugin_data.content
        assert value.metadata == expected


def test_hparams_that_are_not_finite(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tracker = Tracker(tmp_path / "a")
    tracker.hparams({"lr": 0.1, "clip": float("inf")}, {"val/loss": float("nan")})
    tracker.close()
    options, metrics = session_groups(tmp_path)["a"]
    assert options == {"lr": 0.1, "clip": "inf"}
    assert np.isnan(metrics["final/val/loss"])


def test_no_directory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(None)
    write_run(tracker, 0, 4)
    tracker.hparams({}, {})
    tracker.flush()
    assert tracker.offsets() == {}
    tracker.close()
    assert os.listdir(tmp_path) == []


def test_constructing_imports_neither_torch_nor_tensorboard_and_writing_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dlcli.tracking import Tracker\n"
        "tracker = Tracker(Path(sys.argv[1]))\n"
        "assert not {'torch', 'tensorboard', 'numpy', 'PIL'} & set(sys.modules)\n"
        "tracker.scalars(0, {'loss': 1.0}); tracker.close()\n"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "import threading; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parent.parent)
    assert len(lines(tmp_path)) == 1


# Resuming


@pytest.mark.parametrize("kill_at", [0, 1, 4, 9])
def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path: Path, kill_at: int) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    tracker = Tracker(whole)
    write_run(tracker, 0, 10)
    tracker.hparams({"a": 1}, {"loss": 0.5})
    tracker.close()

    tracker = Tracker(resumed)
    write_run(tracker, 0, kill_at)
    offsets = tracker.offsets()
    before = {name: (resumed / name).read_bytes() for name in offsets if (resumed / name).exists()}
    assert all(len(before.get(name, b"")) == size for name, size in offsets.items())
    write_run(tracker, kill_at, 8)  # lost with the process: the checkpoint was saved before
    tracker.hparams({"a": 1}, {"loss": 0.7})

    tracker = Tracker(resumed, json.loads(json.dumps(offsets)))
    for name, size in offsets.items():
        assert (resumed / name).read_bytes() == before.get(name, b"")
        assert (resumed / name).stat().st_size == size
    write_run(tracker, kill_at, 10)
    tracker.hparams({"a": 1}, {"loss": 0.5})
    tracker.close()
    assert without_times(resumed) == without_times(whole)
    assert sorted(os.listdir(resumed)) == sorted(os.listdir(whole)) == [EVENTS, METRICS]


def test_no_checkpoint_yet_starts_the_logs_again(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    write_run(tracker, 0, 4)
    Tracker(tmp_path, {})
    assert (tmp_path / METRICS).read_bytes() == (tmp_path / EVENTS).read_bytes() == b""


def test_torn_last_records_are_cut_at_every_byte(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(0, {"loss": 1.0})
    one = tracker.offsets()
    tracker.scalars(1, {"loss": 0.5})
    tracker.close()
    for name in (METRICS, EVENTS):
        content = (tmp_path / name).read_bytes()
        for size in range(one[name], len(content)):
            (tmp_path / name).write_bytes(content[:size])
            Tracker(tmp_path)
            assert (tmp_path / name).stat().st_size == one[name]
        (tmp_path / name).write_bytes(content)
    tracker = Tracker(tmp_path)  # whole files stay as they are, and are continued
    tracker.scalars(2, {"loss": 0.25})
    tracker.close()
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]
    assert [event.step for event in accumulator(tmp_path).Scalars("loss")] == [0, 1, 2]


def test_a_log_shorter_than_the_checkpoint_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(tmp_path)
    write_run(tracker, 0, 3)
    offsets = tracker.offsets()
    tracker.close()
    os.truncate(tmp_path / METRICS, offsets[METRICS] - 5)
    tracker = Tracker(tmp_path, offsets)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1]
    (record,) = caplog.records
    assert "metrics.jsonl: the last 5 bytes that the checkpoint knows of are missing" in record.getMessage()
    tracker.scalars(3, {"loss": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 3]


def test_a_long_torn_line(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(b'{"step": 0}\n' + b"x" * 200_000)
    Tracker(tmp_path)
    assert (tmp_path / METRICS).read_bytes() == b'{"step": 0}\n'
    (tmp_path / METRICS).write_bytes(b"x" * 200_000)
    Tracker(tmp_path)
    assert (tmp_path / METRICS).read_bytes() == b""


# A disk that is full, a folder that cannot be written


@pytest.mark.parametrize("full", [METRICS, EVENTS])
def test_one_full_log_warns_once_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, full: str
) -> None:
    tracker = Tracker(tmp_path)
    write_run(tracker, 0, 2)
    size = (tmp_path / full).stat().st_size
    inode, original = (tmp_path / full).stat().st_ino, os.write

    def write(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_ino != inode:
            return original(descriptor, data)
        if len(data) > 10:
            return original(descriptor, data[:10])  # the last bytes that fit
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    write_run(tracker, 2, 8)
    tracker.hparams({"a": 1}, {"loss": 1.0})
    offsets = tracker.offsets()
    tracker.close()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("dlcli", logging.WARNING)
    message = f"{full}: cannot be written (No space left on device); training goes on without this log"
    assert message in record.getMessage()
    assert (tmp_path / full).stat().st_size == size, "the torn record is gone"
    other = METRICS if full == EVENTS else EVENTS
    assert offsets[full] == size, "a resumed run does not lose what was there before the disk was full"
    assert offsets[other] == (tmp_path / other).stat().st_size
    steps = [line["step"] for line in lines(tmp_path)]
    assert steps == (list(range(2)) if full == METRICS else list(range(8)))
    assert len(accumulator(tmp_path).Scalars("lr")) == (8 if full == METRICS else 2)


def test_a_limit_on_file_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        tracker = Tracker(tmp_path)
        write_run(tracker, 0, 100)
        tracker.close()
        assert len(caplog.records) == 2

    assert in_child(child) == 0
    count = len(lines(tmp_path))
    assert 2 <= count < 10
    assert (tmp_path / EVENTS).stat().st_size <= 500
    assert len(accumulator(tmp_path).Scalars("lr")) >= 1


def test_a_folder_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(tmp_path / "gone")
    write_run(tracker, 0, 5)
    assert tracker.offsets() == {METRICS: 0, EVENTS: 0}
    tracker.close()
    assert len(caplog.records) == 2
    assert "No such file or directory" in caplog.text


def test_a_directory_in_place_of_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / METRICS).mkdir()
    tracker = Tracker(tmp_path)
    write_run(tracker, 0, 2)
    tracker.close()
    assert "metrics.jsonl: cannot be written (Is a directory)" in caplog.text
    assert len(accumulator(tmp_path).Scalars("lr")) == 2
