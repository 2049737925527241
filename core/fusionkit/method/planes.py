"""One source of one image on its way through the flow, and back among the sources."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import ColorSpace, Sources
from ..errors import SizeMismatch
from ..images.convert import ChangedImages, StoredImages, image_rows
from ..numerics.strips import strips
from .sought import Restored


@dataclass
class Plane:
    """One source of one image on its way: its luma (1, 1, H, W) and what became of it.

    noise: deviation of the noise that it still has. had: that it had.
    """

    source: int
    image: int
    luma: Tensor
    noise: float = 0.0
    had: float = 0.0
    veiled: bool = False
    chroma: dict[int, Tensor] = field(default_factory=dict)
    rows: list[Restored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    offered: dict[str, str] = field(default_factory=dict)
    changed: bool = False


def chroma_of(color: ColorSpace, sources: Sources, source: int, image: int) -> Sequence[Tensor]:
    """The chroma planes (H, W) of one image, shifted to mid-grey; none where it has none."""
    height, width = sources.luma[source].shape[-2:]
    found: list[Tensor] = []
    for part in strips(height, width, 0):
        chroma = color.split(image_rows(sources.images, source, part.place)[image : image + 1])[1]
        if chroma is None:
            return []
        found = found or [chroma.new_empty(height, width) for _ in chroma[0]]
        for plane, rows in zip(found, chroma[0], strict=True):
            torch.add(rows, 0.5, out=plane[part.place])
    return found


def put_back(color: ColorSpace, sources: Sources, planes: Sequence[Plane]) -> Sources:
    """Sources with the restored planes in their places; images without any keep their bits."""
    found = {(p.source, p.image): p for p in planes}
    changed, lumas = {p.source for p in planes}, list(sources.luma)
    for i in changed:
        parts = [found[i, b].luma if (i, b) in found else lumas[i][b : b + 1] for b in range(len(lumas[i]))]
        if len({part.shape for part in parts}) > 1:
            raise SizeMismatch("the images of this batch are restored to different sizes; fuse them one by one")
        lumas[i] = torch.cat(parts)
    clean = replace(sources, luma=tuple(lumas))
    count = 1 if color.blends else len(sources)  # colour of one source, in half the time of a mixture of equals
    moved = {i for i in changed if lumas[i].shape != sources.luma[i].shape}

    def made(i: int, b: int, rows: slice) -> Tensor:
        height = lumas[i].shape[-2]
        reach = height if color.reach is None or i in moved else color.reach
        first, last, _ = rows.indices(height)
        wide = slice(max(0, first - reach), min(height, last + reach))
        image = sources.images[i][b : b + 1] if i in moved else image_rows(clean.images, i, wide)[b : b + 1]
        strip = merged(color, clean, image, found[i, b], wide, count)
        return strip[..., first - wide.start : last - wide.start, :].clamp(0, 1)

    whole = {i: torch.cat([made(i, b, slice(None)) for b in range(len(lumas[i]))]) for i in moved}
    if isinstance(sources.images, StoredImages):

        def rows_of(i: int, rows: slice) -> Tensor:
            return whole[i][..., rows, :] if i in whole else made(i, 0, rows)

        heights = {i: image.shape[-2] for i, image in whole.items()}
        return replace(clean, images=ChangedImages(sources.images, changed, rows_of, heights))
    images = [whole.get(i, image.clone() if i in changed else image) for i, image in enumerate(sources.images)]
    for i, b in found:
        height, width = lumas[i].shape[-2:]
        for part in strips(height, width, color.reach) if i not in moved else ():
            images[i][b : b + 1, :, part.place] = made(i, b, part.place)
    return replace(clean, images=tuple(images))


def merged(color: ColorSpace, sources: Sources, image: Tensor, plane: Plane, rows: slice, count: int) -> Tensor:
    """These rows of one image with its restored luma and chroma, which takes the luma's size; as so many sources."""
    chroma, luma = color.split(image)[1], plane.luma[..., rows, :]
    if chroma is not None:
        restored = {c - 1: pixels[rows][None, None] - 0.5 for c, pixels in plane.chroma.items()}
        parts = [restored.get(c, chroma[:, c : c + 1]) for c in range(chroma.shape[1])]
        chroma = torch.cat([_resized(part, luma) for part in parts], 1)
    # its colour is nobody else's
    alone = replace(sources, images=(image,) * count, luma=(luma,) * count, known_scenes=(), whole=None)
    whole = color.merge(luma, [chroma] * count, alone)
    return whole if whole.shape[1] == image.shape[1] else luma


def _resized(chroma: Tensor, luma: Tensor) -> Tensor:
    """A chroma plane in the size of the luma."""
    size = luma.shape[-2:]
    return chroma if chroma.shape[-2:] == size else F.interpolate(chroma, size, mode="bicubic", align_corners=False)
