"""Motion between two frames: a shift for each block, from coarse to fine, and a frame moved by them.

Block matching over a pyramid (Bierling, "Displacement estimation by hierarchical blockmatching", SPIE VCIP 1988): the
cost of a shift is the mean square of what it leaves, over a block and its neighbours. A shift must beat that of the
whole by more than chance makes of the noise, so that what rests stays bit for bit, and flat parts move with the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import box_mean, reduced

__all__ = ["block_motion", "moved"]

BLOCK = 16  # side of the blocks, pixels
COARSE, REACH = 4, 5  # factor of the smallest copies, and their largest shift each way: 20 pixels, and 3 of finer ones
CHANCE = 0.1  # share of the noise's variance by which a shift must be better than that of the whole
LEAST = 0.5 / 255  # deviation of what differs between frames of any camera


def block_motion(before: Tensor, now: Tensor, noise: float) -> Tensor:
    """Where each pixel of `now` was in the frame `before`: right and down, pixels, (1, 2, H, W).

    before, now: (1, 1, H, W). noise: deviation of the white noise in which they differ, in their units.
    """
    height, width = now.shape[-2:]
    grid = -(-height // BLOCK), -(-width // BLOCK)
    pad = (0, grid[1] * BLOCK - width, 0, grid[0] * BLOCK - height)
    before, now = (F.pad(x, pad, mode="replicate") for x in (before, now))
    margin = CHANCE * (noise**2 + LEAST**2)
    copies = [(factor, reduced(before, factor), reduced(now, factor)) for factor in (COARSE, COARSE // 2, 1)]
    usual, blocks = torch.zeros(2, 1, 1, device=now.device), torch.zeros(2, *grid, device=now.device)
    for factor, old, new in copies:  # of the whole
        volume = _costs(old, new, (usual / factor).round().long().expand(2, *grid), _reach(factor)).mean((2, 3), True)
        usual = factor * _lowest(volume, (usual / factor).round(), 0.0)
    blocks = blocks + usual
    for factor, old, new in copies:  # of each block
        around = (blocks / factor).round().long()
        volume = box_mean(_costs(old, new, around, _reach(factor)).flatten(0, 1)[None], 1)[0]
        span = 2 * _reach(factor) + 1
        blocks = factor * _lowest(volume.view(span, span, *grid), around, margin / factor**2)
    if bool((blocks != usual).any()):
        costs = [_left(before, now, m.expand(2, *grid)) for m in (usual, blocks)]
        blocks = torch.where(costs[0] - costs[1] > margin, blocks, usual)
    if bool((blocks == usual).all()):
        return usual[None].expand(1, 2, height, width)
    return F.interpolate(blocks[None], scale_factor=BLOCK, mode="bilinear")[..., :height, :width]


def _reach(factor: int) -> int:
    """Largest shift that is tried at one resolution."""
    return REACH if factor == COARSE else 1


def _costs(before: Tensor, now: Tensor, around: Tensor, reach: int) -> Tensor:
    """Mean squares that shifts (down, right) about `around` (2, h, w) leave in each block, (n, n, h, w)."""
    side, span = now.shape[-1] // around.shape[-1], range(-reach, reach + 1)
    height, width = now.shape[-2:]
    if bool((around == around[:, :1, :1]).all()):
        right, down = around[:, 0, 0].tolist()
        rows, columns = (torch.arange(-reach, n + reach, device=now.device) for n in (height, width))
        edge = before[..., (rows + down).clamp(0, height - 1), :][..., (columns + right).clamp(0, width - 1)]

        def there(y: int, x: int) -> Tensor:
            return edge[..., reach + y : reach + y + height, reach + x : reach + x + width]
    else:
        right, down = (a.repeat_interleave(side, 0).repeat_interleave(side, 1) for a in around)
        rows = torch.arange(height, device=now.device)[:, None] + down
        columns = torch.arange(width, device=now.device) + right

        def there(y: int, x: int) -> Tensor:
            return before[0, 0][(rows + y).clamp(0, height - 1), (columns + x).clamp(0, width - 1)][None, None]

    return torch.stack([torch.stack([reduced((now - there(y, x)).square(), side)[0, 0] for x in span]) for y in span])


def _lowest(volume: Tensor, around: Tensor, margin: float) -> Tensor:
    """The shifts of the lowest costs (down, right, h, w), (2, h, w), to a fraction; the middle's less a margin."""
    span = len(volume)
    cost = volume.clone()
    cost[span // 2, span // 2] -= margin
    best = cost.flatten(0, 1).argmin(0)
    at = torch.stack([best % span, best // span])
    return around + (at - span // 2) + _fraction(volume, at, margin)


def _left(before: Tensor, now: Tensor, blocks: Tensor) -> Tensor:
    """Mean squares that the shifts (2, h, w) of blocks leave around each, (h, w)."""
    motion = F.interpolate(blocks[None], scale_factor=BLOCK, mode="bilinear")
    return box_mean(reduced((now - moved(before, motion)[0]).square(), BLOCK), 1)[0, 0]


def _fraction(volume: Tensor, at: Tensor, margin: float) -> Tensor:
    """Vertices of parabolas through the costs (down, right, h, w) next to the best, quarters; 0 where flat."""
    last = len(volume) - 1
    h, w = (torch.arange(n, device=at.device) for n in volume.shape[2:])
    found = []
    for axis in (0, 1):  # right, down
        middle = [a.clamp(1, last - 1) for a in at]
        values = []
        for step in (-1, 0, 1):
            x, y = (m + step * (i == axis) for i, m in enumerate(middle))
            values.append(volume[y, x, h[:, None], w])
        bend, slope = (values[0] - 2 * values[1] + values[2]).clamp_min(1e-12), (values[0] - values[2]) / 2
        sure = (slope.square() > 2 * margin * bend) & (middle[axis] == at[axis])  # of what the vertex lies lower
        found.append((slope / bend * (4 * sure)).round().clamp(-2, 2) / 4)
    return torch.stack(found)


def moved(x: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, C, H, W) from where each pixel was, by cubic interpolation, and which pixels were inside, (1, 1, H, W)."""
    height, width = x.shape[-2:]
    down, right = torch.meshgrid(
        *(torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width)), indexing="ij"
    )
    right, down = right + motion[:, 0], down + motion[:, 1]
    inside = (right >= -0.5) & (right <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    place = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    there = F.grid_sample(x, place, mode="bicubic", padding_mode="border", align_corners=False)
    return there, inside[:, None]
