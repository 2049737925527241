"""EM with total variation, as DDFM (Zhao et al., ICCV 2023, section 3.3) and RFfusion state and compute it."""

from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.poisson import gradient
from fusionkit.options import When

Form = Literal["corrected", "released"]


class EMTVPaperOptions(Options):
    """Options of the prior `em_tv_paper`."""

    form: Form = Field(
        "corrected", description="corrected: as the paper's algebra has it; released: as DDFM's and RFfusion's code"
    )
    lam: float = Field(0.5, gt=0, description="weight of the total variation of I - F, through what is carried")
    rho: float = Field(0.01, gt=0, description="penalty that ties H to I - F")
    recompose: Literal["auto", "v_plus_x", "i_minus_x"] = Field(
        "auto", description="F = V + X, as the residuals' algebra says, or F = I - X; auto: I - X in the released form"
    )
    iterations: int = Field(1, ge=1, le=100_000, description="EM steps a sampling step")
    carry: bool = Field(True, description="carry the scales and the splitting variables over the sampling steps")
    eps: Annotated[float, When("form", "corrected")] = Field(
        1e-3, gt=0, description="rounding of |.| at zero: |r| counts as sqrt(r² + eps²)"
    )
    signal: Literal["unit", "signed"] = Field("unit", description="range in the EM step: [0, 1] or [-1, 1]")
    x0_gain: float = Field(1.0, ge=0, description="factor of the estimate, in that range, before the EM step")


class EMState(NamedTuple):
    """Scales of the two Laplace terms, (B, 1, 1, 1), and TV's splitting variables, (B, 1, H, W); None at first."""

    tau_a: Tensor
    tau_b: Tensor
    f1: Tensor | None
    f2: Tensor | None


class EMStep(NamedTuple):
    """One EM step: the residual X that it finds, the E-step's precisions C and D, TV's H, and the state after it."""

    x: Tensor
    c: Tensor
    d: Tensor
    h: Tensor
    state: EMState


class EMTVPaper(Prior):
    """The paper's EM, for two sources: min over F of |I - F|₁ + |F - V|₁ + lam TV(I - F), by EM steps from x̂₀ = F.

    With residuals X = x̂₀ - V, Y = I - V and the L1 terms written as Gaussian scale mixtures:

        E-step   C = sqrt(2 / τa) / |Y - X|,   D = min(sqrt(2 / τb) / |X|, 2C)
        M-step   H = argmin |H - (Y - X)|² + |∇H - (F1, F2)|²            (solved by FFT)
                 (F1, F2) = rho / (2 lam + rho) ∇H
                 X = (2 C Y + rho (Y - H)) / (2 C + 2 D + rho)
        scales   τa = mean(1 / C) + τa / 2,   τb = mean(1 / D) + τb / 2
        result   F = V + X

    V is the reference source, I the other one; all in [0, 1]. Means are taken over one image, never over the batch.
    The noise share `sigma` is not used, as in the paper. H is solved with periodic boundaries, as is usual with FFTs.
    `lam` acts through the splitting variables alone, from the second EM step on.

    `form=released` computes what the code of DDFM and RFfusion does (EM_onestep.py, equal in both): the result is
    F = I - X, the gradient of H does not wrap round while its solution does, and the splitting variables enter with
    the opposite sign. There the means run over the batch; here they do not, so that equality holds for batch 1.
    Why the default prior is another EM: docs/decisions/em-tv.md.
    """

    Options = EMTVPaperOptions
    max_sources = 2
    has_energy = True
    guiding = frozenset({"lam", "eps"})
    options: EMTVPaperOptions

    def unread(self, *, steps: int, inject: str) -> dict[str, str]:
        """`lam` acts on the variables that a step leaves to the next one, `carry` on those that it takes over."""
        unread, o = super().unread(steps=steps, inject=inject), self.options
        if steps == 1:
            unread = {"carry": "`steps` above 1", **unread}
        if o.iterations == 1 and (steps == 1 or not o.carry) and inject == "x0":
            unread = {"lam": "`iterations`, or `steps` and carry, above 1", **unread}
        return unread

    def start(self, sources: Sources) -> EMState:
        """Unit scales, no splitting variables."""
        ones = torch.ones_like(sources.luma[0][:, :, :1, :1])
        return EMState(ones, ones, None, None)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, EMState]:
        """One or more EM steps from the estimate x0 (B, 1, H, W)."""
        o = self.options
        visible, infrared = sources.reference_luma, sources.other_luma[0]
        if o.signal == "signed":
            visible, infrared, x0 = 2 * visible - 1, 2 * infrared - 1, 2 * x0 - 1
        if not o.carry:
            state = self.start(sources)
        y = infrared - visible
        x = o.x0_gain * x0 - visible
        for _ in range(o.iterations):
            x, _, _, _, state = em_step(x, y, state, o.lam, o.rho, o.form, self._rounding(sources))
        i_minus_x = o.recompose == "i_minus_x" or (o.recompose == "auto" and o.form == "released")
        fused = infrared - x if i_minus_x else visible + x
        return ((fused + 1) / 2 if o.signal == "signed" else fused), state

    def _rounding(self, sources: Sources) -> float | Tensor:
        """Residual at which |.| is rounded: `eps`, joined by the noise of both sources."""
        if not sources.noisy:
            return self.options.eps
        pair = (sources.reference, 0 if sources.reference else len(sources) - 1)
        gain = 2.0 if self.options.signal == "signed" else 1.0
        variance = sum(((gain * sources.noise[i]).square() for i in pair), torch.zeros(()))
        return torch.sqrt(self.options.eps**2 + variance)

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """sum |I - F| + |F - V| + lam |∇(I - F)|, absolute values rounded at zero by `eps`: (B,)."""
        visible, infrared = sources.reference_luma, sources.other_luma[0]
        residual, eps = infrared - x0, self.options.eps
        # not periodic: opposite borders of an image have nothing to do with each other
        gx, gy = gradient(residual)
        variation = torch.sqrt(gx.square() + gy.square() + eps**2)
        terms = _rounded_abs(residual, eps) + _rounded_abs(x0 - visible, eps) + self.options.lam * variation
        return terms.sum(dim=(1, 2, 3))


