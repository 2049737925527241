"""The sampler: one loop, with the prior's correction inside it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from .contracts import Backbone, ColorSpace, Decoder, Options, Prior, Sources
from .errors import OptionError
from .flow.path import interpolate, noise_share, posterior_update, velocity_from_x0, x0_and_noise
from .flow.schedule import Spacing, make_schedule
from .timing import Stopwatch

__all__ = ["Callback", "Sampler", "SamplerOptions", "Step"]

RK45_END = 1e-3  # where the published solver stops; one estimate from there gives the image


class SamplerOptions(Options):
    """How the flow is sampled."""

    steps: int = Field(1, ge=1, description="evaluations of the flow (euler, heun)")
    strength: float = Field(0.1, gt=0, le=1, description="t1, the share of noise that the start image is taken to")
    spacing: Spacing = Field("uniform", description="how the times between strength and 0 are spread")
    solver: Literal["euler", "heun", "rk45"] = "euler"
    eta: float = Field(0.0, ge=0, le=1, description="share of fresh noise in each posterior update (euler)")
    inject: Literal["x0", "velocity", "both", "none"] = Field(
        "x0", description="where the prior acts: on the clean estimate, on the velocity through its energy, both, none"
    )
    guidance_scale: float = Field(1.0, ge=0, description="factor of the energy's gradient")
    guidance_range: tuple[float, float] = Field((0.0, 0.95), description="times t at which the velocity is guided")
    tolerance: float = Field(1e-5, gt=0, description="relative and absolute tolerance of rk45")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.eta > 0 and self.solver != "euler":
            raise ValueError(f"eta > 0 needs solver euler; {self.solver} follows the deterministic flow")
        low, high = self.guidance_range
        if not 0 <= low <= high < 1:
            raise ValueError("guidance_range must satisfy 0 <= low <= high < 1")
        return self

    @property
    def guided(self) -> bool:
        """Whether gradients of the prior's energy are needed."""
        return self.inject in ("velocity", "both")


@dataclass(frozen=True)
class Step:
    """What a callback sees: the step's number, its times, the luma estimate before and after the prior."""

    index: int
    t: float
    t_next: float
    estimate: Tensor
    corrected: Tensor


Callback = Callable[[Step], None]


@dataclass(frozen=True)
class _Estimate:
    """The clean image at one (x, t): in the backbone's domain, as luma before and after the prior, and the state."""

    latent: Tensor
    luma: Tensor
    corrected: Tensor
    state: Any


