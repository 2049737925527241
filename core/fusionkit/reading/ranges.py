"""One range for a whole folder, so that its pictures do not flicker."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import FusionkitError
from ..images.picture import PEAK, Depth, Range, Span, own_span
from .read import MAX_PIXELS, read_image

__all__ = ["folder_ranges", "source_ranges"]

FILES = 32  # that a range is taken from, spread over the folder
VALUES = 50_000  # of each of them
Place = tuple[Path, int | None]  # a file, and which of its pictures where it holds several


def source_ranges(
    groups: Sequence[Sequence[Path]], ranges: Sequence[Range], *, folder_scope: bool
) -> tuple[Range, ...]:
    """For each place in the groups its range, of one for all or one a place; of the folder where that is asked for."""
    wanted = tuple(ranges[min(i, len(ranges) - 1)] for i in range(len(groups[0])))
    return folder_ranges([[(path, None) for path in group] for group in groups], wanted) if folder_scope else wanted


def folder_ranges(
    groups: Sequence[Sequence[Place]], wanted: Sequence[Range], max_pixels: int = MAX_PIXELS
) -> tuple[Range, ...]:
    """For each place in the groups the range to read its files with: what is wanted, "auto" replaced by numbers.

    "auto" stays where the first file has 8 bits, or the data are what `read_image` would take them for anyway.
    """
    return tuple(
        _of_folder([group[place] for group in groups], max_pixels) if span == "auto" else span
        for place, span in enumerate(wanted)
    )


def _of_folder(places: Sequence[Place], max_pixels: int) -> Range:
    values, spans = [], set[Span]()
    depth: Depth = "8"
    count = min(FILES, len(places))
    for path, number in (places[i * len(places) // count] for i in range(count)):
        try:
            picture = read_image(path, "auto", max_pixels, number)
        except FusionkitError:
            continue  # said when it is its turn
        if picture.depth == "8":
            return "auto"
        depth, (low, high) = picture.depth, picture.span
        spans.add(picture.span)
        flat = picture.pixels.reshape(-1)
        values.append(flat[:: max(1, flat.size // VALUES)].astype(np.float64) * (high - low) + low)
    if not values:
        return "auto"
    return spans.pop() if len(spans) == 1 else own_span(np.concatenate(values), (0.0, PEAK[depth]))
