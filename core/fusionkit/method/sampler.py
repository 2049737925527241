"""The sampler: the flow's clean-image estimates, corrected by the prior, handed to a solver."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..contracts import Backbone, ColorSpace, Decoder, Memory, Prior, Sources
from ..contracts.base import check_answer, check_image, unfit
from ..errors import NoEffect, OptionError
from ..flow import solvers
from ..flow.path import interpolate, noise_share, x0_from_velocity
from ..flow.schedule import make_schedule
from ..memory import release_pages
from ..numerics.precision import arithmetic
from ..numerics.strips import is_large, strips
from ..sources import STILL
from ..timing import Stopwatch
from .config import SamplerOptions


@dataclass(frozen=True)
class Step:
    """What a callback sees: the step's number, its times, the luma estimate before and after the prior."""

    index: int
    t: float
    t_next: float
    estimate: Tensor
    corrected: Tensor


Callback = Callable[[Step], None]
Noise = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class Sample:
    """The fused image (B, 3 or 1, H, W), not clamped; the prior's last state; evaluations of v."""

    image: Tensor
    state: Any
    evaluations: int


@dataclass(frozen=True)
class Sampler:
    """Fuses by sampling a rectified flow whose clean-image estimate x̂₀ the prior corrects at every step.

    The solvers are those of `fusionkit.flow.solvers`. A prior's state is carried from step to step; where a solver
    looks ahead (inside a heun step, for rk45) it is not advanced. Raises OptionError for parts that do not go together.
    """

    backbone: Backbone
    prior: Prior
    decoder: Decoder
    color: ColorSpace
    options: SamplerOptions

    def __post_init__(self) -> None:
        """Refuse now what would fail at the first image."""
        o = self.options
        if o.guided and not self.prior.has_energy:
            raise OptionError(
                f"`inject={o.inject}` needs a prior with an energy, and {type(self.prior).__name__} has none; "
                "use `inject=x0`"
            )
        if o.solver == "additive" and o.steps > 1 and not self.decoder.lossless:
            raise OptionError(
                "`solver=additive` leaves an image, not a latent, after one step (the released RFfusion fails in the "
                "second); use `steps=1`, or solver euler, heun or rk45"
            )
        if o.finish == "decoder" and self.decoder.lossless:
            raise OptionError(
                "`finish=decoder` needs a decoder that changes what it is given: decoder vq, with backbone identity"
            )
        o.check_read()
        if o.guided and o.strength == 0:
            raise NoEffect(f"`inject={o.inject}` is read only with `strength` above 0; here `strength` is 0")
        if o.strength > 0 and not self.samples:
            raise NoEffect(
                f"`strength={o.strength:g}` has no effect: {type(self.prior).__name__} does not look at the flow's "
                "estimate; use a prior that does, such as em_tv, or `strength=0`"
            )
        for name, needed in self.prior.unread(steps=o.steps if o.strength else 1, inject=o.inject).items():
            if (info := type(self.prior.options).model_fields.get(name)) is None:
                raise unfit(self.prior, "unread", f"{name!r}, which is none of its options")
            value = getattr(self.prior.options, name)
            if value != info.get_default(call_default_factory=True):
                raise NoEffect(f"{type(self.prior).__name__}'s `{name}={value}` is read only with {needed}")
        if o.detail == "drop" and self.decoder.lossless:
            raise NoEffect("`detail=drop` has no effect: this decoder loses nothing; leave it out")
        limit = self.backbone.restores
        if 0 < limit < o.strength:
            raise OptionError(
                f"`strength={o.strength:g}`: this flow was trained for t up to {limit:g}; use less, or others"
            )

    def check_seed(self, seed: int) -> None:
        """Refuse a seed where nothing random is drawn."""
        if seed and not (self.samples and (self.options.start == "noised" or self.options.eta > 0)):
            raise NoEffect(f"`seed={seed}` has no effect: nothing random is drawn; it needs `strength` above 0")

    @property
    def samples(self) -> bool:
        """Whether x moves along the flow: not at strength 0, nor when the prior overwrites x̂₀ without reading it."""
        o = self.options
        if o.strength == 0:
            return False
        return self.prior.reads_x0 or o.inject not in ("x0", "both") or o.solver == "additive"

    def __call__(
        self,
        sources: Sources,
        noise: Noise | None = None,
        *,
        memory: Memory = STILL,
        before: Any = None,
        callback: Callback | None = None,
        watch: Stopwatch | None = None,
    ) -> Sample:
        """Fuse.

        noise: the one generator that all noise is drawn from, or one for each image of the batch, so that image b does
        not depend on its neighbours. memory, before: of a video's shot, and the prior's last state in the frame before.
        """
        with torch.no_grad():  # not inference mode, whose tensors could never meet a prior's gradient
            watch = watch or Stopwatch()
            if memory is not STILL:  # kinds of scene are recognised once in a shot
                sources = replace(sources, known_scenes=memory.once("scenes", lambda: sources.scenes))
            field = _CorrectedFlow(self, sources, noise, before, watch)
            if self.samples:
                luma = field.solve(callback)
            elif self.options.inject == "none":
                luma = sources.reference_luma
            else:
                luma = field.correct(sources.reference_luma, 0.0)
                if callback is not None:
                    callback(Step(0, 0.0, 0.0, sources.reference_luma, luma))
            image = field.merge(luma)
            if self.options.finish == "decoder":
                image = field.finish(image)
            return Sample(image, field.state, field.evaluations)


