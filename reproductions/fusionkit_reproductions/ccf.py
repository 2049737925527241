"""Conditional fusion: several differentiable conditions, weighted anew at each step."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.ssim import ssim_map
from fusionkit.numerics.window import gaussian_blur


class CCFOptions(Options):
    """Options of the prior `ccf`; weights of 0 switch a condition off."""

    intensity: float = Field(1.0, ge=0, description="weight of the distance to the brighter source")
    ssim: float = Field(1.0, ge=0, description="weight of 1 - SSIM, averaged over the sources")
    edge: float = Field(1.0, ge=0, description="weight of the distance to the strongest gradient")
    frequency: float = Field(
        0.5, ge=0, description="weight of the distance of log spectra to the larger of the sources'"
    )
    deviation: float = Field(
        0.2, ge=0, description="weight of max(0, largest standard deviation of a source - that of F)"
    )
    temperature: float = Field(
        1.0, gt=0, description="how evenly the weights are shared; small favours what lags behind"
    )
    rate: float = Field(0.05, gt=0, description="largest change of a pixel in one descent step")
    iterations: int = Field(8, ge=1, le=100_000, description="descent steps a sampling step")


class CCFState(NamedTuple):
    """The conditions' values at the last two steps, (K, B) each; None before they are known."""

    last: Tensor | None
    before: Tensor | None


class CCF(Prior):
    """Descends  E(F) = Σ_k w_k c_k(F, sources)  from the estimate, for any number of sources.

        intensity    mean |F - max_i I_i|
        ssim         1 - mean_i SSIM(F, I_i)
        edge         mean ||∇F| - max_i |∇I_i||
        frequency    mean |log(1 + |FFT F|) - max_i log(1 + |FFT I_i|)| / log(pixels)
        deviation    max(0, max_i std I_i - std F)

    After conditional controllable fusion (Cao et al., NeurIPS 2024): a bank of conditions, chosen anew at each step
    by how they progress. Here the choice is a softmax over each condition's ratio of its last two values (dynamic
    weight average, Liu et al., CVPR 2019), so that a condition that lags gains weight. `energy` has w_k as given.
    """

    Options = CCFOptions
    has_energy = True
    guiding = frozenset({"intensity", "ssim", "edge", "frequency", "deviation"})
    sampling: ClassVar[Mapping[str, Any]] = MappingProxyType({"steps": 20, "strength": 0.5})
    options: CCFOptions

    def unread(self, *, steps: int, inject: str) -> dict[str, str]:
        """The first two steps have no progress to share weights by."""
        unread = super().unread(steps=steps, inject=inject)
        return unread if steps > 2 else {"temperature": "`steps` above 2", **unread}

    def start(self, sources: Sources) -> CCFState:
        """No history."""
        return CCFState(None, None)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, CCFState]:
        """`iterations` normalised gradient steps; the state is the history of the conditions."""
        o = self.options
        weights = self._weights(x0, state)
        f = x0.detach()
        for step in range(o.iterations):
            with torch.enable_grad():
                f.requires_grad_()
                values = self.conditions(f, sources)
                (slope,) = torch.autograd.grad((weights * values).sum(), f)
            # the step shrinks, so that the last ones settle
            length = o.rate * (1 - step / o.iterations)
            f = f.detach() - length * slope / slope.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return f, CCFState(self.conditions(f, sources).detach(), state.last)

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Σ_k w_k c_k with the options' weights, times the number of pixels: (B,)."""
        return (self._given(x0) * self.conditions(x0, sources)).sum(0) * x0[0].numel()

    def _given(self, like: Tensor) -> Tensor:
        o = self.options
        return like.new_tensor([o.intensity, o.ssim, o.edge, o.frequency, o.deviation])[:, None]

    def _weights(self, like: Tensor, state: CCFState) -> Tensor:
        """The options' weights, shared anew by the conditions' progress: (K, B)."""
        given = self._given(like)
        if state.last is None or state.before is None:
            return given.expand(-1, len(like))
        ratio = state.last / state.before.clamp_min(1e-6)
        return given * len(given) * torch.softmax(ratio.clamp(0, 4) / self.options.temperature, dim=0)

    def conditions(self, f: Tensor, sources: Sources) -> Tensor:
        """c_k for each image, (K, B), all >= 0 and zero where F has what the sources offer."""
        lumas = torch.stack(sources.luma)
        deviation = torch.stack([_deviation(y) for y in lumas]).amax(0)
        return torch.stack(
            [
                _mean(_abs(f - lumas.amax(0))),
                torch.stack([1 - _ssim(f, y) for y in lumas]).mean(0),
                _mean(_abs(_slope(f) - torch.stack([_slope(y) for y in lumas]).amax(0))),
                _mean(_abs(_spectrum(f) - torch.stack([_spectrum(y) for y in lumas]).amax(0))),
                torch.relu(deviation - _deviation(f)),
            ]
        )


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def _abs(x: Tensor) -> Tensor:
    """|x|, rounded at zero so that its gradient is finite."""
    return torch.sqrt(x.square() + 1e-6)


def _deviation(x: Tensor) -> Tensor:
    return torch.sqrt(x.flatten(1).var(1, correction=0) + 1e-8)


def _slope(x: Tensor) -> Tensor:
    gx, gy = gradient(x)
    return torch.sqrt(gx.square() + gy.square() + 1e-6)


def _spectrum(x: Tensor) -> Tensor:
    """log(1 + |FFT|) over its largest possible logarithm, about [0, 1]."""
    spectrum = torch.fft.rfft2(x)
    size = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-8)
    return torch.log1p(size) / math.log1p(x.shape[-1] * x.shape[-2])


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """SSIM with a Gaussian of deviation 1.5, borders replicated, range 1: (B,)."""
    return _mean(ssim_map(a, b, lambda x: gaussian_blur(x, 1.5), data_range=1.0))
