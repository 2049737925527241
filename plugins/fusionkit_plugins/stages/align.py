"""Sources that do not lie where the reference lies: found there, and moved."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources, Stage
from fusionkit.errors import SizeMismatch
from fusionkit.images.transforms import Transforms, read_transforms
from fusionkit.numerics.luma import colorful
from fusionkit.numerics.registration import LEAST_SIDE, Model, Registration, displacement, register, warp
from fusionkit.numerics.window import gaussian_blur
from fusionkit.options import FilePath

__all__ = ["Align", "AlignOptions"]

STILL = 0.3  # displacement, pixels, below which a source stays: moving it would soften it
SEAM = 3.0  # deviation, pixels, of the transition to the filling
BROAD = 12.0  # deviation, pixels, of the brightness that the filling continues across the border


class AlignOptions(Options):
    """Options of the stage `align`."""

    model: Model = Field(
        "affine", description="how a source may lie: shifted, turned as well, scaled and sheared as well"
    )
    transform: FilePath = Field(
        "", description="file of transforms to apply, as save_transform writes; by default they are sought"
    )


class Align(Stage):
    """Sources are moved to where the reference shows the same thing: see `fusionkit.numerics.registration`.

    A source without a confident match stays as it is, and so does one that is less than 0.3 pixels off. What lies
    outside a source shows the reference's details in the brightness of the source's border. Each image of a batch is
    aligned by itself.
    """

    Options = AlignOptions
    options: AlignOptions

    def __init__(self, options: AlignOptions) -> None:
        super().__init__(options)
        self.given: Transforms | None = None
        if options.transform:
            path = Path(options.transform)
            self.given = read_transforms(path)
            self.provenance = {"transform_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def before(self, sources: Sources) -> Sources:
        """The same sources where the reference lies; what was found is recorded under "aligned"."""
        if len({y.shape[-2:] for y in sources.luma}) > 1:
            raise SizeMismatch("sources of different sizes cannot be aligned; `resize=reference` resizes them first")
        reference, images = sources.reference, list(sources.images)
        for i in range(len(sources)):
            if i != reference:
                moved = [self._moved_if_needed(sources.select([b]), i) for b in range(len(images[i]))]
                if any(image is not None for image in moved):
                    parts = zip(moved, torch.split(images[i], 1), strict=True)
                    images[i] = torch.cat([new if new is not None else old for new, old in parts])
        same = all(new is old for new, old in zip(images, sources.images, strict=True))
        return sources if same else sources.with_images(images)

    def _moved_if_needed(self, sources: Sources, index: int) -> Tensor | None:
        """Source `index` of one image where the reference lies, None where it stays as it is."""
        name, main = sources.names[index], sources.names[sources.reference]
        size = _size(sources, index)
        if self.given is not None:
            matrix = self.given.matrix(index, sources.reference, size)
            if matrix is None:
                return None
            sources.report.note(f"{name} moved as {self.options.transform} says")
            return self._moved(sources, index, torch.tensor(matrix, dtype=torch.float64), {})
        found = self._found(sources, index)
        if found is None or not found.sure:
            sources.report.note(f"{name}: not aligned: no confident match with {main}")
            _record(sources, index, None, {})
            return None
        off = displacement(found.matrix, size)
        figures = {"pixels_off": round(off, 2), "before": round(found.before, 4), "after": round(found.after, 4)}
        if off < STILL:
            sources.report.note(f"{name} lies on {main} already ({off:.1f} px off)")
            _record(sources, index, None, figures)
            return None
        sources.report.note(
            f"{name} aligned to {main} ({self.options.model}): it was {off:.1f} px off; agreement of edges "
            f"{found.before:.2f} before, {found.after:.2f} after"
        )
        return self._moved(sources, index, found.matrix, figures)

    def _found(self, sources: Sources, index: int) -> Registration | None:
        if min(_size(sources, index)) < LEAST_SIDE:
            return None
        find = partial(register, sources.reference_luma, sources.luma[index], self.options.model)
        return self.memory.once(f"aligned {index}", find)

    def _moved(self, sources: Sources, index: int, matrix: Tensor, figures: dict[str, Any]) -> Tensor:
        image = sources.images[index]
        moved, inside = warp(image, matrix)
        outside = 1 - float(inside.float().mean())
        if outside > 0:
            coloured = bool(colorful(image).any())  # a grey one that is stored in three channels stays grey
            reference = (sources.images[sources.reference] if coloured else sources.reference_luma).expand_as(image)
            filling = (gaussian_blur(moved - reference, BROAD) + reference).clamp(0, 1)
            share = (2 * gaussian_blur(inside.to(image), SEAM) - 1).clamp(0, 1) * inside
            moved = share * moved + (1 - share) * filling
            sources.report.note(
                f"{outside:.1%} of the picture lies outside {sources.names[index]} and shows "
                f"{sources.names[sources.reference]} alone"
            )
        _record(sources, index, matrix, {**figures, "outside": round(outside, 4)})
        return moved


def _record(sources: Sources, index: int, matrix: Tensor | None, figures: dict[str, Any]) -> None:
    """What the manifest says of one source."""
    rows = None if matrix is None else [[float(v) for v in row] for row in matrix]
    width_height = list(_size(sources, index)[::-1])
    place = {"source": index + 1, "reference": sources.reference + 1, "size": width_height, "matrix": rows}
    sources.report.record("aligned", **place, **figures)


def _size(sources: Sources, index: int) -> tuple[int, int]:
    height, width = sources.luma[index].shape[-2:]
    return height, width
