"""Noise of a video's frames: averaged over time along the motion, then cleaned by the flow at the t that is left.

    a = ā + K (y - ā),  K = u / (u + 1),  v = K,  u = v + e + Q     ā, v: of the frame before, moved; e: error of ā
    x̂ = the flow's estimate of a at s √v                            s: deviation of y's noise

The recursive filter of a constant along the motion (Kalman 1960; with motion compensation Dubois and Sabri, "Noise
reduction in image sequences using motion-compensated temporal filtering", IEEE Trans. Communications 1984). v, e and Q
are shares of s². Where y - ā is more than noise, its excess estimates e, the square of an error by motion or change.
The flow is asked where time has won something since it was asked last, tile by tile, and for one tile more each frame;
x̂ elsewhere is that of the frame before, moved, and follows y in what is smooth.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Memory
from fusionkit.flow.restoring import Ask, Restoration
from fusionkit.numerics.motion import block_motion, moved
from fusionkit.numerics.window import box_max, box_mean

__all__ = ["over_time"]

DRIFT = 0.003  # Q, share of the noise's variance by which a pixel changes from frame to frame: v falls to 0.1
MEANS, WINDOW = (2, 5), 3  # radii of the windows whose means, and mean square, say what is wrong, pixels
SURE, CHANCE = 4.0, 9.0  # deviations of a mean square, and variances of a mean, up to which noise explains them
BLUNT = 1.5  # weight of an error's square in v: windows see only the part of it that they do not average away
TOLD = 3.0  # by how much more an error counts in what the flow was asked for
SIDE, SEEN = 8, 6.0
SHARE, LITTLE = 0.03, 1.5
TILE, MARGIN = 64, 16  # side of a tile and what it sees around, pixels
WON = 8.0
WHOLE = 0.5  # share of the tiles from which the whole picture goes through the flow at once
NEW = 0.6  # v from which the frame alone goes through the flow: moved noise is no longer white


@dataclass(frozen=True)
class State:
    """Of one plane after a frame, (1, 1, H, W) each. mean: a. left: its variance v, as a share of the noise's.

    clean: x̂. asked: v where the flow was asked for it. turn: tile that is asked for next.
    """

    mean: Tensor
    left: Tensor
    clean: Tensor
    asked: Tensor
    turn: int = 0


def over_time(y: Tensor, noise: float, memory: Memory) -> Restoration:
    """The clean estimate of a frame y (1, 1, H, W) with white noise of this deviation.

    memory: of the shot's plane; without a frame before, it is the flow's estimate of y alone.
    """
    before: State | None = memory.last("clean")
    if before is None or before.clean.shape != y.shape:
        clean = yield y, noise
        one = torch.ones_like(y)
        memory.keep("clean", State(y, one, clean, one))
        return clean
    motion = block_motion(before.clean, y, noise)
    seen, known, inside = torch.cat([before.mean, before.clean], 1), torch.cat([before.left, before.asked], 1), None
    if motion.any():
        seen, inside = moved(seen, motion)
        known, _ = moved(known, motion, "nearest")
    (mean, clean), (left, asked) = seen.chunk(2, 1), known.chunk(2, 1)
    wrong = _wrong(y - mean, left, noise)
    wrong = wrong if inside is None else wrong.masked_fill(~inside, torch.inf)
    gain = left + BLUNT * wrong + DRIFT
    gain = (gain / (gain + 1)).nan_to_num(1)
    mean = torch.lerp(mean, y, gain)
    state = State(mean, gain, clean, (asked + DRIFT + TOLD * wrong).clamp_max(1 / DRIFT), before.turn)
    state = yield from _asked(y, state, noise)
    memory.keep("clean", state)
    fresh = (state.left / state.asked).clamp_max(1)
    return torch.lerp(_shrunk(state, noise), state.clean, fresh)


def _shrunk(state: State, noise: float) -> Tensor:
    """Wiener's filter of the average in blocks of cosines, with x̂ as the pilot that says what is signal."""
    basis, half = _cosines().to(state.mean), SIDE // 2
    height, width = state.mean.shape[-2:]
    pad = (half, half + -width % half, half, half + -height % half)
    planes = F.pad(torch.cat([state.mean, state.clean, state.left]), pad, mode="replicate")[:, 0]
    blocks = planes.unfold(1, SIDE, half).unfold(2, SIDE, half).flatten(3)
    found, power = blocks[0] @ basis, (blocks[1] @ basis).square_()
    share = blocks[2].mean(-1, keepdim=True).mul_(noise**2)
    power = torch.maximum(power, torch.addcmul(-SEEN * share, found, found))
    found.mul_(power.div_(power + share))
    rows, columns = found.shape[:2]
    found = (found @ basis.mT).view(rows, columns, 2, half, 2, half).permute(2, 4, 0, 3, 1, 5)
    whole = found.new_zeros(rows + 1, half, columns + 1, half)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        whole[i : rows + i, :, j : columns + j] += found[i, j]
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


