"""Reader of JPEG XL and Radiance HDR. Needs imagecodecs."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError, one_line
from fusionkit.images.metadata import read_exif
from fusionkit.images.picture import Array

from .pillow import check_pixels

__all__ = ["CodecsReader"]

CODESTREAM = b"\xff\x0a"
# SizeHeader of ISO/IEC 18181-1: bits of a length after its selector, and width over height by the ratio's number
BITS, RATIOS = (9, 13, 18, 30), ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
RESOLUTION = re.compile(rb"\n\n([-+][XY]) (\d+) ([-+][XY]) (\d+)\n")


class CodecsReader(Reader):
    """JPEG XL of 8 and 16 bits and float, upright, with alpha and EXIF; Radiance HDR as float.

    Light of Radiance HDR may exceed 1; it then has its own range. Of animated JPEG XL the first frame is read, with a
    note. Colour profiles of JPEG XL are read by pillow-jxl-plugin, where that is installed; imagecodecs gives none.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        data = path.read_bytes()
        return _read_hdr(path, data, max_pixels) if data.startswith(b"#?") else _read_jxl(path, data, max_pixels)


def _read_hdr(path: Path, data: bytes, max_pixels: int) -> list[Stored]:
    found = RESOLUTION.search(data)
    if found is None:
        raise ImageReadError(f"{path}: damaged: its header states no size; export or copy it again")
    first, rows, second, columns = found.groups()
    if (first, second) != (b"-Y", b"+X") or b"xyze" in data[: found.start()]:
        raise ImageReadError(f"{path}: Radiance HDR turned round or in XYZ is not supported; save it upright, in RGB")
    check_pixels(path, int(columns), int(rows), max_pixels)
    values = import_module("imagecodecs").rgbe_decode(data)
    return [Stored(values, format="HDR")]


def _read_jxl(path: Path, data: bytes, max_pixels: int) -> list[Stored]:
    width, height, animated, plain = _header(path, data)
    check_pixels(path, width, height, max_pixels)
    values, alpha = _colours(np.asarray(import_module("imagecodecs").jpegxl_decode(data, index=0)))
    notes = ["an animation, of which the first frame was read"] if animated else []
    icc = _profile(data, notes) if values.shape[2] == 3 and not plain else None
    metadata = read_exif(_box(data, b"Exif")[4:], _box(data, b"xml "), notes)
    return [Stored(values, alpha, icc=icc, format="JPEG XL", notes=tuple(notes), metadata=metadata)]


def _profile(data: bytes, notes: list[str]) -> bytes | None:
    """The profile of decoded colours; None where it cannot be read, with a note."""
    try:
        decoder = import_module("pillow_jxl").Decoder(num_threads=1)
        return bytes(decoder(data)[3]) or None
    except ImportError:
        notes.append("a colour profile, if it has one, was not read: pip install pillow-jxl-plugin")
    except Exception as error:  # the decoder's own kinds
        notes.append(f"its colour profile cannot be read: {one_line(error)}")
    return None


def _colours(frame: Array) -> tuple[Array, Array | None]:
    """Values (H, W, 1 or 3) and alpha of an array (H, W) or (H, W, C)."""
    frame = frame if frame.ndim == 3 else frame[:, :, None]
    colours = 3 if frame.shape[2] >= 3 else 1
    return frame[:, :, :colours], frame[:, :, colours] if frame.shape[2] > colours else None


def _box(data: bytes, name: bytes) -> bytes:
    """Content of the first box of a name in a container; empty where there is none."""
    at = 0
    while not data.startswith(CODESTREAM) and at + 8 <= len(data):
        length, begin = int.from_bytes(data[at : at + 4], "big"), at + 8
        if length == 1:
            length, begin = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + length if length else len(data)
        if data[at + 4 : at + 8] == name:
            return data[begin:end]
        if end <= at:
            break
        at = end
    return b""


def _header(path: Path, data: bytes) -> tuple[int, int, bool, bool]:
    """Width, height, whether it is an animation, and whether all else is the default, as sRGB is.

    In the header of a codestream, by itself or in a container.
    """
    stream = data if data.startswith(CODESTREAM) else _box(data, b"jxlc") or _box(data, b"jxlp")[4:]
    if not stream.startswith(CODESTREAM):
        raise ImageReadError(f"{path}: damaged: no JPEG XL codestream in it; export or copy it again")
    bits = _Bits(stream[2:34])
    width, height = _size(bits)
    animated, plain = False, bool(bits.take(1))
    if not plain and bits.take(1):  # not all defaults, and extra fields
        bits.take(3)  # orientation
        if bits.take(1):
            _size(bits)  # as it is to be shown
        animated = not bits.take(1) and bool(bits.take(1))  # without a preview, whose size would come first
    return width, height, animated, plain


def _size(bits: "_Bits") -> tuple[int, int]:
    """A SizeHeader: (width, height)."""
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else 1 + bits.take(BITS[bits.take(2)])
    if ratio := bits.take(3):
        over, under = RATIOS[ratio - 1]
        return height * over // under, height
    return (8 * (bits.take(5) + 1) if small else 1 + bits.take(BITS[bits.take(2)])), height


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken
