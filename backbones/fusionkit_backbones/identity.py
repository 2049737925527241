"""The backbone `identity`, without a network: the baseline of ablations."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Backbone, Options


class IdentityOptions(Options):
    """Options of the backbone `identity`."""

    estimate: Literal["input", "zeros"] = Field(
        "input", description="the clean estimate: x_t as it is, or zeros, as from a silenced network"
    )


class Identity(Backbone):
    """v = 0, so x̂₀ = x_t: a method without its flow. Or v = x_t / t, so x̂₀ = 0."""

    Options = IdentityOptions
    domain: Literal["any"] = "any"
    channels = None
    options: IdentityOptions

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return zeros, or the velocity that leads to zeros."""
        if self.options.estimate == "zeros":
            return x_t / t.view(-1, 1, 1, 1)
        return torch.zeros_like(x_t)
