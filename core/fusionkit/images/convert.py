"""Arrays <-> tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["to_array", "to_tensor"]


def to_tensor(pixels: "np.ndarray[Any, Any]") -> Tensor:
    """(H, W, C) -> (1, C, H, W), float32."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()


def to_array(t: Tensor) -> "np.ndarray[Any, Any]":
    """(B, C, H, W) -> (H, W, C) of the first image."""
    return t[0].permute(1, 2, 0).cpu().numpy()
