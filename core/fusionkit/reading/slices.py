"""Slices of volumes that belong together: by their positions in a common space, else by their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from ..contracts import Stored
from ..errors import InputError
from ..images.place import Place, Volume, in_order
from .read import slice_of

APART = 0.01  # share by which distances of slices that are the same may differ

Plane = tuple[Place, tuple[int, int]]  # a place, and width and height


def partners(goal: Sequence[Stored], own: Sequence[Stored], names: tuple[str, str]) -> list[int | None]:
    """Partner among `own` of each picture in `goal`; None where it lies beyond the ends of their volume.

    Several volumes are matched one by one, or all with the only one. names: of both files. Raises InputError where
    neither positions nor numbers match them.
    """
    one, other = _volumes(goal), _volumes(own)
    if not (one and other):
        if len(goal) == len(own):
            return list(range(len(goal)))
        raise InputError(f"{_counts(names, goal, own)}; give files of equally many, or name one of each as FILE#N")
    if one[0][0][0].space != other[0][0][0].space:
        return list(_in_order([p for v in one for p in v], [p for v in other for p in v], names))
    if len(other) not in (1, len(one)):
        raise InputError(
            f"{names[1]} holds {len(other)} volumes, {names[0]} {len(one)}; save the one you want, or fuse single "
            f"slices as {Path(names[1]).name}#N"
        )
    found: list[int | None] = []
    for v, planes in enumerate(one):
        at = v if len(other) > 1 else 0
        first = sum(len(volume) for volume in other[:at])
        found += [None if k is None else first + k for k in _nearest(planes, other[at])]
    return found


def _volumes(pictures: Sequence[Stored]) -> list[list[Plane]]:
    """Planes of the pictures, volume by volume; none where one of them lies in no volume or in another space."""
    placed: list[Plane] = []
    for stored in pictures:
        place = stored.place
        if place is None or place.volume is None or (placed and place.space != placed[0][0].space):
            return []  # the others are not decoded
        placed.append((place, (stored.values.shape[1], stored.values.shape[0])))
    return [list(planes) for _, planes in groupby(placed, key=lambda plane: id(plane[0].volume))]


def _nearest(goal: Sequence[Plane], own: Sequence[Plane]) -> list[int | None]:
    """Index of the plane that is nearest to the centre of each plane in `goal`, in one space."""
    volume = _volume(own)
    at = np.array([volume.normal @ place.matrix[:, 2] for place, _ in own])
    found: list[int | None] = []
    for place, size in goal:
        points = place.points(size)
        reached = np.isfinite(volume.index(points)).any()
        found.append(int(np.abs(at - volume.normal @ points[:, -1]).argmin()) if reached else None)
    return found


def _volume(planes: Sequence[Plane]) -> Volume:
    volume = planes[0][0].volume
    assert volume is not None
    return volume()


def _in_order(goal: Sequence[Plane], own: Sequence[Plane], names: tuple[str, str]) -> range:
    """Partners by number, of volumes without a common space; refused where they cannot be the same slices."""
    if len(goal) != len(own):
        raise InputError(f"{_counts(names, goal, own)}, and they lie in no common space; register them first")
    gaps = [2 * _volume(planes).half for planes in (goal, own)]
    if len(goal) > 1 and abs(gaps[0] - gaps[1]) > APART * max(gaps):
        raise InputError(
            f"slices of {names[0]} are {gaps[0]:.3g} mm apart, those of {names[1]} {gaps[1]:.3g} mm, and they have no "
            f"common space ({goal[0][0].space}; {own[0][0].space}); register them first"
        )
    return range(len(goal))


def _counts(names: tuple[str, str], goal: Sequence[object], own: Sequence[object]) -> str:
    return f"{names[0]} holds {len(goal)} pictures, {names[1]} holds {len(own)} pictures"


@dataclass(frozen=True)
class Series:
    """Files of one series of slices in a folder, by position."""

    files: tuple[Path, ...]
    planes: tuple[Plane, ...]

    @property
    def space(self) -> str:
        """The space that the slices lie in."""
        return self.planes[0][0].space

    def partners(self, own: "Series", names: tuple[str, str]) -> list[int | None]:
        """Partner among `own` of each slice, as of `partners`."""
        if self.space == own.space:
            return _nearest(self.planes, own.planes)
        return list(_in_order(self.planes, own.planes, names))


def series_in(folders: Sequence[Sequence[Path]]) -> list[tuple[Series, ...]]:
    """Series of slices that belong together, one a folder; folders: the files of each.

    For each space that all folders have, the longest series in it; without any, the only series of each folder, if it
    is all that the folder holds. Series of several pictures at one position are none.
    """
    found: list[dict[str, list[Series]]] = []
    for files in folders:
        rows: dict[tuple[str, str], list[tuple[Plane, Path]]] = {}
        for path in files:
            if (row := slice_of(path)) is not None:
                name, place, size = row
                rows.setdefault((place.space, name), []).append(((place, size), path))
        if not rows:
            return []
        spaces: dict[str, list[Series]] = {}
        for (space, _), slices in rows.items():
            if (series := _sorted(slices)) is not None:
                spaces.setdefault(space, []).append(series)
        found.append(spaces)
    common = set.intersection(*map(set, found))
    if common:
        return [tuple(max(own[space], key=lambda s: len(s.files)) for own in found) for space in sorted(common)]
    alone = [[series for many in own.values() for series in many] for own in found]
    whole = all(len(a) == 1 and len(a[0].files) == len(files) > 1 for a, files in zip(alone, folders, strict=True))
    return [tuple(series for (series,) in alone)] if whole else []


def _sorted(slices: Sequence[tuple[Plane, Path]]) -> Series | None:
    """The slices by position; None where they are no volume."""
    order = in_order([place for (place, _), _ in slices])
    if order is None:
        return None
    return Series(tuple(slices[i][1] for i in order), tuple(slices[i][0] for i in order))
