"""One picture file -> pixels of one size and number of channels, with PIL.

(torchvision's own decoder ends the process on some damaged PNG files.)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dlcli import runtime

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Of what PIL reads, that which needs no other program and is met in practice."""

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = frozenset((*_JPEG, ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"))
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Form:
    """What every picture becomes: ``channels`` (1 grey, 3 RGB) x ``size`` x ``size``.

    resize: "squash" changes the proportions; "crop" fills the square and cuts what stands over; "pad" fits the whole
    picture in and leaves black edges.
    """

    channels: int
    size: int
    resize: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class BadPicture(Exception):
    """A file that is no picture, or damaged. The message is the reason, in few words."""


def decode_all(files: Iterable[Path], form: Form) -> Iterator[Pixels | BadPicture]:
    """Pixels (C, S, S) of each file, or what is wrong with it, in order. Decodes on all cores, a part at a time."""
    with warnings.catch_warnings(), ThreadPoolExecutor(runtime.available_cores()) as pool:
        warnings.simplefilter("ignore")  # about odd metadata of files that can be read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        waiting = iter(files)
        while part := list(islice(waiting, 256)):
            yield from pool.map(lambda file: _attempt(file, form), part)


def _attempt(file: Path, form: Form) -> Pixels | BadPicture:
    try:
        return decode(file, form)
    except BadPicture as error:
        return error


def decode(file: Path, form: Form) -> Pixels:
    """Pixels (C, S, S) uint8 of the first frame, turned as its EXIF data say, with transparent parts on white.

    Raises:
        BadPicture: missing, a folder, no picture, damaged, empty, or of more pixels than PIL finds safe.
    """
    if not file.is_file():
        reason = "is a folder" if file.is_dir() else "is a link to nothing" if file.is_symlink() else "no such file"
        raise BadPicture(reason)
    try:
        with Image.open(file, formats=FORMATS) as image:
            if 0 in image.size:
                raise BadPicture("has no pixels")
            image.draft(None, (2 * form.size, 2 * form.size))  # a large JPEG is decoded at a fraction of its size
            image.load()
            picture = fitted(eight_bits(ImageOps.exif_transpose(image), form.channels), form)
    except (BadPicture, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        reason = "is empty" if file.stat().st_size == 0 else "is no picture of a known format"
        raise BadPicture(reason) from None
    except Exception as error:  # PIL's readers raise many types on damaged files
        raise BadPicture(f"is damaged ({' '.join(str(error).split())[:100] or type(error).__name__})") from None
    pixels: Pixels = np.asarray(picture, dtype=np.uint8)
    return np.ascontiguousarray(pixels.reshape(form.size, form.size, form.channels).transpose(2, 0, 1))


def eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """The picture in mode L or RGB. Values of 16 bits and floats from 0 to 1 are scaled, not cut off."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image).astype(np.float64)
        top = 1.0 if image.mode == "F" else 65_535.0
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
            raise BadPicture(f"has pixels outside 0 to {top:g}")
        image = Image.fromarray((values * (255 / top)).round().astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        above = image.convert("RGBA")
        image = Image.new("RGBA", above.size, "white")
        image.alpha_composite(above)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def fitted(image: Image.Image, form: Form) -> Image.Image:
    """The picture as a square of ``form.size``, averaged over the pixels that become one."""
    side, method = form.size, Image.Resampling.BILINEAR
    if form.resize == "crop":
        return ImageOps.fit(image, (side, side), method)
    if form.resize == "squash":
        return image.resize((side, side), method)
    scale = side / max(image.size)
    width, height = (min(side, max(1, round(length * scale))) for length in image.size)
    square = Image.new(image.mode, (side, side))
    square.paste(image.resize((width, height), method), ((side - width) // 2, (side - height) // 2))
    return square
