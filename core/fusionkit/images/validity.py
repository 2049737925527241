"""Where pictures have no data, and what stands there in their place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .picture import STRAY, Array

Mask = NDArray[np.bool_]


def where_valid(values: Array, stated: Array | None, alpha: Array | None) -> Mask | None:
    """Where a picture's values (H, W, C) are data; None: everywhere.

    Not where they are NaN or infinite, where alpha is 0, or where the file says so (stated, alpha: (H, W)); nor, in
    16 bits, in regions of zeros at the frame, if all other values are far from zero: a thermal camera's counts outside
    its view.
    """
    valid = np.ones(values.shape[:2], bool) if stated is None else np.asarray(stated, bool).copy()
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=2)
    if alpha is not None:
        valid &= alpha > 0
    if values.dtype == np.uint16:
        valid &= ~_unset(values, valid)
    return None if valid.all() else valid


def _unset(values: Array, valid: Mask) -> Mask:
    """Regions of zeros at the frame that are far from all other values."""
    zero: Mask = (values == 0).all(axis=2)
    frame = (zero[0], zero[-1], zero[:, 0], zero[:, -1])
    others = values[valid & ~zero] if any(side.any() for side in frame) else values[:0]
    if not others.size:
        return np.zeros_like(zero)
    low, high = np.percentile(others, (1, 99))
    if not low > STRAY * (high - low) > 0:
        return np.zeros_like(zero)
    from scipy import ndimage

    regions, _ = ndimage.label(zero)
    touching = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    return np.isin(regions, touching[touching > 0])


def mirrored(valid: Mask, *planes: Array) -> list[Array]:
    """Planes (H, W, ...) with pixels that are not valid mirrored across the nearest border of the valid ones.

    Noise, texture and brightness go on, so that no edge arises, and what is measured of the whole is measured of the
    valid part. Zeros where nothing is valid.
    """
    if not valid.any():
        return [np.zeros_like(plane) for plane in planes]
    from scipy.ndimage import distance_transform_edt

    nearest: Any = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    own = np.nonzero(~valid)
    beside = [index[own] for index in nearest]
    there = [np.clip(2 * b - o, 0, n - 1) for b, o, n in zip(beside, own, valid.shape, strict=True)]
    lies = valid[there[0], there[1]]
    rows, columns = (np.where(lies, t, b) for t, b in zip(there, beside, strict=True))
    filled = []
    for plane in planes:
        copy = plane.copy()
        copy[own] = plane[rows, columns]
        filled.append(copy)
    return filled
