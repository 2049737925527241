"""The prior `exposure`: multi-exposure fusion by a network that was trained on rendered brackets, and its tone."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.strips import in_strips, strips
from fusionkit.numerics.window import enlarged_rows, guided_filter, guided_line, reduced
from fusionkit.options import WeightsName
from fusionkit.sources import running_average

from .decision import EDGE_EPS, EDGE_RADIUS, Decision, Exposed, mixed

__all__ = ["Exposure", "ExposureOptions", "well_exposed"]

# set by eye on the 17 brackets of MEFB and Merianos
SPREAD = 1.0  # largest deviation of the tone's log-odds; of 80 photographs of BSDS500 a quarter have more than 1.06
TOWARDS = 0.5  # share of the way to middle grey
TONE_ROWS = 240  # least height or width of the copy that the tone is found on, below twice that
BASE_PART, BASE_EPS = 8, 0.5  # guided filter that leaves local contrast out: the shorter side over its radius; eps
ENDS = 0.01  # luma closer than this to black or white counts as this far from it
FLAT = 4 / 255, 12 / 255  # deviation of sources up to which the network does not decide; from which it does alone


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
        return in_strips(_within, fused, *sources.luma, reach=0), tone[-1]


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
    learned = ((spread - FLAT[0]) / (FLAT[1] - FLAT[0])).clamp(0, 1)
    result = mixed(decision.weights(lumas), lumas)
    if bool((learned < 1).any()):
        result = torch.lerp(in_strips(_nearest_to_grey, *lumas, reach=0), result, learned)
    return result, _tone(result, reduce(torch.maximum, few), factor, steady)


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


def _within(image: Tensor, *lumas: Tensor) -> Tensor:
    return image.clamp(reduce(torch.minimum, lumas), reduce(torch.maximum, lumas))


def _nearest_to_grey(*lumas: Tensor) -> Tensor:
    """The mixture by exposedness, pixel by pixel."""
    measures = torch.stack([Exposed.measured(y)[1] for y in lumas])
    return mixed(torch.softmax(measures, dim=0), lumas)
