"""Motion between two frames: a shift for each block, from coarse to fine, and a frame moved by them.

Block matching over a pyramid (Bierling, "Displacement estimation by hierarchical blockmatching", SPIE VCIP 1988): the
cost of a shift is the mean square of what it leaves, over a block and its neighbours. A shift must beat that of the
whole by more than chance makes of the noise, so that what rests stays bit for bit, and flat parts move with the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.window import box_mean, reduced

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
    usual, known = torch.zeros(2, 1, 1, device=now.device), {}
    for factor, old, new in copies:  # of the whole
        around = (usual / factor).round().long()
        known[factor] = around, _costs(old, new, around.expand(2, *grid), _reach(factor))
        votes = known[factor][1]  # of blocks alike, or one bright thing that moves would take the rest along
        votes = votes / (votes.mean((0, 1)) - votes.amin((0, 1)) + margin / factor**2)
        usual = factor * _lowest(votes.mean((2, 3), True), around, 0.0, factor)
    blocks = usual.expand(2, *grid)
    for factor, old, new in copies[:-1]:  # of each block, which moves as the whole until then
        around = (blocks / factor).round().long()
        same, costs = known[factor]
        costs = costs if bool((around == same).all()) else _costs(old, new, around, _reach(factor))
        volume = box_mean(costs.flatten(0, 1)[None], 1)[0]
        span = 2 * _reach(factor) + 1
        blocks = factor * _lowest(volume.view(span, span, *grid), around, margin / factor**2, factor)
    if bool((blocks != usual).any()):
        factor, old, new = copies[1]
        alike, apart = (_left(old, new, m.expand(2, *grid) / factor) for m in (usual, blocks))
        blocks = torch.where(alike - apart > margin / factor**2, blocks, usual)
    if bool((blocks == usual).all()):
        return usual[None].expand(1, 2, height, width)
    return F.interpolate(blocks[None], scale_factor=BLOCK, mode="bilinear")[..., :height, :width]


def _reach(factor: int) -> int:
    """Largest shift that is tried at one resolution."""
    return REACH if factor == COARSE else 1


def _costs(before: Tensor, now: Tensor, around: Tensor, reach: int) -> Tensor:
    """Mean squares that shifts (down, right) about `around` (2, h, w) leave in each block, (n, n, h, w)."""
    height, width = around.shape[-2:]
    side = now.shape[-1] // width
    far = int(around.abs().max()) + reach
    before = F.pad(before, (far,) * 4, mode="replicate")[0, 0]
    right, down = around + far - reach
    if reach == REACH:  # many shifts of few pixels, about that of the whole
        windows = before[int(down[0, 0]) :, int(right[0, 0]) :].unfold(0, height * side, 1).unfold(1, width * side, 1)
        return reduced((windows[: 2 * reach + 1, : 2 * reach + 1] - now[0, 0]).square_(), side)
    windows = before.unfold(0, side + 2 * reach, 1).unfold(1, side + 2 * reach, 1)
    down = down + side * torch.arange(height, device=now.device)[:, None]
    there = windows[down, right + side * torch.arange(width, device=now.device)]
    here = now[0, 0].view(height, side, width, side).transpose(1, 2).contiguous()
    span = range(2 * reach + 1)
    rows = [[(here - there[..., y : y + side, x : x + side]).square_().mean((2, 3)) for x in span] for y in span]
    return torch.stack([torch.stack(row) for row in rows])


def _lowest(volume: Tensor, around: Tensor, margin: float, factor: int) -> Tensor:
    """The shifts of the lowest costs (down, right, h, w), (2, h, w), to a fraction; the middle's less a margin."""
    span = len(volume)
    cost = volume.clone()
    cost[span // 2, span // 2] -= margin
    best = cost.flatten(0, 1).argmin(0)
    at = torch.stack([best % span, best // span])
    return around + (at - span // 2) + _fraction(volume, at, margin, 4 * factor)


def _left(before: Tensor, now: Tensor, blocks: Tensor) -> Tensor:
    """Mean squares that the shifts (2, h, w) of blocks leave around each, (h, w)."""
    side = now.shape[-1] // blocks.shape[-1]
    motion = F.interpolate(blocks[None], scale_factor=side, mode="bilinear")
    return box_mean(reduced((now - moved(before, motion)[0]).square(), side), 1)[0, 0]


def _fraction(volume: Tensor, at: Tensor, margin: float, parts: int) -> Tensor:
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
        found.append((slope / bend * (parts * sure)).round().clamp(-parts / 2, parts / 2) / parts)
    return torch.stack(found)


def moved(x: Tensor, motion: Tensor, mode: str = "bicubic") -> tuple[Tensor, Tensor]:
    """x (1, C, H, W) from where each pixel was, interpolated so, and which pixels were inside, (1, 1, H, W)."""
    height, width = x.shape[-2:]
    down, right = torch.meshgrid(
        *(torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width)), indexing="ij"
    )
    right, down = right + motion[:, 0], down + motion[:, 1]
    inside = (right >= -0.5) & (right <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    place = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    there = F.grid_sample(x, place, mode=mode, padding_mode="border", align_corners=False)
    return there, inside[:, None]
