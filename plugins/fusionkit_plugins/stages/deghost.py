"""Parts of a bracket that move from frame to frame: found, and shown as one frame has them."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy import ndimage
from torch import Tensor

from fusionkit.contracts import Frames, Options, Sources, Stage
from fusionkit.errors import OptionError
from fusionkit.images.convert import ChangedImages, StoredImages, image_rows
from fusionkit.numerics.homography import size_of
from fusionkit.numerics.strips import strips
from fusionkit.numerics.window import enlarged_rows, reduced
from fusionkit.options import word

# set on the brackets of MEFB and Merianos by eye, and on rendered ones
SIDE = 1000  # about the longest side of the copies on which frames are compared
LEVELS = 1024  # of the curves from frame to frame
STEP = 2 / 255  # two values of a frame that are one
LEAST, SPREADS, MOST = 8 / 255, 4.0, 0.15  # difference that is none: at least, in deviations, at most
ENDS = 0.02, 0.98  # below which and above which a frame may show anything darker, or brighter
REST = 0.25  # share of a noise's deviation that cleaning leaves as blotches; on noisy MEFB and rendered walkers
AREA = 30  # least pixels of the copies that move
NEAR = 30  # parts of the longer side by which moving parts are apart that count as one
MARGIN = 3  # pixels of the copies around what moves, over which it gives way
EXPOSED = 0.06, 0.96  # luma from which, and largest channel up to which a place is exposed well
FILLED = 0.2  # share of an average that is known from which it counts in full
CANDIDATES = 3  # frames, of those that expose a part best, of which the one is taken that most others agree with
LEFT = 0.2  # least share of the picture that is still, by which curves are found anew
STAYS = 0.5  # share of the best exposure from which parts are all shown by one frame, so that nobody is cut up
Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


class DeghostOptions(Options):
    """Options of the stage `deghost`."""

    frame: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="number of the frame that shows what moves; auto: for each part the one that exposes it well and "
        "that most others agree with",
    )


@dataclass(frozen=True)
class _Part:
    """A part of the picture that one frame shows.

    rows, columns: where it lies. weight: of that frame, (h, w) in [0, 1]. picture: what it shows, (3 or 1, h, w).
    """

    rows: slice
    columns: slice
    weight: Tensor
    picture: Tensor


@dataclass(frozen=True)
class _Shown:
    """A part in the exposure of another frame.

    curves: (3 or 1, LEVELS), from the one's values to the other's. added: (3 or 1, h, w) of the copies, what goes on
    inside of how the two differ around the part, so that it has no rim.
    """

    part: _Part
    curves: Tensor
    added: Tensor
    factor: int

    def into(self, image: Tensor, rows: slice, to_luma: Any) -> None:
        """Change rows of the other frame, (1, 3 or 1, rows, W), in place."""
        top, bottom = max(rows.start, self.part.rows.start), min(rows.stop, self.part.rows.stop)
        if top >= bottom:
            return
        own = slice(top - self.part.rows.start, bottom - self.part.rows.start)
        more = enlarged_rows(self.added[None], self.factor, own, self.part.picture.shape[-1])
        shown = (_through(self.curves, self.part.picture[:, own])[None] + more).clamp_(0, 1)
        if image.shape[1] < shown.shape[1]:
            shown = to_luma(shown)
        place = (..., slice(top - rows.start, bottom - rows.start), self.part.columns)
        image[place] = torch.lerp(image[place], shown.expand_as(image[place]), self.part.weight[own])


@dataclass
class _Bracket:
    """Reduced copies of frames, (3 or 1, h, w) each, where they have data, and what they say of each other.

    rest: height of the blotches that cleaning has left of each one's noise. still: what is known not to move, from
    which the curves are taken.
    """

    copies: list[Array]
    valid: list[Mask]
    rest: list[float]
    still: Mask
    moving: dict[tuple[int, int], Mask] = field(default_factory=dict)

    @cached_property
    def shares(self) -> list[NDArray[np.float64]]:
        """Cumulative histograms of the channels of each frame, (channels, LEVELS), of what is still."""
        edges = np.linspace(0, 1, LEVELS + 1)
        counts = [np.stack([np.histogram(c[self.still], edges)[0] for c in one]) for one in self.copies]
        return [np.cumsum(count, 1) / count.sum(1, keepdims=True) for count in counts]

    def curves(self, one: int, other: int) -> Array:
        """Values of a frame in the exposure of another, (channels, LEVELS): those with the same rank in the histogram,
        which motion leaves (Grossberg & Nayar, "Determining the camera response from images", TPAMI 2003).
        """
        levels = (np.arange(LEVELS) + 0.5) / LEVELS
        pairs = zip(self.shares[one], self.shares[other], strict=True)
        found = []
        for have, want in pairs:
            middle = have - np.diff(have, prepend=0) / 2  # of each level
            ranks = want - np.diff(want, prepend=0) / 2
            used = np.diff(want, prepend=0) > 0
            found.append(np.interp(middle, ranks[used], levels[used]))
        return np.stack(found).astype(np.float32)

    def moves(self, one: int, other: int) -> Mask:
        """Where a frame shows what no neighbour, within a pixel, is in the other, by more than noise."""
        if (one, other) not in self.moving:
            curves = self.curves(one, other)
            channels = zip(self.copies[one], self.copies[other], curves, strict=True)
            rest = self.rest[one], self.rest[other]
            ratio = [_apart(a, b, curve, self.still, rest) for a, b, curve in channels]
            found = ndimage.binary_opening(np.max(ratio, 0) > 1, np.ones((3, 3), bool))
            self.moving[one, other] = found & self.valid[one] & self.valid[other]
        return self.moving[one, other]

    def around(self, one: int, other: int, where: Mask, box: tuple[slice, slice]) -> Array:
        """What a frame has more than another one around a part, going on inside, (3 or 1, h, w) of the copies."""
        levels = (np.arange(LEVELS) + 0.5) / LEVELS
        known = (~where & ~self.moves(one, other) & self.valid[one] & self.valid[other])[box].astype(np.float32)
        pairs = zip(self.copies[one], self.copies[other], self.curves(one, other), strict=True)
        rest = np.stack([b[box] - np.interp(a[box], levels, curve) for a, b, curve in pairs])
        total, weight = (rest * known).astype(np.float32), known
        found, sigma = np.zeros_like(total), max(known.shape) / 2.0
        while sigma >= 1:
            near = ndimage.gaussian_filter(weight, sigma)
            own = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in total]) / np.maximum(near, 1e-6)
            found += np.minimum(near / FILLED, 1) * (own - found)
            sigma /= 2
        added: Array = found.clip(-MOST, MOST)
        return added

    def exposed(self, index: int, where: Mask) -> float:
        """Share of a part that a frame exposes well."""
        values = self.copies[index][:, where]
        good = (values.mean(0) > EXPOSED[0]) & (values.max(0) < EXPOSED[1]) & self.valid[index][where]
        return float(good.mean())

    def settled(self, base: int) -> "_Bracket":
        """The same, with curves of what does not move by them."""
        labels, count = self.regions(base)
        still = self.still & (labels == 0)
        return _Bracket(self.copies, self.valid, self.rest, still) if count and still.mean() > LEFT else self

    def regions(self, base: int) -> tuple[NDArray[np.integer[Any]], int]:
        """Parts of the picture in which any frame moves against one: their numbers from 1, and how many there are."""
        moving: Mask = np.zeros(self.copies[base].shape[1:], bool)
        for i in range(len(self.copies)):
            if i != base:
                labels, count = ndimage.label(self.moves(base, i))
                sizes = np.bincount(labels.ravel(), minlength=count + 1)
                moving |= ((sizes >= AREA) & (np.arange(count + 1) > 0))[labels]
        near = max(1, max(moving.shape) // NEAR)
        wide = np.pad(moving, near)
        closed = ndimage.distance_transform_edt(~wide) <= near
        closed = ndimage.distance_transform_edt(closed) > near
        found = ndimage.binary_fill_holes(closed[near:-near, near:-near] | moving)
        labels, count = ndimage.label(ndimage.binary_dilation(found, iterations=MARGIN) if found.any() else found)
        return labels, count

    def best(self, where: Mask, base: int, usual: int | None = None) -> int:
        """The frame that shows a part: of those that expose it best, the one with which most others agree.

        usual: a frame that is taken unless it exposes the part badly.
        """
        exposed = [self.exposed(i, where) for i in range(len(self.copies))]
        if usual is not None and exposed[usual] >= STAYS * max(exposed):
            return usual
        order = sorted(range(len(exposed)), key=lambda i: (-exposed[i], i != base))
        score = {
            i: (exposed[i] + 0.01) * (1 + np.mean([1 - self.moves(i, k)[where].mean() for k in order if k != i]))
            for i in {*order[:CANDIDATES], base}
        }
        return max(score, key=lambda i: (score[i], i == base))


def _box(box: Sequence[slice], size: Sequence[int]) -> tuple[slice, slice]:
    """A part of the copies with its margin."""
    rows, columns = (
        slice(max(0, s.start - 3 * MARGIN), min(n, s.stop + 3 * MARGIN)) for s, n in zip(box, size, strict=True)
    )
    return rows, columns


def _apart(one: Array, other: Array, curve: Array, still: Mask, blotches: tuple[float, float]) -> Array:
    """How far a channel of two frames is apart at each pixel, in differences that are none, as where all is still.

    blotches: by which each frame may be off beside that.
    """
    at = np.linspace(0.5 / LEVELS, 1 - 0.5 / LEVELS, LEVELS)
    predicted = np.interp(one, at, curve)
    bins = (one * 31.99).astype(int)
    rest, own = np.abs(other - predicted)[still], bins[still]
    spread = np.array([np.median(rest[own == k]) if (own == k).sum() > AREA else np.nan for k in range(32)])
    spread = np.interp(np.arange(32), *_known(spread))
    allowed = np.clip(SPREADS * 1.48 * spread, LEAST, MOST)[bins]
    low, high = ndimage.minimum_filter(one, 3), ndimage.maximum_filter(one, 3)
    least = np.where(low < ENDS[0], 0.0, np.interp(low - STEP - blotches[0], at, curve))
    most = np.where(high > ENDS[1], 1.0, np.interp(high + STEP + blotches[0], at, curve))
    gap = np.maximum(least - ndimage.maximum_filter(other, 3), ndimage.minimum_filter(other, 3) - most)
    found: Array = ((gap - blotches[1]) / allowed).astype(np.float32)
    return found


def _known(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Indices of numbers that are known, and these; a single 0 where none is."""
    known = np.flatnonzero(np.isfinite(values))
    return (known, values[known]) if len(known) else (np.zeros(1, np.intp), np.zeros(1))


