"""Metrics of the result alone that judge it as a photograph. Off-domain for thermal mixtures: read them with care."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring.levels import levels


class PIQE(Metric):
    """Perception-based image quality (Venkatanath et al., 2015), by the package pypiqe; it needs no training."""

    definition = (
        "PIQE of the 8-bit luma by pypiqe: distortion of active 16x16 blocks, 0 to 100; made for photographs, "
        "off-domain for thermal mixtures"
    )
    range = (0.0, 100.0)
    higher_is_better = False

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._piqe: Any = import_module("pypiqe").piqe

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        images = levels(fused)[:, 0].byte().cpu().numpy()
        return torch.tensor([float(self._piqe(image)[0]) for image in images], dtype=torch.float64)
