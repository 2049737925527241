"""Transforms of sources in a file: found once, applied to any number of image pairs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError

from ..errors import InputError, OutputError
from ..options import Options, explain
from ..storage.atomic import atomic_write
from ..storage.regular import check_regular

__all__ = ["Transforms", "read_transforms", "save_transforms"]

MOST_BYTES = 1_000_000
Number = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[Number, Number, Number]


class Transform(Options):
    """Maps pixels of the reference, from its centre, x to the right and y down, to pixels of one source."""

    source: int = Field(ge=1)
    matrix: tuple[Row, Row]


class Transforms(Options):
    """Transforms of one file. reference: its number, from 1; size: (width, height) of the images they were found on."""

    reference: int = Field(ge=1)
    size: tuple[PositiveInt, PositiveInt]
    transforms: tuple[Transform, ...]

    def matrix(self, source: int, reference: int, size: tuple[int, int]) -> list[list[float]] | None:
        """The transform of `source` (from 0) for images of `size` (height, width); None where the file has none.

        Images of another size must have the same shape to 1 %; shifts are scaled. Raises InputError.
        """
        if reference + 1 != self.reference:
            raise InputError(
                f"the transforms are towards source {self.reference}, the reference is source {reference + 1}; name it "
                f"with `reference={self.reference}`"
            )
        width, height = size[1] / self.size[0], size[0] / self.size[1]
        if abs(width / height - 1) > 0.01:
            raise InputError(
                f"the transforms were found on images of {self.size[0]}x{self.size[1]}, these are {size[1]}x{size[0]}, "
                "of another shape; find the transforms again"
            )
        for one in self.transforms:
            if one.source == source + 1:
                return [[a, b, shift * scale] for (a, b, shift), scale in zip(one.matrix, (width, height), strict=True)]
        return None


def read_transforms(path: Path) -> Transforms:
    """Read a file that `save_transforms` wrote. Raises InputError."""
    check_regular(path, InputError, MOST_BYTES)
    try:
        return Transforms.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: no file of transforms: {explain(error, Transforms)}") from None


def save_transforms(path: Path, aligned: Sequence[dict[str, Any]]) -> None:
    """Write the transforms that the stage `align` recorded. Raises OutputError where there are none."""
    found = [row for row in aligned if row["matrix"] is not None]
    if not found:
        raise OutputError(f"{path}: not written: no source was moved, so there is no transform to save")
    content = {
        "reference": found[0]["reference"],
        "size": found[0]["size"],
        "transforms": [{"source": row["source"], "matrix": row["matrix"]} for row in found],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
