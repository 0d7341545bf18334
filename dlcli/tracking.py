"""What a run writes down while it trains: ``metrics.jsonl`` for programs and one TensorBoard event file for people.

Both files only ever grow by whole records, and their lengths are part of a checkpoint. A resumed run cuts them back to
those lengths and goes on, so that they equal those of a run that was never interrupted, but for the times.

A log is not worth a training run: when the disk is full, there is one warning, that log ends, and training goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlcli import tensorboard_events, tensorboard_projector
from dlcli.tensorboard_projector import Embedding

METRICS = "metrics.jsonl"
EVENTS = "events.out.tfevents.dlcli"  # TensorBoard wants ".tfevents." in the name; the rest is ours

STRICT_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False)

logger = logging.getLogger("dlcli")


class Tracker:
    """The logs of one run.

    Args:
        directory: the run's folder, which exists; None writes nothing (all processes but the first).
        offsets: what ``offsets()`` returned when the checkpoint was saved that the run resumes from. The logs are cut
            back to these lengths, a log that is not named to nothing. None goes on after the last whole record.
    """

    def __init__(self, directory: Path | None, offsets: Mapping[str, int] | None = None):
        self._logs: list[_Log] = []
        self._metrics: _Log | None = None
        self._events: _Log | None = None
        self._step = 0
        self._directory = directory
        if directory is not None:
            self._metrics = _Log(Path(directory) / METRICS, _whole_lines, offsets)
            self._events = _Log(Path(directory) / EVENTS, tensorboard_events.whole_records, offsets)
            self._logs = [self._metrics, self._events]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line ``{"step": …, "time": …, **values}`` and one event.

        In the line, what is not finite is "NaN", "Infinity" or "-Infinity", which ``float`` reads.
        """
        self._step = step
        now = time.time()
        numbers = {tag: value if type(value) is int else float(value) for tag, value in values.items()}
        if self._metrics is not None and self._metrics.on:
            self._metrics.append(_line({"step": step, "time": now, **numbers}))
        if self._events is not None and self._events.on:
            self._add(tensorboard_events.scalars_event(step, now, numbers))

    def text(self, step: int, tag: str, text: str) -> None:
        """A text for TensorBoard, shown as it is (no Markdown)."""
        if self._events is not None and self._events.on:
            self._add(tensorboard_events.text_event(step, tag, text))

    def image(self, step: int, tag: str, image: Any) -> None:
        """An image for TensorBoard: a tensor or array of uint8, (3, H, W) or (1, H, W)."""
        if self._events is not None and self._events.on:
            self._add(tensorboard_events.image_event(step, tag, image))

    def embedding(self, tag: str, embedding: Embedding) -> None:
        """Vectors for TensorBoard's projector, in place of earlier ones."""
        if self._directory is not None:
            try:
                tensorboard_projector.write(self._directory, tag, embedding)
            except OSError as error:
                reason = error.strerror or error
                logger.warning("%s: no vectors for the projector (%s); training goes on", self._directory, reason)

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The run's line in TensorBoard's HParams tab: its flat configuration and final metrics. Once, at the end."""
        if self._events is not None and self._events.on:
            for event in tensorboard_events.hparams_events(self._step, config, metrics):
                self._add(event)

    def flush(self) -> None:
        """Bring both logs to the disk. What was written is in the files at once, for others to read."""
        for log in self._logs:
            log.sync()

    def offsets(self) -> dict[str, int]:
        """The length of each log in bytes, after bringing it to the disk: a part of every checkpoint."""
        self.flush()
        return {log.path.name: log.size for log in self._logs}

    def close(self) -> None:
        """Flush and end both logs; later calls write nothing."""
        self.flush()
        for log in self._logs:
            log.close()

    def _add(self, event: Any) -> None:
        assert self._events is not None
        if self._events.size == 0:
            self._events.append(tensorboard_events.record(tensorboard_events.first_event()))
        self._events.append(tensorboard_events.record(event))


class _Log:
    """A file that grows by whole records. The first failure warns and switches it off; its length stays known."""

    def __init__(self, path: Path, whole: Callable[[Path], int], offsets: Mapping[str, int] | None):
        self.path = path
        self.on = True
        self.size = 0 if offsets is None else offsets.get(path.name, 0)
        self.descriptor = -1  # opened by the first record
        try:
            present = path.stat().st_size if path.exists() else 0
            if self.size > present:
                missing = self.size - present
                logger.warning("%s: the last %d bytes that the checkpoint knows of are missing", path, missing)
            if offsets is None or self.size > present:
                self.size = whole(path) if present else 0
            if self.size < present:
                os.truncate(path, self.size)
        except OSError as error:
            self._switch_off(error)

    def append(self, record: bytes) -> None:
        if not self.on:
            return
        try:
            if self.descriptor < 0:
                self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
            self.size += len(record)
        except OSError as error:
            self._switch_off(error)

    def sync(self) -> None:
        if self.descriptor < 0:
            return
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            self._switch_off(error)

    def close(self) -> None:
        self.on = False
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _switch_off(self, error: OSError) -> None:
        reason = error.strerror or error
        logger.warning("%s: cannot be written (%s); training goes on without this log", self.path, reason)
        with contextlib.suppress(OSError):
            if self.descriptor >= 0:
                os.ftruncate(self.descriptor, self.size)  # without the record that did not fit
            self.close()
        self.on = False


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
        text = STRICT_JSON.encode(values)
    except ValueError:
        text = json.dumps({key: _finite_or_name(value) for key, value in values.items()}, ensure_ascii=False)
    return text.encode() + b"\n"


def _finite_or_name(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
