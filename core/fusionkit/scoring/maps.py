"""Pictures of the losses and inventions of a fusion, and of the sources that its edges come from."""

from collections.abc import Mapping
from itertools import cycle

import torch
from torch import Tensor

from ..contracts import Metric, Sources
from ..contracts.base import check_answer
from ..images.convert import to_array
from ..images.picture import Array
from ..numerics.luma import luma
from ..numerics.poisson import gradient
from ..numerics.window import box_mean

FULL = 40.0  # levels at which a colour is full
LOST, INVENTED = (0.15, 0.45, 1.0), (1.0, 0.2, 0.1)  # blue, red
# colours of the sources, in order: orange, blue, green, purple (Okabe & Ito's, which colour-blind people tell apart)
TRUSTED = ((0.90, 0.62, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
SEEN = (6 / 255) ** 2  # squared slope at which a colour is half full
NEAR = 4  # radius of the windows over which edges are averaged


def has_maps(metrics: Mapping[str, Metric]) -> bool:
    """Whether any of the metrics has a map."""
    return any(metric.shows for metric in metrics.values())


def overlay(fused: Tensor, sources: Sources, metrics: Mapping[str, Metric]) -> Array:
    """Show the result (1, 1 or 3, H, W) in pale grey, losses in blue, inventions in red: (H, W, 3).

    The strength of a colour is the largest of the metrics' maps, full at 40 levels.
    """
    grey = luma(fused).clamp(0, 1)
    picture = (0.35 + 0.65 * grey).expand(-1, 3, -1, -1)
    for kind, color in (("lost", LOST), ("invented", INVENTED)):
        shown = [m for m in metrics.values() if m.shows == kind]
        maps = [m.map(fused if m.color else grey, sources) for m in shown]
        for metric, places in zip(shown, maps, strict=True):
            check_answer(places, grey.shape, "map", metric)
        if maps:
            share = (torch.stack(maps).amax(0).to(picture) / FULL).clamp(0, 1)
            picture = (1 - share) * picture + share * picture.new_tensor(color).view(1, 3, 1, 1)
    return to_array(picture)


def trusted(fused: Tensor, sources: Sources) -> Array:
    """Show which source's edges the result (1, 1 or 3, H, W) has, in the colours `TRUSTED`: (H, W, 3).

    Source i has the share Σ max(∇F · ∇S_i, 0) of all in 9x9 pixels; grey without edges. Sources beyond the fourth take
    the colours in turn.
    """
    grey = luma(fused).clamp(0, 1)
    fx, fy = gradient(grey)
    shares = [box_mean((fx * gx + fy * gy).clamp_min(0), NEAR) for gx, gy in map(gradient, sources.luma)]
    total = torch.stack(shares).sum(0)
    color = torch.zeros_like(grey)
    for share, rgb in zip(shares, cycle(TRUSTED), strict=False):
        color = color + share / (total + 1e-9) * grey.new_tensor(rgb).view(1, 3, 1, 1)
    strength = total / (total + SEEN)
    return to_array(((0.35 + 0.65 * grey) * (1 - 0.75 * strength) + 0.75 * strength * color).clamp(0, 1))
