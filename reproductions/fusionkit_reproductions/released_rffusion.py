"""The closed form of the released RFfusion."""

from typing import Any

import torch
from torch import Tensor

from fusionkit.contracts import Prior, Sources


class ReleasedRFfusion(Prior):
    """The closed form of what the released RFfusion computes on images in [-1, 1]: docs/rffusion.md.

        F = (|I| I + |V| V) / (|I| + |V|) where |I| <= 2 |V|, else (2 I + V) / 3,  stretched to the full range

    I is the first source, V the last.
    """

    reads_x0 = False

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma, from its minimum to its maximum in [0, 1]."""
        i, v = (2 * y - 1 for y in (sources.luma[0], sources.luma[-1]))
        total = (i.abs() + v.abs()).clamp_min(1e-6)
        fused = torch.where(i.abs() <= 2 * v.abs(), (i.abs() * i + v.abs() * v) / total, (2 * i + v) / 3)
        low, high = (f(fused, (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
        return (fused - low) / (high - low).clamp_min(1e-6), None