def _rounded_abs(x: Tensor, eps: float | Tensor) -> Tensor:
    return torch.sqrt(x.square() + eps**2)


def em_step(
    x: Tensor, y: Tensor, s: EMState, lam: float, rho: float, form: Form = "corrected", eps: float | Tensor = 1e-3
) -> EMStep:
    """One E-step and one M-step from the residuals X = x̂₀ - V and Y = I - V, both (B, 1, H, W)."""
    # E-step: precisions of the two residuals
    if form == "released":
        abs_a, abs_b, tiny = (y - x + 1e-6).abs(), torch.sqrt(x.square() + 1e-6), 1e-10
    else:
        abs_a, abs_b, tiny = _rounded_abs(y - x, eps), _rounded_abs(x, eps), 0.0
    c = torch.sqrt(2 / s.tau_a) / abs_a
    d = torch.minimum(torch.sqrt(2 / s.tau_b) / abs_b, 2 * c)
    # M-step
    h = prox_tv(y - x, s.f1, s.f2, form)
    shrink = rho / (2 * lam + rho)
    f1, f2 = (shrink * g for g in forward_differences(h, form))
    x = (2 * c * y + rho * (y - h)) / (2 * c + 2 * d + rho)
    means = ((1 / (w + tiny)).mean(dim=(1, 2, 3), keepdim=True) for w in (c, d))
    tau_a, tau_b = (mean + tau / 2 for mean, tau in zip(means, (s.tau_a, s.tau_b), strict=True))
    return EMStep(x, c, d, h, EMState(tau_a, tau_b, f1, f2))


def forward_differences(h: Tensor, form: Form = "corrected") -> tuple[Tensor, Tensor]:
    """h[i] - h[i + 1] along x and y; periodic, as `prox_tv` has it. Released: zero follows the last pixel."""
    if form == "released":
        return h - F.pad(h[..., 1:], (0, 1)), h - F.pad(h[..., 1:, :], (0, 0, 0, 1))
    return h - h.roll(-1, -1), h - h.roll(-1, -2)


def prox_tv(z: Tensor, f1: Tensor | None, f2: Tensor | None, form: Form = "corrected") -> Tensor:
    """argmin over H of |H - z|² + |∇x H - F1|² + |∇y H - F2|² with (∇H)[i] = H[i] - H[i + 1], periodic.

    In Fourier space H = (z + ∇xᵀ F1 + ∇yᵀ F2) / (1 + |kx|² + |ky|²), |k|² = 2 - 2 cos(2 pi f). The adjoint
    (∇ᵀ F)[i] = F[i] - F[i - 1] is taken in space, so that one real FFT and its inverse do. Released: -∇ᵀ.
    """
    height, width = z.shape[-2:]
    if f1 is not None and f2 is not None:
        adjoint = (f1 - f1.roll(1, -1)) + (f2 - f2.roll(1, -2))
        z = z - adjoint if form == "released" else z + adjoint
    fx = torch.fft.rfftfreq(width, device=z.device, dtype=z.dtype)
    fy = torch.fft.fftfreq(height, device=z.device, dtype=z.dtype)
    power_x, power_y = (2 - 2 * torch.cos(2 * torch.pi * f) for f in (fx, fy))
    solved = torch.fft.rfft2(z) / (1 + power_x[None, :] + power_y[:, None])
    return torch.fft.irfft2(solved, s=(height, width))
