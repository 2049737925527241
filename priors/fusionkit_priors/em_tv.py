"""The EM/TV prior of DDFM (Zhao et al., ICCV 2023, section 3.3) as RFfusion uses it."""

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources

__all__ = ["EMTV", "EMState", "EMTVOptions"]


class EMTVOptions(Options):
    """Options of the prior `em_tv`."""

    lam: float = Field(0.5, gt=0, description="weight of the total variation of I - F")
    rho: float = Field(0.01, gt=0, description="penalty that ties H to I - F")
    recompose: Literal["v_plus_x", "i_minus_x"] = Field(
        "v_plus_x", description="F = V + X, as the residuals' algebra says, or F = I - X, as the published code returns"
    )
    iterations: int = Field(1, ge=1, description="E- and M-steps a sampling step")
    carry: bool = Field(True, description="carry the scales and the splitting variables over the sampling steps")
    eps: float = Field(1e-3, gt=0, description="rounding of |.| at zero: |r| counts as sqrt(r² + eps²)")


class EMState(NamedTuple):
    """What is carried: the scales of the two Laplace terms, (B, 1, 1, 1), and the splitting variables of TV."""

    tau_a: Tensor
    tau_b: Tensor
    f1: Tensor | None
    f2: Tensor | None


class EMTV(Prior):
    """min over F of  |I - F|₁ + |F - V|₁ + lam TV(I - F),  by one EM step from x̂₀ = F.

    With residuals X = x̂₀ - V, Y = I - V and the L1 terms written as Gaussian scale mixtures:

        E-step   C = sqrt(2 / τa) / |Y - X|,   D = min(sqrt(2 / τb) / |X|, 2C)
        M-step   H = argmin |H - (Y - X)|² + |∇H - (F1, F2)|²            (solved by FFT)
                 (F1, F2) = rho / (2 lam + rho) ∇H
                 X = (2 C Y + rho (Y - H)) / (2 C + 2 D + rho)
        scales   τa = mean(1 / C) + τa / 2,   τb = mean(1 / D) + τb / 2
        result   F = V + X

    V is the reference source, I the other one; all in [0, 1]. Means are taken over one image, never over the batch.
    The noise share `sigma` is not used, as in the paper. H is solved with periodic boundaries, as is usual with FFTs.
    """

    Options = EMTVOptions
    max_sources = 2
    has_energy = True
    options: EMTVOptions

    def start(self, sources: Sources) -> EMState:
        """Unit scales, no splitting variables."""
        ones = torch.ones_like(sources.luma[0][:, :, :1, :1])
        return EMState(ones, ones, None, None)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, EMState]:
        """One or more EM steps from the estimate x0 (B, 1, H, W)."""
        visible, infrared = sources.reference_luma, _other(sources)
        if not self.options.carry:
            state = self.start(sources)
        y = infrared - visible
        x = x0 - visible
        for _ in range(self.options.iterations):
            x, state = self._em_step(x, y, state)
        return (visible + x if self.options.recompose == "v_plus_x" else infrared - x), state

    def _em_step(self, x: Tensor, y: Tensor, s: EMState) -> tuple[Tensor, EMState]:
        o = self.options
        # E-step: precisions of the two residuals
        c = torch.sqrt(2 / s.tau_a) / _rounded_abs(y - x, o.eps)
        d = torch.minimum(torch.sqrt(2 / s.tau_b) / _rounded_abs(x, o.eps), 2 * c)
        # M-step
        h = prox_tv(y - x, s.f1, s.f2)
        shrink = o.rho / (2 * o.lam + o.rho)
        f1, f2 = (shrink * g for g in forward_differences(h))
        x = (2 * c * y + o.rho * (y - h)) / (2 * c + 2 * d + o.rho)
        tau_a, tau_b = ((1 / w).mean(dim=(1, 2, 3), keepdim=True) + tau / 2 for w, tau in ((c, s.tau_a), (d, s.tau_b)))
        return x, EMState(tau_a, tau_b, f1, f2)

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """sum |I - F| + |F - V| + lam |∇(I - F)|, absolute values rounded at zero by `eps`: (B,)."""
        visible, infrared = sources.reference_luma, _other(sources)
        residual = infrared - x0
        # not periodic: opposite borders of an image have nothing to do with each other
        gx = torch.diff(residual, dim=-1, append=residual[..., -1:])
        gy = torch.diff(residual, dim=-2, append=residual[..., -1:, :])
        eps = self.options.eps
        gradient = torch.sqrt(gx.square() + gy.square() + eps**2)
        terms = _rounded_abs(residual, eps) + _rounded_abs(x0 - visible, eps) + self.options.lam * gradient
        return terms.sum(dim=(1, 2, 3))


def _other(sources: Sources) -> Tensor:
    """The source that is not the reference; a single source explains itself."""
    return sources.other_luma[0] if len(sources) > 1 else sources.reference_luma


def _rounded_abs(x: Tensor, eps: float) -> Tensor:
    return torch.sqrt(x.square() + eps**2)


def forward_differences(h: Tensor) -> tuple[Tensor, Tensor]:
    """h[i] - h[i + 1] along x and y, periodic, as `prox_tv` has it."""
    return h - h.roll(-1, -1), h - h.roll(-1, -2)


def prox_tv(z: Tensor, f1: Tensor | None, f2: Tensor | None) -> Tensor:
    """argmin over H of |H - z|² + |∇x H - F1|² + |∇y H - F2|² with (∇H)[i] = H[i] - H[i + 1], periodic.

    In Fourier space H = (z + ∇xᵀ F1 + ∇yᵀ F2) / (1 + |kx|² + |ky|²), |k|² = 2 - 2 cos(2 pi f). The adjoint
    (∇ᵀ F)[i] = F[i] - F[i - 1] is taken in space, so that one real FFT and its inverse do.
    """
    height, width = z.shape[-2:]
    if f1 is not None and f2 is not None:
        z = z + (f1 - f1.roll(1, -1)) + (f2 - f2.roll(1, -2))
    fx = torch.fft.rfftfreq(width, device=z.device, dtype=z.dtype)
    fy = torch.fft.fftfreq(height, device=z.device, dtype=z.dtype)
    power_x, power_y = (2 - 2 * torch.cos(2 * torch.pi * f) for f in (fx, fy))
    solved = torch.fft.rfft2(z) / (1 + power_x[None, :] + power_y[:, None])
    return torch.fft.irfft2(solved, s=(height, width))
