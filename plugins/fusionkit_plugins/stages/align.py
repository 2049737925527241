"""Sources that do not lie where the reference lies: found there, and moved."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fusionkit.contracts import Frames, Options, Sources, Stage
from fusionkit.errors import InputError, NoEffect, NotAligned, OptionError
from fusionkit.images.convert import ChangedImages, StoredImages, image_rows
from fusionkit.images.transforms import Transforms, about_corner, read_transforms
from fusionkit.numerics.homography import Size, Warp, common_box, displacement, scale_of, size_of, stretch
from fusionkit.numerics.registration import LEAST_SIDE, Model, Registration, refine
from fusionkit.numerics.rig import register_view
from fusionkit.numerics.strips import strips
from fusionkit.options import FilePath
from fusionkit.scene import SCENE_KINDS
from fusionkit.sources import Report, ShotMemory

from ..alignment.bending import find_bending
from ..alignment.field import FieldWarp
from ..alignment.handheld import chained
from ..alignment.parallax import find_parallax
from .records import FieldsOfView

STILL = 0.3  # displacement, pixels, below which a source stays: moving it would soften it
SEAM = 6.0  # pixels inside a source over which it gives way to the reference
NARROWER = 0.05  # relative difference from which fields of view are told


class AlignOptions(Options):
    """Options of the stage `align`."""

    model: Model | Literal["dense", "handheld"] = Field(
        "affine",
        description="how a source may lie: shifted, turned as well, scaled as well, sheared as well, seen by a camera "
        "that was turned; dense: with a field of shifts as well; handheld: frames of one camera, each beside its "
        "neighbours",
    )
    transform: FilePath = Field(
        "", description="file of transforms to apply, as save_transform writes; by default they are sought"
    )
    rest: bool = Field(False, description="find a pair's own small rest on top of `transform`")
    fov: FieldsOfView = Field(
        (), description="field of view of the sources in units of the reference's, once or once per source"
    )
    or_keep: bool = Field(False, description="keep a source that cannot be aligned as it lies")
    crop: Literal["fill", "reference", "common"] = Field(
        "fill",
        description="outside a source: the reference's details on its brightness, the reference, or the result is cut",
    )

    @model_validator(mode="after")
    def _sought(self) -> Self:
        if self.rest and not self.transform:
            raise NoEffect("`rest=true` has no effect without `transform`: all of it is sought")
        for name, value in {"fov": self.fov, "align_or_keep": self.or_keep}.items():
            if value and self.transform:
                raise NoEffect(f"`{name}` has no effect beside `transform`: nothing is sought")
        if self.fov and self.model == "handheld":
            raise NoEffect("`fov` has no effect with `model=handheld`: one camera took all frames")
        return self


@dataclass(frozen=True)
class _Place:
    """Where source `index` of image `batch` lies: `warp` is None where it stays as it is."""

    index: int
    batch: int
    warp: Warp | None


class Align(Stage):
    """Sources are moved to where the reference shows the same thing: see `fusionkit.numerics.registration`.

    Sources may have sizes and fields of view of their own; each is resampled once, from its own pixels. One without a
    confident match raises NotAligned, or stays as it is. One that is less than 0.3 pixels off stays. Each image of a
    batch is aligned by itself. dense: parts that stand nearer or farther are shifted further (`alignment.parallax`),
    scans are bent (`alignment.bending`); a field is found anew in each frame of a video. handheld: see
    `alignment.handheld`; a bracket's frames by homographies, others by similarities.
    """

    Options = AlignOptions
    options: AlignOptions
    frame: _Place | None = None  # of a series, of which it is known
    cut: tuple[slice, slice] | None = None

    def __init__(self, options: AlignOptions) -> None:
        super().__init__(options)
        self.given: Transforms | None = None
        self.by_frame = options.model == "handheld"
        self.model = cast(Model, "affine" if options.model in ("dense", "handheld") else options.model)
        if options.transform:
            path = Path(options.transform)
            self.given = read_transforms(path)
            self.provenance = {"transform_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def before(self, sources: Sources) -> Sources:
        """The same sources where the reference lies; what was found is recorded under "aligned"."""
        if self.frame is not None:
            moved = {} if self.frame.warp is None else {0: [self.frame]}
            return replace(_with_moved(sources, moved, self._fills) if moved else sources, cut=self.cut)
        self._check_counts(sources)
        every = [self._every(sources.select([b])) for b in range(len(sources.reference_luma))]
        places = {i: [_Place(i, b, warps[i]) for b, warps in enumerate(every)] for i in range(len(sources))}
        moved = {i: of_one for i, of_one in places.items() if any(place.warp is not None for place in of_one)}
        if not moved:
            return sources
        cut = sources.cut
        if self.options.crop == "common":
            warps = [place.warp for of_one in moved.values() for place in of_one if place.warp is not None]
            cut = self._cut(warps, size_of(sources.reference_luma), sources.report)
        return replace(_with_moved(sources, moved, self._fills), cut=cut)

    def of_series(self, sources: Sequence[Sources], frames: Frames) -> Sequence[Stage]:
        """For each frame a stage that knows where it lies."""
        if not self.by_frame or self.given is not None:
            return [self] * len(sources)
        warps = self._handheld((one.luma[0] for one in sources), frames)
        moved, stages, cut = [warp for warp in warps if warp is not None], list[Stage](), None
        if moved and self.options.crop == "common":
            cut = self._cut(moved, moved[0].size, frames.report)
        for warp in warps:
            stage = copy(self)
            stage.frame, stage.cut = _Place(0, 0, warp), cut
            stages.append(stage)
        return stages

    @property
    def _fills(self) -> bool:
        return self.options.crop != "reference"

    def _every(self, sources: Sources) -> Sequence[Warp | None]:
        """Where the sources of one image lie; None for those that stay as they are."""
        if self.by_frame and self.given is None:
            size = size_of(sources.reference_luma)
            frames = Frames(sources.names, sources.reference, size, sources.scenes[0], report=sources.report)
            return self.memory.once("handheld", partial(self._handheld, sources.luma, frames))
        main, place = sources.reference, self._densely if self.options.model == "dense" else self._globally
        return [None if i == main else place(sources, i) for i in range(len(sources))]

    def _handheld(self, lumas: Iterable[Tensor], frames: Frames) -> Sequence[Warp | None]:
        """Where the frames of one camera lie, noted and recorded."""
        bracket, main = frames.scene == "exposure", frames.reference
        model: Model = "homography" if bracket else "similarity"
        found, sizes = chained(lumas, main, model, by_light=bracket)
        warps, told = list[Warp | None](), list[tuple[float, Registration]]()
        for i, (match, given) in enumerate(zip(found, sizes, strict=True)):
            warp, figures = None, dict[str, Any]()
            if i != main and match is None:
                self._refuse(frames.names[i], "a neighbour", "nor with the reference", frames.report)
                figures = {"declined": True}
            elif match is not None:
                off = displacement(match.matrix, sizes[main], given)
                figures = {**_figures(match), "pixels_off": round(off, 2)}
                told.append((off, match))
                if off >= STILL or given != sizes[main]:
                    warp = Warp(match.matrix, sizes[main], given)
                    figures["outside"] = round(1 - warp.share(), 4)
            if i != main:
                _row(frames.report, (i, main), (sizes[main], given), None if warp is None else warp.matrix, figures)
            warps.append(warp)
        if told:
            frames.report.note(
                f"{len(told)} frames aligned to {frames.names[main]} ({model}, each beside its neighbours): up to "
                f"{max(off for off, _ in told):.1f} px off; about {max(match.left for _, match in told):.1f} px "
                f"left at most (confidence {min(match.confidence for _, match in told):.0%})"
            )
        return warps

    def _check_counts(self, sources: Sources) -> None:
        """Refuse options that do not fit the number of sources."""
        count, views = len(sources), len(self.options.fov)
        if views not in (0, 1, count):
            raise OptionError(f"`fov`: {views} fields of view for {count} sources; give one, or one per source")
        if self.given is not None and self.given.reference is None and count > 2:
            raise InputError(f"{self.options.transform} holds one matrix, which is for two sources, not {count}")

    def _densely(self, sources: Sources, index: int) -> Warp | None:
        """The resampling by one transform and, where the source agrees better by it, a field of shifts about it."""
        size, given = size_of(sources.reference_luma), size_of(sources.luma[index])
        name, bent = sources.names[index], SCENE_KINDS[sources.scenes[0]].bends
        if bent and self.given is None and not self.options.fov and min(*size, *given) >= LEAST_SIDE:
            warp, over = None, stretch(size, given)  # edges of scans seldom agree: they are laid over each other
            _record(sources, index, None if size == given else over, {})
        else:
            warp = self._globally(sources, index)
            if min(*size, *given) < LEAST_SIDE or sources.report.records["aligned"][-1].get("declined"):
                return warp
            over = warp.matrix if warp else stretch(size, given)
        image = partial(image_rows, sources.images, index)
        field = (
            find_bending(sources.reference_luma, Warp(over, size, given).rows(slice(None), image))
            if bent
            else find_parallax(sources.reference_luma, sources.luma[index], over)
        )
        if not field.sure:
            sources.report.note(
                f"{name}: no field of shifts: what one half of the picture says does not fit the other half"
            )
            return warp or (None if size == given else Warp(over, size, given))
        sources.report.note(
            f"{name} {'bent' if bent else 'shifted part by part'} by up to {field.longest:.1f} px; about "
            f"{field.left:.1f} px left"
        )
        figures = {"gain": round(field.gain, 2), "left": round(field.left, 2), "longest": round(field.longest, 2)}
        sources.report.records["aligned"][-1]["field"] = figures
        return FieldWarp(over, size, given, field=field)

    def _globally(self, sources: Sources, index: int) -> Warp | None:
        """The resampling by one transform; None where the source stays as it is."""
        name, main = sources.names[index], sources.names[sources.reference]
        size, given = size_of(sources.luma[sources.reference]), size_of(sources.luma[index])
        if self.given is not None:
            matrix = self.given.matrix(index, sources.reference, size, given)
            if matrix is None:
                return None
            sources.report.note(f"{name} moved as {self.options.transform} says")
            return self._with_rest(sources, index, torch.from_numpy(matrix))
        found = self._found(sources, index)
        if found is None or not found.sure:
            self._decline(sources, index, found)
            return None
        off = displacement(found.matrix, size, given)
        figures = {**_figures(found), "pixels_off": round(off, 2)}
        if size == given and off < max(STILL, found.left):
            sources.report.note(f"{name} lies on {main} already ({off:.1f} px off, to within {found.left:.1f} px)")
            _record(sources, index, None, figures)
            return None
        view = max(given) / max(size) / scale_of(found.matrix)
        sources.report.note(
            f"{name} aligned to {main} ({self.model}): it was {off:.1f} px off"
            + (f" and sees {view:.2f} of its field of view" if abs(view - 1) > NARROWER else "")
            + f"; about {found.left:.1f} px left (confidence {found.confidence:.0%})"
        )
        return _warp(sources, index, found.matrix, figures)

    def _with_rest(self, sources: Sources, index: int, matrix: Tensor) -> Warp:
        """The resampling by a given transform, with the pair's own rest where that is sought and sure."""
        size, given = size_of(sources.reference_luma), size_of(sources.luma[index])
        if not self.options.rest or min(*size, *given) < LEAST_SIDE:
            return _warp(sources, index, matrix, {})
        find = partial(refine, sources.reference_luma, sources.luma[index], matrix, self.model)
        found = self.memory.once(f"rest {index}", find)
        if not found.sure:
            sources.report.note(f"{sources.names[index]}: no rest beside {self.options.transform}: no confident match")
            return _warp(sources, index, matrix, {})
        off = displacement(torch.linalg.inv(matrix) @ found.matrix, size)
        sources.report.note(
            f"{sources.names[index]}: a rest of {off:.1f} px beside {self.options.transform}; about {found.left:.1f} "
            f"px left (confidence {found.confidence:.0%})"
        )
        return _warp(sources, index, found.matrix, {**_figures(found), "rest": round(off, 2)})

    def _found(self, sources: Sources, index: int) -> Registration | None:
        size, given = size_of(sources.luma[sources.reference]), size_of(sources.luma[index])
        if min(*size, *given) < LEAST_SIDE:
            return None
        lumas, numbers = (sources.reference_luma, sources.luma[index]), (index, sources.reference)
        find = partial(register_view, *lumas, self.model, self.options.fov, sources.views, numbers)
        return self.memory.once(f"aligned {index}", find)

    def _decline(self, sources: Sources, index: int, found: Registration | None) -> None:
        """Refuse a source that has no confident match, or say so where it is kept."""
        name, main = sources.names[index], sources.names[sources.reference]
        why = (
            f"a side is below {LEAST_SIDE} px"
            if found is None
            else f"the best match has {found.confidence:.0%} confidence"
        )
        _record(sources, index, None, {**(_figures(found) if found else {}), "declined": True})
        self._refuse(name, main, why, sources.report)

    def _refuse(self, name: str, main: str, why: str, report: Report) -> None:
        message = f"{name}: not aligned: no confident match with {main} ({why})"
        if not self.options.or_keep:
            known = "" if self.options.fov or self.by_frame else "`fov` states its field of view, "
            raise NotAligned(f"{message}; {known}`transform` where it lies; `align_or_keep=true` fuses it as it lies")
        report.note(f"{message}; it is fused as it lies", warning=True)

    def _cut(self, warps: Sequence[Warp], size: Size, report: Report) -> tuple[slice, slice]:
        """The part of the reference that all moved sources see."""
        if isinstance(self.memory, ShotMemory):
            raise OptionError(
                "`crop=common` is for images: the frames of a video keep their size; use `crop=reference`"
            )
        box = common_box(warps, size)
        if box is None:
            raise InputError("the sources have no part in common to cut the result down to; leave out `crop=common`")
        rows, columns = box
        wide, high = columns.stop - columns.start, rows.stop - rows.start
        report.note(
            f"cut down to what all sources see: {wide}x{high} of {size[1]}x{size[0]}, from x {columns.start}, y "
            f"{rows.start} on"
        )
        return box


