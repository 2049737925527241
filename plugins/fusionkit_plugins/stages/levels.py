"""Stages that change values: what the field's codes do to grey levels before and after."""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources, Stage
from fusionkit.numerics.choice import ranked
from fusionkit.numerics.luma import luma, rounded_luma
from fusionkit.numerics.strips import in_strips, strips

__all__ = ["RoundedLuma", "Stretch", "Truncate", "Vivid", "VividOptions"]


DARKEST = 10 / 255  # a stretch goes no further, and as near to white


class RoundedLuma(Stage):
    """The sources' luma is BT.601 in whole 8-bit levels, as OpenCV reads a grey image."""

    bt601 = True

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


class Vivid(Stage):
    """The result's luma is stretched over more of the range, where it leaves some of it empty; chroma stays.

    y' = low' + gain (y - low), with low and high quantiles of y, and gain as large as fits between 10 and 245 levels
    (or low and high themselves, where they lie beyond: nothing that was visible is crushed), at most that of the
    options; low' leaves the empty range below and above in the same proportion as it was. Haze goes, and so does the
    promise that no pixel leaves the range of the sources.
    """

    Options = VividOptions
    options: VividOptions

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The stretched image, each of the batch by its own luma."""
        o = self.options
        applies = [o.scenes == "all" or scene == "heat" for scene in sources.scenes]
        if not any(applies):
            return image
        low, high = self._ends(in_strips(luma, image, reach=0))
        low, high = sources.steady("vivid low", low), sources.steady("vivid high", high)
        span = (high - low).clamp(1e-3, 1)
        least, most = low.clamp(0, DARKEST), high.clamp(1 - DARKEST, 1)
        gain = ((most - least) / span).clamp(1, o.gain)
        below = low * (1 - gain * span) / (1 - span).clamp_min(1e-3)
        below = torch.minimum(torch.maximum(below, least), most - gain * span)
        where = torch.tensor(applies).view(-1, 1, 1, 1).to(image)

        for part in strips(image.shape[-2], image.shape[-1], reach=0):
            rows = image[..., part.place, :]
            y = luma(rows)
            rows.add_(((below + gain * (y - low)) - y) * where).clamp_(0, 1)
        return image

    def _ends(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The quantiles of each luma (B, 1, H, W) that the stretch goes by, (B, 1, 1, 1) each."""
        rows, share = y.flatten(1), self.options.ignored
        last = rows.shape[1] - 1
        low, high = ranked(rows, [int(share * last), int((1 - share) * last)]).view(-1, 2, 1, 1, 1).unbind(1)
        return low, high


class Truncate(Stage):
    """The result is cut down to whole 8-bit levels, as a cast to bytes does, instead of being rounded."""

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """floor(255 image) / 255."""
        return (image * 255).floor() / 255
