"""What a run writes down while it trains: ``metrics.jsonl`` for programs and one TensorBoard event file for people.

Both files only ever grow by whole records, and their lengths are part of a checkpoint. A resumed run cuts them back to
those lengths and goes on, so that they equal those of a run that was never interrupted, but for the times.

A log is not worth a training run: when the disk is full, there is one warning, that log ends, and training goes on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dlcli import tensorboard_events

METRICS = "metrics.jsonl"
EVENTS = "events.out.tfevents.dlcli"  # TensorBoard wants ".tfevents." in the name; the rest is ours

logger = logging.getLogger("dlcli")


class Tracker:
    """The logs of one run.

    Args:
        directory: the run's folder, which exists; None writes nothing (all processes but the first).
        offsets: what ``offsets()`` returned when the checkpoint was saved that the run resumes from. The logs are cut
            back to these lengths, a log that is not named to nothing. None goes on after the last whole record.
    """

    def __init__(self, directory: Path | None, offsets: Mapping[str, int] | None = None):
        self._metrics: _Log | None = None
        self._events: _Log | None = None
        self._event_writer: Any = None
        self._step = 0
        if directory is not None:
            self._metrics = _open(Path(directory) / METRICS, _whole_lines, offsets)
            self._events = _open(Path(directory) / EVENTS, tensorboard_events.whole_records, offsets)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line ``{"step": …, "time": …, **values}`` and one event.

        In the line, what is not finite is "NaN", "Infinity" or "-Infinity", which ``float`` reads.
        """
        self._step = step
        now = time.time()
        numbers = {tag: value if type(value) is int else float(value) for tag, value in values.items()}
        if self._metrics is not None:
            self._metrics = self._metrics.append(_line({"step": step, "time": now, **numbers}))
        if self._events is not None:
            self._add(tensorboard_events.scalars_event(step, now, numbers))

    def text(self, step: int, tag: str, text: str) -> None:
        """A text for TensorBoard, shown as it is (no Markdown)."""
        if self._events is not None:
            self._add(tensorboard_events.text_event(step, tag, text))

    def image(self, step: int, tag: str, image: Any) -> None:
        """An image for TensorBoard: a tensor or array of uint8, (3, H, W) or (1, H, W)."""
        if self._events is not None:
            self._add(tensorboard_events.image_event(step, tag, image))

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The run's line in TensorBoard's HParams tab: its flat configuration and final metrics. Once, at the end."""
        if self._events is not None:
            for event in tensorboard_events.hparams_events(self._step, config, metrics):
                self._add(event)

    def flush(self) -> None:
        """Bring both logs to the disk. What was written is in the files at once, for others to read."""
        self._metrics = self._metrics and self._metrics.sync()
        self._events = self._events and self._events.sync()

    def offsets(self) -> dict[str, int]:
        """The length of each log in bytes, after bringing it to the disk: a part of every checkpoint."""
        self.flush()
        return {log.path.name: log.size for log in (self._metrics, self._events) if log is not None}

    def close(self) -> None:
        """Flush and end both logs; later calls write nothing."""
        self.flush()
        for log in (self._metrics, self._events):
            if log is not None:
                log.close()
        self._metrics = self._events = None

    def _add(self, event: Any) -> None:
        if self._event_writer is None:
            from tensorboard.summary.writer.record_writer import RecordWriter

            self._event_writer = RecordWriter(SimpleNamespace(write=self._append_event))
            if self._events is not None and self._events.size == 0:
                self._add(tensorboard_events.first_event())
        self._event_writer.write(event.SerializeToString())

    def _append_event(self, record: bytes) -> None:
        self._events = self._events and self._events.append(record)


class _Log:
    """A file that grows by whole records. A method that fails warns once and returns None: the log is off."""

    def __init__(self, path: Path):
        self.path = path
        self.descriptor = -1  # opened by the first record
        self.size = path.stat().st_size if path.exists() else 0

    def append(self, record: bytes) -> _Log | None:
        try:
            if self.descriptor < 0:
                self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            self._off(error)
            return None
        self.size += len(record)
        return self

    def sync(self) -> _Log | None:
        try:
            if self.descriptor >= 0:
                os.fsync(self.descriptor)
        except OSError as error:
            self._off(error)
            return None
        return self

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def _off(self, error: OSError) -> None:
        reason = error.strerror or error
        logger.warning("%s: cannot be written (%s); training goes on without this log", self.path, reason)
        if self.descriptor >= 0:
            try:
                os.ftruncate(self.descriptor, self.size)  # without the record that did not fit
                os.close(self.descriptor)
            except OSError:
                pass


def _open(path: Path, whole: Callable[[Path], int], offsets: Mapping[str, int] | None) -> _Log | None:
    """The log at ``path``, cut back to its offset, or to its whole records if it is shorter or has no offset."""
    try:
        if path.exists():
            size = path.stat().st_size
            wanted = size if offsets is None else offsets.get(path.name, 0)
            if wanted > size:
                logger.warning("%s: the last %d bytes that the checkpoint knows of are missing", path, wanted - size)
            keep = wanted if wanted < size else min(wanted, whole(path))
            os.truncate(path, keep)
        return _Log(path)
    except OSError as error:
        logger.warning("%s: cannot be continued (%s); training goes on without this log", path, error.strerror)
        return None


def _whole_lines(path: Path) -> int:
    """How many bytes of a text file are whole lines."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
    return 0


def _line(values: dict[str, float]) -> bytes:
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False)
    except ValueError:
        text = json.dumps({key: _finite_or_name(value) for key, value in values.items()}, ensure_ascii=False)
    return text.encode() + b"\n"


def _finite_or_name(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
