"""Parallax of two cameras that stand apart: how far each pixel lies from where one transform of the whole puts it.

Edges are compared by their orientation, as for the transform (`fusionkit.numerics.tile_fit`). All displacements run in
one direction, that of the baseline; a transform that fits one plane of the scene leaves the distance from that plane.

1. Direction: tiles are correlated over all small shifts; that line of shifts is taken on which most tiles agree best,
   each relative to the deviation of its correlations.
2. Match: the cost of a shift along it is the negative correlation of the fields in a window, normalised by their
   energy. A Markov random field over the pixels prefers small steps of the shift, and breaks at edges of the reference;
   its labels are found by min-sum belief propagation in sweeps (Tappen and Freeman, "Comparison of graph cuts with
   belief propagation for stereo", ICCV 2003). Where an image has no texture all shifts cost the same but the
   transform's own, which costs a little less.
3. Verdict: the field is found from either half of a checkerboard, and judged on the other one against the transform.
4. Hidden: of pixels that lie on one place of the source, the best match sees it; the others are hidden there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.homography import resized, size_of, stretch
from fusionkit.numerics.tile_fit import fast_length, moved, orientation, scaled, whitened
from fusionkit.numerics.window import box_mean

from .field import Field, checkerboard, gain_of, pixels

__all__ = ["find_parallax"]

SIDE = 280  # longest side at which fields are found, pixels
REACH = 24  # largest shift there: 1/12 of the side
WINDOW = 3  # radius of the windows that are compared, pixels there
SOFT = 0.5  # energy of an edgeless window, relative to the mean one
STEP, BREAK = 0.4, 6.0  # cost of a step of one pixel between neighbours, and of any larger one
FLAT = 0.3  # of a break at an edge of the reference: 1 / (1 + FLAT g), g its strength relative to the mean one
STAY = 0.05  # cost of a shift, against the transform's own place
CURVED = 0.05  # least second difference of costs from which a shift is found to a fraction of a pixel
ROUNDS, FEWER = 2, 1  # of four sweeps: for the field, and for either half
DIRECTIONS = 90  # tried over half a turn
PART = 160, 12, 16, 8  # to find the direction: side, largest shift, tiles and their distance, pixels
MATCH = -0.4  # cost of a clear match
SURE = 1.25  # least gain of a field that is trusted, in standard errors: 20 real pairs without one reached 1.15
LEAST_ERROR = 0.1  # of a shift, pixels
SAME = 1.5  # difference of two shifts, pixels, that lie on one place for different reasons


def find_parallax(reference: Tensor, source: Tensor, matrix: Tensor) -> Field:
    """Find the field of two lumas (1, 1, H, W) about a transform, (3, 3).

    Shifts up to 1/12 of the longer side are found.
    """
    reference, source = reference.float().cpu(), source.float().cpu()
    size = scaled(size_of(reference), min(1.0, SIDE / max(size_of(reference))))
    small = resized(reference, size)
    first, second = _edges(small, source, matrix @ stretch(size, size_of(reference)))
    angle = _direction(reference, source, matrix)
    costs = _costs(first, second, angle)
    breaks = _breaks(small[0, 0])
    labels = _labels(costs, breaks, ROUNDS)
    gain, left = _verdict(costs, breaks)
    along = _between(costs, labels)
    factor = max(size_of(reference)) / max(size)
    unit = torch.tensor([math.cos(angle), math.sin(angle)])[None, :, None, None]
    score = costs.gather(0, labels[None])[0]
    return Field(along * unit * factor, _hidden(along, score, unit), gain, (left + LEAST_ERROR) * factor, gain >= SURE)


def _edges(small: Tensor, source: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Half whitened orientations of a reduced reference and of a source at its pixels, (1, 2, h, w) each."""
    size = size_of(small)
    other, inside = moved(source, matrix, size)
    shape = [fast_length(n + 2 * REACH) for n in size]
    fields = (
        torch.fft.ifft2(whitened(orientation(image) * inside, shape))[: size[0], : size[1]] * inside
        for image in (small, other)
    )
    first, second = (torch.view_as_real(field).permute(2, 0, 1)[None].contiguous() for field in fields)
    return first, second


def _direction(reference: Tensor, source: Tensor, matrix: Tensor) -> float:
    """Direction in which most tiles agree best, in radians."""
    side, reach, tile, distance = PART
    size = scaled(size_of(reference), min(1.0, side / max(size_of(reference))))
    first, second = _edges(resized(reference, size), source, matrix @ stretch(size, size_of(reference)))
    wide = F.pad(second, (reach,) * 4)
    shifts = range(2 * reach + 1)
    products = [
        (first * wide[..., i : i + size[0], j : j + size[1]]).sum(1, keepdim=True) for i in shifts for j in shifts
    ]
    tiles = F.avg_pool2d(torch.cat(products), tile, distance).flatten(1).T.reshape(-1, 1, len(shifts), len(shifts))
    tiles /= tiles.std((2, 3), keepdim=True) + 1e-9
    angles, along = torch.arange(DIRECTIONS) * (math.pi / DIRECTIONS), torch.linspace(-1, 1, len(shifts))
    lines = torch.stack([angles.cos()[:, None] * along, angles.sin()[:, None] * along], -1)
    agreement = F.grid_sample(tiles, lines.expand(len(tiles), -1, -1, -1), align_corners=True).amax(-1).clamp_min(0)
    return float(angles[agreement.square().sum((0, 1)).argmax()])


