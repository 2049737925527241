"""Which source gives the colour, or how several are mixed."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Sources
from fusionkit.errors import OptionError
from fusionkit.numerics.window import box_mean
from fusionkit.scene import SCENE_KINDS

__all__ = ["REACH", "ChromaOptions", "mix_chroma"]

# set by eye on the 17 bracketed scenes of MEFB and Merianos
MOST, DARK = 3.0, 4 / 255  # largest factor of chroma; added to luma, whose ratio means little in the dark
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

    Several are first scaled as their own luma rises to the fused one, up to three times at most, or by the square root
    of its fall: a colour of the same saturation is stronger where it is brighter, but bright light has bleached it as
    well. Then they are averaged pixel by pixel with their strength as weight, as is usual in exposure fusion
    (Prabhakar et al., "DeepFuse", ICCV 2017, equation 3; here one weight for both channels, which keeps the hue, and
    after scaling: what a clipped source has left of its colour does not count). Where sources differ in focus, colour
    comes from the one whose luma the result has: a blurred colour is no colour of the sharp object. One alone stays as
    it is, or falls with its luma where scans are layered. A grey image stored in three channels has no colour.
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
    rise = torch.stack([((luma + DARK) / (y + DARK)).clamp(0, MOST) for _, y, _ in colored])
    rise = torch.where(rise < 1, rise.sqrt(), rise)
    scaled = torch.stack([c for c, _, _ in colored]) * torch.where(several, rise, 1 if fall is None else fall)
    weight = torch.hypot(scaled[:, :, :1], scaled[:, :, 1:]) + 1e-6
    weight = torch.where(there | ~there.any(0), weight, 0)
    nearest = [SCENE_KINDS[scene].chroma == "nearest" for scene in sources.scenes]
    if any(nearest):
        focus = torch.tensor(nearest, device=luma.device).view(-1, 1, 1, 1)
        distance = torch.stack([box_mean((luma - y).abs(), REACH) for _, y, _ in colored])
        weight = torch.where(focus, weight / (distance + NEAR).square(), weight)
    return (weight * scaled).sum(0) / weight.sum(0)


def _layered_fall(luma: Tensor, lumas: Sequence[Tensor], sources: Sources) -> Tensor | None:
    """Ratio of the fused luma to each source's, at most 1, where scans are layered, else 1; None where none are.

    A scan in colour that is darkened by the structure of a grey one keeps hue and saturation; where it is brightened,
    it keeps the chroma itself. So its values can be read back from its colour bar.
    """
    layered = [SCENE_KINDS[scene].chroma == "layered" for scene in sources.scenes]
    if not any(layered):
        return None
    fall = torch.stack([(luma / y.clamp_min(1e-6)).clamp(0, 1) for y in lumas])
    return torch.where(torch.tensor(layered, device=luma.device).view(-1, 1, 1, 1), fall, 1)
