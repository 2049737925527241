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

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Memory
from fusionkit.flow.restoring import Ask, Restoration
from fusionkit.numerics.motion import block_motion, moved
from fusionkit.numerics.window import box_max, box_mean

__all__ = ["over_time"]

DRIFT = 0.01  # Q, share of the noise's variance by which a pixel changes from frame to frame: v falls to 0.1
MEANS, WINDOW = (2, 5), 3  # radii of the windows whose means, and mean square, say what is wrong, pixels
SURE, CHANCE = 4.0, 9.0  # deviations of a mean square, and variances of a mean, up to which noise explains them
BLUNT = 1.5  # weight of an error's square in v: windows see only the part of it that they do not average away
TOLD = 3.0  # by how much more an error counts in what the flow was asked for
TILE, MARGIN = 64, 16  # side of a tile and what it sees around, pixels
WON = 3.0  # by how much the variance fell since the flow was asked, from which it is asked again
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
    stack = torch.cat([before.mean, before.left, before.clean, before.asked], 1)
    inside = None
    if motion.any():
        stack, inside = moved(stack, motion)
    mean, left, clean, asked = stack.chunk(4, 1)
    left = left.clamp(0, 1)
    wrong = _wrong(y - mean, left, noise)
    wrong = wrong if inside is None else wrong.masked_fill(~inside, torch.inf)
    gain = left + BLUNT * wrong + DRIFT
    gain = (gain / (gain + 1)).nan_to_num(1)
    mean = torch.lerp(mean, y, gain)
    smooth = clean + gain * box_mean(y - clean, MEANS[0])
    state = State(mean, gain, smooth, (asked + TOLD * wrong).clamp_max(1 / DRIFT), before.turn)
    state = yield from _asked(y, state, noise)
    memory.keep("clean", state)
    return state.clean


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
    left, asked = (F.pad(x, pad, mode="replicate") for x in (state.left, state.asked))
    needed = F.max_pool2d(F.avg_pool2d(asked / left, 8), TILE // 8)[0, 0] > WON
    if float(needed.float().mean()) > WHOLE:
        old = state.left < NEW
        low = state.left[old].mean() if old.any() else state.left.new_tensor(1.0)
        found = yield torch.cat([state.mean, y]), noise * torch.stack([low, torch.ones_like(low)]).sqrt()
        clean = torch.lerp(found[:1], found[1:], ((state.left - low) / (NEW - low)).clamp(0, 1))
        return State(state.mean, state.left, clean, state.left, state.turn)
    needed.view(-1)[state.turn] = True
    wide = [MARGIN, MARGIN + pad[1], MARGIN, MARGIN + pad[3]]
    mean, share = (F.pad(x, wide, mode="replicate") for x in (state.mean, state.left))
    clean, known = F.pad(state.clean, wide, mode="replicate"), F.pad(state.asked, wide, mode="replicate")
    places = [(r * TILE, c * TILE) for r, c in needed.nonzero().tolist()]
    side = TILE + 2 * MARGIN
    window = _window(side).to(mean)

    def cut(x: Tensor) -> Tensor:
        return torch.cat([x[..., r : r + side, c : c + side] for r, c in places])

    shares = cut(share)
    most = F.avg_pool2d(shares[..., MARGIN:-MARGIN, MARGIN:-MARGIN], 8).amax((1, 2, 3))
    found = yield cut(mean), noise * most.sqrt()
    for (r, c), x, v, m in zip(places, found, shares, most.tolist(), strict=True):
        place = (0, 0, slice(r, r + side), slice(c, c + side))
        weight = window * (v[0] / m).clamp_max(1)
        clean[place] = torch.lerp(clean[place], x[0], weight)
        known[place] = torch.lerp(known[place], v[0], weight)
    inner = (..., slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    return State(state.mean, state.left, clean[inner], known[inner], (state.turn + 1) % (rows * columns))


def _window(side: int) -> Tensor:
    """One in a tile, falling to nothing over the half of its margin."""
    place = torch.arange(side, dtype=torch.float32)
    inside = torch.minimum(place, side - 1 - place)
    ramp = ((inside - MARGIN / 2 + 1) / (MARGIN / 2 + 1)).clamp(0, 1)
    return torch.minimum(ramp[:, None], ramp)
