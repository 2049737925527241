"""The backbone that leaves x alone: the baseline every ablation needs."""

from typing import Literal

import torch
from torch import Tensor

from fusionkit.contracts import Backbone

__all__ = ["Identity"]


class Identity(Backbone):
    """v = 0, so x̂₀ = x_t: what remains of a method when the flow is taken out of it."""

    domain: Literal["any"] = "any"
    channels = None

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x_t)
