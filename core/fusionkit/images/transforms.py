"""Transforms of sources in a file: found once, applied to any number of image pairs.

A matrix takes the pixel (x, y) of the reference to the pixel of the source that shows the same, as (x, y, 1) times the
matrix, divided by the third number. Pixels count from the centre of the upper left one, x to the right, y down, as in
OpenCV and scikit-image. docs/align.md shows it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, ValidationError, field_validator

from ..errors import InputError, OutputError
from ..options import Options, explain
from ..storage.atomic import atomic_write
from ..storage.regular import check_regular

MOST_BYTES = 1_000_000
OTHER_SHAPE = 0.01  # relative difference in shape up to which transforms fit images of another size
BARE = {".npy", ".csv", ".txt"}  # files that hold one matrix and nothing else
Matrix = NDArray[np.float64]
Size = tuple[int, int]
Number = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[Number, Number, Number]
Pixels = tuple[PositiveInt, PositiveInt]


class Transform(Options):
    """Where one source lies. source: its number, from 1; size: its (width, height); fit: what it was found from.

    A (2, 3) matrix without a size is one between centres of images of one size, as earlier versions wrote.
    """

    source: int = Field(ge=1)
    size: Pixels | None = None
    matrix: tuple[Row, Row] | tuple[Row, Row, Row]
    fit: dict[str, Any] = {}

    @field_validator("matrix")
    @classmethod
    def _invertible(cls, value: tuple[Row, ...]) -> tuple[Row, ...]:
        matrix = _squared(np.array(value))
        if not matrix[2, 2] or abs(np.linalg.det(matrix / matrix[2, 2])) < 1e-9:
            raise ValueError("maps the reference to a line or a point")
        return value


class Transforms(Options):
    """Transforms of one file. reference: its number, from 1; size: its (width, height).

    A file that holds one matrix and nothing else states neither: it is for two images of any size and reference.
    """

    reference: int | None = Field(None, ge=1)
    size: Pixels | None = None
    transforms: tuple[Transform, ...] = Field(min_length=1)

    def matrix(self, source: int, reference: int, size: Size, given: Size) -> Matrix | None:
        """The transform of `source` (from 0), (3, 3), between images' centres; None where the file has none.

        size, given: (height, width) of the reference and of the source. If they are not those of the file, they must
        have the same shape to 1 %. Raises InputError.
        """
        if self.reference is None:
            return about_centre(_squared(np.array(self.transforms[0].matrix)), size, given)
        if reference + 1 != self.reference:
            raise InputError(
                f"the transforms are towards source {self.reference}, the reference is source {reference + 1}; name it "
                f"with `reference={self.reference}`"
            )
        for one in self.transforms:
            if one.source == source + 1:
                found, own = _turned(self.size, size), _turned(one.size or self.size, size)
                matrix = _squared(np.array(one.matrix))
                if one.size is not None:
                    matrix = about_centre(matrix, found, own)
                return _scale(own, given) @ matrix @ np.linalg.inv(_scale(found, size))
        return None


def about_centre(matrix: Matrix, size: Size, given: Size) -> Matrix:
    """A matrix between the upper left pixels of a reference and a source, as one between their centres."""
    found = np.linalg.inv(_centre(given)) @ matrix @ _centre(size)
    return found / found[2, 2]


def about_corner(matrix: Matrix, size: Size, given: Size) -> Matrix:
    """A matrix between the centres of a reference and a source, as one between their upper left pixels."""
    found = _centre(given) @ matrix @ np.linalg.inv(_centre(size))
    return found / found[2, 2]


def _centre(size: Size) -> Matrix:
    """From the centre of an image to its upper left pixel."""
    return np.array([[1.0, 0.0, (size[1] - 1) / 2], [0.0, 1.0, (size[0] - 1) / 2], [0.0, 0.0, 1.0]])


def _scale(found: Size, size: Size) -> Matrix:
    """From an image that a transform was found on to one of another size, from their centres."""
    wide, high = size[1] / found[1], size[0] / found[0]
    if abs(wide / high - 1) > OTHER_SHAPE:
        raise InputError(
            f"the transforms were found on images of {found[1]}x{found[0]}, these are {size[1]}x{size[0]}, of another "
            "shape; find the transforms again"
        )
    return np.diag([wide, high, 1.0])


def _turned(pixels: Pixels | None, size: Size) -> Size:
    """(width, height) of a file as (height, width)."""
    return (pixels[1], pixels[0]) if pixels else size


def _squared(matrix: NDArray[Any]) -> Matrix:
    matrix = matrix.astype(np.float64)
    return matrix if len(matrix) == 3 else np.vstack([matrix, [0.0, 0.0, 1.0]])


def read_transforms(path: Path) -> Transforms:
    """Read what `save_transforms` wrote, or a (2, 3) or (3, 3) matrix in JSON, CSV or .npy. Raises InputError."""
    check_regular(path, InputError, MOST_BYTES)
    try:
        content = _content(path)
        if isinstance(content, list):
            content = {"transforms": [{"source": 1, "matrix": content}]}
        elif isinstance(content, dict) and not {"reference", "size"} <= set(content):
            raise ValueError("`reference` and `size` are missing")
        found = Transforms.model_validate_json(json.dumps(content))
        if found.reference is not None and any(one.size is None and len(one.matrix) == 3 for one in found.transforms):
            raise ValueError("a (3, 3) matrix needs the `size` of its source beside it")
        if len({one.source for one in found.transforms}) < len(found.transforms):
            raise ValueError("one source has several transforms")
        return found
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: no file of transforms: {explain(error, Transforms)}") from None
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"{path}: no file of transforms: {error}") from None


def _content(path: Path) -> Any:
    """What a file holds: a list of rows, or the content of a JSON file."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False).astype(np.float64, casting="same_kind").tolist()
    text = path.read_text(encoding="utf-8-sig")
    if suffix in BARE:
        rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
        return [[float(number) for number in row] for row in rows if row]
    return json.loads(text)


