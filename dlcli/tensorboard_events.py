"""TensorBoard events as protocol buffers, and the records of an event file. Needs no torch and starts no thread.

Importing this module is cheap; the first event imports TensorBoard's protocol buffers. Its own writer of records is
left alone: the dozen lines below save the import of its stand-in for TensorFlow (0.1 s).
"""

from __future__ import annotations

import io
import math
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def first_event() -> Any:
    """The event that every file begins with."""
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), file_version="brain.Event:2")


def scalars_event(step: int, wall_time: float, values: Mapping[str, float]) -> Any:
    """One event for all scalars of a step."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    items = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(wall_time=wall_time, step=step, summary=Summary(value=items))


def text_event(step: int, tag: str, text: str) -> Any:
    """A text that is shown as it is: TensorBoard reads Markdown, where indented lines are literal."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    literal = "\n".join("    " + line for line in text.split("\n"))
    tensor = TensorProto(
        dtype=DT_STRING,
        tensor_shape=TensorShapeProto(),  # a scalar: a list would be drawn as a table
        string_val=[literal.encode("utf-8", "replace")],
    )
    return _event(step, Summary.Value(tag=tag, metadata=create_summary_metadata(None, None), tensor=tensor))


def image_event(step: int, tag: str, image: Any) -> Any:
    """A PNG of a uint8 array or tensor of shape (3, H, W) or (1, H, W).

    Raises:
        ValueError: another shape or type of numbers.
    """
    import numpy as np
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    array = np.asarray(image.cpu() if hasattr(image, "cpu") else image)  # (C, H, W)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"image '{tag}' has shape {array.shape} of {array.dtype}; expected (3, H, W) or (1, H, W) of uint8"
        )
    channels, height, width = array.shape
    picture = Image.fromarray(array[0] if channels == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=1)  # larger files, in a third of the time
    content = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=stream.getvalue())
    return _event(step, Summary.Value(tag=tag, image=content))


def hparams_events(step: int, config: Mapping[str, Any], metrics: Mapping[str, float]) -> list[Any]:
    """A finished session of the HParams tab: its configuration and, as scalars ``final/…``, its final metrics.

    There is no experiment record on purpose. TensorBoard takes the columns of all runs from the first such record that
    it meets, so that the options and metrics of other models would be missing; without one it shows the union.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    now = time.time()
    start = SessionStartInfo(start_time_secs=now)
    for key, value in config.items():
        if isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif isinstance(value, int | float) and math.isfinite(value):
            start.hparams[key].number_value = value
        elif value is not None:
            start.hparams[key].string_value = str(value)
    end = SessionEndInfo(end_time_secs=now, status=STATUS_SUCCESS)
    # What the plug-in's own metadata module does, whose import takes 0.1 s: no numbers, all in the tag's metadata.
    nothing = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
    values = []
    for tag, content in (
        ("_hparams_/session_start_info", HParamsPluginData(session_start_info=start)),
        ("_hparams_/session_end_info", HParamsPluginData(session_end_info=end)),
    ):
        data = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
        values.append(Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data), tensor=nothing))
    final = {f"final/{name}": value for name, value in metrics.items()}
    return [*(_event(step, value) for value in values), scalars_event(step, now, final)]


def _event(step: int, value: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=time.time(), step=step, summary=Summary(value=[value]))


def record(event: Any) -> bytes:
    """An event as it stands in the file: length, the length's checksum, data, the data's checksum."""
    data: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _checksum(length)) + data + struct.pack("<I", _checksum(data))


def _checksum(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TensorFlow's record files want it."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _table() -> list[int]:
    """What eight steps of the division by the polynomial 0x1EDC6F41 (bits reversed) make of each byte."""
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in table]
    return table


def whole_records(path: Path) -> int:
    """How many bytes of an event file are whole records."""
    size, end = path.stat().st_size, 0
    with open(path, "rb") as file:
        while True:
            file.seek(end)
            header = file.read(8)
            if len(header) < 8:
                return end
            following = end + 8 + 4 + struct.unpack("<Q", header)[0] + 4
            if following > size:
                return end
            end = following
