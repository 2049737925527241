"""Audit of colour: its turn and its strength against the reference."""

import math

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring.levels import levels

from ..color.chroma import ChromaOptions
from ..color.ycbcr import YCbCr
from .audit import ratio

COLOUR = 8.0  # levels of chroma, below which a colour has no hue


def _chroma(image: Tensor) -> tuple[Tensor, Tensor]:
    """Cb, Cr in levels around 0, (B, 1, H, W) each; zeros for grey."""
    y, chroma = YCbCr(ChromaOptions()).split(levels(image))
    cb, cr = (torch.zeros_like(y),) * 2 if chroma is None else chroma.chunk(2, dim=1)
    return cb, cr


class Hue(Metric):
    """Turn of the colours against the reference's."""

    color = True
    definition = (
        "mean angle in degrees between (Cb, Cr) of F and of the reference, BT.601 full range, where both are longer "
        "than 8 levels, weighted by the reference's length; nan without such pixels"
    )
    range = (0.0, 180.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Degrees, (B,)."""
        angle, weight = self._turned(fused, sources)
        return ratio(angle * weight, weight)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Angle, degrees."""
        angle, weight = self._turned(fused, sources)
        return angle * (weight > 0)

    def _turned(self, fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        (b1, r1), (b2, r2) = _chroma(fused), _chroma(sources.images[sources.reference])
        length = torch.hypot(b2, r2)
        weight = length * (length > COLOUR) * (torch.hypot(b1, r1) > COLOUR)
        return torch.rad2deg(torch.atan2(b1 * r2 - r1 * b2, b1 * b2 + r1 * r2).abs()), weight


class Chroma(Metric):
    """Colourfulness relative to the reference."""

    color = True
    ideal = 1.0
    definition = (
        "mean length of (Cb, Cr) of F over the reference's, BT.601 full range, where the reference's is longer than 8 "
        "levels; 1 is as colourful, 0 grey; nan without such pixels"
    )
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Ratio, (B,)."""
        one, other, there = self._lengths(fused, sources)
        return ratio(one * there, other * there)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Missing length of (Cb, Cr), levels."""
        one, other, there = self._lengths(fused, sources)
        return (other - one).clamp_min(0) * there

    def _lengths(self, fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor, Tensor]:
        one, other = (torch.hypot(*_chroma(x)) for x in (fused, sources.images[sources.reference]))
        return one, other, other > COLOUR
