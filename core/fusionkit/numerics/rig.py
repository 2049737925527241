"""One transform for many pairs: where two cameras that are fixed to each other see the same.

Each pair's own registration is a measurement of it, some of them wrong. What most of them agree on is their mean
without outliers: of all points' places, so that no parameter weighs more than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import theilslopes
from torch import Tensor

from .homography import Size, mapped, scale_of, seen, size_of
from .registration import TOLERANCE, Model, Registration, register

LEAST_PAIRS = 3  # sure matches, below which nothing is said of a rig
LIMIT = 2.5  # distance from the rig, in tolerances of a match, from which a pair disagrees
FAR = 3.0  # distance, in median ones, from which a pair does not count for the mean
ROUNDS = 10  # of leaving out and taking the mean
DRIFT = 0.999  # confidence that the slope is not none, from which drift is told
DRIFTS = 0.5  # least drift from the first to the last pair that is told, in tolerances of a match
MOST = 1000  # pairs that a slope is estimated from


@dataclass(frozen=True, eq=False)
class Consensus:
    """The transform of a rig, (3, 3), and how the pairs lie to it, in pixels of the reference.

    off: (N,) root mean square distance of each pair's own transform from it, over what is seen. near: (N,) the pairs
    that it is the mean of. left: standard error of that mean. spread: median distance of those. drift: how far the
    source's content moves, (right, down), from the first pair to the last; zeros where that is not significant.
    """

    matrix: Tensor
    off: NDArray[np.float64]
    near: NDArray[np.bool_]
    left: float
    spread: float
    drift: tuple[float, float]


def limit_of(size: Size) -> float:
    """Distance in pixels from which a pair disagrees with its rig: 5, or 1/256 of the longer side of `size`."""
    return LIMIT * max(TOLERANCE[0], TOLERANCE[1] * max(size))


def consensus(found: Sequence[Registration], at: Sequence[float], model: Model, size: Size, given: Size) -> Consensus:
    """What N registrations of a model agree on: an M-estimate of location with a hard limit.

    It begins at the median; then the mean, weighted by the inverse of the variances, and the pairs within three median
    distances are found in turns. size, given: of the reference and the source in all pairs. at: place of each pair in
    their order, 0 to 1, for the drift (slope of Theil and Sen).
    """
    every = torch.stack([one.matrix for one in found]).numpy()
    left = np.array([one.left for one in found])
    middle = np.median(every, 0)
    x, y, _ = seen(torch.from_numpy(middle), size, given, 16)
    unit = scale_of(torch.from_numpy(middle))

    def places(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return torch.stack(mapped(torch.from_numpy(matrix), x, y), -1).numpy() / unit

    own = np.stack([places(matrix) for matrix in every])
    for _ in range(ROUNDS):
        off = np.sqrt(np.square(own - places(middle)).sum(-1).mean(-1))
        spread = float(np.median(off))
        near = off <= min(FAR * spread + 1e-6, limit_of(size))
        if not near.any():
            return Consensus(torch.from_numpy(middle), off, near, np.inf, spread, (0.0, 0.0))
        weight = near / (np.square(left) + spread**2 + 1e-6)
        middle = _of_model(np.tensordot(weight / weight.sum(), every, 1), model)
    error = float(np.sqrt(np.square(off[near]).mean() / near.sum()))
    shift = (own - places(middle)).mean(1)
    return Consensus(
        torch.from_numpy(middle), off, near, error, float(np.median(off[near])), _drift(shift, at, limit_of(size))
    )


def _of_model(matrix: NDArray[np.float64], model: Model) -> NDArray[np.float64]:
    """The mean of transforms as one of their model: that of turns is none (nearest in the Frobenius norm)."""
    if model == "rigid":
        left, grown, right = np.linalg.svd(matrix[:2, :2])
        matrix[:2, :2] = grown.mean() * left @ right
    return matrix


def _drift(shift: NDArray[np.float64], at: Sequence[float], limit: float) -> tuple[float, float]:
    """Shift from the first pair to the last along both axes, (N, 2) -> 2; zeros where it is not significant."""
    step = -(-len(shift) // MOST)
    slopes = [theilslopes(along[::step], at[::step], DRIFT) for along in shift.T]
    sure = any(slope.low_slope > 0 or slope.high_slope < 0 for slope in slopes)
    right, down = (float(slope.slope) for slope in slopes)
    return (right, down) if sure and np.hypot(right, down) >= DRIFTS * limit / LIMIT else (0.0, 0.0)


def register_view(
    reference: Tensor,
    source: Tensor,
    model: Model,
    stated: Sequence[float],
    views: Sequence[float | None],
    numbers: tuple[int, int],
) -> Registration:
    """Register a source, begun where its field of view says.

    stated: fields of view that the user states, one relative to the reference's or one a source; none is sought beside
    it. views: those that the sources' files state, for an affine transform: what they lead to counts if it is sure.
    numbers: indices of the source and of the reference.
    """
    index, main = numbers
    size, given = size_of(reference), size_of(source)

    def around(view: float) -> Registration:
        start = torch.diag(torch.tensor([max(given) / (view * max(size))] * 2 + [1.0], dtype=torch.float64))
        return register(reference, source, model, start)

    if stated:
        return around(stated[0] if len(stated) == 1 else stated[index] / stated[main])
    own, other = views[index], views[main]
    if model == "affine" and own and other:
        found = around(own / other)
        if found.sure:
            return found
    return register(reference, source, model)