def _with_moved(sources: Sources, moved: Mapping[int, Sequence[_Place]], filled: bool) -> Sources:
    """The sources with some of them resampled: large ones strip by strip, on each access.

    filled: outside of them there are no data, which the method fills; else the reference is shown there.
    """
    height, width = size_of(sources.reference_luma)

    def rows_of(i: int, rows: slice) -> Tensor:
        return torch.cat([_rows(sources, place, rows, filled) for place in moved[i]])

    lumas, valid = list(sources.luma), list(sources.valid)
    for i, places in moved.items() if filled else ():
        valid[i] = torch.cat([_valid(sources, place, (height, width)) for place in places])
    if isinstance(sources.images, StoredImages):
        images: Sequence[Tensor] = ChangedImages(sources.images, set(moved), rows_of, dict.fromkeys(moved, height))
        for i in moved:
            lumas[i] = sources.reference_luma.new_empty(1, 1, height, width)
            for part in strips(height, width, 0):
                lumas[i][..., part.place, :] = sources.to_luma(rows_of(i, part.place))
    else:
        whole = {i: rows_of(i, slice(0, height)) for i in moved}
        images = tuple(whole.get(i, image) for i, image in enumerate(sources.images))
        for i, image in whole.items():
            lumas[i] = sources.to_luma(image)
    return replace(sources, images=images, luma=tuple(lumas), valid=tuple(valid))


