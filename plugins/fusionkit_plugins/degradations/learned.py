"""Darkness, which no formula undoes: a rectified flow from the dark picture to the well exposed one.

    x_t = (1 - t) x₀ + t y,    v = dx/dt = y - x₀,    x₀ = x_t - t v(x_t, t)

The path of the flow that knows noise, with the degraded picture y at its end in the place of noise. Trained on rendered
pictures, v(y, 1) gives x₀ in one evaluation (Delbracio & Milanfar, "Inversion by direct iteration", TMLR 2023, eq. 6).
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Generator, Tensor

from fusionkit.contracts import Degradation, Options
from fusionkit.flow.restoring import Restoration
from fusionkit.numerics.luma import luma
from fusionkit.options import WeightsName
from fusionkit.weights.network import Network

from .affine_grid import AffineGrid, AffineGridConfig, thumbnail
from .grain import cleaned, thinned
from .rendering import darkened

PIXELS = 2**18  # toned at once
DARK = 0.11, 0.35  # brightness below which half of a dark picture lies, and nine tenths
LIT, NIGHT = 0.32, 0.5  # brightness of lit places; strength for a picture that has some


class DarknessOptions(Options):
    """Options of the degradation `darkness`."""

    weights: WeightsName = Field("darkness", description="weights of the network")
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how far to go from the picture to the clean one; by default 1, and 0.5 for a night with lights",
    )


class Darkness(Degradation):
    """Too little light: underexposed, or at night; with the noise that appears when it is opened.

    A rectified flow by an `AffineGrid`, whose cost hardly grows with the picture's size, opens the picture. Then the
    flow cleans what has appeared (`grain.cleaned`). y and x are the whole picture, (1, 1 or 3, H, W).
    """

    Options = DarknessOptions
    color = True

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.network: Network[AffineGrid] = Network(
            self.options.weights,
            AffineGrid,
            AffineGridConfig,
            kind="degradation darkness",
            otherwise="`--restore none` needs none",
        )
        self.provenance = self.network.provenance

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """No options, where half of the picture is nearly black and nine tenths are dark."""
        half, most = thinned(y).flatten().quantile(y.new_tensor([0.5, 0.9])).tolist()
        return {} if half < DARK[0] and most < DARK[1] else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """One dark picture of x, drawn from the generator (`fusionkit_plugins.degradations.rendering.darkened`)."""
        return _as_colored(darkened(x.expand(-1, 3, -1, -1), generator).y, x)

    @torch.no_grad()
    def clean(self, x_t: Tensor, t: float = 1.0) -> Tensor:
        """The estimate x₀ = x_t - t v(x_t, t) of the clean picture at x_t (1, 1 or 3, H, W) in [0, 1], t in (0, 1]."""
        height, width = x_t.shape[-2:]
        tones = self.network.on(x_t.device)(thumbnail(x_t).expand(-1, 3, -1, -1).clamp(0, 1), x_t.new_tensor([t]))
        x, y = (2 * (torch.arange(n, device=x_t.device) + 0.5) / n - 1 for n in (width, height))
        result, count = torch.empty_like(x_t), max(1, PIXELS // width)
        for top in range(0, height, count):
            rows = slice(top, top + count)
            toned = tones(x_t[..., rows, :].expand(-1, 3, -1, -1).clamp(0, 1), y[rows], x)
            result[..., rows, :] = _as_colored(toned, x_t).clamp_(0, 1)
        return result

    def undone(self, y: Tensor) -> Tensor:
        """The point of the path at t = 1 - strength, of y and its estimate y - v(y, 1).

        Without a strength half the way where a hundredth is lit: a night with lights of its own stays a night.
        """
        lit = float(thinned(luma(y)).flatten().quantile(0.99)) > LIT
        strength = self.options.strength if self.options.strength is not None else NIGHT if lit else 1.0
        return torch.lerp(y, self.clean(y), strength)

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Open the picture, then clean it."""
        x = self.undone(y)
        before, after = (float(thinned(luma(v)).median()) + 1 / 255 for v in (y, x))
        return (yield from cleaned(x, max(1.0, after / before)))

    def describe(self) -> str:
        """The name alone."""
        return "darkness"


def _as_colored(x: Tensor, like: Tensor) -> Tensor:
    """RGB as it is, or its luma where the picture is grey."""
    return luma(x) if like.shape[1] == 1 else x
