"""Reader of JPEG XL and Radiance HDR. Needs imagecodecs."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError, one_line
from fusionkit.images.metadata import read_exif

from .pillow import PREMULTIPLIED, check_pixels, check_whole, split
from .stated_colours import D65, PRIMARIES, profile_of, profile_of_codes

CODESTREAM = b"\xff\x0a"
# ISO/IEC 18181-1: choices of numbers as (bits, what is added), and width over height by the ratio's number
LENGTH, ENUM, COORDINATE = (
    ((9, 1), (13, 1), (18, 1), (30, 1)),
    ((0, 0), (0, 1), (4, 2), (6, 18)),
    ((19, 0), (19, 1 << 19), (20, 1 << 20), (21, 1 << 21)),
)
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
HEADER = 4096  # bytes, fewer with the names of many channels
ALPHA, SPECIAL = 0, (2, 5)  # kinds of extra channels; special ones have fields of their own
CUSTOM, P3 = 2, 11  # white point and primaries that numbers follow; primaries
RESOLUTION = re.compile(rb"\n\n([-+][XY]) (\d+) ([-+][XY]) (\d+)\n")


class CodecsReader(Reader):
    """JPEG XL of 8 and 16 bits and float, upright, with alpha and EXIF; Radiance HDR as float.

    Light of Radiance HDR may exceed 1; it then has its own range. Of animated JPEG XL the first frame is read, with a
    note. A colour profile in a JPEG XL, where it does not state its colours by numbers, is read by pillow-jxl-plugin.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        data = check_whole(path, max_pixels).read_bytes()
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
    stream = data if data.startswith(CODESTREAM) else _box(data, b"jxlc") or _box(data, b"jxlp")[4:]
    if not stream.startswith(CODESTREAM):
        raise ImageReadError(f"{path}: damaged: no JPEG XL codestream in it; export or copy it again")
    bits, notes = _Bits(stream[2:HEADER]), list[str]()
    check_pixels(path, *_size(bits), max_pixels)
    values, alpha = split(np.asarray(import_module("imagecodecs").jpegxl_decode(data, index=0)))
    try:
        icc = None if _is_plain(bits, notes) else _profile(data, bits, notes)
    except NotImplementedError:
        icc = None
        notes.append("what it says of its colours was not read: they are taken as sRGB")
    metadata = read_exif(_box(data, b"Exif")[4:], _box(data, b"xml "), notes)
    return [Stored(values, alpha, icc=icc, format="JPEG XL", notes=tuple(notes), metadata=metadata)]


def _profile(data: bytes, bits: "_Bits", notes: list[str]) -> bytes | None:
    """The profile of what the field ColourEncoding says; None for sRGB, and where it cannot be read, with a note."""
    if bits.take(1):
        return None
    if bits.take(1):
        return _embedded(data, notes)
    grey = bits.choice(ENUM) == 1
    white = _points(bits, 1) if bits.choice(ENUM) == CUSTOM else D65
    code = 1 if grey else bits.choice(ENUM)
    primaries = (
        _points(bits, 3) if code == CUSTOM else PRIMARIES.get(12 if code == P3 else code)
    )  # else as H.273 has it
    if bits.take(1):
        gamma = bits.take(24) / 1e7
        return profile_of(white, primaries or PRIMARIES[1], 1 / gamma, notes, grey=grey) if gamma else None
    return profile_of_codes(white, primaries, bits.choice(ENUM), notes, grey=grey)


def _embedded(data: bytes, notes: list[str]) -> bytes | None:
    try:
        return bytes(import_module("pillow_jxl").Decoder(num_threads=1)(data)[3]) or None
    except ImportError:
        notes.append("its colour profile was not read: pip install pillow-jxl-plugin")
    except Exception as error:  # the decoder's own kinds
        notes.append(f"its colour profile cannot be read: {one_line(error)}")
    return None


def _points(bits: "_Bits", count: int) -> tuple[float, ...]:
    """Chromaticities (x, y), as many as `count`."""
    numbers = (bits.choice(COORDINATE) for _ in range(2 * count))
    return tuple((-(n + 1) // 2 if n % 2 else n // 2) / 1e6 for n in numbers)


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


def _is_plain(bits: "_Bits", notes: list[str]) -> bool:
    """Read the field ImageMetadata up to its ColourEncoding; whether it is all defaults, as sRGB is.

    Raises NotImplementedError for rare fields before it.
    """
    if bits.take(1):
        return True
    if bits.take(1):  # extra fields
        bits.take(3)  # orientation
        if bits.take(1):
            _size(bits)  # as it is to be shown
        if bits.take(1):
            raise NotImplementedError("a preview")
        if bits.take(1):
            notes.append("an animation, of which the first frame was read")
            for choices in (((0, 100), (0, 1000), (10, 1), (30, 1)), ((0, 1), (0, 1001), (8, 1), (10, 1))):
                bits.choice(choices)  # ticks a second
            bits.choice(((0, 0), (3, 0), (16, 0), (32, 0)))  # loops
            bits.take(1)
    _depth(bits)
    bits.take(1)
    for _ in range(bits.choice(((0, 0), (0, 1), (4, 2), (12, 1)))):
        _channel(bits, notes)
    bits.take(1)
    return False


def _depth(bits: "_Bits") -> None:
    """Pass over the field BitDepth."""
    floats = bits.take(1)
    bits.choice(((0, 32), (0, 16), (0, 24), (6, 1)) if floats else ((0, 8), (0, 10), (0, 12), (6, 1)))
    bits.take(4 * floats)


def _channel(bits: "_Bits", notes: list[str]) -> None:
    """Pass over the field ExtraChannelInfo."""
    if bits.take(1):
        return
    kind = bits.choice(ENUM)
    _depth(bits)
    bits.choice(((0, 0), (0, 3), (0, 4), (3, 1)))
    bits.take(8 * bits.choice(((0, 0), (4, 0), (5, 16), (10, 48))))  # its name
    if kind == ALPHA and bits.take(1):
        notes.append(PREMULTIPLIED)
    if kind in SPECIAL:
        raise NotImplementedError("spot colours, or a filter array")


def _size(bits: "_Bits") -> tuple[int, int]:
    """The field SizeHeader: (width, height)."""
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else bits.choice(LENGTH)
    if ratio := bits.take(3):
        over, under = RATIOS[ratio - 1]
        return height * over // under, height
    return (8 * (bits.take(5) + 1) if small else bits.choice(LENGTH)), height


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        """The number in the next bits."""
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def choice(self, choices: tuple[tuple[int, int], ...]) -> int:
        """A number that two bits choose the form of."""
        count, more = choices[self.take(2)]
        return self.take(count) + more
