"""Stages that change values: what the field's codes do to grey levels before and after."""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources, Stage
from fusionkit.numerics.choice import order_statistics, subsample, with_data
from fusionkit.numerics.luma import luma, rounded_luma
from fusionkit.numerics.strips import strips
from fusionkit.numerics.thermal import ThermalSaliency, hidden_share
from fusionkit.numerics.window import reduced
from fusionkit.scene import SCENE_KINDS
from fusionkit.threads import on_free_cores

# set by blind votes on VIFB, MSRS, RoadScene and TNO
DARKEST = 10 / 255  # distance from black and from white that a stretch keeps
WEATHER = 3.0  # largest factor of the contrast of what is hot where a veil of weather was undone in the reference
BRIGHT = 0.85  # luma that the hottest pixels of a dim source are raised to
ROOT = 1 / ((1 + DARKEST) ** 0.5 - DARKEST**0.5)  # factor by which a root from there reaches white
OPEN = 40 / 255  # luma that the median of a dark result is raised to; set by eye on eight nights of MSRS' training set
SAMPLES = 2**16  # pixels that suffice for quantiles
HIDDEN, HELPS, ROWS = 0.4, 1.2, 100  # a note: least share of what is hot that is hidden; least gain; rows looked at


class RoundedLuma(Stage):
    """The sources' luma is BT.601 in whole 8-bit levels, as OpenCV reads a grey image."""

    bt601 = True
    by_frame = True

    def before(self, sources: Sources) -> Sources:
        """The same images with rounded luma."""
        rounded = tuple(rounded_luma(image) for image in sources.images)
        return replace(sources, luma=rounded, to_luma=rounded_luma)


