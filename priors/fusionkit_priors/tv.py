"""Gradient transfer: intensities of one source, edges of the reference."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.poisson import divergence, gradient


class TVOptions(Options):
    """Options of the prior `tv`."""

    lam: float = Field(0.3, gt=0, description="weight of the reference's gradients against the other's intensities")
    iterations: int = Field(
        60,
        ge=1,
        le=100_000,
        description="primal-dual iterations; the gap falls as one over their number, raise with lam",
    )
    eps: float = Field(1e-3, gt=0, description="rounding of |.| at zero in the energy")


class TotalVariation(Prior):
    """min over F of  |F - I|₁ + lam TV(F - V),  V the reference source, I the other one.

    Gradient transfer fusion (Ma et al., Information Fusion 2016, eq. 5). With G = F - V it is L1-TV denoising of
    Y = I - V, solved by proximal splitting (Chambolle & Pock, 2011, algorithm 1), K = ∇, |K|² <= 8:

        P  <- project(P + s ∇Ḡ) onto |P| <= lam                prox of the dual of lam |.|
        G  <- Y + shrink(G + s div P - Y, s)                   prox of |. - Y|₁
        Ḡ  <- 2 G - G_old

    It starts from the estimate, G = x̂₀ - V. For pairs in which one source has the objects and the other the texture.
    """

    Options = TVOptions
    max_sources = 2
    has_energy = True
    guiding = frozenset({"lam", "eps"})
    options: TVOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Take `iterations` steps towards the minimum."""
        o, step = self.options, 8**-0.5
        visible, other = sources.reference_luma, sources.other_luma[0]
        y = other - visible
        g = ahead = x0 - visible
        px, py = torch.zeros_like(g), torch.zeros_like(g)
        for _ in range(o.iterations):
            dx, dy = gradient(ahead)
            px, py = px + step * dx, py + step * dy
            scale = torch.clamp(torch.hypot(px, py) / o.lam, min=1.0)
            px, py = px / scale, py / scale
            before, residual = g, g + step * divergence(px, py) - y
            g = y + torch.sign(residual) * (residual.abs() - step).clamp_min(0)
            ahead = 2 * g - before
        return visible + g, None

    def unread(self, *, steps: int, inject: str) -> dict[str, str]:
        """`eps` rounds the energy alone."""
        unread = super().unread(steps=steps, inject=inject)
        return unread if inject in ("velocity", "both") else {"eps": "`inject` velocity or both", **unread}

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Functional above at F = x0, absolute values rounded at zero by `eps`: (B,)."""
        o = self.options
        gx, gy = gradient(x0 - sources.reference_luma)
        edges = torch.sqrt(gx.square() + gy.square() + o.eps**2)
        fidelity = torch.sqrt((x0 - sources.other_luma[0]).square() + o.eps**2)
        return (fidelity + o.lam * edges).sum(dim=(1, 2, 3))
