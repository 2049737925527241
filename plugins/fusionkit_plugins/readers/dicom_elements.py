"""Elements of DICOM files: parsed within bounds, and what they state of each frame."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.errors import ImageReadError
from fusionkit.images.picture import Array

from .pillow import most_bytes

ITEMS = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"  # tags of items, in both orders of bytes
# functional groups (PS3.3 C.7.6.16) that tell of a frame's values and place
GROUPS = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
)
ITEM = 8  # bytes of an item without content
PIXEL_GROUP = 0x7FE00000  # the first tag of pixels
UNDEFINED = 0xFFFFFFFF  # length of what ends with a delimiter
MOST_ELEMENTS, MOST_ITEMS = 100_000, 300_000  # of a file, beside those in sequences; of its sequences, about


class _Bounded(BufferedReader):
    """A file that ends, with a reason, when to parse it would take minutes and gigabytes."""

    refused, parses, items = "", True, 0

    def __init__(self, path: Path, max_pixels: int) -> None:
        super().__init__(FileIO(path))
        self._most = most_bytes(max_pixels)

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes that pydicom parses, or, without a size, all that it then inflates."""
        data = super().read(size)
        if size == -1:
            inflate, total, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data
            while rest and not (inflate.eof or self.refused):
                self._count(part := inflate.decompress(rest, 1 << 22))
                total, rest = total + len(part), inflate.unconsumed_tail
                if total > self._most:
                    hint = "(decompression bomb?); if it is genuine, raise `max_pixels`"
                    self.refused = f"inflates to more than {total >> 20} MB {hint}"
        elif self.parses and len(data) >= ITEM:  # less is looked at, and read again
            self._count(data)
        if self.refused:
            raise EOFError  # pydicom replaces errors by its own
        return data

    def _count(self, data: bytes) -> None:
        self.items += max(map(data.count, ITEMS))
        if self.items > MOST_ITEMS:
            self.refused = f"damaged: has more than {MOST_ITEMS} items of sequences; copy it again"


def parsed(path: Path, max_pixels: int, tags: Sequence[str] = ()) -> Any:
    """The elements of a file, or those of `tags` before its pixels; some files have no header."""
    pydicom: Any = import_module("pydicom")
    chosen = [pydicom.tag.Tag(tag) for tag in tags] or None
    count = 0
    with _Bounded(path, max_pixels) as stream:

        def stop(tag: int, _vr: str | None, length: int) -> bool:
            nonlocal count
            if (count := count + 1) > MOST_ELEMENTS:
                stream.refused = f"damaged: has more than {MOST_ELEMENTS} elements; copy it again"
            stream.parses = tag < PIXEL_GROUP or length == UNDEFINED
            return bool(stream.refused) or (bool(tags) and tag >= PIXEL_GROUP)

        try:
            return pydicom.filereader.read_partial(stream, stop, force=True, specific_tags=chosen)
        finally:
            if stream.refused:
                raise ImageReadError(stream.refused)


def given(data: Any, name: str) -> Any:
    """The value of an element; None where it is missing or empty."""
    value = data.get(name)
    empty = value is None or (hasattr(value, "__len__") and len(value) == 0)
    return None if empty else value


@dataclass(frozen=True)
class Facts:
    """What the file says of one frame: the frame's own functional groups, the shared ones, the file's top level."""

    layers: tuple[Any, ...]

    def __call__(self, name: str) -> Any:
        """The value of this name; None where it is missing or empty everywhere."""
        return next((v for layer in self.layers if (v := given(layer, name)) is not None), None)

    def number(self, name: str, default: float) -> float:
        """The number of this name, or the first of several."""
        value = first_of(self(name))
        return default if value is None else value

    def numbers(self, name: str, count: int) -> Array | None:
        """So many numbers of this name; None where there are others."""
        value = self(name)
        found = np.array([float(v) for v in value]) if value is not None and hasattr(value, "__len__") else np.empty(0)
        return found if found.shape == (count,) and np.isfinite(found).all() else None

    @property
    def thickness(self) -> float:
        """mm that a slice alone stands for."""
        spacing = self.numbers("PixelSpacing", 2)
        return self.number("SliceThickness", 0) or (float(spacing.max()) if spacing is not None else 1.0)

    def offset(self, index: int) -> float:
        """mm of a frame of a dose grid from the first one (PS3.3 C.8.8.3.2)."""
        offsets = self("GridFrameOffsetVector")
        return float(offsets[index]) if offsets is not None and index < len(offsets) else 0.0


def facts_of(data: Any, index: int) -> Facts:
    """What a parsed file says of the frame of an index."""
    shared = list(given(data, "SharedFunctionalGroupsSequence") or ())
    groups = list(given(data, "PerFrameFunctionalGroupsSequence") or ())[index : index + 1] + shared[:1]
    return Facts((*(given(group, name)[0] for group in groups for name in GROUPS if given(group, name)), data))


def first_of(value: Any) -> float | None:
    """The first of one or several numbers, some of which may be empty; None where there is none."""
    several = hasattr(value, "__len__") and not isinstance(value, str)
    return next((float(v) for v in (value if several else (value,)) if v not in (None, "")), None)
