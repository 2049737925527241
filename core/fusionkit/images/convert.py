"""Conversion between arrays and tensors."""

from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .lazy import LazySequence
from .picture import Picture

POOLED = 128  # rows of the result that are averaged at once


class StoredImages(LazySequence[Tensor]):
    """Pictures as a sequence of tensors (1, C, H, W) in [0, 1], each converted on every access.

    Stored values of 8 or 16 bits take a quarter or half of a tensor's memory; `rows` converts only these rows.
    """

    def __init__(self, pictures: Sequence[Picture], device: torch.device) -> None:
        self.pictures, self.device = pictures, device

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pictures)

    def made(self, index: int) -> Tensor:
        """One image."""
        return self.rows(index, slice(0, self.height(index)))

    def only(self, index: int) -> "StoredImages":
        """One image alone, made on every access as here."""
        return ChangedImages(
            StoredImages([self.pictures[index]], self.device), {0}, lambda _, rows: self.rows(index, rows)
        )

    def height(self, index: int) -> int:
        """Number of rows of one image."""
        return self.pictures[index].size[1]

    def rows(self, index: int, rows: slice) -> Tensor:
        """Rows of one image."""
        return to_tensor(self.pictures[index].rows(rows)).to(self.device)


class ChangedImages(StoredImages):
    """Stored images, of which those in `changed` are made by a function of index and rows on every access.

    heights: numbers of rows of those whose size is another, too.
    """

    def __init__(
        self,
        given: StoredImages,
        changed: Set[int],
        make: Callable[[int, slice], Tensor],
        heights: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(given.pictures, given.device)
        self._given, self._changed, self._rows, self._heights = given, changed, make, heights

    def height(self, index: int) -> int:
        """Number of rows of one image."""
        stored = self._given.height(index)  # raises IndexError, at which iteration ends
        return self._heights.get(index % len(self), stored)

    def rows(self, index: int, rows: slice) -> Tensor:
        """Rows of one image."""
        index %= len(self)
        return self._rows(index, rows) if index in self._changed else self._given.rows(index, rows)


def image_rows(images: Sequence[Tensor], index: int, rows: slice) -> Tensor:
    """Rows of one of several images (B, C, H, W); only these rows of a stored image are converted."""
    return images.rows(index, rows) if isinstance(images, StoredImages) else images[index][..., rows, :]


def pooled(images: Sequence[Tensor], index: int, factor: int) -> Tensor:
    """One of several images (B, C, H, W), smaller by a whole factor: means of its squares, in strips."""
    height = images.height(index) if isinstance(images, StoredImages) else images[index].shape[-2]
    strips = (slice(top, top + factor * POOLED) for top in range(0, height, factor * POOLED))
    parts = [
        F.avg_pool2d(image_rows(images, index, rows), factor, ceil_mode=True, count_include_pad=False)
        for rows in strips
    ]
    return torch.cat(parts, dim=-2)


def to_tensor(pixels: "np.ndarray[Any, Any]") -> Tensor:
    """(H, W, C) -> (1, C, H, W), float32."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()


def to_array(t: Tensor) -> "np.ndarray[Any, Any]":
    """(B, C, H, W) -> (H, W, C) of the first image, laid out as files are."""
    return t[0].permute(1, 2, 0).contiguous().cpu().numpy()
