"""Run networks on tiles, so that memory does not grow with the image; the prior still sees the whole image.

Tiles overlap and are blended with linear ramps that sum to one, which leaves no edges.
"""

from collections.abc import Callable
from inspect import get_annotations
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..contracts import Backbone, Decoder, Plugin, pad_to_multiple

TILE = 768  # side of tiles, pixels
WHOLE_PIXELS = 1_500_000  # largest image that networks see whole: under 2 GB with the shipped weights


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Start of each tile along one axis: steps of tile - overlap, the last one flush with the end."""
    if size <= tile:
        return [0]
    step = tile - overlap
    return [*range(0, size - tile, step), size - tile]


def _ramps(starts: list[int], length: int) -> list[Tensor]:
    """Weights of all tiles along one axis: linear ramps in the middle half of where two overlap; their sum is one.

    The outer quarters, where a network is misled by the tile's edge the most, are the neighbour's alone.
    """
    ramps = [torch.ones(length) for _ in starts]
    total = torch.zeros(starts[-1] + length)
    for (first, rising), (second, falling) in pairwise(zip(starts, ramps, strict=True)):
        shared = first + length - second
        share = (2 * (torch.arange(shared) + 0.5) / shared - 0.5).clamp(0, 1)
        rising[length - shared :] *= 1 - share
        falling[:shared] *= share
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + length] += ramp
    return [ramp / total[start : start + length] for start, ramp in zip(starts, ramps, strict=True)]


def blend_tiles(
    x: Tensor, function: Callable[[Tensor], Tensor], tile: int | tuple[int, int], overlap: int, scale: float = 1.0
) -> Tensor:
    """Apply `function` to overlapping tiles of x (B, C, H, W) and blend the results.

    tile: side of the tiles, or (height, width). scale: size of its output over that of its input; `tile`, `overlap`
    and the size of x times `scale` must be whole.
    """
    height, width = x.shape[-2:]
    tall, wide = (tile, tile) if isinstance(tile, int) else tile
    if height <= tall and width <= wide:
        return function(x)
    rows, columns = tile_starts(height, tall, overlap), tile_starts(width, wide, overlap)
    tile_h, tile_w = min(tall, height), min(wide, width)
    result: Tensor | None = None
    tops, lefts = ([round(start * scale) for start in starts] for starts in (rows, columns))
    falls, runs = _ramps(tops, round(tile_h * scale)), _ramps(lefts, round(tile_w * scale))
    for top, y, fall in zip(rows, tops, falls, strict=True):
        for left, z, run in zip(columns, lefts, runs, strict=True):
            part = function(x[..., top : top + tile_h, left : left + tile_w])
            if result is None:
                result = part.new_zeros(*part.shape[:2], round(height * scale), round(width * scale))
            place = result[..., y : y + part.shape[-2], z : z + part.shape[-1]]
            place.addcmul_(part, torch.outer(fall, run).to(part))
    assert result is not None
    return result


class _Tiled(Plugin):
    """A network on tiles of `tile` samples that share `overlap`; its attributes are those of the network inside."""

    def __init__(self, inner: Any, tile: int, overlap: int) -> None:
        stated = ["options", *(name for contract in type(self).__mro__ for name in get_annotations(contract))]
        vars(self).update({name: getattr(inner, name) for name in stated if hasattr(inner, name)})
        self.inner, self.tile, self.tile_overlap = inner, tile, overlap


class TiledDecoder(_Tiled, Decoder):
    """An autoencoder on tiles; sizes in samples of the latent."""

    def encode(self, image: Tensor) -> Tensor:
        """The inner decoder's, on tiles."""
        f = self.factor
        return blend_tiles(pad_to_multiple(image, f), self.inner.encode, self.tile * f, self.tile_overlap * f, 1 / f)

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """The inner decoder's, on tiles."""
        f, decode = self.factor, self.inner.decode
        whole = blend_tiles(
            z, lambda part: decode(part, (part.shape[-2] * f, part.shape[-1] * f)), self.tile, self.tile_overlap, f
        )
        return whole[..., : size[0], : size[1]]


class TiledBackbone(_Tiled, Backbone):
    """A velocity field on tiles; sizes in samples of x_t."""

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The inner backbone's, on tiles."""
        return blend_tiles(x_t, lambda part: self.inner.velocity(part, t), self.tile, self.tile_overlap)


def tiled(backbone: Backbone, decoder: Decoder, tile: int) -> tuple[Backbone, Decoder]:
    """Run both on tiles of about `tile` image pixels that share an eighth, or the larger `overlap` of the two.

    Each is tiled in multiples of its own, so that a network that divides by 64 does not enlarge the other's tiles.
    """
    factor = decoder.factor
    overlap = max(decoder.overlap, backbone.overlap * factor, tile // 8)
    return (
        TiledBackbone(backbone, *_cells(backbone.multiple, tile // factor, -(-overlap // factor))),
        TiledDecoder(decoder, *(size // factor for size in _cells(factor, tile, overlap))),
    )


def _cells(unit: int, tile: int, overlap: int) -> tuple[int, int]:
    """Round a tile and its overlap to multiples of `unit`, the tile at least twice the overlap."""
    shared = -(-overlap // unit) * unit
    return max(tile // unit * unit, 2 * shared), shared
