"""What every table needs beside the methods: the simplest priors, by themselves."""

from functools import cache
from typing import Any

from torch import Tensor

from ..contracts import Prior, Sources
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import get_registry

__all__ = ["BASELINES", "SINGLE", "baseline_images"]

# name in tables -> the built-in prior and its options
BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "average": ("average", {}),
    "max": ("max", {}),
    "first source": ("source", {"number": 1}),
    "last source": ("source", {"number": 0}),
    "released RFfusion (closed form)": ("released_rffusion", {}),
}


SINGLE = ("first source", "last source")  # those that are no fusion


def baseline_images(sources: Sources) -> dict[str, Tensor]:
    """The luma (B, 1, H, W) that each baseline makes of the sources."""
    return {name: _prior(name).correct(sources.luma[-1], sources, None, 0.0)[0] for name in BASELINES}


@cache
def _prior(baseline: str) -> Prior:
    name, options = BASELINES[baseline]
    prior: Prior = get_registry().create("prior", f"{DISTRIBUTION}:{name}", options)
    return prior
