"""Places where a source has no data: others are shown there, in the brightness that the source has at its border."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Sources
from ..images.convert import ChangedImages, StoredImages, image_rows
from ..numerics.strips import strips
from ..numerics.window import enlarged_rows, gaussian_blur, reduced

SIDE = 200  # least shorter side of the reduced copy on which brightness is compared
BROAD = 2.0  # deviation, in its samples, of the brightness that goes on across a border
COARSER = 1e-2  # weight of the coarser scale beside samples that have data
FAR, FADING = 8, 0.1  # parts of the picture in which a brightness does not go on; weight of none there
CLIPPED = 254 / 255  # brightness from which a source continues none: it may be any


@dataclass(frozen=True)
class _Filling:
    """Pixels of a source (`where`, (B, 1, H, W)) that are taken from source `by`, and what is added to them.

    luma, image: added to the luma and to the image, (B, 1 or 3, h, w) of samples of `factor`² pixels. grey: the image
    takes no colour from the other.
    """

    by: int
    where: Tensor
    luma: Tensor
    image: Tensor
    factor: int
    grey: bool

    def into(self, x: Tensor, other: Tensor, added: Tensor, rows: slice) -> Tensor:
        """Rows x of the source with the rows of the other where they are wanted."""
        more = enlarged_rows(added, self.factor, rows, x.shape[-1])
        return torch.where(self.where[..., rows, :], (other + more).clamp(0, 1), x)


def filled(sources: Sources) -> Sources:
    """The sources with every place filled where one has no data and another has; nowhere else is anything changed.

    First the reference, from the others in their order, then each of the others from the reference. What is taken over
    is the other's structure, so a place has no edge that no source shows. The difference of the two, smoothed, goes on
    across the border by pull and push (Gortler et al., "The lumigraph", SIGGRAPH 1996): from ever coarser scales the
    farther it lies, so there is no rim. In others than the reference it fades within about an eighth of the picture, so
    that far from a source nothing is invented.
    """
    if all(valid is None for valid in sources.valid):
        return sources
    height, width = sources.reference_luma.shape[-2:]
    every = zip(sources.valid, sources.luma, strict=True)
    valid = [None if v is None else _resized(v, y.shape[-2:]) for v, y in every]
    sources = replace(sources, valid=tuple(valid), known_scenes=sources.scenes)
    ref = sources.reference
    lumas, plan = list(sources.luma), dict[int, list[_Filling]]()
    order = [(ref, i) for i in range(len(sources)) if i != ref] + [(i, ref) for i in range(len(sources)) if i != ref]
    known = list(valid)
    for index, by in order:
        own, other = known[index], known[by]
        if own is None:
            continue
        other = torch.ones_like(own) if other is None else other
        where = ~own & other
        if not bool(where.any()):
            continue
        filling = _filling(replace(sources, luma=tuple(lumas)), index, by, own & other, where)
        luma = lumas[index].clone()
        for part in strips(height, width, 0):
            luma[..., part.place, :] = filling.into(
                luma[..., part.place, :], lumas[by][..., part.place, :], filling.luma, part.place
            )
        lumas[index], known[index] = luma, own | other
        plan.setdefault(index, []).append(filling)
        share = max(0.001, float(where.float().mean()))
        sources.report.note(
            f"{sources.names[index]} has no data in {share:.1%} of the picture, where {sources.names[by]} is shown"
        )
    return replace(sources, luma=tuple(lumas), images=_images(sources, plan))


def with_nan(image: Tensor, sources: Sources) -> Tensor:
    """An image (B, C, H, W) with NaN where no source has data."""
    if any(valid is None for valid in sources.valid):
        return image
    found = _resized(torch.stack([v for v in sources.valid if v is not None]).any(0), image.shape[-2:])
    return image if bool(found.all()) else image.masked_fill(~found, torch.nan)


def _filling(sources: Sources, index: int, by: int, both: Tensor, where: Tensor) -> _Filling:
    """What is added to source `by` where it fills source `index`; both: where the two have data."""
    height, width = both.shape[-2:]
    factor = max(1, min(height, width) // SIDE)
    grey = not bool(sources.colored[index].any())
    both = both & (sources.luma[index] < CLIPPED)
    weight = reduced(both.float(), factor)

    def added(rows: "Iterator[tuple[Tensor, Tensor, slice]]") -> Tensor:
        parts = [reduced((a - b) * both[..., place, :], factor) for a, b, place in rows]
        fading = 0.0 if index == sources.reference else FADING
        return _extended(gaussian_blur(torch.cat(parts, -2), BROAD), gaussian_blur(weight, BROAD), fading)

    step = factor * max(1, 2**18 // (factor * width))
    places = [slice(top, min(top + step, height)) for top in range(0, height, step)]
    luma = added((sources.luma[index][..., p, :], sources.luma[by][..., p, :], p) for p in places)
    image = added(
        (x := image_rows(sources.images, index, p), _like(x, image_rows(sources.images, by, p), sources, grey), p)
        for p in places
    )
    return _Filling(by, where, luma, image, factor, grey)


def _extended(total: Tensor, weight: Tensor, fading: float) -> Tensor:
    """total / weight where samples have weight, else that of coarser scales; fading: weight of zeros."""
    side = max(weight.shape[-2:])
    if side == 1 or (fading and side <= FAR):
        return total / (weight + fading).clamp_min(1e-9)
    coarse = _extended(reduced(total, 2), reduced(weight, 2), fading)
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., : weight.shape[-2], : weight.shape[-1]]
    return torch.addcmul(total, coarse, torch.tensor(COARSER)) / (weight + COARSER)


def _like(x: Tensor, other: Tensor, sources: Sources, grey: bool) -> Tensor:
    """Rows of another source with the channels of x; without colour where the source has none."""
    shown = sources.to_luma(other) if grey and other.shape[1] == 3 else other
    if x.shape[1] == 1:
        return sources.to_luma(shown) if shown.shape[1] == 3 else shown
    return shown.expand_as(x)


def _images(sources: Sources, plan: dict[int, list[_Filling]]) -> "StoredImages | tuple[Tensor, ...]":
    """The images with their fillings; stored ones are filled when they are asked for."""

    def rows_of(index: int, rows: slice) -> Tensor:
        x = image_rows(sources.images, index, rows)
        for filling in plan.get(index, []):
            other = filling.by
            y = image_rows(sources.images, other, rows) if index == sources.reference else rows_of(other, rows)
            x = filling.into(x, _like(x, y, sources, filling.grey), filling.image, rows)
        return x

    if isinstance(sources.images, StoredImages):
        return ChangedImages(sources.images, plan.keys(), rows_of)
    height = sources.reference_luma.shape[-2]
    return tuple(rows_of(i, slice(0, height)) if i in plan else image for i, image in enumerate(sources.images))


def _resized(valid: Tensor, size: Sequence[int]) -> Tensor:
    """A mask in the size that a stage has given its source."""
    if valid.shape[-2:] == size:
        return valid
    return F.interpolate(valid.float(), tuple(size), mode="nearest") > 0.5
