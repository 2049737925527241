"""Arrays <-> tensors."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from .picture import Picture

__all__ = ["StoredImages", "to_array", "to_tensor"]


class StoredImages(Sequence[Tensor]):
    """Pictures as a sequence of tensors (1, C, H, W) in [0, 1], each made anew whenever it is asked for.

    Integers of 8 or 16 bits take a quarter or half of the memory of what they stand for; `rows` makes no more of it.
    """

    def __init__(self, pictures: Sequence[Picture], device: torch.device) -> None:
        self.pictures, self.device = pictures, device

    def __len__(self) -> int:
        """How many."""
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        """One, or several as a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return to_tensor(self.pictures[index].pixels).to(self.device)

    def rows(self, index: int, rows: slice) -> Tensor:
        """Some rows of one."""
        return to_tensor(self.pictures[index].rows(rows)).to(self.device)


def to_tensor(pixels: "np.ndarray[Any, Any]") -> Tensor:
    """(H, W, C) -> (1, C, H, W), float32."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()


def to_array(t: Tensor) -> "np.ndarray[Any, Any]":
    """(B, C, H, W) -> (H, W, C) of the first image."""
    return t[0].permute(1, 2, 0).cpu().numpy()
