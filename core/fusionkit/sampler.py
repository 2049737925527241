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
from .errors import OptionError, PluginError
from .flow.path import interpolate, noise_share, posterior_update, velocity_from_x0, x0_and_noise
from .flow.schedule import Spacing, make_schedule
from .timing import Stopwatch

__all__ = ["Callback", "Sampler", "SamplerOptions", "Step"]

RK45_END = 1e-3  # where the published solver stops; one estimate from there gives the image


class SamplerOptions(Options):
    """How the flow is sampled."""

    steps: int = Field(
        1, ge=1, description="steps from strength to 0 (euler: one evaluation each; heun: two, last one)"
    )
    strength: float = Field(0.1, gt=0, le=1, description="t1, the share of noise that the start image is taken to")
    spacing: Spacing = Field("uniform", description="how the times between strength and 0 are spread")
    start: Literal["noised", "reference"] = Field(
        "noised",
        description="noised: the flow starts from the reference with a share of noise; reference: from it as is",
    )
    solver: Literal["euler", "heun", "rk45", "additive"] = Field(
        "euler", description="how x advances; additive adds the corrected estimate to it, as the released RFfusion does"
    )
    gain: float = Field(1.0, gt=0, description="factor of what additive adds")
    eta: float = Field(0.0, ge=0, le=1, description="share of fresh noise in each posterior update (euler)")
    inject: Literal["x0", "velocity", "both", "none"] = Field(
        "x0", description="where the prior acts: on the clean estimate, on the velocity through its energy, both, none"
    )
    detail: Literal["keep", "drop"] = Field(
        "keep", description="keep: what the autoencoder loses of an image is added to the estimate made from it"
    )
    guidance_scale: float = Field(1.0, ge=0, description="factor of the energy's gradient")
    guidance_range: tuple[float, float] = Field((0.0, 0.95), description="times t at which the velocity is guided")
    tolerance: float = Field(1e-5, ge=1e-7, description="relative and absolute tolerance of rk45")

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


@dataclass(frozen=True)
class _Encoded:
    """An image in the backbone's domain, and the luma that the autoencoder cannot represent."""

    latent: Tensor
    lost: Tensor | float


class Sampler:
    """Fuses by sampling a rectified flow whose clean-image estimate x̂₀ the prior corrects at every step.

    With the corrected x̂₀ the flow follows v = (x_t - x̂₀) / t. euler then is the posterior update of
    `flow.path` (they are equal for eta = 0); heun averages v at both ends of a step and takes the last step, whose
    end is t = 0, as euler does; rk45 is scipy's adaptive pair down to t = 0.001, over the whole batch at once. additive
    is no flow: x grows by gain (t - t') times what the corrected luma is above mid-grey, and the result is x itself.
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
        if options.solver == "additive" and options.steps > 1 and not decoder.lossless:
            raise OptionError(
                "solver=additive leaves an image, not a latent, after one step (the released RFfusion fails in the "
                "second); use steps=1, or solver euler, heun or rk45"
            )
        self.backbone, self.prior, self.decoder, self.color = backbone, prior, decoder, color
        self.options = options
        self.watch = watch or Stopwatch()

    @property
    def runs_network(self) -> bool:
        """Whether the result depends on the backbone: not when the prior overwrites x̂₀ without reading it."""
        o = self.options
        return self.prior.reads_x0 or o.inject not in ("x0", "both") or o.solver == "additive"

    def __call__(
        self, sources: Sources, generator: torch.Generator | None = None, callback: Callback | None = None
    ) -> Tensor:
        """sources -> the fused image (B, 3 or 1, H, W), not clamped. Noise comes from `generator` alone."""
        with torch.no_grad():  # not inference mode, whose tensors could never meet a prior's gradient
            chromas = [self.color.split(image)[1] for image in sources.images]
            with self.watch.stage("prior"):
                state = self.prior.start(sources)
            if self.runs_network:
                run = _Run(self, sources, chromas, generator, callback)
                match self.options.solver:
                    case "rk45":
                        luma = run.rk45(state)
                    case "additive":
                        luma = run.additive(state)
                    case _:
                        luma = run.steps(state)
            else:
                with self.watch.stage("prior"):
                    luma, _ = self.correct(sources.reference_luma, sources, state, 0.0)
            with self.watch.stage("color"):
                return self.color.merge(luma, chromas, sources)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, Any]:
        """The prior's correction, checked."""
        luma, state = self.prior.correct(x0, sources, state, sigma)
        _check(luma, x0.shape, "correct", self.prior)
        return luma, state


