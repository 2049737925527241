"""The prior `exposure`: multi-exposure fusion by a network that was trained on rendered brackets, and its tone."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Frame, Frames, Options, Prior, Sources
from fusionkit.numerics.choice import clamped
from fusionkit.numerics.chroma import DARK, followed, room
from fusionkit.numerics.strips import in_strips, strips
from fusionkit.numerics.window import enlarged_rows, guided_filter, guided_line, reduced
from fusionkit.options import WeightsName
from fusionkit.sources import running_average

from .decision import EDGE_EPS, EDGE_RADIUS, Decision, Exposed, mixed, reduction, without_border

# set by eye on the 17 brackets of MEFB and Merianos
SPREAD = 1.0  # largest deviation of the tone's log-odds; of 80 photographs of BSDS500 a quarter have more than 1.06
TOWARDS = 0.5  # share of the way to middle grey
TONE_ROWS = 240  # least height or width of the copy that the tone is found on, below twice that
BASE_PART, BASE_EPS = 8, 0.5  # guided filter that leaves local contrast out: the shorter side over its radius; eps
ENDS = 0.01  # luma closer than this to black or white counts as this far from it
FLAT = 4 / 255, 12 / 255  # deviation of sources up to which the network does not decide; from which it does alone
# as colour spaces mix the chroma of exposures: power with which it grows with luma; weight with which every frame
# counts, so that a clipped one is never alone
GROWS, EVERY = 0.75, 0.02


class ExposureOptions(Options):
    """Options of the prior `exposure`."""

    weights: WeightsName = Field("exposure-rendered", description="weights of the network")


class Exposure(Prior):
    """F = tone(Σ_i W_i S_i) for any number of sources, W a softmax over sources (`fusionkit_priors.decision.Exposed`).

    The network was trained on scenes whose parts are lit up to five stops apart; its target shows each part as if it
    were photographed by itself. Without bands there is no dark rim round a bright window. The tone is that of
    `well_exposed`. `em_tv` uses both for sources that differ in exposure. A closed form of the sources: the estimate
    x0 is not read. `fusionkit train exposure` trains the network.
    """

    Options = ExposureOptions
    reads_x0 = False
    options: ExposureOptions

    def __init__(self, options: ExposureOptions) -> None:
        super().__init__(options)
        self.network = Decision(Exposed, options.weights, "`prior=mertens` needs none")
        self.provenance = self.network.provenance
        self.bracket = Bracket(self.network)

    def follow(self, sources: Sources, state: Any) -> Any:
        """The tone of the frame before, to be averaged with."""
        return state

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, Tensor]:
        """The fused luma (B, 1, H, W), and its tone."""
        tone: list[Tensor] = []

        def steady(value: Tensor) -> Tensor:
            tone.append(running_average(state, value))
            return tone[-1]

        fused, _ = well_exposed(self.network, sources.luma, steady)
        return in_strips(clamped, fused, *sources.luma, reach=0), tone[-1]

    def passes(self, frames: Frames) -> int:
        """Those of `Bracket`."""
        return self.bracket.passes

    def begin(self, frames: Frames, state: Any, turn: int) -> Any:
        """See `Bracket`."""
        return self.bracket.begin(frames, state, turn)

    def accumulate(self, state: Any, frame: Frame, turn: int) -> Any:
        """See `Bracket`."""
        return self.bracket.accumulate(state, frame, turn)

    def conclude(self, frames: Frames, state: Any) -> Tensor:
        """See `Bracket`."""
        return self.bracket.conclude(frames, state)


def well_exposed(
    decision: Decision, lumas: Sequence[Tensor], steady: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The mixture of lumas (B, 1, H, W) in [0, 1] that the network decides for, in the tone of a photograph.

    The network says which source shows a place; a scene of many stops comes out dark, with a pale sky. So the coarse
    brightness b of the mixture T is moved along its log-odds x = log b / (1 - b), which a guided filter takes from
    those of T (He et al., TPAMI 2013), and which have mean m and deviation s over the picture:

        x' = m' + c (x - m),    c = min(1, SPREAD / s),    m' = m + TOWARDS (min(0, mean of the brightest's x) - m)
        T' = T b' / b

    So the picture is as bright as halfway to middle grey, as far as its sources are, no coarse contrast is larger than
    photographs have, and local contrast stays. Where sources are flat, the network has nothing to go by: Mertens'
    exposedness decides. steady: averages both means and s over the frames of a video.

    Returns T' (B, 1, H, W), which may leave the range of the sources, and the contrast c (B, 1, 1, 1).
    """
    height, width = lumas[0].shape[-2:]
    factor = max(1, min(height, width) // TONE_ROWS)
    few = [y[..., ::factor, ::factor] for y in lumas]
    spread = reduce(torch.maximum, [y.flatten(1).std(1, correction=0) for y in few]).view(-1, 1, 1, 1)
    learned = _learned(spread)
    result = mixed(decision.weights(lumas), lumas)
    if bool((learned < 1).any()):
        result = torch.lerp(in_strips(_nearest_to_grey, *lumas, reach=0), result, learned)
    return result, _tone(result, reduce(torch.maximum, few), factor, steady)


def _learned(spread: Tensor) -> Tensor:
    """How far the network decides, from the largest deviation of a source: 0 where all are flat."""
    return ((spread - FLAT[0]) / (FLAT[1] - FLAT[0])).clamp(0, 1)


def _tone(mixture: Tensor, brightest: Tensor, factor: int, steady: Callable[[Tensor], Tensor]) -> Tensor:
    """Give the mixture its tone in place; its contrast c. brightest: of the sources, at some pixels.

    factor: size of the image over that of the copy on which the tone is found.
    """
    small = reduced(mixture, factor)
    radius = max(2, min(small.shape[-2:]) // BASE_PART)
    odds = torch.logit(small, ENDS)
    odds = guided_filter(odds, odds, radius, BASE_EPS)
    found = [f.mean((1, 2, 3)) for f in (odds, torch.logit(brightest, ENDS))] + [odds.flatten(1).std(1, correction=0)]
    mean, highest, deviation = steady(torch.stack(found)).view(3, -1, 1, 1, 1)
    aim, contrast = mean.lerp(highest.clamp_max(0), TOWARDS), SPREAD / deviation.clamp_min(SPREAD)
    ratio = torch.sigmoid(aim + contrast * (odds - mean)).div_(torch.sigmoid(odds))
    lines = torch.cat(guided_line(small, ratio, EDGE_RADIUS, EDGE_EPS), 1) if factor > 1 else ratio
    height, width = mixture.shape[-2:]
    for part in strips(height, width, reach=0):
        rows, line = mixture[..., part.place, :], enlarged_rows(lines, factor, part.place, width)
        rows.mul_(torch.addcmul(line[:, 1:], line[:, :1], rows) if factor > 1 else line)
    return contrast


class Bracket:
    """F = tone(Σ_i W_i S_i / Σ_i W_i), as `well_exposed` has it, in two passes.

    Pass 1 keeps reduced copies in 8 bits, on which the network compares all frames, and the mean, least and largest
    luma at each pixel; pass 2 mixes. Chroma c_i of luma y_i is mixed as c_i / y_i^¾ by the same weights, as far as no
    channel is clipped, and follows the fused luma from there: what a dark frame shows of a colour is as good as what a
    bright one does. State: eight planes, and of each frame a copy of 480 to 960 rows in 8 bits.
    """

    passes = 2

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """Empty sums; before the second pass the weights of all frames."""
        plane = torch.zeros(1, 1, *frames.size, device=frames.device)
        if turn == 0:
            return {"mean": plane, "low": plane + 1, "high": plane.clone(), "small": [], "spread": 0.0, "few": None}
        small = [y.float() / 255 for y in state.pop("small")]
        state["weights"], state["guide"] = self._weights(small, state["spread"]), torch.stack(small).mean(0)
        state["mean"] /= len(frames)
        return {**state, "sum": plane, "total": plane.clone(), "chroma": None}

    def _weights(self, small: Sequence[Tensor], spread: float) -> list[Tensor]:
        """Weights of the frames' reduced copies, in 8 bits."""
        weights = without_border(self.decision.on(small[0].device).each(small))
        if (learned := float(_learned(torch.tensor(spread)))) < 1:
            exposed = torch.softmax(torch.stack([Exposed.measured(y)[1] for y in small]), dim=0)
            weights = torch.lerp(exposed, weights, learned)
        return [(255 * w).round().to(torch.uint8) for w in weights]

    def accumulate(self, state: dict[str, Any], frame: Frame, turn: int) -> dict[str, Any]:
        """A frame's copy and extremes, or its share of the mixture."""
        (self._look if turn == 0 else self._mix)(state, frame)
        return state

    def _look(self, state: dict[str, Any], frame: Frame) -> None:
        y = frame.luma
        height, width = y.shape[-2:]
        copy, step = F.avg_pool2d(y, reduction(height, width), ceil_mode=True), max(1, min(height, width) // TONE_ROWS)
        state["small"].append((255 * copy).round().to(torch.uint8))
        few = y[..., ::step, ::step].contiguous()
        state["spread"] = max(state["spread"], float(few.std(correction=0)))
        state["few"] = few if state["few"] is None else torch.maximum(state["few"], few)
        for part in strips(height, width, 0):
            rows = (..., part.place, slice(None))
            state["mean"][rows].add_(y[rows])
            torch.minimum(state["low"][rows], y[rows], out=state["low"][rows])
            torch.maximum(state["high"][rows], y[rows], out=state["high"][rows])

    def _mix(self, state: dict[str, Any], frame: Frame) -> None:
        height, width = frame.luma.shape[-2:]
        factor, small = reduction(height, width), state["weights"][frame.index].float() / 255
        lines = torch.cat(guided_line(state["guide"], small, EDGE_RADIUS, EDGE_EPS), 1) if factor > 1 else small
        reach = 2 * EDGE_RADIUS + 1  # samples that a weight is seen from
        for part in strips(height, width, 0):
            near = slice(max(0, part.place.start // factor - reach), part.place.stop // factor + reach)
            if not small[..., near, :].any():
                continue
            rows, strip = (..., part.place, slice(None)), frame.rows(part.place)
            weight = enlarged_rows(lines, factor, part.place, width)
            if factor > 1:
                weight = torch.addcmul(weight[:, 1:], weight[:, :1], state["mean"][rows]).clamp_(0, 1)
            y, image = strip.luma, strip.image
            state["sum"][rows].addcmul_(weight, y)
            state["total"][rows].add_(weight)
            if (chroma := frame.chroma(image)) is not None:
                if state["chroma"] is None:
                    state["chroma"] = torch.zeros(1, 3, height, width, device=y.device)
                root = (y + DARK).rsqrt_()
                chroma = chroma * root.mul_(root.sqrt())  # over luma to the power of ¾
                strength = torch.hypot(chroma[:, :1], chroma[:, 1:]).add_(1e-6)
                weight.add_(EVERY).mul_(strength).mul_(room(image))
                state["chroma"][:, :1, part.place].add_(weight)
                state["chroma"][:, 1:, part.place].addcmul_(chroma, weight)

    def finished(self, toned: Tensor, contrast: Tensor, state: dict[str, Any]) -> Tensor:
        """The result of the toned mixture, which may be overwritten: itself. contrast: of the tone."""
        return toned

    def conclude(self, frames: Frames, state: dict[str, Any]) -> Tensor:
        """The mixture in its tone, within the range of the frames, and its chroma."""
        fused, planes = state.pop("sum").div_(state.pop("total").clamp_min_(1e-6)), state.pop("chroma")
        mixture = fused if planes is None else fused.clone()
        height, width = frames.size
        contrast = _tone(fused, state["few"], max(1, min(height, width) // TONE_ROWS), lambda value: value)
        fused = self.finished(fused, contrast, state)
        torch.minimum(torch.maximum(fused, state["low"], out=fused), state["high"], out=fused)
        if planes is None:
            return fused
        for part in strips(height, width, 0):
            luma, shown, rows = (
                fused[..., part.place, :],
                mixture[..., part.place, :] + DARK,
                planes[..., part.place, :],
            )
            factor = followed((luma + DARK) / shown)
            rows[:, 1:].mul_(factor.mul_(shown**GROWS).div_(rows[:, :1].clamp_min(1e-9)))
            rows[:, :1] = luma
        return planes


def _nearest_to_grey(*lumas: Tensor) -> Tensor:
    """The mixture by exposedness, pixel by pixel."""
    measures = torch.stack([Exposed.measured(y)[1] for y in lumas])
    return mixed(torch.softmax(measures, dim=0), lumas)
