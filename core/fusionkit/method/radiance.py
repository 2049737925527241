"""Radiance of a bracket: what light came from each place of the scene, up to one factor (HDR).

Debevec & Malik, "Recovering high dynamic range radiance maps from photographs", SIGGRAPH 1997.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Frame, Frames, Stage
from ..errors import InputError, OptionError
from ..extras import DISTRIBUTION
from ..images.picture import Array, Picture
from ..numerics.strips import strips
from ..registry.kinds import METHOD
from ..scene import SCENE_KINDS, bracketed
from ..timing import Stopwatch
from .checkpoint import Checkpoint
from .config import PipelineConfig, SamplerOptions
from .flags import stages_of
from .frames import Series
from .result import FusedPicture
from .series import Progress, accumulated, concluded, looked_at

if TYPE_CHECKING:
    from .pipeline import Pipeline

LEVELS = 256  # samples of the response
EQUATIONS, PLACES = 6000, (50, 400)  # of the system, about; least and most places in it
SMOOTH = 30.0  # weight of the response's second differences; set on rendered brackets of 3 to 9 frames
MIDDLE = 0.2158  # light at the middle level: sRGB's, so that 1 is the white of the reference
# weight beside the largest, 1, of a level that is clipped: dark ones count in the longest exposure, white ones in the
# shortest
CLIPPED = 1e-4
DARKEST = 1e-7  # of linear files, whose logarithm has no end


class Radiance:
    """ln E = Σ w(z) (g(z) - ln t) / Σ w(z) at each pixel and channel, w a hat over the levels z (equations 3 and 6).

    g, the logarithm of the light that gives a level, solves the same equations at some places with second differences
    as small as they may be, in a first pass; of linear files it is known. Takes frames as a prior does that streams.
    """

    def __init__(self, exposures: Sequence[float], *, linear: bool) -> None:
        self.exposures, self.linear = exposures, linear

    def passes(self, frames: Frames) -> int:
        """One to find the response, one to merge."""
        return 2

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """No samples yet; then the response, and empty sums."""
        if turn == 0:
            return {"levels": []}
        levels, times = torch.stack(state["levels"]).numpy(), np.log(self._relative(frames.reference))
        self._note_order(frames, levels.mean((1, 2)))
        curves = [response(levels[:, c], times) for c in range(levels.shape[1])]
        sums = torch.zeros(2, len(curves), *frames.size, device=frames.device)
        return {"response": torch.from_numpy(np.stack(curves)).float(), "sums": sums, "reference": frames.reference}

    def _note_order(self, frames: Frames, means: Array) -> None:
        """Note frames that are darker than one with a shorter exposure. means: levels of the frames, (N,) in [0, 1]."""
        order = sorted(range(len(means)), key=lambda i: self.exposures[i])
        darker = [
            frames.names[long]
            for short, long in pairwise(order)
            if self.exposures[long] > self.exposures[short] and means[long] < means[short] - 1 / (LEVELS - 1)
        ]
        if darker:
            frames.report.note(
                f"{' and '.join(darker)}: darker than a frame of shorter exposure, so that the radiance is wrong where "
                "the light changed, a frame is damaged, or the times are in another order than the frames",
                warning=True,
            )

    def _relative(self, reference: int) -> Array:
        """Exposures in units of the reference's."""
        return np.asarray(self.exposures) / self.exposures[reference]

    def accumulate(self, state: Any, frame: Frame, turn: int) -> dict[str, Any]:
        """The frame's levels at some places; then its light, weighted."""
        height, width = frame.luma.shape[-2:]
        if turn == 0:
            rows, columns = _places(height, width)
            parts = [frame.rows(slice(y, y + 1)).image[0, :, 0, columns] for y in rows.tolist()]
            state["levels"].append(torch.cat(parts, 1).cpu())
            if len(state["levels"][0]) != len(state["levels"][-1]):
                raise InputError(
                    f"{frame.sources.names[0]} is in colour, or grey, where the others are not; the radiance of a "
                    "bracket needs all in colour, or none"
                )
            return state
        exposure = self._relative(state["reference"])
        least, most, own = exposure.min(), exposure.max(), exposure[frame.index]
        curves = state["response"].to(frame.luma.device)
        for part in strips(height, width, 0):
            image = frame.rows(part.place).image[0]
            light = image.clamp_min(DARKEST).log_() if self.linear else _through(curves, image)
            clipped = torch.where(image > 0.5, CLIPPED * (least / own) ** 2, CLIPPED * (own / most) ** 2)
            weight = (1 - (2 * image - 1).abs()).add_(clipped)
            state["sums"][0, :, part.place].addcmul_(light.sub_(float(np.log(own))), weight)
            state["sums"][1, :, part.place].add_(weight)
        return state

    def conclude(self, frames: Frames, state: dict[str, Any]) -> Tensor:
        """E, (1, 3 or 1, H, W): 1 is the white of the reference."""
        total, weight = state["sums"]
        return total.div_(weight).exp_()[None]


def _through(curves: Tensor, image: Tensor) -> Tensor:
    """The response (C, 256) of each channel at an image (C, H, W) in [0, 1], linear between levels."""
    scaled = image * (LEVELS - 1)
    level = scaled.long().clamp_(0, LEVELS - 2)
    return torch.stack([c[i].lerp(c[i + 1], s - i) for c, i, s in zip(curves, level, scaled, strict=True)])


