"""Which source gives the colour, or how several are mixed."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources
from fusionkit.errors import OptionError
from fusionkit.numerics.luma import luma as bt601
from fusionkit.numerics.window import box_mean
from fusionkit.scene import SCENE_KINDS

__all__ = ["REACH", "ChromaOptions", "mix_chroma", "with_room"]

# set by eye on the 17 bracketed scenes of MEFB and Merianos
MOST, DARK = 3.0, 4 / 255  # largest factor of chroma; added to luma, whose ratio means little in the dark
REACH = 1  # rows around a pixel that `mix_chroma` reads
CLIPPED, LEFT = 0.1, 0.01  # distance from white below which a channel begins to be clipped; weight of one that is
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

    Several are first scaled as their own luma rises to the fused one, up to three times at most, or by the square root
    of its fall: a colour of the same saturation is stronger where it is brighter, but bright light has bleached it as
    well. Then they are averaged pixel by pixel with their strength as weight, as is usual in exposure fusion
    (Prabhakar et al., "DeepFuse", ICCV 2017, equation 3; here one weight for both channels, which keeps the hue, and
    after scaling: what a clipped source has left of its colour does not count). Of exposures the colour rises with the
    luma to the power of 3/4 (between frames of brackets it rises with the root, which looks dull), and sources count as
    far as no channel is clipped: what is left of a clipped sky is cyan, of a sunset yellow. Where sources differ in
    focus, colour comes from the one whose luma the result has: a blurred colour is no colour of the sharp object. One
    alone stays as it is; a grey image stored in three channels has no colour.
    """
    if chroma_from:
        if chroma_from > len(chromas):
            raise OptionError(f"chroma_from={chroma_from}, but there are only {len(chromas)} sources")
        return chromas[chroma_from - 1]
    every = zip(chromas, sources.luma, sources.colored, strict=True)
    colored = [(c, y, has) for c, y, has in every if c is not None]
    if len(colored) < 2:
        return colored[0][0] if colored else None
    there = torch.stack([has for _, _, has in colored]).view(len(colored), -1, 1, 1, 1)
    several = there.sum(0) > 1
    ratio = torch.stack([((luma + DARK) / (y + DARK)).clamp_min(0) for _, y, _ in colored])
    root = ratio.sqrt()
    lit = _of_kind("unclipped", sources)
    if lit is not None:
        ratio = torch.where(lit, root * root.sqrt(), ratio)
    rise = torch.where(root < 1, root, ratio).clamp_max(MOST)
    scaled = torch.stack([c for c, _, _ in colored]) * torch.where(several, rise, 1)
    weight = torch.hypot(scaled[:, :, :1], scaled[:, :, 1:]) + 1e-6
    weight = torch.where(there | ~there.any(0), weight, 0)
    if lit is not None:
        images = [image for image, c in zip(sources.images, chromas, strict=True) if c is not None]
        room = torch.stack([(1 - image.amax(1, keepdim=True)) / CLIPPED for image in images]).clamp(LEFT, 1)
        weight = torch.where(lit, weight * room, weight)
    focus = _of_kind("nearest", sources)
    if focus is not None:
        distance = torch.stack([box_mean((luma - y).abs(), REACH) for _, y, _ in colored])
        weight = torch.where(focus, weight / (distance + NEAR).square(), weight)
    return (weight * scaled).sum(0) / weight.sum(0)


def with_room(image: Tensor, sources: Sources) -> Tensor:
    """An image (B, 3 or 1, H, W), less saturated where a channel would be clipped, its luma kept.

    Clipping turns hues: a bright blue sky becomes cyan. Of exposures only, whose colours are raised with their luma.
    """
    lit = _of_kind("unclipped", sources)
    if lit is None or image.shape[1] == 1:
        return image
    grey = bt601(image)
    above, below = (f(image, 1, keepdim=True) for f in (torch.amax, torch.amin))
    kept = torch.minimum((1 - grey) / (above - grey).clamp_min(1e-6), grey / (grey - below).clamp_min(1e-6))
    return torch.where(lit, torch.lerp(grey, image, kept.clamp_(0, 1)), image)


def _of_kind(chroma: str, sources: Sources) -> Tensor | None:
    """Which images (B, 1, 1, 1) take their colour in this way; None where none does."""
    found = [SCENE_KINDS[scene].chroma == chroma for scene in sources.scenes]
    return torch.tensor(found, device=sources.luma[0].device).view(-1, 1, 1, 1) if any(found) else None
