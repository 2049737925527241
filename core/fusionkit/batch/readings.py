"""Readings: what sources measured (temperatures, counts), at the pixels of the result, unclipped and unrestored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import NoEffect
from ..images.onto import onto
from ..images.picture import Array, Picture
from ..images.transforms import matrices
from ..method.result import FusedPicture
from ..numerics.homography import Warp
from ..reading import read_measured
from .aligned import lying
from .options import FileOptions
from .plan import Job


def readings_of(
    job: Job, options: FileOptions, pictures: Sequence[Picture], fused: FusedPicture
) -> list[tuple[str, Array]]:
    """Stored values of each grey source of more than 8 bits at the result's pixels: (H, W) float32, NaN without data.

    The files are read again, since ranges clip and the method restores. Sources lie where the method had them: by their
    places, by what stages recorded under `aligned`, else stretched over the reference. Raises NoEffect where no source
    is such, OutputError where a source was moved by a field of shifts, which readings do not follow.
    """
    aligned = matrices(fused.found.get("aligned", ()), "readings")
    found, main = [], pictures[fused.reference]
    for i, (path, number) in enumerate(job.places):
        if pictures[i].depth != "8" and pictures[i].channels == 1:
            measured = read_measured(path, options.max_pixels, number, options.reading.chosen(i))
            values = _registered(measured, main, aligned.get(i + 1))
            found.append((pictures[i].name, values[fused.cut] if fused.cut else values))
    if not found:
        raise NoEffect("`readings=true` has no effect: no source is grey and of more than 8 bits")
    return found


def _registered(measured: Picture, main: Picture, row: Mapping[str, Any] | None) -> Array:
    """Values of a source at the reference's pixels; row: of the manifest's list `aligned`, where it was moved.

    Bilinear: beside hot objects, bicubic interpolation would invent temperatures that nobody measured.
    """
    (placed, _), _ = onto([measured, main], 1, "bilinear")
    size, own = main.size[::-1], placed.size[::-1]
    if row is None and own == size:
        return placed.stored("float")[:, :, 0]
    warp = Warp(lying(row, size, own), size, own, "bilinear")
    everywhere = slice(0, size[0])

    def moved(plane: Array) -> Array:
        source = torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
        return warp.rows(everywhere, lambda rows: source[..., rows, :])[0, 0].numpy()

    lies = np.ones(size, bool) if row is None else warp.depth(everywhere)[0, 0].numpy() > 0
    if placed.valid is not None:
        lies = lies & (moved(placed.valid) > 0.5)
    values = replace(placed, valid=None).stored("float")[:, :, 0]  # mirrored where there are no data
    return np.where(lies, moved(values), np.float32(np.nan))