def _rows(sources: Sources, place: _Place, rows: slice, filled: bool) -> Tensor:
    """Rows of a moved source of one image; outside it its border goes on, or the reference is shown."""

    def read(index: int, wanted: slice) -> Tensor:
        return image_rows(sources.images, index, wanted)[place.batch : place.batch + 1]

    if place.warp is None:
        return read(place.index, rows)
    moved = place.warp.rows(rows, partial(read, place.index))
    share = (place.warp.depth(rows) / SEAM).clamp_(0, 1).to(moved)
    if filled or bool((share == 1).all()):
        return moved
    reference = read(sources.reference, rows)
    if not bool(sources.colored[place.index][place.batch]):  # grey in three channels stays grey
        reference = sources.reference_luma[place.batch : place.batch + 1, :, rows]
    return torch.lerp(reference.expand_as(moved), moved, share)


def _valid(sources: Sources, place: _Place, size: tuple[int, int]) -> Tensor:
    """Where a moved source of one image has data: (1, 1, H, W) of bool."""
    own = sources.valid[place.index]
    own = None if own is None else own[place.batch : place.batch + 1]
    if place.warp is None:
        return torch.ones(1, 1, *size, dtype=torch.bool, device=sources.reference_luma.device) if own is None else own
    inside = place.warp.depth(slice(0, size[0])).to(sources.reference_luma) > 0
    if own is not None:
        inside = inside & (place.warp.rows(slice(0, size[0]), lambda rows: own[..., rows, :].float()) > 0.5)
    return inside


