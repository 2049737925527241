"""Ranges of sources: one for all of one quantity, and one for a whole folder, so that its pictures do not flicker."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import Caution, FusionkitError, NoEffect, OptionError
from ..images.picture import PEAK, Picture, Range, Span, range_note, robust_span, spread, to_unit
from .matching import spread as evenly
from .read import MAX_PIXELS, read_image

FILES = 32  # files that a range is taken from, spread over the folder
LOOKED_AT = 50  # first images in which a source is sought that reads a range
ROWS = 128  # samples along the shorter side that tell whether pictures show one quantity
Place = tuple[Path, int | None]  # a file, and the index of its picture where it holds several


@dataclass(frozen=True)
class Reading:
    """How sources are read.

    range: stored black and white; bands: as in `read_image`; each one for all, or one a source. max_pixels: larger
    pictures are refused. folder_scope: the range "auto" is that of all files of a source.
    """

    range: Sequence[Range] = ("auto",)
    bands: Sequence[Sequence[int]] = ()
    max_pixels: int = MAX_PIXELS
    folder_scope: bool = True

    def span(self, index: int) -> Range:
        """Black and white of source `index`."""
        return self.range[min(index, len(self.range) - 1)]

    def chosen(self, index: int) -> Sequence[int]:
        """Bands of source `index`, where they were given."""
        return self.bands[min(index, len(self.bands) - 1)] if self.bands else ()

    def read(self, file: Path | Place, index: int, span: Range | None = None) -> Picture:
        """Read a picture of source `index`. span: where it differs from `range`."""
        path, number = (file, None) if isinstance(file, Path) else file
        return read_image(path, span or self.span(index), self.max_pixels, number, self.chosen(index))

    def all(self, files: Sequence[Path | Place]) -> list[Picture]:
        """Read a picture of each source."""
        return [self.read(file, i) for i, file in enumerate(files)]


def source_ranges(groups: Sequence[Sequence[Path | Place]], reading: Reading) -> tuple[Range, ...]:
    """The range of each source. groups: the sources of each image.

    In folder scope, "auto" becomes the range of all files of that source, and of all sources of one quantity; it stays
    where a file has 8 bits. Raises NoEffect for a range that no source reads.
    """
    refuse_unread(groups, reading)
    count = max((len(group) for group in groups), default=0)
    wanted = [reading.span(i) for i in range(count)]
    if not reading.folder_scope:
        return tuple(wanted)
    seen: dict[int, list[Picture]] = {}
    for i in range(count):
        if wanted[i] == "auto":
            seen[i] = _spread_over([group[i] for group in groups if i < len(group)], i, reading)
            if seen[i] and all(p.depth != "8" for p in seen[i]):
                wanted[i] = _common_span(seen[i])
    found = [i for i, pictures in seen.items() if wanted[i] != "auto" and pictures]
    if _one_quantity([seen[i][0] for i in found]):
        span = _common_span([p for i in found for p in seen[i]])
        wanted = [span if i in found else own for i, own in enumerate(wanted)]
    return tuple(wanted)


def refuse_unread(groups: Sequence[Sequence[Path | Place]], reading: Reading) -> None:
    """Raise NoEffect for ranges other than auto where all sources of the first images have 8 bits.

    Raises OptionError for several ranges or bands that are not one a source.
    """
    count = max(map(len, groups), default=1)
    for name, given in (("range", reading.range), ("bands", reading.bands)):
        if len(given) > 1 and len(given) != count:
            raise OptionError(f"`{name}`: {len(given)} of them for {count} sources; give one, or one per source")
    if all(span == "auto" for span in reading.range):
        return
    for i, file in chain.from_iterable(map(enumerate, groups[:LOOKED_AT])):
        try:
            if reading.read(file, i, "auto").depth != "8":
                return
        except FusionkitError:
            return  # reported when the file is fused
    raise NoEffect("`range` has no effect: no source has more than 8 bits")


def share_range(pictures: Sequence[Picture], *, one_quantity: bool) -> Sequence[Picture]:
    """Pictures of one quantity, as of a stack or a bracket, in one range that holds them all.

    one_quantity: the user says so; otherwise it is told from the pictures. Ranges that somebody or a file has stated
    stay, and so do those of pictures of several quantities.
    """
    one_depth = len({p.depth for p in pictures}) == 1 and pictures[0].depth != "8"
    if not one_depth or not all(p.measured for p in pictures) or len({p.span for p in pictures}) == 1:
        return pictures
    if not (one_quantity or _one_quantity(pictures)):
        return pictures
    span = _common_span(pictures)
    return [in_range(p, span) for p in pictures]


def _one_quantity(pictures: Sequence[Picture]) -> bool:
    """Whether pictures have one size, depth and number of channels, and their bright and dark places in one order."""
    if len({(p.depth, p.channels, p.size) for p in pictures}) != 1 or pictures[0].depth == "8":
        return False
    from ..images.convert import to_tensor
    from ..scene import Statistics

    step = max(1, min(pictures[0].size) // ROWS)
    few = [to_tensor(replace(p, values=p.values[::step, ::step].mean(2, keepdims=True)).pixels) for p in pictures]
    return Statistics(few, [p.channels == 3 for p in pictures]).same_light


def _spread_over(files: Sequence[Path | Place], index: int, reading: Reading) -> list[Picture]:
    """Pictures of source `index` spread over a folder."""
    pictures = []
    for file in evenly(files, FILES):
        try:
            pictures.append(reading.read(file, index, "auto"))
        except FusionkitError:
            continue  # reported when the file is fused
        if pictures[-1].depth == "8":
            break  # has no range
    return pictures


def _common_span(pictures: Sequence[Picture]) -> Span:
    """The range that holds what pictures of one depth, more than 8 bits, show."""
    if len({p.span for p in pictures}) == 1:
        return pictures[0].span
    own = [p.span if p.values.dtype == np.float32 else robust_span(p.values) or p.span for p in pictures]
    low, high = min(low for low, _ in own), max(high for _, high in own)
    if pictures[0].depth == "float":
        return low, high  # a type whose end is no black
    return spread((low, high), low, high, (0.0, max(PEAK[pictures[0].depth], *(p.span[1] for p in pictures))))


def in_range(picture: Picture, span: Span) -> Picture:
    """The picture in another range, which a note says."""
    values, (low, high) = picture.values, picture.span
    if values.dtype == np.float32:
        values = to_unit(values.astype(np.float64) * (high - low) + low, span)
    notes = [n for n in picture.notes if n != range_note(picture.span)]
    return replace(picture, values=values, span=span, notes=(*notes, Caution(f"{range_note(span)}, as of all sources")))