class Sampler:
    """Fuses by sampling a rectified flow whose clean-image estimate x̂₀ the prior corrects at every step.

    With the corrected x̂₀ the flow follows v = (x_t - x̂₀) / t. euler then is the posterior update of
    `flow.path` (they are equal for eta = 0); heun averages v at both ends of a step and takes the last step, whose
    end is t = 0, as euler does; rk45 is scipy's adaptive pair down to t = 0.001, over the whole batch at once.
    A prior's state is carried from step to step; inside a heun step and for rk45 it is not advanced.
    """

    def __init__(
        self,
        backbone: Backbone,
        prior: Prior,
        decoder: Decoder,
        color: ColorSpace,
        options: SamplerOptions,
        watch: Stopwatch | None = None,
    ) -> None:
        if options.guided and not prior.has_energy:
            raise OptionError(
                f"inject={options.inject} needs a prior with an energy, and {type(prior).__name__} has none; "
                "use inject=x0"
            )
        self.backbone, self.prior, self.decoder, self.color = backbone, prior, decoder, color
        self.options = options
        self.watch = watch or Stopwatch()

    @property
    def runs_network(self) -> bool:
        """Whether the result depends on the backbone: not when the prior overwrites x̂₀ without reading it."""
        return self.prior.reads_x0 or self.options.inject not in ("x0", "both")

    def __call__(
        self, sources: Sources, generator: torch.Generator | None = None, callback: Callback | None = None
    ) -> Tensor:
        """sources -> the fused image (B, 3 or 1, H, W), not clamped. Noise comes from `generator` alone."""
        # inference mode is faster, but tensors made in it can never meet a gradient
        with torch.no_grad() if self.options.guided else torch.inference_mode():
            return self._run(sources, generator, callback or (lambda step: None))

    def _run(self, sources: Sources, generator: torch.Generator | None, callback: Callback) -> Tensor:
        chromas = [self.color.split(image)[1] for image in sources.images]
        with self.watch.stage("prior"):
            state = self.prior.start(sources)
        if not self.runs_network:
            with self.watch.stage("prior"):
                luma, _ = self.prior.correct(sources.reference_luma, sources, state, 0.0)
        else:
            luma = self._flow(sources, chromas, state, generator, callback)
        with self.watch.stage("color"):
            return self.color.merge(luma, chromas, sources)

    def _flow(
        self,
        sources: Sources,
        chromas: list[Tensor | None],
        state: Any,
        generator: torch.Generator | None,
        callback: Callback,
    ) -> Tensor:
        o = self.options
        z = self._encode(sources.images[sources.reference])
        x = interpolate(z, _noise(z, generator), o.strength)
        if o.solver == "rk45":
            return self._rk45(x, sources, chromas, state, callback)
        times = make_schedule(o.strength, o.steps, o.spacing)
        for index, (t, t_next) in enumerate(itertools.pairwise(times)):
            now = self._estimate(x, t, sources, state)
            state = now.state
            callback(Step(index, t, t_next, now.luma, now.corrected))
            if t_next == 0:
                break
            x0 = self._re_encode(now, sources, chromas)
            if o.solver == "euler":
                fresh = _noise(x, generator) if o.eta > 0 else None
                x = posterior_update(x, x0, t, t_next, o.eta, fresh)
            else:
                slope = velocity_from_x0(x, x0, t)
                ahead = x + (t_next - t) * slope
                end = self._re_encode(self._estimate(ahead, t_next, sources, state), sources, chromas)
                x = x + (t_next - t) * (slope + velocity_from_x0(ahead, end, t_next)) / 2
        return now.corrected

    def _rk45(
        self, x: Tensor, sources: Sources, chromas: list[Tensor | None], state: Any, callback: Callback
    ) -> Tensor:
        from scipy.integrate import RK45

        def tensor(y: np.ndarray) -> Tensor:
            return torch.from_numpy(y).to(x).view_as(x)

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            x_t = tensor(y)
            x0 = self._re_encode(self._estimate(x_t, t, sources, state), sources, chromas)
            v: np.ndarray = velocity_from_x0(x_t, x0, t).double().flatten().cpu().numpy()
            return v

        o = self.options
        if o.strength > RK45_END:
            start = x.double().flatten().cpu().numpy()
            solver = RK45(slope, o.strength, start, RK45_END, rtol=o.tolerance, atol=o.tolerance)
            index = 0
            while solver.status == "running":
                before = float(solver.t)
                solver.step()
                now = self._estimate(tensor(solver.y), float(solver.t), sources, state)
                callback(Step(index, before, float(solver.t), now.luma, now.corrected))
                index += 1
            x = tensor(solver.y)
        return self._estimate(x, min(o.strength, RK45_END), sources, state).corrected

    def _estimate(self, x: Tensor, t: float, sources: Sources, state: Any) -> _Estimate:
        """x̂₀ at (x, t), decoded, its luma corrected by the prior."""
        x0, _ = x0_and_noise(x, self._velocity(x, t, sources), t)
        luma = self._decoded_luma(x0, sources)
        if self.options.inject not in ("x0", "both"):
            return _Estimate(x0, luma, luma, state)
        with self.watch.stage("prior"):
            corrected, state = self.prior.correct(luma, sources, state, noise_share(t))
        return _Estimate(x0, luma, corrected, state)

    def _velocity(self, x: Tensor, t: float, sources: Sources) -> Tensor:
        """The field, guided by the energy where that is asked for: v' = v + scale · t / (1 - t) · ∇ E(x̂₀(x))."""
        o = self.options
        time = torch.full((x.shape[0],), t, dtype=x.dtype, device=x.device)
        if not (o.guided and o.guidance_range[0] <= t <= o.guidance_range[1]):
            with self.watch.stage("velocity"):
                return self.backbone.velocity(x, time)
        with self.watch.stage("guidance"), torch.enable_grad():
            x = x.detach().requires_grad_()
            v = self.backbone.velocity(x, time)
            luma = self._decoded_luma(x0_and_noise(x, v, t)[0], sources)
            (gradient,) = torch.autograd.grad(self.prior.energy(luma, sources).sum(), x)
        # from score -grad E: v = -(t score + x) / (1 - t)
        return v.detach() + o.guidance_scale * t / (1 - t) * gradient

    def _decoded_luma(self, x0: Tensor, sources: Sources) -> Tensor:
        size = sources.luma[0].shape[-2], sources.luma[0].shape[-1]
        with self.watch.stage("decode"):
            image = self.decoder.decode(x0, size)
        return self.color.split(image)[0]

    def _encode(self, image: Tensor) -> Tensor:
        """An image in the backbone's domain; grey images are spread over the channels that it wants."""
        channels = 3 if self.decoder.channels is not None else self.backbone.channels
        if image.shape[1] == 1 and channels is not None:
            image = image.expand(-1, channels, -1, -1)
        elif image.shape[1] == 3 and channels == 1:
            image = self.color.split(image)[0]
        with self.watch.stage("encode"):
            return self.decoder.encode(image)

    def _re_encode(self, estimate: _Estimate, sources: Sources, chromas: list[Tensor | None]) -> Tensor:
        """The corrected x̂₀ in the backbone's domain; untouched when the prior did not act on it."""
        if estimate.corrected is estimate.luma:
            return estimate.latent
        return self._encode(self.color.merge(estimate.corrected, chromas, sources))


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise, drawn on the CPU so that one seed means one image on every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