def _through(curves: Tensor, image: Tensor) -> Tensor:
    """Curves (C, LEVELS) at an image (C, h, w) in [0, 1], linear between levels."""
    scaled = (image * LEVELS - 0.5).clamp(0, LEVELS - 1)
    level = scaled.long().clamp_(0, LEVELS - 2)
    return torch.stack([c[i].lerp(c[i + 1], s - i) for c, i, s in zip(curves, level, scaled, strict=True)])


class Deghost(Stage):
    """What moves between the frames of a bracket is shown by one of them, in the exposure of each.

    Frames are compared with the reference through the curve between their histograms; where one shows what the other
    cannot, something moved, and all that moves near each other is one part. Each part is taken from one frame, and
    frames that disagree with it show it in their own exposure, so that no method has a ghost to see. Where nothing
    moves nothing is changed. For exposures alone: raises OptionError for other scenes.
    """

    Options = DeghostOptions
    by_frame = True
    options: DeghostOptions
    parts: Sequence[_Shown] | None = None  # of one frame of a series, of which they are known

    def of_series(self, sources: Sequence[Sources], frames: Frames) -> Sequence[Stage]:
        """For each frame a stage that knows the parts that another frame shows."""
        stages = list[Stage]()
        for parts in self._found(sources, frames):
            stage = copy(self)
            stage.parts = parts
            stages.append(stage)
        return stages

    def before(self, sources: Sources) -> Sources:
        """The same sources with one frame's parts in all of them; recorded under "moved"."""
        if self.parts is not None:
            return _with_parts(sources, [{0: self.parts}])
        every = []
        for b in range(len(sources.reference_luma)):
            some = sources.select([b])
            size = size_of(some.reference_luma)
            frames = Frames(some.names, some.reference, size, some.scenes[0], report=some.report)
            found = self._found([some.only(i) for i in range(len(some))], frames)
            every.append(dict(enumerate(found)))
        return _with_parts(sources, every)

    def _found(self, sources: Sequence[Sources], frames: Frames) -> list[list[_Shown]]:
        """For each frame the parts that another one shows in it."""
        bands = frames.scene == "contrast" and not all(bool(one.colored[0]) for one in sources)
        if bands or frames.scene not in ("exposure", "contrast"):  # motion may look like other bands, in colour
            raise OptionError(
                f"`deghost={word(self.options.frame)}` is for exposures, and these look like another kind of scene "
                f"({frames.scene}); leave it out, or say by `task=mef` that they are"
            )
        base = frames.reference
        if self.options.frame != "auto":
            base = self.options.frame - 1
            if base >= len(frames):
                raise OptionError(f"`deghost={base + 1}`, but there are only {len(frames)} frames")
        bracket, factor, size = _bracket(sources)
        bracket = bracket.settled(base)
        labels, count = bracket.regions(base)
        shown: list[list[_Shown]] = [[] for _ in sources]
        boxes, told = ndimage.find_objects(labels), dict[int, int]()
        auto = self.options.frame == "auto"
        usual = bracket.best(labels > 0, base) if auto and count else base
        for number in range(1, count + 1):
            where = labels == number
            index = bracket.best(where, base, usual) if auto else base
            told[index] = told.get(index, 0) + 1
            part = _part(sources[index], boxes[number - 1], where, factor, size)
            for i in range(len(sources)):
                if i != index and (bracket.moves(index, i) & where).sum() >= AREA // 3:
                    added = bracket.around(index, i, where, _box(boxes[number - 1], where.shape))
                    curves = torch.from_numpy(bracket.curves(index, i))
                    shown[i].append(_Shown(part, curves, torch.from_numpy(added), factor))
            rows, columns = part.rows, part.columns
            box = [columns.start, rows.start, columns.stop, rows.stop]
            frames.report.record("moved", box=box, shown=index + 1)
        names = ", ".join(f"{frames.names[i]} ({n})" for i, n in told.items())
        share = float((labels > 0).mean())
        frames.report.note(
            f"{share:.1%} of the picture moves, in {count} parts, shown by {names}" if count else "nothing moves"
        )
        return shown


