"""How a hot object stands out from a bright surround, and where a source shows nothing but a cold sky."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from fusionkit.numerics.choice import with_data
from fusionkit.numerics.thermal import GUIDE_PART, ThermalSaliency, ramp, surround
from fusionkit.numerics.window import box_max, box_mean, enlarged_rows, reduced

# set by eye on made scenes, and by eye and the audit on pairs of VIFB, MSRS and RoadScene (docs/decisions/heat.md)
CONTRAST = 0.15  # luma by which a hot object is to differ from its surround
TIMES = 2.0  # a hot object exceeds the reference's median by that times what it exceeds the source's by, at most
LACKING = 0.4, 0.8  # shares of that contrast between which being brighter suffices
BRIGHT = 0.75, 0.9  # luma of a surround, near and twice as far, between which a hot object may be shown darker than it
BLACK = 0.5  # share of a source's mean below which it counts as black, wholly at 0
EMPTY = 0.2, 0.4  # luma of the reference times blackness of the source between which the source's edges cease to count
COARSE = 160  # samples along the shorter side, up to twice that, that suffice for what is around an object or a border
BORDER = 2  # samples around an object that its outline lies in


class Standing(NamedTuple):
    """Whether a hot object is shown brighter or darker than its surround, from the reference V and the source S.

    down: share in which it is darker, since max(V, S) exceeds a bright surround V̄ by less than a visible contrast c;
    not where only its own glare is bright, or the object is so large that its surround is a few pixels of itself.
    floor: V̄ - c, which it is lowered to, in [S, V]. follow: how much the edges of S count: not where V (1 - 2 S / mean
    S) is high, as in a bright sky that is black in S, and not around objects that stand out dark. ground: median of V -
    TIMES · median of S; no hot object is raised beyond TIMES · S + ground, so that what is hardly warmer than a bright
    ground in S has no grey veil.

    follow: (B, 1, h, w); lowered: down and floor as channels, (B, 2, h, w), None where down is 0 everywhere. Each
    sample is of `factor`² pixels. ground: (B, 1, 1, 1).
    """

    follow: Tensor
    lowered: Tensor | None
    factor: int
    ground: Tensor

    @classmethod
    def of(
        cls,
        reference: Tensor,
        heat: ThermalSaliency,
        steady: Callable[[str, Tensor], Tensor],
        valid: Tensor | None,
    ) -> Self:
        """From the luma (B, 1, H, W) of the reference and the heat of the source.

        steady: averages its mean and the ground over the frames of a video. valid: (B, 1, H, W) of bool, where the
        source has data.
        """
        v, s = reduced(reference, heat.factor), heat.small
        height, width = s.shape[-2:]
        mean = steady("mean", s.mean(3, keepdim=True).mean(2, keepdim=True))
        black = 1 - box_mean(s, 1) / (BLACK * mean).clamp_min(1e-3)
        sky = ramp(box_max(box_mean(v, 1).mul_(black), 1), EMPTY)
        step = max(1, min(height, width) // COARSE)
        v, few = reduced(v, step), reduced(s, step)
        seen, own = (torch.stack([row.median() for row in with_data(y, valid)]) for y in (v, few))
        ground = steady("ground", (seen - TIMES * own).view(-1, 1, 1, 1))
        coarse = _shown(v, few, reduced(heat.objects(), step))
        if coarse is None:
            return cls(1 - sky, None, heat.factor, ground)
        maps = enlarged_rows(coarse, step, slice(0, height), width)
        return cls((1 - sky) * (1 - maps[:, 2:]), maps[:, :2], heat.factor, ground)

    def shown(self, y: Tensor) -> Tensor:
        """How bright hot objects of the source's luma y are shown at most: (B, 1, H, W)."""
        return torch.minimum(y, TIMES * y + self.ground)

    def rows(self, rows: slice, width: int) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Follow, and down and floor if they matter, at rows of the pixels, `width` long: (B, 1, rows, width) each."""
        follow = enlarged_rows(self.follow, self.factor, rows, width)
        if self.lowered is None:
            return follow, None
        lowered = enlarged_rows(self.lowered, self.factor, rows, width)
        return follow, (lowered[:, :1], lowered[:, 1:])


def _shown(v: Tensor, s: Tensor, hot: Tensor) -> Tensor | None:
    """Down, floor and the outlines of what stands out dark, as channels: (B, 3, h, w); None: nothing does."""
    near = max(1, min(s.shape[-2:]) // GUIDE_PART)
    around = surround(v, hot)
    if not bool(((around > BRIGHT[0]) & (hot > 0)).any()):
        return None
    mass = box_mean(hot, near).clamp_min_(1e-3)
    floor = around - CONTRAST
    brighter = box_mean(torch.maximum(v, s).mul_(hot), near).div_(mass).sub_(around)
    darker = around - box_mean(torch.minimum(v, torch.maximum(s, floor)).mul_(hot), near).div_(mass)
    lacks = hot * (1 - ramp(brighter / CONTRAST, LACKING))
    outlined = box_max((2 * lacks * ramp(around, BRIGHT) * darker / CONTRAST).clamp_(0, 1), BORDER)
    down = lacks * ramp(torch.minimum(around, surround(v, hot, 2)), BRIGHT)
    return torch.cat([down, floor, outlined], 1)