def response(levels: Array, times: Array) -> Array:
    """g at each of 256 levels: the logarithm of the light that gives it, times its exposure.

    levels: (N, P) in [0, 1], of P places in N frames. times: (N,) logarithms of the exposures.
    """
    chosen = _telling(levels)
    z = np.rint(levels[:, chosen] * (LEVELS - 1)).astype(int)
    hat = 1 - np.abs(2 * np.arange(LEVELS) / (LEVELS - 1) - 1) + 1e-3
    frames, places = z.shape
    rows = np.arange(frames * places)
    matrix, right = np.zeros((frames * places + LEVELS - 1, LEVELS + places)), np.zeros(frames * places + LEVELS - 1)
    weight = hat[z].ravel()
    matrix[rows, z.ravel()], matrix[rows, LEVELS + np.tile(np.arange(places), frames)] = weight, -weight
    right[rows] = weight * np.repeat(times, places)
    for k in range(1, LEVELS - 1):
        matrix[frames * places + k - 1, k - 1 : k + 2] = SMOOTH * hat[k] * np.array([1, -2, 1])
    matrix[-1, LEVELS // 2], right[-1] = 1.0, np.log(MIDDLE)
    found = np.linalg.lstsq(matrix, right, rcond=None)[0][:LEVELS]
    monotone: Array = np.maximum.accumulate(found)
    return monotone


def _telling(levels: Array) -> Array:
    """Indices of places that show many levels, spread over their brightness."""
    frames, count = levels.shape
    wanted = int(np.clip(EQUATIONS // frames, *PLACES))
    inside = ((levels > 0.02) & (levels < 0.98)).sum(0)
    order = np.argsort(levels.mean(0), kind="stable")
    order = order[inside[order] >= min(2, frames)] if (inside >= min(2, frames)).any() else order
    return order[np.unique(np.linspace(0, len(order) - 1, min(wanted, count)).astype(int))]


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of a grid of places that may tell the response."""
    rows = torch.linspace(0, height - 1, min(height, 40)).round().long()
    return rows, torch.linspace(0, width - 1, min(width, 60)).round().long()


def exposures_of(pipeline: "Pipeline", pictures: Series, times: Sequence[float]) -> Sequence[float]:
    """The exposures of a bracket whose radiance is wanted; none where it is not one, or a method was chosen.

    times: seconds, as the user gives them; else what the camera wrote counts. Raises OptionError where they do not fit.
    """
    if times and len(times) != len(pictures):
        raise OptionError(f"`times`: {len(times)} exposure times for {len(pictures)} frames; give one a frame")
    if times and max(times) == min(times):
        raise OptionError("`times`: all frames have one exposure time, and a bracket has several")
    chosen = _chosen(pipeline)
    if times and chosen:
        raise OptionError(f"`times` is for the radiance of a bracket, and `{chosen}` is not; leave one of them out")
    if times or chosen:
        return times
    known = [one.exposure for one in pictures.settings if one.exposure]
    return known if bracketed(pictures.settings) is not None else ()


def unexposed(pictures: Series) -> list[str]:
    """Names of frames whose exposure is not known, where the camera says that the others are a bracket."""
    stated = [one for one in pictures.settings if one.exposure]
    rest = [name for name, one in zip(pictures.names, pictures.settings, strict=True) if not one.exposure]
    return rest if stated and bracketed(stated) is not None else []


def _chosen(pipeline: "Pipeline") -> str:
    """What of the method was chosen that acts on no radiance; empty where nothing was."""
    config, default = pipeline.config, PipelineConfig()
    prior = METHOD["prior"].default
    options = {name for name in config.prior.options if name != "evidence"}
    if pipeline.parts["prior"].full_name != f"{DISTRIBUTION}:{prior}":
        return f"prior={pipeline.parts['prior'].name}"
    if options:
        return f"prior.{min(options)}"
    if config.sampler != SamplerOptions():
        return "sampler"
    if config.color != default.color:
        return f"color={config.color}"
    if pipeline.stated_scene not in (None, "exposure"):
        return f"task={SCENE_KINDS[pipeline.stated_scene].task}"
    if named := [link for link in pipeline.restorer.links if link.source >= 0]:
        return f"restore={named[0].source + 1}={named[0].name}"
    usual, chosen = (stages_of(one, pipeline.prior) for one in (default, config))
    acting = zip(pipeline.stages, chosen, strict=True)
    return next((s.name for s, c in acting if type(s.plugin).after is not Stage.after and c not in usual), "")


def fuse_radiance(
    pipeline: "Pipeline",
    pictures: Sequence[Picture],
    exposures: Sequence[float],
    *,
    reference: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> FusedPicture:
    """The radiance of a bracket, float32, linear, in units of the reference's white; frames are read one by one.

    exposures: of the frames, in any unit. The stages before the fusion, such as `align`, act as for any bracket. Other
    arguments as in `fusionkit.method.series.fuse_series`.
    """
    watch, series = Stopwatch(), Series.of(pictures)
    linear = series[reference].depth == "float"
    merged = Radiance(exposures, linear=linear)
    run = looked_at(pipeline, series, reference, watch, merged.passes)
    assert run is not None
    with torch.no_grad():
        image = merged.conclude(run.frames, accumulated(run, merged, progress, checkpoint))
    most = float(image.max())
    span = max(exposures) / min(exposures)
    how = "linear files" if linear else "the response was recovered from the frames"
    note = f"radiance of {len(series)} exposures over {np.log2(span):.1f} stops ({how}); 1 is the reference's white"
    fused = concluded(run, image.div_(most), run.read(reference))
    picture = replace(fused.picture, depth="float", span=(0.0, most), icc=None, notes=(*fused.notes, note))
    facts = replace(fused.facts, notes=[*picture.notes])
    if checkpoint is not None:
        checkpoint.remove()
    return FusedPicture.of(picture, facts)