def _bracket(sources: Sequence[Sources]) -> tuple[_Bracket, int, tuple[int, int]]:
    """Copies of frames, the factor by which they are reduced, and the size of the frames."""
    copies, valid, factor, size = list[Array](), list[Mask](), 1, (0, 0)
    for one in sources:
        size = size_of(one.luma[0])
        factor = max(1, round(max(size) / SIDE))
        step = factor * max(1, 2**20 // (factor * size[1]))
        places = (slice(top, min(top + step, size[0])) for top in range(0, size[0], step))
        parts = [reduced(image_rows(one.images, 0, place), factor) for place in places]
        copies.append(torch.cat(parts, -2)[0].cpu().numpy())
        own = one.valid[0]
        valid.append(
            np.ones(copies[-1].shape[1:], bool)
            if own is None
            else reduced(own.float(), factor)[0, 0].cpu().numpy() > 0.999
        )
    channels = max(len(one) for one in copies)
    copies = [np.repeat(one, channels, 0) if len(one) < channels else one for one in copies]
    everywhere = np.logical_and.reduce(valid)
    rest = [REST * float(one.had[0]) for one in sources]
    return _Bracket(copies, valid, rest, everywhere if everywhere.any() else ~everywhere), factor, size


def _part(source: Sources, box: Sequence[slice], where: Mask, factor: int, size: tuple[int, int]) -> _Part:
    """A part of one frame, in full size."""
    small = _box(box, where.shape)
    soft = ndimage.gaussian_filter(where[small].astype(np.float32), MARGIN / 3)
    rows, columns = (slice(s.start * factor, min(s.stop * factor, n)) for s, n in zip(small, size, strict=True))
    weight = F.interpolate(torch.from_numpy(soft)[None, None], scale_factor=factor, mode="bilinear")[0, 0]
    weight = weight[: rows.stop - rows.start, : columns.stop - columns.start].to(source.luma[0])
    picture = image_rows(source.images, 0, rows)[0, ..., columns]
    if source.valid[0] is not None:
        weight = weight * source.valid[0][0, 0, rows, columns]
    return _Part(rows, columns, weight, picture.clone())


def _with_parts(sources: Sources, every: Sequence[Mapping[int, Sequence[_Shown]]]) -> Sources:
    """The sources with parts of other frames in them. every: of each image of the batch, by the source's index."""
    changed = {i for parts in every for i, some in parts.items() if some}
    if not changed:
        return sources
    height, width = size_of(sources.reference_luma)

    def rows_of(i: int, rows: slice) -> Tensor:
        image = image_rows(sources.images, i, rows).clone()
        start, stop, _ = rows.indices(height)
        for b, parts in enumerate(every):
            for shown in parts.get(i, ()):
                shown.into(image[b : b + 1], slice(start, stop), sources.to_luma)
        return image

    lumas = list(sources.luma)
    for i in changed:
        lumas[i] = lumas[i].clone()
        for part in strips(height, width, 0):
            lumas[i][..., part.place, :] = sources.to_luma(rows_of(i, part.place))
    if isinstance(sources.images, StoredImages):
        images: Sequence[Tensor] = ChangedImages(sources.images, changed, rows_of)
    else:
        images = tuple(
            rows_of(i, slice(0, height)) if i in changed else image for i, image in enumerate(sources.images)
        )
    return replace(sources, images=images, luma=tuple(lumas))
