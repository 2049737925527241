"""Slices of volumes that belong together: by their positions in a common space, else by their numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from ..contracts import Stored
from ..errors import InputError
from ..images.place import Place, Volume
from .read import slice_of

__all__ = ["Series", "partners", "series_in"]

APART = 0.01  # share by which distances of slices that are the same may differ
LEAST = 1e-3  # mm between neighbouring slices

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
    placed = [(s.place, s.values.shape[1::-1]) for s in pictures if s.place is not None and s.place.volume is not None]
    if len(placed) < len(pictures) or len({place.space for place, _ in placed}) > 1:
        return []
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
    """Files of one series of slices in a folder, by position, and the folder's other files."""

    files: tuple[Path, ...]
    planes: tuple[Plane, ...]
    others: tuple[Path, ...]

    @property
    def space(self) -> str:
        """The space that the slices lie in."""
        return self.planes[0][0].space

    def partners(self, own: "Series", names: tuple[str, str]) -> list[int | None]:
        """Partner among `own` of each slice, as of `partners`."""
        if self.space == own.space:
            return _nearest(self.planes, own.planes)
        return list(_in_order(self.planes, own.planes, names))


def series_in(folders: Sequence[Sequence[Path]]) -> list[Series] | None:
    """The series of slices in the files of each folder; None where a folder holds none, or several at one position.

    Of several series in a folder the longest one in a space that all folders have is taken, else the longest.
    """
    found = []
    for files in folders:
        rows = [(row, path) for path in files if (row := slice_of(path)) is not None]
        if not rows:
            return None
        found.append(rows)
    common = set.intersection(*({place.space for (_, place, _), _ in rows} for rows in found))
    taken = []
    for files, rows in zip(folders, found, strict=True):
        counts = Counter((place.space in common, name) for (name, place, _), _ in rows)
        longest = max(counts, key=lambda key: (key[0], counts[key]))
        kept = [(p, size, path) for (name, p, size), path in rows if (p.space in common, name) == longest]
        normal = _volume([(kept[0][0], kept[0][1])]).normal
        at = np.array([normal @ place.matrix[:, 2] for place, *_ in kept])
        order = np.argsort(at, kind="stable")
        if len(at) > 1 and np.diff(at[order]).min() < LEAST:
            return None  # several phases or echoes
        planes, chosen = [kept[i][:2] for i in order], [kept[i][2] for i in order]
        others = [path for path in files if path not in set(chosen)]
        taken.append(Series(tuple(chosen), tuple(planes), tuple(others)))
    return taken