def _warp(sources: Sources, index: int, matrix: Tensor, figures: Mapping[str, Any]) -> Warp:
    """The resampling by a transform, recorded."""
    warp = Warp(matrix, size_of(sources.luma[sources.reference]), size_of(sources.luma[index]))
    outside = 1 - warp.share()
    _record(sources, index, matrix, {**figures, "outside": round(outside, 4)})
    return warp


def _figures(found: Registration) -> dict[str, Any]:
    """What the manifest says of a match."""
    names = ("agreement", "left", "confidence")
    return {name: round(value, 3) if (value := getattr(found, name)) < 1e6 else None for name in names}


def _record(sources: Sources, index: int, matrix: Tensor | None, figures: Mapping[str, Any]) -> None:
    """What the manifest says of one source."""
    sizes = size_of(sources.luma[sources.reference]), size_of(sources.luma[index])
    _row(sources.report, (index, sources.reference), sizes, matrix, figures)


def _row(
    report: Report,
    numbers: tuple[int, int],
    sizes: tuple[Size, Size],
    matrix: Tensor | None,
    figures: Mapping[str, Any],
) -> None:
    """A row of the manifest. numbers, sizes: of the source and the reference; of the reference and the source."""
    (index, reference), (size, given) = numbers, sizes
    rows = None if matrix is None else about_corner(matrix.numpy(), size, given).tolist()
    own = {"source": index + 1, "reference": reference + 1, "size": list(size[::-1]), "given": list(given[::-1])}
    report.record("aligned", **own, matrix=rows, **figures)
