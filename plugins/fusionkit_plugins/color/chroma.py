"""Which source gives the colour, or how several are mixed."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources
from fusionkit.errors import OptionError
from fusionkit.numerics.chroma import DARK, MOST, followed, room
from fusionkit.numerics.luma import luma as bt601
from fusionkit.numerics.window import box_mean
from fusionkit.scene import SCENE_KINDS

REACH = 1  # rows around a pixel that `mix_chroma` reads
NEAR = 2 / 255  # distance from the fused luma that quarters the weight of a source


class ChromaOptions(Options):
    """Options of a colour space that separates luma and chroma."""

    chroma_from: int = Field(
        0,
        ge=0,
        le=10_000,
        description="number of the source that gives the colour, from 1; 0 mixes all, weighted by saturation",
    )


def mix_chroma(chromas: Sequence[Tensor | None], chroma_from: int, luma: Tensor, sources: Sources) -> Tensor | None:
    """One chroma (B, 2, H, W), zero for neutral, for the fused luma, from those of the sources; None when none has any.

    Several are first scaled as their own luma rises to the fused one, up to three times at most and in infrared and
    visible scenes up to the brightest source in colour, or by the square root of its fall: a colour of the same
    saturation is stronger where it is brighter, but bright light has bleached it as well, and heat has none. Then they
    are averaged pixel by pixel with their strength as weight, as is usual in exposure fusion (Prabhakar et al.,
    "DeepFuse", ICCV 2017, equation 3; here one weight for both channels, which keeps the hue, and after scaling: what a
    clipped source has left of its colour does not count). Of exposures the colour rises with the luma to the power of
    3/4 (between frames of brackets it rises with the root, which looks dull), and sources count as far as no channel is
    clipped: what is left of a clipped sky is cyan, of a sunset yellow. Where sources differ in focus, colour comes from
    the one whose luma the result has: a blurred colour is no colour of the sharp object. One alone stays as it is, or
    falls with its luma where scans are layered; a grey image stored in three channels has no colour.
    """
    if chroma_from:
        if chroma_from > len(chromas):
            raise OptionError(f"chroma_from={chroma_from}, but there are only {len(chromas)} sources")
        return chromas[chroma_from - 1]
    every = zip(chromas, sources.luma, sources.colored, strict=True)
    colored = [(c, y, has) for c, y, has in every if c is not None]
    if not colored:
        return None
    fall = _layered_fall(luma, [y for _, y, _ in colored], sources)
    if len(colored) < 2:
        return colored[0][0] if fall is None else colored[0][0] * fall[0]
    there = torch.stack([has for _, _, has in colored]).view(len(colored), -1, 1, 1, 1)
    several = there.sum(0) > 1
    light = _where(_of_kind("strongest", sources), lambda: _in_colour(luma, colored), lambda: luma)
    ratio = torch.stack([((light + DARK) / (y + DARK)).clamp_min(0) for _, y, _ in colored])
    lit = _of_kind("unclipped", sources)
    rise = _where(lit, lambda: followed(ratio), lambda: torch.where(ratio < 1, ratio.sqrt(), ratio).clamp_max_(MOST))
    scaled = torch.stack([c for c, _, _ in colored]) * _where(
        several, lambda: rise, lambda: torch.ones_like(rise) if fall is None else fall
    )
    weight = torch.hypot(scaled[:, :, :1], scaled[:, :, 1:]) + 1e-6
    weight = _where(there | ~there.any(0), lambda: weight, lambda: torch.zeros_like(weight))
    if lit is not None:
        images = [image for image, c in zip(sources.images, chromas, strict=True) if c is not None]
        weight = _where(lit, lambda: weight * torch.stack([room(image) for image in images]), lambda: weight)
    focus = _of_kind("nearest", sources)
    if focus is not None:
        distance = torch.stack([box_mean((luma - y).abs(), REACH) for _, y, _ in colored])
        weight = torch.where(focus, weight / (distance + NEAR).square(), weight)
    return (weight * scaled).sum(0) / weight.sum(0)


def _in_colour(luma: Tensor, colored: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The fused luma, at most that of the brightest source in colour. colored: chroma, luma, whether it has colour."""
    return torch.minimum(luma, reduce(torch.maximum, (y * has.view(-1, 1, 1, 1) for _, y, has in colored)))


def _layered_fall(luma: Tensor, lumas: Sequence[Tensor], sources: Sources) -> Tensor | None:
    """Ratio of the fused luma to each source's, at most 1, where scans are layered, else 1; None where none are.

    A scan in colour that is darkened by the structure of a grey one keeps hue and saturation; where it is brightened,
    it keeps the chroma itself. So its values can be read back from its colour bar.
    """
    layered = _of_kind("layered", sources)
    if layered is None:
        return None
    fall = torch.stack([(luma / y.clamp_min(1e-6)).clamp(0, 1) for y in lumas])
    return torch.where(layered, fall, 1)


def with_room(image: Tensor, sources: Sources, grey: Tensor | None = None) -> Tensor:
    """An image (B, 3 or 1, H, W), less saturated where a channel would be clipped; grey: its BT.601 luma, if known.

    Clipping turns hues: a bright blue sky becomes cyan. Of exposures only, whose colours are raised with their luma.
    """
    lit = _of_kind("unclipped", sources)
    if lit is None or image.shape[1] == 1:
        return image
    grey, channels = bt601(image) if grey is None else grey, image.chunk(image.shape[1], 1)
    above, below = (reduce(f, channels).sub_(grey) for f in (torch.maximum, torch.minimum))
    kept = (1 - grey).div_(above.clamp_min_(1e-6))
    kept = torch.minimum(kept, grey.div(below.clamp_max_(-1e-6)).neg_()).clamp_(0, 1)
    return _where(lit, lambda: torch.lerp(grey, image, kept), lambda: image)


def _of_kind(chroma: str, sources: Sources) -> Tensor | None:
    """Which images (B, 1, 1, 1) take their colour in this way; None where none does."""
    found = [SCENE_KINDS[scene].chroma == chroma for scene in sources.scenes]
    return torch.tensor(found, device=sources.luma[0].device).view(-1, 1, 1, 1) if any(found) else None


def _where(chosen: Tensor | None, there: Callable[[], Tensor], elsewhere: Callable[[], Tensor]) -> Tensor:
    """One value where images are chosen, another elsewhere; neither is computed in vain."""
    if chosen is None or not bool(chosen.any()):
        return elsewhere()
    return there() if bool(chosen.all()) else torch.where(chosen, there(), elsewhere())
