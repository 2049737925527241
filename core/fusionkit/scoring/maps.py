"""Pictures of what a fusion lost and what it invented."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Metric, Sources
from ..numerics.luma import luma
from ..numerics.poisson import gradient
from ..numerics.window import box_mean

__all__ = ["TRUSTED", "has_maps", "overlay", "trusted"]

FULL = 40.0  # levels at which a colour is full
LOST, INVENTED = (0.15, 0.45, 1.0), (1.0, 0.2, 0.1)  # blue, red
# of the sources in their order: orange, blue, green, purple (Okabe & Ito's, which colour-blind people tell apart)
TRUSTED = ((0.90, 0.62, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
SEEN = (6 / 255) ** 2  # squared slope at which a colour is half full
NEAR = 4  # radius of the windows that trust is found in


def has_maps(metrics: Mapping[str, Metric]) -> bool:
    """Whether any of the metrics can say where."""
    return any(metric.shows for metric in metrics.values())


def overlay(fused: Tensor, sources: Sources, metrics: Mapping[str, Metric]) -> "np.ndarray[Any, Any]":
    """The result (1, 1 or 3, H, W) in pale grey, blue where something was lost, red where it was invented: (H, W, 3).

    Each colour is the largest value that a metric's map has there, full at 40 levels.
    """
    grey = luma(fused).clamp(0, 1)
    picture = (0.35 + 0.65 * grey).expand(-1, 3, -1, -1)
    for kind, color in (("lost", LOST), ("invented", INVENTED)):
        maps = [m.map(fused if m.color else grey, sources) for m in metrics.values() if m.shows == kind]
        if maps:
            share = (torch.stack(maps).amax(0).to(picture) / FULL).clamp(0, 1)
            picture = (1 - share) * picture + share * picture.new_tensor(color).view(1, 3, 1, 1)
    return picture[0].permute(1, 2, 0).cpu().numpy()


def trusted(fused: Tensor, sources: Sources) -> "np.ndarray[Any, Any]":
    """Which source's edges the result (1, 1 or 3, H, W) shows, in the colours `TRUSTED`: (H, W, 3).

    Source i has the share Σ max(∇F · ∇S_i, 0) of all in 9x9 pixels; grey where nobody has an edge. Sources beyond the
    fourth take the colours in turn.
    """
    grey = luma(fused).clamp(0, 1)
    fx, fy = gradient(grey)
    shares = []
    for y in sources.luma:
        gx, gy = gradient(y)
        shares.append(box_mean((fx * gx + fy * gy).clamp_min(0), NEAR))
    total = torch.stack(shares).sum(0)
    colors = grey.new_tensor(TRUSTED)
    color = sum(
        (share / (total + 1e-9) * colors[i % len(TRUSTED)].view(1, 3, 1, 1) for i, share in enumerate(shares)),
        torch.zeros_like(grey),
    )
    strength = total / (total + SEEN)
    picture = (0.35 + 0.65 * grey) * (1 - 0.75 * strength) + 0.75 * strength * color
    return picture.clamp(0, 1)[0].permute(1, 2, 0).cpu().numpy()
