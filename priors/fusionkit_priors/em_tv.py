"""The EM/TV prior: by evidence, and as DDFM (Zhao et al., ICCV 2023, section 3.3) and RFfusion state it."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.poisson import bounded_poisson, decay, divergence
from fusionkit.numerics.poisson import gradient as spatial_gradient
from fusionkit.numerics.recognise import Scene
from fusionkit.numerics.strips import even_strips, in_strips, strips

from .decision import Decision, DecisionNet, Exposed, InFocus
from .evidence import Target, explained_gradient, grain_floor, target

__all__ = ["EMTV", "EMState", "EMTVOptions", "em_step", "prox_tv"]

Form = Literal["evidence", "corrected", "released"]

ENERGY_REACH = 4  # rows around that a gradient's responsibilities depend on


class EMTVOptions(Options):
    """Options of the prior `em_tv`."""

    form: Form = Field(
        "evidence",
        description="evidence: who explains what is found out first; corrected: the paper's EM, as its algebra has it; "
        "released: as DDFM's and RFfusion's code computes it",
    )
    evidence: Literal["auto", Scene] = Field(
        "auto", description="what says which source explains a pixel; auto: recognised from the sources"
    )
    lit: float = Field(0.6, ge=0, le=1, description="how far dark places follow the other sources; evidence of heat")
    screen: float = Field(
        0.02, ge=1e-6, description="pull towards the expected brightness against expected gradients; form evidence"
    )
    bounded: int = Field(
        0,
        ge=0,
        le=100_000,
        description="steps by which the M-step is solved within the sources' range: more of the other sources' edges, "
        "less calm; 0: it is solved, then clamped; form evidence",
    )
    focus_weights: str = Field(
        "focus-rendered",
        description="weights of the network that tells which source is in focus, or none: bands by their energy, and "
        "copies where one is clearly sharper; evidence of focus",
    )
    exposure_weights: str = Field(
        "exposure-rendered",
        description="weights of the network that tells which exposure shows a place best, or none: bands by their "
        "energy; evidence of exposure",
    )
    lam: float = Field(0.5, gt=0, description="weight of the total variation of I - F; forms of the paper")
    rho: float = Field(0.01, gt=0, description="penalty that ties H to I - F; forms of the paper")
    recompose: Literal["auto", "v_plus_x", "i_minus_x"] = Field(
        "auto", description="F = V + X, as the residuals' algebra says, or F = I - X; auto: I - X in the released form"
    )
    iterations: int = Field(1, ge=1, le=100_000, description="E- and M-steps a sampling step")
    carry: bool = Field(True, description="carry the scales and the splitting variables over the sampling steps")
    eps: float = Field(1e-3, gt=0, description="rounding of |.| at zero: |r| counts as sqrt(r² + eps²); corrected form")
    signal: Literal["unit", "signed"] = Field(
        "unit", description="range that the images are mapped to before the EM step: [0, 1] or [-1, 1]"
    )
    x0_gain: float = Field(1.0, ge=0, description="factor of the estimate, in the range above, before the EM step")


class EMState(NamedTuple):
    """What is carried: the scales of the two Laplace terms, (B, 1, 1, 1), and the splitting variables of TV."""

    tau_a: Tensor
    tau_b: Tensor
    f1: Tensor | None
    f2: Tensor | None


class EMStep(NamedTuple):
    """One EM step: the new residual X, the E-step's precisions C and D, TV's H, and the state after it."""

    x: Tensor
    c: Tensor
    d: Tensor
    h: Tensor
    state: EMState


class EMTV(Prior):
    """Expectation maximisation over who explains what, with the gradients' field as regulariser.

    Which source explains a pixel's brightness, and which its gradient, is latent:

        E-step   T = x̂₀ moved towards the sources that evidence speaks for        (`evidence.target`)
                 G = Σ_j a_j ∇S_j,  a_j ∝ (energy of ∇S_j, where it does not run against ∇F)²
        M-step   F = argmin ½ |∇F - G|² + ½ screen |F - T|²,  clamped to [min_i S_i, max_i S_i]

    The M-step is a screened Poisson equation, solved exactly by a cosine transform; no result leaves the range that the
    sources and the estimate have at a pixel. `bounded` goes on from there to the minimum within that range.
    `iterations` repeats both steps from the F found. Any number of sources.
    Why not the paper's EM: docs/decisions/em-tv.md.

    Forms `corrected` and `released`, for two sources: min over F of |I - F|₁ + |F - V|₁ + lam TV(I - F), by one EM step
    from x̂₀ = F. With residuals X = x̂₀ - V, Y = I - V and the L1 terms written as Gaussian scale mixtures:

        E-step   C = sqrt(2 / τa) / |Y - X|,   D = min(sqrt(2 / τb) / |X|, 2C)
        M-step   H = argmin |H - (Y - X)|² + |∇H - (F1, F2)|²            (solved by FFT)
                 (F1, F2) = rho / (2 lam + rho) ∇H
                 X = (2 C Y + rho (Y - H)) / (2 C + 2 D + rho)
        scales   τa = mean(1 / C) + τa / 2,   τb = mean(1 / D) + τb / 2
        result   F = V + X

    V is the reference source, I the other one; all in [0, 1]. Means are taken over one image, never over the batch.
    The noise share `sigma` is not used, as in the paper. H is solved with periodic boundaries, as is usual with FFTs.

    `form=released` computes what the code of DDFM and RFfusion does (EM_onestep.py, equal in both): the result is
    F = I - X, the gradient of H does not wrap round while its solution does, and the splitting variables enter with
    the opposite sign. There the means run over the batch; here they do not, so that equality holds for batch 1.
    """

    Options = EMTVOptions
    max_sources: int | None = 2
    has_energy = True
    options: EMTVOptions

    def __init__(self, options: EMTVOptions) -> None:
        super().__init__(options)
        self._decisions: dict[Scene, Decision] = {}
        if options.form == "evidence":
            self._decide("focus", InFocus, options.focus_weights)
            self._decide("exposure", Exposed, options.exposure_weights)
            self.max_sources = None
            self.look = "vivid" if options.evidence in ("auto", "heat") else "faithful"

    def _decide(self, kind: Scene, network: type[DecisionNet], weights: str) -> None:
        """Let a network decide for a kind of scene, where it may be asked to."""
        if self.options.evidence in ("auto", kind) and weights != "none":
            self._decisions[kind] = Decision(network, weights, f"`{kind}_weights=none` needs none")
            self.provenance = {**self.provenance, **self._decisions[kind].provenance}

    def start(self, sources: Sources) -> EMState:
        """Unit scales, no splitting variables."""
        ones = torch.ones_like(sources.luma[0][:, :, :1, :1])
        return EMState(ones, ones, None, None)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, EMState]:
        """One or more EM steps from the estimate x0 (B, 1, H, W)."""
        o = self.options
        if o.form == "evidence":
            return self._explained(x0, sources), state
        visible, infrared = sources.reference_luma, sources.first_other_luma
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

    def _explained(self, x0: Tensor, sources: Sources) -> Tensor:
        """The EM by evidence: images of one kind of scene together, or one by one (`one_by_one`)."""
        kinds, every = self._kinds(sources), range(len(x0))
        groups = [[b for b in every if kinds[b] == kind] for kind in dict.fromkeys(kinds)]
        if one_by_one(x0.device):
            groups = [[b] for b in every]
        if len(groups) == 1:
            return self._explain(kinds[0], x0, sources)
        fused = torch.empty_like(x0)
        for group in groups:
            fused[group] = self._explain(kinds[group[0]], x0[group], sources.select(group))
        return fused

    def _kinds(self, sources: Sources) -> tuple[Scene, ...]:
        """What the options say of each image, or what it is recognised as, with a note."""
        if self.options.evidence != "auto":
            return (self.options.evidence,) * len(sources.luma[0])
        for kind in dict.fromkeys(sources.scenes):
            note = f"em_tv: taken for a scene of evidence={kind}"
            if note not in sources.notes:
                sources.notes.append(note)
        return sources.scenes

    def _explain(self, kind: Scene, x0: Tensor, sources: Sources) -> Tensor:
        """Images of one kind of scene."""
        o = self.options
        found = target(kind, x0, sources, o.lit, self._decisions)
        if not found.follows:
            return in_strips(_within, found.brightness, x0, *sources.luma, reach=0)
        fused = found.brightness
        floors = [sources.steady(f"grain {i}", grain_floor(y)) for i, y in enumerate(sources.luma)]
        for step in range(o.iterations):
            own = sources.steady(f"grain of step {step}", grain_floor(fused))
            right = self._right_side(fused, found, [own, *floors], sources.luma)
            # the last step needs the target no more, and overwrites it
            fused = found.brightness if step + 1 == o.iterations else torch.empty_like(right)
            self._solve(right, x0, sources.luma, fused)
        return fused

    def _right_side(self, current: Tensor, found: Target, floors: Sequence[Tensor], lumas: Sequence[Tensor]) -> Tensor:
        """Of the M-step's equation: the expected brightness and gradients; strip by strip where the image is large."""
        screen, (height, width) = self.options.screen, current.shape[-2:]
        right = torch.empty_like(current)
        for part in strips(height, width, ENERGY_REACH):
            rows, wanted = [y[..., part.rows, :] for y in lumas], found.rows(part.rows)
            expected = divergence(*explained_gradient(current[..., part.rows, :], wanted, rows, floors))
            right[..., part.place, :] = torch.sub(screen * wanted.brightness, expected)[..., part.inner, :]
        return right

    def _solve(self, right: Tensor, x0: Tensor, lumas: Sequence[Tensor], fused: Tensor) -> None:
        """Write the image that the equation is solved by into `fused`."""
        screen, steps, (height, width) = self.options.screen, self.options.bounded, right.shape[-2:]
        for part in even_strips(height, width, decay(screen) + steps):
            low, high = _range(x0[..., part.rows, :], *(y[..., part.rows, :] for y in lumas))
            solved = bounded_poisson(right[..., part.rows, :], screen, low, high, steps)
            fused[..., part.place, :] = solved[..., part.inner, :]

    def _rounding(self, sources: Sources) -> float | Tensor:
        """At which residuals |.| is rounded: `eps`, or what the noise of both sources alone would make of them."""
        if not sources.noisy:
            return self.options.eps
        pair = (sources.reference % len(sources), 0 if sources.reference % len(sources) else len(sources) - 1)
        gain = 2.0 if self.options.signal == "signed" else 1.0
        variance = sum(((gain * sources.noise_of(i)).square() for i in pair), torch.zeros(()))
        return torch.sqrt(self.options.eps**2 + variance)

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """sum |I - F| + |F - V| + lam |∇(I - F)|, absolute values rounded at zero by `eps`: (B,).

        In all forms: the one by evidence moves its target with the estimate, so it is no function of x0 alone.
        """
        visible, infrared = sources.reference_luma, sources.first_other_luma
        residual = infrared - x0
        # not periodic: opposite borders of an image have nothing to do with each other
        gx, gy = spatial_gradient(residual)
        eps = self.options.eps
        gradient = torch.sqrt(gx.square() + gy.square() + eps**2)
        terms = _rounded_abs(residual, eps) + _rounded_abs(x0 - visible, eps) + self.options.lam * gradient
        return terms.sum(dim=(1, 2, 3))


def one_by_one(device: torch.device) -> bool:
    """Whether the images of a batch are computed one after another: on a CPU, whose cache holds one image's planes.

    Elsewhere each operation costs its start, whatever the number of images.
    """
    return device.type == "cpu"


def _range(*images: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value at each pixel."""
    return reduce(torch.minimum, images), reduce(torch.maximum, images)


def _within(image: Tensor, *images: Tensor) -> Tensor:
    """The image, clamped to the range that others have at each pixel."""
    return image.clamp(*_range(*images))


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
