"""What kind of scene the sources show."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .choice import subsample

__all__ = ["Scene", "recognise"]

Scene = Literal["heat", "exposure", "focus", "contrast"]

THUMBNAIL = 64  # side of the pictures that a kind is recognised from
BLACK, BLACK_SHARE, BLACK_ORDER = 0.03, 0.33, 0.3  # a scan: black in all sources, over this share of a picture alike
ALIKE, APART = 0.75, 0.15  # rank correlation from which sources show the same light, and mean difference in exposure


def recognise(lumas: Sequence[Tensor], colored: Sequence[bool]) -> Scene:
    """The kind of one scene, from small copies of its sources' luma (1, 1, H, W), and which of them have colour.

    Much that is black in all of them: a scan, "contrast". Sources of one kind (all grey or all in colour) whose bright
    and dark places have the same order: "exposure" where they differ much, else "focus". The others, a grey beside a
    coloured one or two that see different things: "heat"; "contrast" where all are in colour.
    """
    few = [subsample(y) for y in lumas]
    small = torch.cat([F.interpolate(y, size=(THUMBNAIL, THUMBNAIL), mode="area") for y in few]).flatten(1)
    order = _order(small)
    black = torch.stack([y < BLACK for y in few]).all(0).float().mean()
    if black > BLACK_SHARE and order > BLACK_ORDER:
        return "contrast"
    if order >= ALIKE and (all(colored) or not any(colored)):
        return "exposure" if float((small - small[:1]).abs().mean(1).amax()) > APART else "focus"
    return "contrast" if all(colored) else "heat"


def _order(rows: Tensor) -> float:
    """Least rank correlation of the first of (N, n) with the others; 1 for one alone, 0 for a constant."""
    if len(rows) == 1:
        return 1.0
    ranks = rows.argsort(1).argsort(1).float()
    constant = bool((rows.amax(1) == rows.amin(1)).any())
    return 0.0 if constant else float(torch.corrcoef(ranks)[0, 1:].amin())
