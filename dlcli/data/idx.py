"""The IDX format of MNIST and its relatives: a magic number, the sizes as big-endian integers, then bytes.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from dlcli.errors import DataError

UNSIGNED_BYTE = 0x08
MAX_BYTES = 1 << 32


def read_idx(file: Path, dimensions: int) -> Tensor:
    """The array of a plain or gzipped IDX file of unsigned bytes, uint8, with ``dimensions`` axes.

    Raises:
        DataError: unreadable, wrong magic number, empty, truncated, or too long; with what was expected and found.
    """
    try:
        with file.open("rb") as stream:
            gzipped = stream.read(2) == b"\x1f\x8b"
        with gzip.open(file) if gzipped else file.open("rb") as stream:
            return _read(stream, file, dimensions)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}); fetch the file again") from None
    except (EOFError, zlib.error):
        raise DataError(f"{file}: the gzip data are truncated or damaged; fetch the file again") from None


def _read(stream: IO[bytes], file: Path, dimensions: int) -> Tensor:
    header = stream.read(4 + 4 * dimensions)
    magic = UNSIGNED_BYTE << 8 | dimensions
    if len(header) >= 4 and struct.unpack(">I", header[:4])[0] != magic:
        found = struct.unpack(">I", header[:4])[0]
        raise DataError(
            f"{file}: magic number 0x{found:08x}, expected 0x{magic:08x} (bytes in {dimensions} dimensions)"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{file}: ends after {len(header)} bytes, inside the header of {4 + 4 * dimensions} bytes")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if not 0 < size <= MAX_BYTES:
        raise DataError(f"{file}: its header says {shape}, {size:,} bytes; expected 1 to {MAX_BYTES:,}")
    data = stream.read(size + 1)
    if len(data) != size:
        found_text = f"{len(data):,}" if len(data) < size else "more"
        raise DataError(f"{file}: its header says {shape}, {size:,} bytes, but {found_text} follow")
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape))