def matrices(aligned: Sequence[Mapping[str, Any]], option: str) -> dict[int, Mapping[str, Any]]:
    """Rows of the sources that were moved, by number; `aligned` is the list of a result's record.

    Raises OutputError where a field of shifts moved one, which `option` cannot follow.
    """
    if any("field" in row for row in aligned):
        raise OutputError(
            f"`{option}` follows matrices, and a source was moved by a field, which is no matrix; use `align=affine`"
        )
    return {row["source"]: row for row in aligned if row["matrix"] is not None}


def save_transforms(path: Path, aligned: Sequence[Mapping[str, Any]]) -> None:
    """Write the transforms that the stage `align` or a fit over many pairs recorded.

    JSON, or one matrix alone as .npy, .csv or .txt.

    Raises OutputError where there are none, several for a file of one, or a field of shifts about one.
    """
    found = [*matrices(aligned, "save_transform").values()]
    if not found:
        raise OutputError(f"{path}: not written: no source was moved, so there is no transform to save")
    suffix = path.suffix.lower()
    if suffix in BARE and len(found) > 1:
        raise OutputError(f"{path}: not written: {len(found)} sources were moved, a {suffix} file holds one matrix")
    content = {
        "reference": found[0]["reference"],
        "size": found[0]["size"],
        "transforms": [
            {"source": row["source"], "size": row["given"], "matrix": row["matrix"]}
            | ({"fit": row["fit"]} if "fit" in row else {})
            for row in found
        ],
    }
    with atomic_write(path) as temporary:
        if suffix == ".npy":
            with temporary.open("wb") as stream:
                np.save(stream, np.array(found[0]["matrix"]))
        elif suffix in BARE:
            temporary.write_text("\n".join(",".join(map(repr, row)) for row in found[0]["matrix"]) + "\n")
        else:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
