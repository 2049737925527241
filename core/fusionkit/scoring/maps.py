"""Pictures of what a fusion lost and what it invented."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Metric, Sources
from ..numerics.luma import luma

__all__ = ["has_maps", "overlay"]

FULL = 40.0  # levels at which a colour is full
LOST, INVENTED = (0.15, 0.45, 1.0), (1.0, 0.2, 0.1)  # blue, red


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
