"""Which source gives the colour, or how several are mixed."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options
from fusionkit.errors import OptionError

__all__ = ["ChromaOptions", "mix_chroma"]


class ChromaOptions(Options):
    """Options of a colour space that separates luma and chroma."""

    chroma_from: int = Field(
        0, ge=0, description="number of the source that gives the colour, from 1; 0 mixes all, weighted by saturation"
    )


def mix_chroma(chromas: Sequence[Tensor | None], chroma_from: int) -> Tensor | None:
    """One chroma (B, 2, H, W), zero for neutral, from those of the sources; None when none has any.

    Several are averaged pixel by pixel with their saturation |chroma| as weight, as is usual in exposure fusion
    (Prabhakar et al., "DeepFuse", ICCV 2017, equation 3; here one weight for both channels, which keeps the hue).
    """
    if chroma_from:
        if chroma_from > len(chromas):
            raise OptionError(f"chroma_from={chroma_from}, but there are only {len(chromas)} sources")
        return chromas[chroma_from - 1]
    colored = [c for c in chromas if c is not None]
    if len(colored) < 2:
        return colored[0] if colored else None
    stacked = torch.stack(colored)
    weight = torch.linalg.vector_norm(stacked, dim=2, keepdim=True) + 1e-6
    return (weight * stacked).sum(0) / weight.sum(0)
