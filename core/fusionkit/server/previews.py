"""Smaller copies: pictures for a preview, and the sources as a fusion saw them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..contracts import Options, Sources, Stage
from ..images.convert import StoredImages, pooled, to_array
from ..images.onto import place_of
from ..images.picture import Array, Picture
from ..images.write import png_bytes

SHOWN = 2400  # pixels of the longer side of a picture that a browser shows
KEPT = 16_000_000  # pixels of all sources of a result that are kept as they were fused


def can_shrink(pictures: Sequence[Picture]) -> bool:
    """Whether smaller copies would be fused likewise: not where files say where each pixel lies."""
    return all(place_of(picture) is None for picture in pictures)


def shrunk(picture: Picture, factor: int) -> Picture:
    """A copy of a picture that is smaller by a whole factor: means of its squares, data where more than half are."""
    values = to_array(pooled(StoredImages([picture], torch.device("cpu")), 0, factor))
    masks = [
        None if mask is None else to_array(pooled([torch.from_numpy(mask).float()[None, None]], 0, factor))[..., 0]
        for mask in (picture.alpha, picture.valid)
    ]
    valid = None if masks[1] is None else masks[1] > 0.5
    return replace(picture, values=np.ascontiguousarray(values), alpha=masks[0], valid=valid, degraded={})


def shown_png(picture: Picture, side: int = SHOWN) -> bytes:
    """PNG of 8 bits of a picture, scaled down to at most `side` pixels a side."""
    factor = max(picture.size) // side
    return png_bytes((shrunk(picture, factor) if factor > 1 else picture).pixels, side)


class Seen(Stage):
    """The last stage of the page's methods: copies of the sources as they were fused, at the size that is shown."""

    def __init__(self) -> None:
        super().__init__(Options())
        self.sources: list[Array] = []

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """Keep (H, W, 1 or 3) of 8 bits of each source; nothing where all are as they were read."""
        images = sources.images
        self.sources = []
        if type(images) is StoredImages:
            return image
        height, width = sources.reference_luma.shape[-2:]
        factor = math.ceil(max(max(height, width) / SHOWN, math.sqrt(len(images) * height * width / KEPT)))
        cut = sources.cut or (slice(0, None), slice(0, None))
        rows, columns = (slice(at.start // factor, at.stop and -(-at.stop // factor)) for at in cut)
        for index in range(len(images)):
            levels = to_array(pooled(images, index, factor))[rows, columns] * 255 + 0.5
            self.sources.append(levels.clip(0, 255).astype(np.uint8))
        return image