def _costs(first: Tensor, second: Tensor, angle: float) -> Tensor:
    """Costs of the shifts along a direction, (2 REACH + 1, h, w), in [-1, 1]."""
    size = size_of(first)
    x, y = pixels(size)
    energies = [box_mean(field.square().sum(1, keepdim=True), WINDOW) for field in (first, second)]
    own, other = (energy + SOFT * energy.mean() + 1e-12 for energy in energies)
    both = torch.cat([second, other], 1)
    products, against = [], []
    for step in range(-REACH, REACH + 1):
        at = torch.stack(
            [(x + step * math.cos(angle)) * (2 / size[1]), (y + step * math.sin(angle)) * (2 / size[0])], -1
        )
        there = F.grid_sample(both, at[None], mode="bilinear", padding_mode="border", align_corners=False)
        products.append((first * there[:, :2]).sum(1))
        against.append(there[0, 2])
    costs = -box_mean(torch.stack(products), WINDOW)[:, 0] / (torch.stack(against) * own[0, 0]).sqrt()
    costs += STAY
    costs[REACH] -= STAY
    return costs


def _breaks(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Cost of a break between neighbours in a row, (h, w - 1), and in a column, (h - 1, w)."""
    across, along = luma.diff(dim=1).abs(), luma.diff(dim=0).abs()
    mean = (across.mean() + along.mean()) / 2 + 1e-4
    return BREAK / (1 + FLAT * across / mean), BREAK / (1 + FLAT * along / mean)


def _labels(costs: Tensor, breaks: tuple[Tensor, Tensor], rounds: int) -> Tensor:
    """The labels (h, w) of least cost, by belief propagation."""
    costs = costs.permute(1, 2, 0).contiguous()  # the labels last
    across, along = breaks[0].T.contiguous(), breaks[1].contiguous()
    right = left = down = up = torch.zeros_like(costs)
    for _ in range(rounds):
        turned = (costs + down + up).transpose(0, 1).contiguous()
        right = _sweep(turned, across).transpose(0, 1)
        left = _sweep(turned.flip(0), across.flip(0)).flip(0).transpose(0, 1)
        whole = costs + right + left
        down = _sweep(whole, along)
        up = _sweep(whole.flip(0), along.flip(0)).flip(0)
    return (whole + down + up).argmin(-1)


def _sweep(costs: Tensor, breaks: Tensor) -> Tensor:
    """Messages to each line of pixels from the one before: costs and messages (lines, pixels, labels)."""
    messages = torch.zeros_like(costs)
    for i, most in enumerate(breaks):
        before = costs[i] + messages[i]
        least = before.amin(-1, keepdim=True)
        to = messages[i + 1]
        torch.minimum(before, least + most[:, None], out=to)
        near = before + STEP
        to[:, 1:] = torch.minimum(to[:, 1:], near[:, :-1])
        to[:, :-1] = torch.minimum(to[:, :-1], near[:, 1:])
        to -= least
    return messages


def _between(costs: Tensor, labels: Tensor) -> Tensor:
    """The shifts (1, 1, h, w) in pixels, from the parabola through the costs beside each label's."""
    inner = labels.clamp(1, len(costs) - 2)
    before, at, after = (costs.gather(0, (inner + step)[None])[0] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    vertex = torch.where(bend > CURVED, (before - after) / (2 * bend.clamp_min(CURVED)), 0.0).clamp(-0.5, 0.5)
    # where no shift was preferred over the transform's own place, that place is exact
    return torch.where(inner == labels, labels - REACH + vertex, labels - REACH)[None, None].float()


def _verdict(costs: Tensor, breaks: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Gain of either half by the other one's field, in standard errors, and the mean error at clear matches, pixels."""
    odd = checkerboard((costs.shape[1], costs.shape[2]))
    fields = [_labels(costs * half, breaks, FEWER) for half in (odd, ~odd)]
    of_other = torch.where(odd, fields[1], fields[0])
    gains = costs[REACH] - costs.gather(0, of_other[None])[0]
    apart = (fields[0] - fields[1]).abs().double()
    textured = costs.amin(0) < MATCH
    left = float(apart[textured].mean()) / 2 if bool(textured.any()) else math.inf
    return gain_of(gains), left


def _hidden(along: Tensor, score: Tensor, unit: Tensor) -> Tensor:
    """Pixels whose place in the source belongs to a better match, (1, 1, h, w): costs decide."""
    height, width = size_of(along)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    there = (along * unit)[0].round().long()
    to = (rows + there[1]).clamp(0, height - 1) * width + (columns + there[0]).clamp(0, width - 1)
    flat, shift, cost = to.flatten(), along.flatten(), score.flatten()
    best = cost.new_full((height * width,), math.inf).scatter_reduce(0, flat, cost, "amin")
    first = cost <= best[flat]
    seen = shift.new_full((height * width,), -math.inf).scatter_reduce(0, flat[first], shift[first], "amax")
    hidden = ((shift - seen[flat]).abs() > SAME).float().view(1, 1, height, width)
    return (box_mean(hidden, 1) > 0.5).float()
