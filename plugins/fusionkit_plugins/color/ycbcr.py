"""BT.601 YCbCr, full range."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.contracts import ColorSpace, Sources
from fusionkit.numerics.luma import BLUE, GREEN, RED, luma

from .chroma import REACH, ChromaOptions, mix_chroma, with_room


def to_ycbcr(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 1 or 3, H, W) -> luma (B, 1, H, W), and Cb and Cr (B, 2, H, W); a grey image is its own luma, without."""
    if image.shape[1] == 1:
        return image, None
    r, _, b = image.chunk(3, dim=1)
    y = luma(image)
    return y, torch.cat([(b - y).div_(2 * (1 - BLUE)), (r - y).div_(2 * (1 - RED))], dim=1)


def from_ycbcr(luma: Tensor, chroma: Tensor | None) -> Tensor:
    """The inverse of `to_ycbcr`: RGB, or the luma where there is no chroma."""
    if chroma is None:
        return luma
    cb, cr = chroma.chunk(2, dim=1)
    r, b = (2 * (1 - RED) * cr).add_(luma), (2 * (1 - BLUE) * cb).add_(luma)
    return torch.cat([r, (luma - RED * r).sub_(BLUE * b).div_(GREEN), b], dim=1)


class YCbCr(ColorSpace):
    """Y = 0.299 R + 0.587 G + 0.114 B, Cb = (B - Y) / 1.772, Cr = (R - Y) / 1.402 (ITU-R BT.601, as in JPEG).

    Y is in [0, 1], Cb and Cr in [-0.5, 0.5] with 0 for neutral. The inverse is the algebraic one, without rounded
    constants.
    """

    Options = ChromaOptions
    reach = REACH
    bt601 = True
    options: ChromaOptions

    def __init__(self, options: ChromaOptions) -> None:
        super().__init__(options)
        self.blends = not options.chroma_from

    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Luma and chroma; a grey image is its own luma."""
        return to_ycbcr(image)

    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """RGB from the fused luma and the sources' chroma."""
        merged = from_ycbcr(luma, mix_chroma(chromas, self.options.chroma_from, luma, sources))
        return with_room(merged, sources, luma)