class _CorrectedFlow:
    """The field that solvers ask, over one call's sources; knows the prior's state and what was evaluated."""

    def __init__(self, sampler: Sampler, sources: Sources, noise: Noise | None, before: Any, watch: Stopwatch) -> None:
        self.sampler, self.sources, self.generators, self.watch = sampler, sources, noise, watch
        self.evaluations = 0
        self.lost: Tensor | float = 0.0  # luma that the autoencoder cannot represent of the image x was made from
        with watch.stage("prior"):
            prior = sampler.prior
            self.state = prior.start(sources) if before is None else prior.follow(sources, before)

    def solve(self, callback: Callback | None) -> Tensor:
        """The fused luma."""
        o = self.sampler.options
        times = make_schedule(o.strength, o.steps, o.spacing)
        x = self.start()

        def report(i: int, t: float, t_next: float, estimate: solvers.Estimate) -> None:
            assert callback is not None
            assert isinstance(estimate, _Estimate)
            callback(Step(i, t, t_next, estimate.uncorrected, estimate.luma))

        told = None if callback is None else report
        match o.solver:
            case "heun":
                return solvers.heun(self, x, times, told)
            case "rk45":
                return solvers.rk45(self, x, times, told, o.tolerance)
            case "additive":
                return solvers.additive(self, x, times, told, o.gain)
            case _:
                return solvers.euler(self, x, times, told, o.eta, self.noise)

    def start(self) -> Tensor:
        """x at t₁: the reference, with its share of noise or as it is."""
        if self.sampler.options.start == "reference":
            return self.take_up(self.sources.images[self.sources.reference])
        # merged like every later estimate, so that colour and channels do not change between steps
        x0 = self.take_up(self.merge(self.sources.reference_luma))
        return interpolate(x0, self.noise(x0), self.sampler.options.strength)

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal noise, drawn on the CPU so that one seed means one image on every device."""
        if self.generators is None or isinstance(self.generators, torch.Generator):
            return torch.randn(like.shape, generator=self.generators, dtype=like.dtype).to(like.device)
        drawn = [torch.randn(like.shape[1:], generator=g, dtype=like.dtype) for g in self.generators]
        return torch.stack(drawn).to(like.device)

    def __call__(self, x: Tensor, t: float, *, advance: bool = True) -> "_Estimate":
        """x̂₀ at (x, t), decoded, its luma corrected by the prior."""
        x0 = x0_from_velocity(x, self.velocity(x, t), t)
        luma = self.to_luma(self.decode(x0)) + self.lost
        if self.sampler.options.inject in ("x0", "both"):
            corrected = self.correct(luma, noise_share(t), advance=advance)
        else:
            corrected = luma
        return _Estimate(self, x0, luma, corrected, advance)

    def correct(self, x0: Tensor, sigma: float, *, advance: bool = True) -> Tensor:
        """The prior's correction of a luma, checked."""
        prior = self.sampler.prior
        with self.watch.stage("prior"):
            luma, state = corrected(prior, x0, self.sources, self.state, sigma)
        check_answer(luma, x0.shape, "correct", prior)
        if advance:
            self.state = state
        return luma.to(x0.dtype)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """The field, guided by the energy where that is asked for: v' = v + scale · t / (1 - t) · ∇ E(x̂₀(x))."""
        o, backbone = self.sampler.options, self.sampler.backbone
        time = torch.full((x.shape[0],), t, dtype=x.dtype, device=x.device)
        self.evaluations += 1
        if not (o.guided and o.guidance_range[0] <= t <= o.guidance_range[1]):
            with self.watch.stage("velocity"), self.arithmetic():
                v = backbone.velocity(x, time)
            check_answer(v, x.shape, "velocity", backbone)
            return v.float()
        with self.watch.stage("guidance"), torch.enable_grad():
            x = x.detach().requires_grad_()
            v = backbone.velocity(x, time)
            luma = self.to_luma(self.decode(x0_from_velocity(x, v, t))) + self.lost
            energy = self.sampler.prior.energy(luma, self.sources)
            check_answer(energy, (len(x),), "energy", self.sampler.prior)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        # from score -grad E: v = -(t score + x) / (1 - t)
        return v.detach() + o.guidance_scale * t / (1 - t) * gradient

    def arithmetic(self) -> AbstractContextManager[object]:
        """Of the networks that are sampled."""
        return arithmetic(self.sources.luma[0].device, self.sampler.options.precision)

    def to_luma(self, image: Tensor) -> Tensor:
        """Luma of an image."""
        return self.sampler.color.split(image)[0]

    @cached_property
    def chromas(self) -> list[Tensor | None]:
        """Of the whole sources."""
        return self.chromas_of(self.sources)

    def chromas_of(self, sources: Sources) -> list[Tensor | None]:
        """Chroma of each."""
        return [self.sampler.color.split(image)[1] for image in sources.images]

    def merge(self, luma: Tensor) -> Tensor:
        """A luma with the sources' colour; of a large image strip by strip, laid out as files are."""
        color, (height, width) = self.sampler.color, luma.shape[-2:]
        with self.watch.stage("color"):
            if color.reach is None or not is_large(height, width):
                image = color.merge(luma, self.chromas, self.sources)
                check_image(image, len(luma), (height, width), "merge", color)
                return image
            release_pages()  # the prior's
            return merged_in_strips(color, luma, lambda rows: self.chromas_of(self.sources.rows(rows)), self.sources)

    def decode(self, x: Tensor) -> Tensor:
        """x as an image."""
        height, width = self.sources.luma[0].shape[-2:]
        with self.watch.stage("decode"), self.arithmetic():
            image = self.sampler.decoder.decode(x, (height, width))
        check_image(image, len(x), (height, width), "decode", self.sampler.decoder)
        return image.float()

    def encode(self, image: Tensor) -> Tensor:
        """An image in the backbone's domain; grey images are spread over the channels that it wants."""
        decoder = self.sampler.decoder
        image = self.in_channels(image)
        with self.watch.stage("encode"), self.arithmetic():
            x = decoder.encode(image)
        (batch, channels), size = image.shape[:2], image.shape[-2:]
        cells = (-(-side // decoder.factor) for side in size)
        check_answer(x, (batch, decoder.channels or channels, *cells), "encode", decoder)
        return x.float()

    def finish(self, image: Tensor) -> Tensor:
        """The image as the decoder paints it, with its own number of channels."""
        painted = self.decode(self.encode(self.in_channels(image)))
        return painted if painted.shape[1] == image.shape[1] else self.to_luma(painted)

    def in_channels(self, image: Tensor) -> Tensor:
        """The image with the channels that decoder and backbone want."""
        channels = 3 if self.sampler.decoder.channels is not None else self.sampler.backbone.channels
        if image.shape[1] == 1 and channels is not None:
            return image.expand(-1, channels, -1, -1)
        return self.to_luma(image) if image.shape[1] == 3 and channels == 1 else image

    def take_up(self, image: Tensor) -> Tensor:
        """`encode`, and remember what the autoencoder loses of the image, to give it back to what is made of it."""
        image = self.in_channels(image)
        x = self.encode(image)
        whole = self.sampler.decoder.lossless or self.sampler.options.detail == "drop"
        self.lost = 0.0 if whole else self.to_luma(image) - self.to_luma(self.decode(x))
        return x


class _Estimate:
    """The clean image at one (x, t): `luma` as the prior left it, `uncorrected` as the flow had it."""

    def __init__(self, flow: _CorrectedFlow, latent: Tensor, luma: Tensor, corrected: Tensor, advance: bool) -> None:
        self._flow, self._latent, self._advance = flow, latent, advance
        self.uncorrected, self.luma = luma, corrected

    @cached_property
    def x0(self) -> Tensor:
        """The corrected x̂₀ in the backbone's domain; the estimate itself when the prior did not act on it."""
        if self.luma is self.uncorrected:
            return self._latent
        image = self._flow.merge(self.luma)
        return self._flow.take_up(image) if self._advance else self._flow.encode(image)


def corrected(prior: Prior, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, Any]:
    """What a prior's `correct` returns, if it is the luma and the next state."""
    found: object = prior.correct(x0, sources, state, sigma)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        expected = "a pair: the luma, and the state for the next step (`return luma, None` where there is none)"
        raise unfit(prior, "correct", f"{type(found).__name__}, expected {expected}")
    return found


def merged_in_strips(
    color: ColorSpace, luma: Tensor, chromas: Callable[[slice], list[Tensor | None]], sources: Sources
) -> Tensor:
    """A luma with colour, strip by strip, laid out as files are. chromas: of each source, at these rows."""
    (height, width), image = luma.shape[-2:], None
    for part in strips(height, width, color.reach):
        strip = luma[..., part.rows, :]
        merged = color.merge(strip, chromas(part.rows), sources.rows(part.rows))
        check_image(merged, len(luma), strip.shape[-2:], "merge", color)
        if image is None:
            size = (*merged.shape[:2], height, width)
            image = torch.empty(size, device=merged.device, memory_format=torch.channels_last)
        image[..., part.place, :] = merged[..., part.inner, :]
    assert image is not None
    return image
