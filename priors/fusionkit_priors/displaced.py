"""Where edges of a source lie beside those of the reference instead of on them: displaced copies.

Edges are compared by their doubled angle, whichever side is brighter, as in `fusionkit.numerics.registration`, but in
overlapping blocks: a block counts as displaced where a shift of a few pixels agrees clearly better than none. Blocks of
registered sources do not, so that nothing is taken from those.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import box_max, box_mean, reduced

# chosen on RoadScene and MSRS, whose infrared images were shifted by 3, 5 and 8 pixels; kept on VIFB and TNO
SIDE, BLOCK = 240, 128  # pixels of the reduced images' shorter side, and of a block's; blocks overlap by half
NEAR, FAR = 4, 16  # reduced pixels: shifts that are sought; shifts whose correlations tell what chance gives
CHANCE, BETTER = 5.0, 1.5  # deviations of chance from which a shift counts, and from which it is better than none

Field = tuple[Tensor, Tensor]


def reduction(height: int, width: int) -> int:
    """Factor by which images are reduced: four reduced pixels are about eight of 480 rows."""
    return max(1, round(min(height, width) / SIDE))


def copies(sources: Sources, steady: Callable[[str, Callable[[], Tensor]], Tensor]) -> Tensor | None:
    """How far an edge there is a displaced copy of the reference's, (B, 1, h, w) in [0, 1] of the reduced image.

    The maximum over the sources but the reference; None where all are registered, or too small to tell.
    """
    factor = reduction(*sources.luma[0].shape[-2:])
    size = [-(-n // factor) for n in sources.luma[0].shape[-2:]]
    if min(size) < BLOCK:
        return None

    @cache
    def edges(y: Tensor) -> Field:
        return gradient(reduced(y, factor))

    @cache
    def spectra(y: Tensor) -> Tensor:
        return _spectra(edges(y))

    def apart(other: Tensor) -> Tensor:
        return _apart(spectra(seen), spectra(other))

    seen, found = sources.reference_luma, []
    for i, other in enumerate(sources.other_luma):
        blocks = steady(f"apart {i}", partial(apart, other))
        if bool((blocks > 0).any()):
            found.append(_enlarged(blocks, size).mul_(_alike(edges(seen), edges(other))))
    return box_max(torch.stack(found).amax(0), 1) if found else None


def _spectra(edges: Field) -> Tensor:
    """Transforms of the doubled angles in each block, (B, 2, rows, columns, BLOCK, BLOCK // 2 + 1)."""
    gx, gy = edges
    strength = torch.addcmul(gx * gx, gy, gy).sqrt_().add_(1e-6)
    length = strength.reciprocal().div_(box_mean(strength, 4).add_(0.01))
    doubled = torch.cat([(gx * gx - gy * gy).mul_(length), (gx * gy).mul_(length).mul_(2)], dim=1)
    missing = [max(BLOCK - n, -n % (BLOCK // 2)) for n in gx.shape[-2:]]
    blocks = F.pad(doubled, (0, missing[1], 0, missing[0])).unfold(2, BLOCK, BLOCK // 2).unfold(3, BLOCK, BLOCK // 2)
    window = torch.hann_window(BLOCK, periodic=False, dtype=gx.dtype, device=gx.device)
    return torch.fft.rfft2(blocks * (window[:, None] * window))


def _apart(seen: Tensor, other: Tensor) -> Tensor:
    """How far blocks are displaced, (B, 1, rows, columns) in [0, 1]; blocks that show nothing are as the others are."""
    found = torch.fft.irfft2((seen.conj() * other).sum(1), s=(BLOCK, BLOCK)).roll((FAR, FAR), (-2, -1))
    found = found[..., : 2 * FAR + 1, : 2 * FAR + 1]
    found = box_mean(found.flatten(0, 2)[:, None], 1).view(found.shape)
    place = torch.arange(-FAR, FAR + 1, device=found.device, dtype=found.dtype)
    distance = torch.hypot(place[:, None], place)
    chance = (distance > NEAR + 3).to(found)
    found = found / (found.square() * chance).sum((-2, -1), keepdim=True).div(chance.sum()).sqrt().add(1e-12)
    still = found.masked_fill(distance >= 1.5, 0).amax((-2, -1))
    best = found.masked_fill(distance > NEAR + 0.5, 0).amax((-2, -1))
    told = (best - CHANCE).clamp(0, 1)
    apart = (best - still - BETTER).clamp(0, 1) * told
    share = apart.sum((-2, -1), keepdim=True) / (told.sum((-2, -1), keepdim=True) + 1)
    return apart.addcmul(1 - told, share)[:, None]


def _alike(seen: Field, other: Field) -> Tensor:
    """How far the reference has the energy of the other source's edge nearby, in its direction: in [0, 1]."""
    (hx, hy), (gx, gy) = seen, other
    energy = torch.addcmul(gx * gx, gy, gy).add_(1e-9)
    near = (box_mean(hx * hx, NEAR) * gx).addcmul_(box_mean(hx * hy, NEAR), gy, value=2).mul_(gx)
    near.addcmul_(box_mean(hy * hy, NEAR), gy * gy)
    return near.mul_(2 * NEAR + 1).div_(energy.square_()).clamp_(0, 1)


def _enlarged(blocks: Tensor, size: Sequence[int]) -> Tensor:
    """Values of blocks, linearly between their centres, (B, 1, *size)."""
    half = BLOCK // 2
    wide = F.interpolate(F.pad(blocks, (1, 1, 1, 1), mode="replicate"), scale_factor=half, mode="bilinear")
    return wide[..., half // 2 : half // 2 + size[0], half // 2 : half // 2 + size[1]].contiguous()
