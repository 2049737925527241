"""Ranges of sources; one for a whole folder, so that its pictures do not flicker."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import FusionkitError, NoEffect
from ..images.picture import PEAK, Range, Span, own_span
from .read import MAX_PIXELS, read_image

__all__ = ["refuse_unread", "source_ranges"]

FILES = 32  # files that a range is taken from, spread over the folder
LOOKED_AT = 50  # first images in which a source is sought that reads a range
VALUES = 50_000  # values taken from each file
Place = tuple[Path, int | None]  # a file, and the index of its picture where it holds several


def source_ranges(
    groups: Sequence[Sequence[Path | Place]],
    ranges: Sequence[Range],
    *,
    folder_scope: bool,
    max_pixels: int = MAX_PIXELS,
    bands: Sequence[Sequence[int]] = (),
) -> tuple[Range, ...]:
    """The range of each source, where `ranges` has one for all or one a source. groups: the sources of each image.

    bands: as in `read_image`, one for all or one a source. folder_scope: "auto" becomes the range of all files of that
    source; it stays where a file has 8 bits. Raises NoEffect for a range that no source reads.
    """
    refuse_unread(groups, ranges, max_pixels, bands)
    count = max((len(group) for group in groups), default=0)
    wanted = tuple(ranges[min(i, len(ranges) - 1)] for i in range(count))
    if not folder_scope:
        return wanted
    return tuple(
        _of_folder([group[i] for group in groups if i < len(group)], max_pixels, _for(bands, i))
        if span == "auto"
        else span
        for i, span in enumerate(wanted)
    )


def _for(bands: Sequence[Sequence[int]], index: int) -> Sequence[int]:
    return bands[min(index, len(bands) - 1)] if bands else ()


def refuse_unread(
    groups: Sequence[Sequence[Path | Place]],
    ranges: Sequence[Range],
    max_pixels: int,
    bands: Sequence[Sequence[int]] = (),
) -> None:
    """Raise NoEffect for ranges other than auto where all sources of the first images have 8 bits."""
    if all(span == "auto" for span in ranges):
        return
    for i, file in chain.from_iterable(map(enumerate, groups[:LOOKED_AT])):
        path, number = (file, None) if isinstance(file, Path) else file
        try:
            if read_image(path, "auto", max_pixels, number, _for(bands, i)).depth != "8":
                return
        except FusionkitError:
            return  # reported when the file is fused
    raise NoEffect("`range` has no effect: no source has more than 8 bits")


def _of_folder(files: Sequence[Path | Place], max_pixels: int, bands: Sequence[int]) -> Range:
    values, spans, full = [], set[Span](), 1.0
    count = min(FILES, len(files))
    for file in (files[i * len(files) // count] for i in range(count)):
        path, number = (file, None) if isinstance(file, Path) else file
        try:
            picture = read_image(path, "auto", max_pixels, number, bands)
        except FusionkitError:
            continue  # reported when the file is fused
        if picture.depth == "8":
            return "auto"
        full, (low, high) = PEAK[picture.depth], picture.span
        spans.add(picture.span)
        flat = picture.pixels.reshape(-1)
        values.append(flat[:: max(1, flat.size // VALUES)].astype(np.float64) * (high - low) + low)
    if not values:
        return "auto"
    return spans.pop() if len(spans) == 1 else own_span(np.concatenate(values), (0.0, full))