class Stretch(Stage):
    """The result's luma is stretched to the full range, as many codes do: absolute brightness is lost."""

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """(image - low) / (high - low), from the extremes of each image's luma."""
        low, high = (f(luma(image), (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
        return (image - low) / (high - low).clamp_min(1e-6)


class VividOptions(Options):
    """Options of the stage `vivid`."""

    gain: float = Field(1.4, ge=1, description="largest factor of the contrast")
    ignored: float = Field(0.005, ge=0, lt=0.5, description="share of the pixels at either end that may be clipped")
    scenes: Literal["all", "heat"] = Field("all", description="heat: only results of sources that show it")
    hot: float = Field(
        1.0,
        ge=1,
        description="largest factor of the contrast of what is hot in dim infrared sources; 1: as it is, or up to 3 "
        "where a veil of weather was undone in the reference",
    )


class Vivid(Stage):
    """The result's luma is stretched over more of the range, where it leaves some of it empty; chroma stays.

    y' = low' + gain (y - low), with low and high quantiles of y, and gain as large as fits between 10 and 245 levels
    (or low and high themselves, where they lie beyond: nothing that was visible is crushed), at most that of the
    options; low' leaves the empty range below and above in the same proportion as it was. Haze goes, and so does the
    promise that no pixel leaves the range of the sources.

    A night whose lamps fill the range, but whose median m of luma is below 40 levels, is opened: each channel x becomes
    (1 - a) x + a r(x), with r(x) = √(x + d) - √d, relative to its value at 1, and d of 10 levels, so that black and
    white stay. a brings m to 40 levels, as far as the contrast at m, times the gain above, stays below the options'.

    With `hot` above 1, or where a veil of weather was undone in the reference, hot objects stand out even where the
    thermal camera shows them dim; its grey has no scale of its own, and people at 100 levels vanish beside a visible
    image that fills the range. Where sources show heat, each grey one but the reference becomes S + h (gain - 1)
    (S - low) before it is fused: h its thermal saliency (`fusionkit.numerics.thermal`), gain as large as brings its
    high quantile to 217 levels, at most `hot`, or 3 in weather. This changes luma only: a later stage that makes other
    images undoes it.
    """

    Options = VividOptions
    by_frame = True
    options: VividOptions

    def before(self, sources: Sources) -> Sources:
        """The sources with what is hot raised in the luma of grey ones beside the reference."""
        several = len({y.shape for y in sources.luma}) > 1  # which are refused once no stage is left
        most = sources.veiled[sources.reference].float().mul(WEATHER).clamp_min(self.options.hot)
        if several or bool((most == 1).all()) or not any(self._shows_heat(sources)):
            return sources
        shows = torch.tensor(self._shows_heat(sources))
        lumas = list(sources.luma)
        for i, y in enumerate(lumas):
            raised = shows.to(y.device) & ~sources.colored[i]
            if i != sources.reference and bool(raised.any()):
                valid = _mask(sources, i)
                low, gain = self._raise(y, i, most, valid)
                gain = torch.where(raised.view(-1, 1, 1, 1), gain, torch.ones_like(gain))
                heat = ThermalSaliency.of(y, partial(self.memory.steady, f"heat {i}"), valid=valid)
                lumas[i] = _raised(y, low, gain, heat)
        return replace(sources, luma=tuple(lumas))

    @on_free_cores()
    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The stretched image, each of the batch by its own luma."""
        o = self.options
        if o.hot == 1 and not bool(sources.veiled[sources.reference].any()):
            self.memory.once("hidden", partial(self._tell, image, sources))
        applies = [o.scenes == "all" or shows for shows in self._shows_heat(sources)]
        if not any(applies):
            return image
        low, middle, high = self._ends(luma(subsample(image, SAMPLES)), "result")
        span = (high - low).clamp(1e-3, 1)
        least, most = low.clamp(0, DARKEST), high.clamp(1 - DARKEST, 1)
        gain = ((most - least) / span).clamp(1, o.gain)
        below = low * (1 - gain * span) / (1 - span).clamp_min(1e-3)
        below = torch.minimum(torch.maximum(below, least), most - gain * span)
        where = torch.tensor(applies).view(-1, 1, 1, 1).to(image)
        opened = _opening((middle - low) * gain + below, o.gain / gain) * where

        for part in strips(image.shape[-2], image.shape[-1], reach=0):
            rows = image[..., part.place, :]
            y = luma(rows)
            rows.add_((y - low).mul_(gain).add_(below).sub_(y).mul_(where)).clamp_(0, 1)
            if bool(opened.any()):
                rows.lerp_(_rooted(rows), opened)
        return image

    def _raise(self, y: Tensor, index: int, most: Tensor | float, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """The low end of a source, and how far its contrast can be raised, at most `most`: (B, 1, 1, 1) each."""
        low, _, high = self._ends(subsample(y, SAMPLES), f"source {index}", valid)
        return low, (BRIGHT - low).div((high - low).clamp_min(1e-3)).clamp_min(1).minimum(torch.as_tensor(most).to(low))

    def _tell(self, image: Tensor, sources: Sources) -> None:
        """A note where much of what is hot in a dim source does not show in the result."""
        shows = self._shows_heat(sources)
        for i, y in enumerate(sources.luma):
            if i == sources.reference or not any(shows) or y.shape[-2:] != image.shape[-2:]:
                continue
            factor = max(1, min(y.shape[-2:]) // ROWS)
            small = reduced(y, factor)
            valid = _mask(sources, i)
            gain = self._raise(small, i, HELPS, valid)[1].flatten()
            dim = [shows[b] and not sources.colored[i][b] and bool(gain[b] >= HELPS) for b in range(len(y))]
            if not any(dim):
                continue
            hidden = hidden_share(luma(reduced(image, factor)), small, valid)
            for b, share in enumerate(hidden.tolist()):
                if dim[b] and share > HIDDEN:
                    sources.report.note(
                        f"{share:.0%} of the hot area of {sources.names[i]} does not stand out; `look=hot` raises it",
                        warning=True,
                    )

    def _shows_heat(self, sources: Sources) -> list[bool]:
        """Whether each image is of a kind of scene whose tone is vivid."""
        scenes = self.memory.once("scenes", lambda: sources.scenes)
        return [SCENE_KINDS[scene].tone == "vivid" for scene in scenes]

    def _ends(self, y: Tensor, name: str, valid: Tensor | None = None) -> list[Tensor]:
        """The low, middle and high quantiles of each luma (B, 1, H, W), (B, 1, 1, 1) each; steady in a video.

        valid: where it has data, of any size; None: everywhere.
        """
        share = self.options.ignored
        ends = []
        for row in with_data(y, valid):
            last = len(row) - 1
            ends.append(order_statistics(row[None], [int(share * last), last // 2, int((1 - share) * last)]))
        values = torch.cat(ends).view(-1, 3, 1, 1, 1).unbind(1)
        return [self.memory.steady(f"{name} {i}", value) for i, value in enumerate(values)]


def _mask(sources: Sources, index: int) -> Tensor | None:
    """Where a source has data; None for everywhere, and where a stage has changed its size."""
    valid = sources.valid[index]
    return valid if valid is not None and valid.shape[-2:] == sources.luma[index].shape[-2:] else None


def _opening(middle: Tensor, most: Tensor) -> Tensor:
    """Share of `_rooted` that brings a median below OPEN there; the contrast at it grows by `most` at most."""
    m = middle.clamp(1e-3, OPEN)
    lift, steeper = _rooted(m) - m, 0.5 * ROOT / (m + DARKEST).sqrt() - 1
    return torch.minimum((OPEN - m) / lift, (most - 1) / steeper).clamp(0, 1)


def _rooted(x: Tensor) -> Tensor:
    """(√(x + d) - √d) / (√(1 + d) - √d), d = DARKEST."""
    return (x + DARKEST).sqrt_().sub_(DARKEST**0.5).mul_(ROOT)


def _raised(y: Tensor, low: Tensor, gain: Tensor, found: ThermalSaliency) -> Tensor:
    """y + heat (gain - 1) (y - low)."""
    result = torch.empty_like(y)
    for part in strips(y.shape[-2], y.shape[-1], reach=0):
        rows = y[..., part.place, :]
        more = found.evidence(rows, part.place).mul_(gain - 1).mul_(rows - low)
        torch.add(rows, more, out=result[..., part.place, :]).clamp_(0, 1)
    return result


class Truncate(Stage):
    """The result is cut down to whole 8-bit levels, as a cast to bytes does, instead of being rounded."""

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """floor(255 image) / 255."""
        return (image * 255).floor() / 255