def _asked(y: Tensor, state: State, noise: float) -> Generator[Ask, Tensor, State]:
    """The state with the flow's estimate in those tiles where it is worth asking."""
    height, width = state.mean.shape[-2:]
    rows, columns = -(-height // TILE), -(-width // TILE)
    pad = (0, columns * TILE - width, 0, rows * TILE - height)
    stale = F.pad(state.asked / state.left, pad, mode="replicate")
    stale = F.avg_pool2d(stale.clamp_max(2 * WON), 8)
    most, mean = (pool(stale, TILE // 8)[0, 0] for pool in (F.max_pool2d, F.avg_pool2d))
    few = mean.flatten().topk(max(1, round(SHARE * mean.numel()))).indices
    needed = most > WON
    needed.view(-1)[few[mean.flatten()[few] > LITTLE]] = True
    if not needed.any():
        return state
    wide = [MARGIN, MARGIN + pad[1], MARGIN, MARGIN + pad[3]]
    mean, share = (F.pad(x, wide, mode="replicate") for x in (state.mean, state.left))
    clean, known = F.pad(state.clean, wide, mode="replicate"), F.pad(state.asked, wide, mode="replicate")
    places = [(r * TILE, c * TILE) for r, c in needed.nonzero().tolist()]
    side = TILE + 2 * MARGIN
    window = _window(side).to(mean)

    def cut(x: Tensor) -> Tensor:
        return torch.cat([x[..., r : r + side, c : c + side] for r, c in places])

    shares = cut(share)
    inside = shares[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    old = inside < NEW
    low = ((inside * old).sum((1, 2, 3)) / old.sum((1, 2, 3)).clamp_min(1)).clamp_min(1e-3)
    low = torch.where(old.any(3).any(2).any(1), low, 1.0)
    new = F.avg_pool2d((~old).float(), 8).amax((1, 2, 3)) >= 0.5
    found = yield torch.cat([cut(mean), cut(F.pad(y, wide, mode="replicate"))[new]]), noise * torch.cat([low, torch.ones_like(low)[new]]).sqrt()
    found, again = found.split([len(low), int(new.sum())])
    again = iter(again)
    for (r, c), x, v, m, fresh in zip(places, found, shares, low.tolist(), new.tolist(), strict=True):
        place = (0, 0, slice(r, r + side), slice(c, c + side))
        beyond = ((v[0] - m) / max(NEW - m, 1e-3)).clamp(0, 1)
        x = torch.lerp(x[0], next(again)[0], beyond) if fresh else x[0]
        weight = window if fresh else window * (1 - beyond)
        clean[place] = torch.lerp(clean[place], x, weight)
        known[place] = torch.lerp(known[place], v[0], weight)
    inner = (..., slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    return State(state.mean, state.left, clean[inner], known[inner], (state.turn + 1) % (rows * columns))


def _window(side: int) -> Tensor:
    """One in a tile, falling to nothing over the half of its margin."""
    place = torch.arange(side, dtype=torch.float32)
    inside = torch.minimum(place, side - 1 - place)
    ramp = ((inside - MARGIN / 2 + 1) / (MARGIN / 2 + 1)).clamp(0, 1)
    return torch.minimum(ramp[:, None], ramp)