def _check(result: Tensor, shape: tuple[int, ...] | None, what: str, plugin: object) -> None:
    """Refuse what no image can be made of, naming the plug-in, instead of writing it."""
    name = f"{type(plugin).__module__}.{type(plugin).__name__}.{what}"
    if shape is not None and result.shape != tuple(shape):
        raise PluginError(f"{name} returned shape {tuple(result.shape)}, expected {tuple(shape)}")
    if not bool(result.isfinite().all()):
        raise PluginError(f"{name} returned NaN or infinite values; check its options")


@dataclass(frozen=True)
class _Run:
    """One call of the sampler: what stays the same through all its steps."""

    sampler: Sampler
    sources: Sources
    chromas: list[Tensor | None]
    generator: torch.Generator | None
    callback: Callback | None

    def start(self) -> tuple[Tensor, _Encoded]:
        """x at t1, and the encoded reference that it was made from."""
        luma = self.sources.reference_luma
        if self.sampler.options.start == "reference":
            encoded = self.encode(self.sources.images[self.sources.reference])
            return encoded.latent, encoded
        # merged like every later estimate, so that colour and channels do not change between steps
        encoded = self.encode(self.sampler.color.merge(luma, self.chromas, self.sources))
        return interpolate(encoded.latent, self.noise(encoded.latent), self.sampler.options.strength), encoded

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal noise, drawn on the CPU so that one seed means one image on every device."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like.device)

    def steps(self, state: Any) -> Tensor:
        """euler and heun: the fused luma."""
        o = self.sampler.options
        x, encoded = self.start()
        times = make_schedule(o.strength, o.steps, o.spacing)
        for index, (t, t_next) in enumerate(itertools.pairwise(times)):
            now = self.estimate(x, t, state, encoded)
            state = now.state
            if self.callback is not None:
                self.callback(Step(index, t, t_next, now.luma, now.corrected))
            if t_next == 0:
                break
            encoded = self.re_encode(now, encoded)
            if o.solver == "euler":
                fresh = self.noise(x) if o.eta > 0 else None
                x = posterior_update(x, encoded.latent, t, t_next, o.eta, fresh)
            else:
                slope = velocity_from_x0(x, encoded.latent, t)
                ahead = x + (t_next - t) * slope
                end = self.re_encode(self.estimate(ahead, t_next, state, encoded), encoded, last=True)
                x = x + (t_next - t) * (slope + velocity_from_x0(ahead, end.latent, t_next)) / 2
        return now.corrected

    def rk45(self, state: Any) -> Tensor:
        """Adaptive steps down to RK45_END, then one estimate: the fused luma."""
        from scipy.integrate import RK45

        o = self.sampler.options
        x, encoded = self.start()

        def tensor(y: np.ndarray) -> Tensor:
            return torch.from_numpy(y).to(x).view_as(x)

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            x_t = tensor(y)
            x0 = self.re_encode(self.estimate(x_t, t, state, encoded), encoded, last=True).latent
            v: np.ndarray = velocity_from_x0(x_t, x0, t).double().flatten().cpu().numpy()
            return v

        if o.strength > RK45_END:
            start = x.double().flatten().cpu().numpy()
            solver = RK45(slope, o.strength, start, RK45_END, rtol=o.tolerance, atol=o.tolerance)
            index = 0
            while solver.status == "running":
                before = float(solver.t)
                problem = solver.step()
                if problem is not None:
                    raise OptionError(f"solver rk45 stopped at t={before:.4g}: {problem}; use euler or more tolerance")
                if self.callback is not None:
                    now = self.estimate(tensor(solver.y), float(solver.t), state, encoded)
                    self.callback(Step(index, before, float(solver.t), now.luma, now.corrected))
                index += 1
            x = tensor(solver.y)
        return self.estimate(x, min(o.strength, RK45_END), state, encoded).corrected

    def additive(self, state: Any) -> Tensor:
        """x <- decode(x) + gain (t - t') (y - 1/2), y the corrected luma: the luma of the last x.

        The update of the released RFfusion (RF/sampling.py), whose images are in [-1, 1]: mid-grey adds nothing.
        """
        o = self.sampler.options
        x, encoded = self.start()
        for index, (t, t_next) in enumerate(itertools.pairwise(make_schedule(o.strength, o.steps, o.spacing))):
            now = self.estimate(x, t, state, encoded)
            state = now.state
            if self.callback is not None:
                self.callback(Step(index, t, t_next, now.luma, now.corrected))
            image = self.image(x) + o.gain * (t - t_next) * (now.corrected - 0.5)
            if t_next > 0:
                x = self.encode(image, last=True).latent
        return self.sampler.color.split(image)[0]

    def estimate(self, x: Tensor, t: float, state: Any, encoded: _Encoded) -> _Estimate:
        """x̂₀ at (x, t), decoded, its luma corrected by the prior."""
        x0, _ = x0_and_noise(x, self.velocity(x, t, encoded), t)
        luma = self.luma(x0) + encoded.lost
        if self.sampler.options.inject not in ("x0", "both"):
            return _Estimate(x0, luma, luma, state)
        with self.sampler.watch.stage("prior"):
            corrected, state = self.sampler.correct(luma, self.sources, state, noise_share(t))
        return _Estimate(x0, luma, corrected, state)

    def velocity(self, x: Tensor, t: float, encoded: _Encoded) -> Tensor:
        """The field, guided by the energy where that is asked for: v' = v + scale · t / (1 - t) · ∇ E(x̂₀(x))."""
        o, backbone, watch = self.sampler.options, self.sampler.backbone, self.sampler.watch
        time = torch.full((x.shape[0],), t, dtype=x.dtype, device=x.device)
        if not (o.guided and o.guidance_range[0] <= t <= o.guidance_range[1]):
            with watch.stage("velocity"):
                v = backbone.velocity(x, time)
            _check(v, x.shape, "velocity", backbone)
            return v
        with watch.stage("guidance"), torch.enable_grad():
            x = x.detach().requires_grad_()
            v = backbone.velocity(x, time)
            luma = self.luma(x0_and_noise(x, v, t)[0]) + encoded.lost
            (gradient,) = torch.autograd.grad(self.sampler.prior.energy(luma, self.sources).sum(), x)
        # from score -grad E: v = -(t score + x) / (1 - t)
        return v.detach() + o.guidance_scale * t / (1 - t) * gradient

    def luma(self, latent: Tensor) -> Tensor:
        """Luma of the decoded latent."""
        return self.sampler.color.split(self.image(latent))[0]

    def image(self, latent: Tensor) -> Tensor:
        """The decoded latent."""
        height, width = self.sources.luma[0].shape[-2:]
        with self.sampler.watch.stage("decode"):
            image = self.sampler.decoder.decode(latent, (height, width))
        _check(image, (latent.shape[0], image.shape[1], height, width), "decode", self.sampler.decoder)
        return image

    def encode(self, image: Tensor, *, last: bool = False) -> _Encoded:
        """An image in the backbone's domain; grey images are spread over the channels that it wants."""
        decoder, color = self.sampler.decoder, self.sampler.color
        channels = 3 if decoder.channels is not None else self.sampler.backbone.channels
        if image.shape[1] == 1 and channels is not None:
            image = image.expand(-1, channels, -1, -1)
        elif image.shape[1] == 3 and channels == 1:
            image = color.split(image)[0]
        with self.sampler.watch.stage("encode"):
            latent = decoder.encode(image)
        _check(latent, None, "encode", decoder)
        if last or decoder.lossless or self.sampler.options.detail == "drop":
            return _Encoded(latent, 0.0)
        return _Encoded(latent, color.split(image)[0] - self.luma(latent))

    def re_encode(self, estimate: _Estimate, encoded: _Encoded, *, last: bool = False) -> _Encoded:
        """The corrected x̂₀ in the backbone's domain; the estimate itself when the prior did not act on it.

        last: no estimate is made from it, so that what is lost need not be known.
        """
        if estimate.corrected is estimate.luma:
            return _Encoded(estimate.latent, encoded.lost)
        return self.encode(self.sampler.color.merge(estimate.corrected, self.chromas, self.sources), last=last)
