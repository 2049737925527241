"""Frames of one hand-held camera: each registered to its neighbours, all of them adjusted together.

A far frame may show little of what the reference shows sharply, or well exposed; a neighbour shows most of it. So
transforms are chained from the reference outwards, along trusted matches; then all of them are adjusted at once so that
they contradict the matches least (as bundle adjustment does with points: Brown & Lowe, IJCV 2007).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix
from torch import Tensor

from fusionkit.numerics.homography import Size, grid, mapped, scale_of, size_of, square
from fusionkit.numerics.registration import LEAST_SIDE, SHARPEST, Model, Registration, reduced_whole, refine, register

SAMPLES = 5  # along either side, of the places at which matches are compared
LOST = 2.0  # misfit, in estimated errors of a match, from which it counts less and less
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Match:
    """What frame `source` shows of frame `target`: the transform from the target's pixels to the source's."""

    target: int
    source: int
    found: Registration


def chained(
    lumas: Iterable[Tensor], reference: int, model: Model, *, by_light: bool
) -> tuple[list[Registration | None], list[Size]]:
    """Where frames (1, 1, H, W) lie to the reference; None for it, and where no match with a neighbour is trusted.

    Also their sizes.

    model: similarity, of a camera that is shifted, turned and refocused;
    homography, of one that is turned every way. by_light: neighbours are those of similar brightness (a bracket), else
    those that follow each other. `left` and `confidence` of the results are those of all matches on the way.
    """
    copies, backs, sizes, means = list[Tensor](), list[Tensor](), list[Size](), list[float]()
    for luma in lumas:
        copy, back = reduced_whole(luma, SHARPEST)
        copies.append(copy.half())  # three megabytes of a frame of 24 megapixels
        backs.append(back)
        sizes.append(size_of(luma))
        means.append(float(copy.mean()))
    order = sorted(range(len(copies)), key=lambda i: means[i]) if by_light else [*range(len(copies))]
    if min(size_of(copies[reference])) < LEAST_SIDE:
        return [None] * len(copies), sizes
    matches, placed = _matched(copies, order, reference, model)
    placed = _adjusted(placed, matches, reference, model, [size_of(copy) for copy in copies])
    errors = _errors(len(copies), matches, reference)
    found: list[Registration | None] = [None] * len(copies)
    for i, matrix in placed.items():
        if i != reference:
            whole = square(backs[i] @ matrix @ torch.linalg.inv(backs[reference]))
            path = _path(matches, i, reference)
            left = float(errors[i]) * scale_of(backs[reference])
            confidence = min(match.found.confidence for match in path)
            found[i] = replace(path[0].found, matrix=whole, left=left, confidence=confidence)
    return found, sizes


def _matched(
    copies: Sequence[Tensor], order: Sequence[int], reference: int, model: Model
) -> tuple[list[_Match], dict[int, Tensor]]:
    """Trusted matches, and transforms from the reference to each frame, chained from it outwards.

    A frame is sought beside the last one placed before it, else the one before that, else the reference; where it is
    found, its matches with the others of these count, too.
    """
    at = order.index(reference)
    matches, placed = list[_Match](), {reference: torch.eye(3, dtype=torch.float64)}
    for way in (order[at + 1 :], order[:at][::-1]):
        known = [reference]
        for i in way:
            if min(size_of(copies[i])) < LEAST_SIDE:
                continue
            source = copies[i].float()
            for j in dict.fromkeys((*known[:-3:-1], reference)):
                target = copies[j].float()
                if i in placed:
                    found = refine(target, source, square(placed[i] @ torch.linalg.inv(placed[j])), model)
                else:
                    found = register(target, source, model)
                if found.sure:
                    matches.append(_Match(j, i, found))
                    placed.setdefault(i, square(found.matrix @ placed[j]))
            if i in placed:
                known.append(i)
    return matches, placed


def _path(matches: Sequence[_Match], index: int, reference: int) -> list[_Match]:
    """The matches by which a frame was placed, back to the reference: the first one of each frame."""
    first: dict[int, _Match] = {}
    for match in matches:
        first.setdefault(match.source, match)
    path = [first[index]]
    while path[-1].target != reference:
        path.append(first[path[-1].target])
    return path


def _adjusted(
    placed: dict[int, Tensor], matches: Sequence[_Match], reference: int, model: Model, sizes: Sequence[Size]
) -> dict[int, Tensor]:
    """The transforms of all frames that contradict the matches least, by a robust fit from the chained ones."""
    free = [i for i in placed if i != reference]
    if len(matches) <= len(free):
        return placed
    radius = max(sizes[reference]) / 2
    x, y = (v.reshape(-1) for v in grid(sizes[reference], SAMPLES))
    count = 4 if model == "similarity" else 8
    at = {i: slice(count * k, count * (k + 1)) for k, i in enumerate(free)}
    rows = 2 * len(x)

    def transforms(values: Array) -> dict[int, Tensor]:
        own = {i: placed[i] @ _change(values[place], radius) for i, place in at.items()}
        return {reference: placed[reference], **own}

    def misfits(values: Array) -> Array:
        now, parts = transforms(values), []
        for match in matches:
            there = mapped(square(now[match.source]), x, y)
            wanted = mapped(match.found.matrix, *mapped(square(now[match.target]), x, y))
            off = torch.cat([a - b for a, b in zip(there, wanted, strict=True)])
            parts.append(off / (match.found.left * math.sqrt(len(x))))
        found: Array = torch.cat(parts).numpy()
        return found

    sparse = lil_matrix((rows * len(matches), count * len(free)), dtype=np.int8)
    for k, match in enumerate(matches):
        for i in {match.target, match.source} - {reference}:
            sparse[rows * k : rows * (k + 1), at[i]] = 1
    start = np.zeros(count * len(free))
    best = least_squares(misfits, start, jac_sparsity=sparse, loss="soft_l1", f_scale=LOST, x_scale=1.0, max_nfev=30)
    return {i: square(matrix) for i, matrix in transforms(best.x).items()}


def _change(values: Array, radius: float) -> Tensor:
    """A transform near none: of a similarity or a homography, in pixels at the border."""
    across, along, *rest = values.tolist()
    if len(rest) == 2:
        grow, turn = (v / radius for v in rest)
        rows = [[1 + grow, -turn, across], [turn, 1 + grow, along], [0.0, 0.0, 1.0]]
    else:
        a, b, c, d, right, down = (v / radius for v in rest)
        rows = [[1 + a, b, across], [c, 1 + d, along], [right / radius, down / radius, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


def _errors(count: int, matches: Sequence[_Match], reference: int) -> Array:
    """Errors of the adjusted frames, in pixels of their copies, where matches err as they say, each for itself.

    The matches are resistors of their variances, and that of a frame is the resistance between it and the reference.
    """
    laplacian = np.zeros((count, count))
    for match in matches:
        i, j, weight = match.target, match.source, 1 / match.found.left**2
        laplacian[[i, j], [i, j]] += weight
        laplacian[[i, j], [j, i]] -= weight
    laplacian[reference, reference] += 1.0
    laplacian[np.diag_indices(count)] += 1e-12
    variances = np.linalg.inv(laplacian).diagonal() - 1.0
    errors: Array = np.sqrt(np.maximum(variances, 0.0))
    return errors
