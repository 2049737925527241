"""Noise of a video's frames: averaged over time along the motion, then cleaned by what the flow knows of the scene.

    a = ā + K (y - ā),  K = u / (u + 1),  v = K,  u = v + e + Q     ā, v: of the frame before, moved; e: error of ā
    x̂ = Wiener's filter of a in noise of variance s² v, with the flow's estimate p as pilot

The recursive filter of a constant along the motion (Kalman 1960; with motion compensation Dubois and Sabri, "Noise
reduction in image sequences using motion-compensated temporal filtering", IEEE Trans. Communications 1984). s is the
deviation of y's noise; v, e and Q are shares of s². Where y - ā is more than noise, its excess estimates e, the square
of an error by motion or change.

The pilot moves along. It says which cosines of a block are signal, as the first estimate of BM3D does (Dabov et al.,
"Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE Trans. Image Processing 2007, section
III.B); the filter costs a hundredth of the flow, and gains with every frame. So the flow is asked in those tiles alone
where much is new, and in a few more each frame, those first whose pilots are oldest.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Memory
from fusionkit.flow.restoring import Ask, Restoration
from fusionkit.numerics.window import box_max, box_mean

from .motion import block_motion, moved

__all__ = ["over_time"]

# set on the clips of docs/decisions/video-over-time.md
DRIFT = 0.003  # Q, share of the noise's variance by which a pixel changes from frame to frame: v falls to 0.05
MEANS, WINDOW = (2, 5), 3  # radii of the windows whose means, and mean square, say what is wrong, pixels
SURE, CHANCE = 4.0, 9.0  # deviations of a mean square, and variances of a mean, up to which noise explains them
BLUNT = 1.5  # weight of an error's square in v: windows see only the part of it that they do not average away
TOLD = 6.0  # by how much more an error counts in the age of the pilot
SIDE, SEEN = 8, 6.0  # side of the blocks of cosines; variances of noise from which one is signal without the pilot
TILE, MARGIN, BLOCK = 64, 16, 8  # side of a tile, what it sees around, and of the blocks that are new or not, pixels
NEW = 0.6  # v from which the frame alone goes through the flow: moved noise is no longer white
OLD, AGED = 20.0, 1.5  # age of half a block from which its tile is asked for, and of a tile that may be one of the few
FEW, WHOLE = 0.03, 0.4  # share of the tiles that are asked for each frame; from which the whole picture is


@dataclass(frozen=True)
class State:
    """Of one plane after a frame, (1, 1, H, W) each. mean: a. left: its variance v, as a share of the noise's.

    pilot: p. asked: v where the flow was asked for it, and what was wrong with it since; asked / left is its age.
    """

    mean: Tensor
    left: Tensor
    pilot: Tensor
    asked: Tensor


def over_time(y: Tensor, noise: float, memory: Memory) -> Restoration:
    """The clean estimate of a frame y (1, 1, H, W) with white noise of this deviation.

    memory: of the shot's plane; without a frame before, it is the flow's estimate of y alone.
    """
    before: State | None = memory.last("clean")
    if before is None or before.pilot.shape != y.shape:
        pilot = yield y, noise
        one = torch.ones_like(y)
        memory.keep("clean", State(y, one, pilot, one))
        return pilot
    motion = block_motion(before.pilot, y, noise)
    seen, known, inside = torch.cat([before.mean, before.pilot], 1), torch.cat([before.left, before.asked], 1), None
    if motion.any():
        seen, inside = moved(seen, motion)
        known, _ = moved(known, motion, "nearest")
    (mean, pilot), (left, asked) = seen.chunk(2, 1), known.chunk(2, 1)
    wrong = _wrong(y - mean, left, noise)
    wrong = wrong if inside is None else wrong.masked_fill(~inside, torch.inf)
    gain = left + BLUNT * wrong + DRIFT
    gain = (gain / (gain + 1)).nan_to_num(1)
    asked = (asked + DRIFT + TOLD * wrong).clamp_max(1 / DRIFT)
    state = yield from _piloted(y, State(torch.lerp(mean, y, gain), gain, pilot, asked), noise)
    memory.keep("clean", state)
    # where the pilot was just made of much noise, it is the better one
    return torch.lerp(_filtered(state, noise), state.pilot, (state.left / state.asked).clamp_max(1) * state.left)


def _filtered(state: State, noise: float) -> Tensor:
    """Wiener's filter of the average in overlapping blocks of cosines, with the pilot's power or what is seen in it."""
    basis, half = _cosines().to(state.mean), SIDE // 2
    height, width = state.mean.shape[-2:]
    pad = (half, half + -width % half, half, half + -height % half)
    planes = F.pad(torch.cat([state.mean, state.pilot, state.left]), pad, mode="replicate")[:, 0]
    blocks = planes.unfold(1, SIDE, half).unfold(2, SIDE, half).flatten(3)
    found, power = blocks[0] @ basis, (blocks[1] @ basis).square_()
    share = blocks[2].mean(-1, keepdim=True).mul_(noise**2)
    power = torch.maximum(power, torch.addcmul(-SEEN * share, found, found))
    found.mul_(power.div_(power + share))
    rows, columns = found.shape[:2]
    quarters = (found @ basis.mT).view(rows, columns, 2, half, 2, half).permute(2, 4, 0, 3, 1, 5)
    whole = found.new_zeros(rows + 1, half, columns + 1, half)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        whole[i : rows + i, :, j : columns + j] += quarters[i, j]
    whole = whole.view(1, 1, (rows + 1) * half, -1).div_(4)
    return whole[..., half : half + height, half : half + width]


@cache
def _cosines() -> Tensor:
    """Orthonormal cosines of a block as columns, (SIDE², SIDE²)."""
    k, n = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    rows = torch.cos(torch.pi * (n + 0.5) * k / SIDE) * math.sqrt(2 / SIDE)
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).mT.contiguous()


def _wrong(rest: Tensor, left: Tensor, noise: float) -> Tensor:
    """Square of the moved average's error by motion and change, as a share of the noise's variance, from y - ā."""
    known = noise**2 * (1 + left)
    square = box_mean(rest.square(), WINDOW)
    wrong = square - (1 + SURE * math.sqrt(2) / (2 * WINDOW + 1)) * known
    for radius in MEANS:
        wrong = torch.maximum(wrong, box_mean(rest, radius).square() - CHANCE * known / (2 * radius + 1) ** 2)
    return box_max(wrong.clamp_min(0), MEANS[0]) / noise**2


def _piloted(y: Tensor, state: State, noise: float) -> Generator[Ask, Tensor, State]:
    """The state with new pilots in those tiles where the flow is worth asking, in all at once where those are many.

    A tile is asked for as the average at its mean v, and once more as the frame alone where a block of it is new.
    """
    tiles = _tiles(state)
    if not tiles:
        return state
    height, width = y.shape[-2:]
    size = (height + -height % TILE, width + -width % TILE) if tiles[0].whole else (TILE, TILE)
    pad = (MARGIN, MARGIN + -width % TILE, MARGIN, MARGIN + -height % TILE)
    mean, frame, left, pilot, asked = (
        F.pad(x, pad, mode="replicate") for x in (state.mean, y, state.left, state.pilot, state.asked)
    )
    high, wide = (n + 2 * MARGIN for n in size)
    places = [(..., slice(down, down + high), slice(right, right + wide)) for (down, right), *_ in tiles]
    news = [place for place, tile in zip(places, tiles, strict=True) if tile.new]
    levels = y.new_tensor([tile.level for tile in tiles] + [1.0] * len(news))
    parts = torch.cat([*(mean[place] for place in places), *(frame[place] for place in news)])
    found = yield parts, noise * levels.sqrt()
    window, alone = _window(size).to(y), iter(found[len(tiles) :])
    for place, tile, estimate in zip(places, tiles, found, strict=False):
        noisier = ((left[place] - tile.level) / max(NEW - tile.level, 1e-3)).clamp(0, 1)
        better = torch.lerp(estimate, next(alone), noisier) if tile.new else estimate
        weight = window if tile.new else window * (1 - noisier)
        pilot[place] = torch.lerp(pilot[place], better, weight)
        asked[place] = torch.where(weight > 0.5, left[place], asked[place])
    inner = (..., slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    return replace(state, pilot=pilot[inner], asked=asked[inner])


class Tile(NamedTuple):
    """at: down and right. level: mean v of what is not new. new: whether most of a block is; whole: it is all tiles."""

    at: tuple[int, int]
    level: float
    new: bool
    whole: bool = False


def _tiles(state: State) -> list[Tile]:
    """Tiles that are worth asking for: where half a block is new or has an old pilot, and the oldest few."""
    pad = (0, -state.left.shape[-1] % TILE, 0, -state.left.shape[-2] % TILE)
    left, age = F.pad(state.left, pad), F.pad((state.asked / state.left).clamp_max(2 * OLD), pad)
    age = F.avg_pool2d(age, BLOCK)
    oldest, mean = (pool(age, TILE // BLOCK).flatten() for pool in (F.max_pool2d, F.avg_pool2d))
    needed = oldest > OLD
    few = mean.topk(max(1, round(FEW * len(mean)))).indices
    needed[few] |= mean[few] > AGED
    whole = float(needed.float().mean()) > WHOLE
    side = left.shape[-2:] if whole else (TILE, TILE)
    known = ((left > 0) & (left < NEW)).float()
    level = F.avg_pool2d(left * known, side) / F.avg_pool2d(known, side).clamp_min(1e-6)
    level = torch.where(level > 0, level, 1.0)
    new = F.max_pool2d(F.avg_pool2d((left >= NEW).float(), BLOCK), [n // BLOCK for n in side]) >= 0.5
    if whole:
        return [Tile((0, 0), float(level), bool(new), whole=True)]
    columns = left.shape[-1] // TILE
    levels, news = level.flatten().tolist(), new.flatten().tolist()
    return [
        Tile((i // columns * TILE, i % columns * TILE), levels[i], news[i]) for i in needed.nonzero().flatten().tolist()
    ]


def _window(size: tuple[int, ...]) -> Tensor:
    """One in a tile of this size, falling to nothing over the half of its margin around."""
    sides = []
    for n in size:
        place = torch.arange(n + 2 * MARGIN, dtype=torch.float32)
        inside = torch.minimum(place, n + 2 * MARGIN - 1 - place)
        sides.append(((inside - MARGIN / 2 + 1) / (MARGIN / 2 + 1)).clamp(0, 1))
    return torch.minimum(sides[0][:, None], sides[1])
