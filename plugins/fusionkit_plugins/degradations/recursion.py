"""Noise of a video's frames: averaged over time along the motion, then cleaned by what the flow knows of the scene.

    a = ā + K (y - ā),  K = u / (u + 1),  v = K,  u = v + e + Q     ā, v: of the frame before, moved; e: error of ā
    x̂ = Wiener's filter of a in noise of variance s² v, with the flow's estimate p as pilot

The recursive filter of a constant along the motion (Kalman 1960; with motion compensation Dubois and Sabri, "Noise
reduction in image sequences using motion-compensated temporal filtering", IEEE Trans. Communications 1984). s is the
deviation of y's noise; v, e and Q are shares of s². Where y - ā is more than noise, its excess estimates e, the square
of an error by motion or change. What black and white clip of the noise would stay in the average, and is taken off.

The pilot moves along. It says which cosines of a block are signal, as the first estimate of BM3D does (Dabov et al.,
"Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE Trans. Image Processing 2007, section
III.B); the filter costs a hundredth of the flow, and gains with every frame. Where the average is settled, x̂ itself is
the next frame's pilot. So the flow is asked for a shot's first frame, and afterwards in those few tiles alone whose
pilots show something else.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Memory
from fusionkit.flow.restoring import Ask, Restoration
from fusionkit.numerics.window import box_max, box_mean

from .motion import block_motion, moved

# set on the clips of docs/decisions/video-over-time.md
DRIFT = 0.003  # Q, share of the noise's variance by which a pixel changes from frame to frame: v falls to 0.05
MEANS, WINDOW = (2, 5), 3  # radii of the windows whose means, and mean square, say what is wrong, pixels
SURE, CHANCE = 4.0, 9.0  # deviations of a mean square, and variances of a mean, up to which noise explains them
BLUNT = 1.5  # weight of an error's square in v: windows see only the part of it that they do not average away
SIDE, SEEN = 8, 6.0  # side of the blocks of cosines; variances of noise from which one is signal without the pilot
SETTLED = 0.2  # v below which what is shown becomes the pilot, in full at none
TILE, MARGIN = 64, 8  # side of a tile, and what it sees around, pixels
MUCH, FEW = 0.1, 0.34  # share of a tile without pilot from which it is asked for; share of the tiles that are, a frame
NEW, MOST = 0.9, 0.2  # v from which a pixel is new, and share of these from which a frame is taken as a shot's first


@dataclass(frozen=True)
class State:
    """Of one plane after a frame, (1, 1, H, W) each. mean: a. left: its variance v, as a share of the noise's.

    pilot: p. lacking: the square of what is wrong with p, in the noise's variance, up to 1: nothing is known of it.
    """

    mean: Tensor
    left: Tensor
    pilot: Tensor
    lacking: Tensor


def over_time(y: Tensor, noise: float, memory: Memory) -> Restoration:
    """The clean estimate of a frame y (1, 1, H, W) with white noise of this deviation.

    memory: of the shot's plane; where it knows nothing of most of the frame, it is the flow's estimate of y alone.
    """
    before: State | None = memory.last("clean")
    state = None if before is None or before.pilot.shape != y.shape else _continued(before, y, noise)
    if state is None or float((state.left >= NEW).float().mean()) > MOST:
        pilot = yield y, noise
        memory.keep("clean", State(_unclipped(y, pilot, noise), torch.ones_like(y), pilot, torch.zeros_like(y)))
        return pilot
    state = yield from _piloted(y, state, noise)
    # where little was averaged yet, a good pilot is the better one
    clean = torch.lerp(_filtered(state, noise), state.pilot, state.left * (1 - state.lacking))
    settled = (1 - state.left / SETTLED).clamp_min(0)
    pilot, lacking = torch.lerp(state.pilot, clean, settled), state.lacking * (1 - settled)
    memory.keep("clean", replace(state, pilot=pilot, lacking=lacking))
    return clean


def _continued(before: State, y: Tensor, noise: float) -> State:
    """The state of the frame before, moved, with y in its average."""
    motion = block_motion(before.pilot, y, noise)
    seen, known, inside = torch.cat([before.mean, before.pilot], 1), torch.cat([before.left, before.lacking], 1), None
    if motion.any():
        seen, inside = moved(seen, motion)
        known, _ = moved(known, motion, "nearest")
    (mean, pilot), (left, lacking) = seen.chunk(2, 1), known.chunk(2, 1)
    y = _unclipped(y, pilot, noise)
    wrong = _wrong(y - mean, left, noise)
    wrong = wrong if inside is None else wrong.masked_fill(~inside, torch.inf)
    gain = left + BLUNT * wrong + DRIFT
    gain = (gain / (gain + 1)).nan_to_num(1)
    return State(torch.lerp(mean, y, gain), gain, pilot, (lacking + wrong).clamp_max(1))


def _unclipped(y: Tensor, scene: Tensor, noise: float) -> Tensor:
    """y less what clipping to [0, 1] adds to the noise's mean: s (φ(z) - z Q(z)) where the scene is z s from black.

    The flow knows clipped noise; an average keeps the offset. By 0.4 (1 - z / 3.1)⁴, which is 0.002 off.
    """
    dark, light = ((1 - from_end / (3.1 * noise)).clamp_(0, 1).square_().square_() for from_end in (scene, 1 - scene))
    return torch.add(y, light - dark, alpha=0.4 * noise)


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
    """The state with new pilots, the flow's estimates of y, in the few tiles that lack them most."""
    share = F.avg_pool2d(state.lacking, TILE, ceil_mode=True)[0, 0]
    most, places = share.flatten().topk(max(1, round(FEW * share.numel())))
    tiles = [divmod(place, share.shape[1]) for place in places[most >= MUCH].tolist()]
    if not tiles:
        return state
    rows, columns = ([_around(tile[axis], y.shape[axis - 2]) for tile in tiles] for axis in (0, 1))
    seen = [(..., down, right) for (down, _), (right, _) in zip(rows, columns, strict=True)]
    found = yield torch.cat([y[part] for part in seen]), noise
    pilot, lacking = state.pilot.clone(), state.lacking.clone()
    for part, estimate, (_, down), (_, right) in zip(seen, found, rows, columns, strict=True):
        weight = torch.minimum(down[:, None], right).to(y)
        pilot[part] = torch.lerp(pilot[part], estimate, weight)
        lacking[part] *= weight < 1
    return replace(state, pilot=pilot, lacking=lacking)


def _around(tile: int, length: int) -> tuple[slice, Tensor]:
    """Along an axis of this length: what a tile is seen with; one in it, falling to nothing over half its margin."""
    side, first = TILE + 2 * MARGIN, TILE * tile
    start = max(0, min(first - MARGIN, length - side))
    place = torch.arange(start, min(start + side, length))
    beyond = torch.maximum(first - place, place - (first + TILE - 1)).clamp_min(0)
    return slice(start, start + side), (1 - beyond / (MARGIN / 2 + 1)).clamp_min(0)
