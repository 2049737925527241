"""What appears once light is raised: noise, grain that JPEG has left, the steps of 8 bits."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from fusionkit.flow.restoring import Restoration
from fusionkit.numerics.choice import subsample
from fusionkit.numerics.noise import estimate_noise
from fusionkit.numerics.window import box_mean, enlarged_rows, guided_filter

from ..color.ycbcr import from_ycbcr, to_ycbcr
from .enlarged import DEAD_ZONE

ROUNDED = 1 / 255  # error of 8 bits and JPEG, before light is raised
BLOCK, FLATTEST = 16, 0.1  # side of a block; share of the blocks that are taken for flat

thinned = partial(subsample, enough=2**13)  # of a picture, pixels that suffice for its brightness


def cleaned(x: Tensor, gain: Tensor | float) -> Restoration:
    """The picture x (1, 1 or 3, H, W) in [0, 1], its luma cleaned by the flow; its chroma, at half the size, guided by
    itself (He et al., TPAMI 2013): noise, and the blocks that JPEG leaves of flat colour, go, and edges of colour stay.

    Each is cleaned of the noise that is estimated there, or of the grain of the flattest blocks, and at least of the
    error of 8 bits and of JPEG; luma, where that is more than the flow was told of, as chroma is. gain: by which
    contrast was raised, 1 or more; where it differs, (1, 1, h, w) of any size.
    """
    light, chroma = to_ycbcr(x)
    error = ROUNDED * (x.new_ones(1, 1, 1, 1) * gain - 1)
    typical = float(error.square().mean().sqrt())
    level = _level(light, typical)
    if level:
        light = yield light, level
        if float(error.max()) > level:
            beyond = (error.square() - level**2).clamp_min(1e-6)
            light = guided_filter(light, light, BLOCK // 2, _sized(beyond, light))
    for channel in range(0 if chroma is None else 2):
        assert chroma is not None
        half = F.avg_pool2d(chroma[:, channel : channel + 1], 2, ceil_mode=True)
        if level := _level(half + 0.5, typical):
            half = guided_filter(half, half, BLOCK // 2, _sized(error.square().clamp_min(level**2), half))
            chroma[:, channel : channel + 1] = enlarged_rows(half, 2, slice(0, x.shape[-2]), x.shape[-1])
    return from_ycbcr(light, chroma).clamp(0, 1)


def _sized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear")


def _level(plane: Tensor, least: float) -> float:
    """Deviation of the noise of a plane (1, 1, H, W) in [0, 1] that is to be cleaned, or 0."""
    if min(plane.shape[-2:]) < BLOCK:
        return 0.0
    level = max(least, estimate_noise(plane.clamp(0, 1))[0].level, _grain(plane))
    return level if level >= DEAD_ZONE else 0.0


def _grain(plane: Tensor) -> float:
    """Deviation in the flattest blocks beyond their local mean: noise whose spectrum falls, as JPEG leaves it.

    A picture that was opened has flat places; for others the blocks would be texture.
    """
    blocks = (plane - box_mean(plane, 1)).unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).flatten(4)
    return float(blocks.std(-1).flatten().quantile(FLATTEST))
