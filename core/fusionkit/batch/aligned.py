"""Frames where they lie on the reference, as files: for other programs, and for the eye."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..images.convert import to_array, to_tensor
from ..images.picture import Picture
from ..images.transforms import about_centre, matrices
from ..numerics.homography import Size, Warp, stretch
from ..writing import extension_of, writable_extensions, write_image
from .options import FileOptions

Row = Mapping[str, Any]


def aligned_paths(folder: Path, sources: Sequence[Path]) -> list[Path]:
    """Names of aligned frames: their files', numbered where two are alike; as PNG where no writer has the format."""
    names, paths = Counter(path.stem.lower() for path in sources), []
    for i, path in enumerate(sources, 1):
        suffix = path.suffix if extension_of(path) in writable_extensions() else ".png"
        paths.append(folder / (f"{path.stem}-{i}{suffix}" if names[path.stem.lower()] > 1 else path.stem + suffix))
    return paths


def save_aligned(
    paths: Sequence[Path], read: Callable[[int], Picture], record: Row, reference: int, options: FileOptions
) -> None:
    """Write all frames at the reference's pixels, each in its own depth and colours, resampled once.

    record: of the result; its rows "aligned" say where frames lie, "cut" to what part all of them are cut down. Outside
    of a frame there are no data: alpha is 0 there where the file holds it.
    """
    rows = matrices(record.get("aligned", ()), "save_aligned")
    size = read(reference).size[::-1]
    cut = record.get("cut")
    for i, path in enumerate(paths):
        picture = read(i)
        if i != reference:
            picture = _moved(picture, rows.get(i + 1), size)
        if cut is not None:
            left, top, right, bottom = cut
            picture = picture.part(slice(top, bottom), slice(left, right))
        write_image(path, picture, quality=options.quality, png_level=options.png_level, strip=options.strip)


def lying(row: Row | None, size: Size, given: Size) -> Tensor:
    """From the pixels of a reference to those of a source, (height, width) each, between their centres.

    row: of the manifest's list "aligned", whose pictures may have had other sizes; None, or without a matrix: the
    source is laid over the reference.
    """
    if row is None or not row.get("matrix"):
        return stretch(size, given)
    found, own = row["size"][::-1], row["given"][::-1]
    matrix = torch.from_numpy(about_centre(np.array(row["matrix"]), found, own))
    return stretch(own, given) @ matrix @ stretch(size, found)


def _moved(picture: Picture, row: Row | None, size: Size) -> Picture:
    """A frame at the reference's pixels, by its row of the manifest."""
    given = picture.size[::-1]
    if row is None and given == size:
        return picture
    warp = Warp(lying(row, size, given), size, given)

    def resampled(values: Any) -> Any:
        return to_array(warp.rows(slice(None), lambda rows: to_tensor(values)[..., rows, :]))

    inside: Any = warp.inside()[0, 0].numpy()
    pixels = resampled(picture.pixels)
    alpha = inside.astype(np.float32)
    if picture.alpha is not None:
        alpha *= resampled(picture.alpha[..., None])[..., 0]
    if picture.valid is not None:
        inside &= resampled(picture.valid[..., None].astype(np.float32))[..., 0] > 0.5
    shown = alpha if not inside.all() or picture.alpha is not None else None
    return replace(picture, values=pixels, alpha=shown, valid=None if inside.all() else inside, place=None)
