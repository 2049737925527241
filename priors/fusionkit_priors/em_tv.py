"""The prior `em_tv`: expectation maximisation over who explains what, with total variation to expected gradients."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Frame, Frames, Options, Prior, Sources, stream
from fusionkit.errors import NoEffect
from fusionkit.numerics.choice import clamped
from fusionkit.numerics.poisson import decay, divergence, halved_gradient, screened_poisson, screened_variation
from fusionkit.numerics.poisson import gradient as spatial_gradient
from fusionkit.numerics.strips import even_strips, strips
from fusionkit.numerics.window import box_mean, enlarged_rows, reduced
from fusionkit.options import WeightsName, When
from fusionkit.scene import SCENE_KINDS, Scene, SceneChoice
from fusionkit.sources import Report, running_average
from fusionkit.threads import on_free_cores

from .bracket import ExplainedBracket
from .decision import Decision, DecisionNet, Exposed, InFocus
from .defocus import Near
from .displaced import copies, reduction
from .evidence import STRATEGIES, Evidence, Target, explained_gradient, grain_floor
from .stack import Stack

ENERGY_REACH = 4  # rows around a pixel that its gradient's responsibilities depend on
LAM, EPS = 0.5, 1e-3  # of the energy: weight of the total variation; |r| counts as sqrt(r² + eps²)
# of the M-step: cost of misfit where F is flat; edges (between means over 2x2 pixels) beside which it costs half; steps
# towards the minimum. Set by the audit and by eye on pairs of VIFB and RoadScene (docs/decisions/em-tv.md)
COST, HIDES, STEPS = 0.02, 0.05, 2
SELDOM = 8  # frames of a video of which one is asked whether edges are displaced, while none are
NETWORKS: dict[str, type[DecisionNet]] = {"focus": InFocus, "exposure": Exposed}
Explained = Callable[[slice], tuple[Tensor, Tensor]]  # G at rows of an image
SERIES: dict[str, Callable[[Decision, "EMTV"], Any]] = {  # by evidence: what takes many frames
    "exposure": lambda decision, prior: ExplainedBracket(decision, prior._bracket),
    "focus": lambda decision, prior: Stack(decision, prior.options.near),
}


def _kinds(*strategies: str) -> tuple[Scene, ...]:
    """The values of `evidence` with which one of these strategies may be taken."""
    return ("auto", *(kind.name for kind in SCENE_KINDS.values() if kind.evidence in strategies))


class EMTVOptions(Options):
    """Options of the prior `em_tv`."""

    evidence: SceneChoice = Field(
        "auto", description="what says which source explains a pixel; auto: recognised from the sources"
    )
    lit: Annotated[float, When("evidence", *_kinds("heat"))] = Field(
        1.0, ge=0, le=1, description="how far dark places follow the other sources"
    )
    screen: Annotated[float, When("evidence", *_kinds("heat", "exposure"))] = Field(
        0.02, ge=1e-6, description="pull towards the expected brightness against expected gradients"
    )
    iterations: Annotated[int, When("evidence", *_kinds("heat", "exposure"))] = Field(
        1, ge=1, le=100_000, description="E- and M-steps a sampling step"
    )
    focus_weights: Annotated[WeightsName, When("evidence", *_kinds("focus"))] = Field(
        "focus-rendered", description="weights of the network that tells which source is in focus"
    )
    near: Annotated[Near, When("evidence", *_kinds("focus"))] = Field(
        "auto",
        description="the end of a focus stack that is focused nearest: first or last frame; auto: as the focus "
        "distances in the files or else the pictures tell",
    )
    exposure_weights: Annotated[WeightsName, When("evidence", *_kinds("exposure"))] = Field(
        "exposure-rendered", description="weights of the network that tells which exposure shows a place best"
    )


class EMState(NamedTuple):
    """Statistics of the last correction, by name; frame: number in a video, 0 where none before is averaged with."""

    statistics: Mapping[str, Tensor] = {}
    frame: int = 0


class EMTV(Prior):
    """Expectation maximisation over who explains what, with the gradients' field as regulariser.

    Which source explains a pixel's brightness, and which its gradient, is latent:

        E-step   T = x̂₀ moved towards the sources that evidence speaks for        (`evidence.STRATEGIES`)
                 G = Σ_j a_j ∇S_j,  a_j ∝ (energy of ∇S_j, where it does not run against ∇F)²
        M-step   F = argmin Σ w |∇F - G| + ½ screen |F - T|²,  clamped to [min_i S_i, max_i S_i]
                 w = 0.02 / (1 + |∇F| / 0.05)

    Where edges of two sources cannot be integrated, the total variation of the misfit gathers it in lines, and w lets
    them lie where an edge hides them; a square would spread it as soft dark rims. The minimum is approached from the
    square's, argmin ½ |∇F - G|² + ½ screen |F - T|², a screened Poisson equation that a cosine transform solves
    exactly: two steps of the alternating direction method of multipliers (`numerics.poisson.screened_variation`) find
    its correction, on means over 2x2 pixels. No result leaves the range that the sources and the estimate have at a
    pixel, but for a scan in colour over grey ones (`density.overlaid`). Where a strategy leaves no gradient open (T has
    every source's edges, as of bands that were chosen), G = ∇T and the M-step's answer is T itself. `iterations`
    repeats both steps from the F found. Any number of sources. The paper's EM: prior `em_tv_paper`; why not:
    docs/decisions/em-tv.md.

    In a video, statistics of the whole image (spread of the heat, floor of the grain) are averaged over the frames.
    Series of many frames are taken one by one, by `SERIES`; the sums of the E-step are those of all frames. So are
    three focus settings and more, whose results may leave that range where a halo is taken away.
    """

    Options = EMTVOptions
    has_energy = True
    guiding = frozenset()
    options: EMTVOptions

    def __init__(self, options: EMTVOptions) -> None:
        super().__init__(options)
        kinds = [k for k in SCENE_KINDS.values() if options.evidence in ("auto", k.name)]
        self.look = "vivid" if any(kind.tone == "vivid" for kind in kinds) else "faithful"
        self.decisions = {
            name: Decision(network, getattr(options, f"{name}_weights"), "`prior=laplacian` needs none")
            for name, network in NETWORKS.items()
            if any(kind.evidence == name for kind in kinds)
        }
        self.provenance = {k: v for decision in self.decisions.values() for k, v in decision.provenance.items()}
        self.series = {name: SERIES[name](self.decisions[name], self) for name in self.decisions if name in SERIES}

    def start(self, sources: Sources) -> EMState:
        """No statistics yet."""
        return EMState()

    def follow(self, sources: Sources, state: Any) -> EMState:
        """The statistics of the frame before, to be averaged with."""
        return EMState(state.statistics, state.frame + 1)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, EMState]:
        """E- and M-steps from the estimate x0 (B, 1, H, W), images of one kind of scene together."""
        kinds, statistics = self._scenes(sources), dict[str, Tensor]()

        def steady(group: Sequence[int], name: str, value: Tensor | Callable[[], Tensor]) -> Tensor:
            key = f"{name} of {group}"
            before = state.statistics.get(key) if state.frame else None
            if callable(value):
                value = before if before is not None and state.frame % SELDOM and not before.any() else value()
            statistics[key] = running_average(before, value)
            return statistics[key]

        groups = [[b for b in range(len(x0)) if kinds[b] == kind] for kind in dict.fromkeys(kinds)]
        if one_by_one(x0.device):
            groups = [[b] for b in range(len(x0))]
        parts = [
            self._explain(kinds[group[0]], x0[group], sources.select(group), partial(steady, group)) for group in groups
        ]
        return _in_order(parts, groups), EMState(statistics, state.frame)

    def _scenes(self, sources: Sources) -> tuple[Scene, ...]:
        """The kind of scene of each image: the option's, or the one that is recognised, with a note."""
        if self.options.evidence != "auto":
            return (self.options.evidence,) * len(sources.luma[0])
        _note(sources.scenes, sources.report)
        return sources.scenes

    def _explain(self, kind: Scene, x0: Tensor, sources: Sources, steady: Callable[[str, Any], Tensor]) -> Tensor:
        """F for images of one kind of scene."""
        if SCENE_KINDS[kind].evidence == "focus":
            if len(sources) > 2:
                return torch.cat([stream(self, sources.select([b])) for b in range(len(x0))])
            if self.options.near != "auto":
                raise NoEffect(f"`near={self.options.near}` has no effect on {len(sources)} sources; a stack has more")
        evidence = Evidence(self.options.lit, self.decisions, steady)
        target = STRATEGIES[SCENE_KINDS[kind].evidence](x0, sources, evidence)
        if not target.follows:
            return target.brightness
        return self._integrated(target, x0, sources, steady)

    @on_free_cores()
    def _integrated(self, target: Target, x0: Tensor, sources: Sources, steady: Callable[[str, Any], Tensor]) -> Tensor:
        """The M-steps of a target, which they overwrite."""
        fused, last = target.brightness, self.options.iterations - 1
        floors = [steady(f"grain {i}", grain_floor(y)) for i, y in enumerate(sources.luma)]
        displaced = copies(sources, steady)
        for step in range(self.options.iterations):
            own = steady(f"grain of step {step}", grain_floor(fused))
            gradient = partial(_explained, fused, target, [own, *floors], sources, displaced)
            right, coarse = self._right_side(target.brightness, gradient)
            if step == last:  # needs the target no more, and overwrites it
                fused, target = target.brightness, target._replace(follows=())
            else:
                fused = torch.empty_like(right)
            self._solve(right, fused)
            del right
            self._gather(coarse, x0, sources.luma, fused)
        return fused

    def _right_side(self, brightness: Tensor, gradient: Explained) -> tuple[Tensor, Tensor]:
        """Make the quadratic's right side, screen T - div G, and T, G of means over 2x2 pixels: (B, 3, h, w).

        Strip by strip where the image is large. gradient: G at these rows.
        """
        screen, (height, width) = self.options.screen, brightness.shape[-2:]
        right = torch.empty_like(brightness)
        coarse = brightness.new_empty(len(brightness), 3, -(-height // 2), -(-width // 2))
        for part in strips(height, width, ENERGY_REACH, step=2):
            wanted, (gx, gy) = brightness[..., part.rows, :], gradient(part.rows)
            expected = divergence(gx, gy)
            right[..., part.place, :] = torch.sub(screen * wanted, expected)[..., part.inner, :]
            half = torch.cat([reduced(wanted, 2), *halved_gradient(gx, gy)], dim=1)
            rows, inner = (slice(p.start // 2, -(-p.stop // 2)) for p in (part.place, part.inner))
            coarse[..., rows, :] = half[..., inner, :]
        return right, coarse

    def _bracket(self, mixture: Tensor, gradient: Explained, low: Tensor, high: Tensor) -> Tensor:
        """The M-step of a bracket of many frames, into its toned mixture."""
        right, coarse = self._right_side(mixture, gradient)
        self._solve(right, mixture)
        self._gather(coarse, low, [high], mixture)
        return mixture

    def _solve(self, right: Tensor, fused: Tensor) -> None:
        """Write the minimum of the quadratic into `fused`."""
        screen, (height, width) = self.options.screen, right.shape[-2:]
        for part in even_strips(height, width, decay(screen)):
            solved = screened_poisson(right[..., part.rows, :], screen)
            fused[..., part.place, :] = solved[..., part.inner, :]

    def _gather(self, coarse: Tensor, x0: Tensor, lumas: Sequence[Tensor], fused: Tensor) -> None:
        """Gather the quadratic's misfit in lines, and clamp: `fused` becomes the M-step's answer.

        A line crosses two of the four pixels of a mean, so that its cost is half as large beside the pull's.
        """
        screen, (height, width), change = self.options.screen, coarse.shape[-2:], torch.empty_like(coarse[:, :1])
        for part in even_strips(height, width, STEPS * decay(screen), factor=2):
            now = reduced(fused[..., 2 * part.rows.start : 2 * part.rows.stop, :], 2)
            wanted, gx, gy = (coarse[:, i : i + 1, part.rows] for i in range(3))
            x, y = spatial_gradient(now)
            hidden = box_mean(x.square().addcmul_(y, y), 1).clamp_min_(0).sqrt_()
            weight = COST / 2 / (1 + hidden / HIDES)
            solved = screened_variation(x.sub_(gx), y.sub_(gy), wanted - now, weight, screen, STEPS)
            change[..., part.place, :] = solved[..., part.inner, :]
        for part in strips(fused.shape[-2], fused.shape[-1], 0):
            corrected = fused[..., part.place, :] + enlarged_rows(change, 2, part.place, fused.shape[-1])
            fused[..., part.place, :] = clamped(corrected, *(y[..., part.place, :] for y in (x0, *lumas)))

    def passes(self, frames: Frames) -> int:
        """Those of what takes many frames of this kind; 0 where there is none, or the M-step is repeated."""
        evidence = self._evidence(frames)
        repeated = evidence == "exposure" and self.options.iterations > 1
        return self.series[evidence].passes if evidence in self.series and not repeated else 0

    def _evidence(self, frames: Frames) -> str:
        return SCENE_KINDS[frames.scene if self.options.evidence == "auto" else self.options.evidence].evidence

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """See the class of `SERIES`, which the state names."""
        if self.options.evidence == "auto" and not turn:
            _note((frames.scene,), frames.report)
        evidence = self._evidence(frames)
        return {**self.series[evidence].begin(frames, state, turn), "evidence": evidence}

    def accumulate(self, state: dict[str, Any], frame: Frame, turn: int) -> dict[str, Any]:
        """See the class of `SERIES`."""
        return self.series[state["evidence"]].accumulate(state, frame, turn)

    def conclude(self, frames: Frames, state: dict[str, Any]) -> Tensor:
        """See the class of `SERIES`."""
        return self.series[state["evidence"]].conclude(frames, state)

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """sum |I - F| + |F - V| + 0.5 |∇(I - F)|, absolute values rounded at zero: (B, 1, H, W) -> (B,).

        The published EM's energy: T and G move with the estimate, so the E- and M-steps have none in x0 alone.
        """
        visible, infrared = sources.reference_luma, sources.other_luma[0]
        residual = infrared - x0
        # not periodic: opposite borders of an image have nothing to do with each other
        gx, gy = spatial_gradient(residual)
        gradient = torch.sqrt(gx.square() + gy.square() + EPS**2)
        terms = _rounded_abs(residual) + _rounded_abs(x0 - visible) + LAM * gradient
        return terms.sum(dim=(1, 2, 3))


def _note(scenes: Sequence[Scene], report: Report) -> None:
    """Tell what sources were taken for."""
    for kind in dict.fromkeys(scenes):
        *others, last = (f"`task={other.task}`" for name, other in SCENE_KINDS.items() if name != kind)
        report.note(f"treated as {SCENE_KINDS[kind].title}; {', '.join(others)} or {last} states another kind")


def _explained(
    current: Tensor,
    found: Target,
    floors: Sequence[Tensor],
    sources: Sources,
    displaced: Tensor | None,
    rows: slice,
) -> tuple[Tensor, Tensor]:
    """The expected gradient at rows of the current image."""
    lumas, wanted, copied = [y[..., rows, :] for y in sources.luma], found.rows(rows), None
    if displaced is not None:
        height, width = current.shape[-2:]
        share = enlarged_rows(displaced, reduction(height, width), rows, width)
        copied = share * wanted.follows[sources.reference], lumas[sources.reference]
    return explained_gradient(current[..., rows, :], wanted, lumas, floors, copied)


def one_by_one(device: torch.device) -> bool:
    """Whether the images of a batch are computed one after another: on a CPU, whose cache holds one image's planes.

    Elsewhere each operation costs its start, whatever the number of images.
    """
    return device.type == "cpu"


def _in_order(parts: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Tensor:
    """Results of groups of images as one batch in the images' order."""
    if len(parts) == 1:
        return parts[0]
    places = [b for group in groups for b in group]
    return torch.cat(list(parts))[torch.tensor(places).argsort()]


def _rounded_abs(x: Tensor) -> Tensor:
    return torch.sqrt(x.square() + EPS**2)
