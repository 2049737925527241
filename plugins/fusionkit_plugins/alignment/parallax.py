"""Parallax of two cameras that stand apart: how far each pixel lies from where one transform of the whole puts it.

Edges are compared by their orientation, as for the transform (`fusionkit.numerics.tile_fit`). All displacements run in
one direction, that of the baseline; a transform that fits one plane of the scene leaves the distance from that plane.
The scene is taken as a few planes, whose displacements are linear in place (Isack and Boykov, "Energy-based geometric
multi-model fitting", IJCV 2012).

1. Direction: tiles are correlated over all small shifts; that line of shifts is taken on which most tiles agree best,
   each relative to the deviation of its correlations.
2. Layers: the cost of a shift along it is the negative correlation of the fields in a window, normalised by their
   energy. A Markov random field over the pixels prefers small steps of the shift, and breaks at edges of the reference;
   its labels are found by min-sum belief propagation in sweeps (Tappen and Freeman, "Comparison of graph cuts with
   belief propagation for stereo", ICCV 2003). The shifts that most pixels have are the first planes.
3. Planes: every pixel is given to one of them by another such field, in which all breaks cost the same. The source's
   pixels are given to them as well: what lands where the source shows another plane costs more. Planes that explain
   little are dropped; the direction is turned and each plane moved to where its own pixels agree best, planes of
   few edges with the slope of most. All of that is repeated. The transform's own plane, the first, costs a
   little less.
4. Verdict: pixels are given to the planes by either half of a checkerboard, and the planes judged on the other one.
   Those that do not agree there, better than the transform, are dropped, and a field of little gain is not sure.
5. Hidden: of pixels that lie on one place of the source, the best match sees it; the others are hidden there.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.homography import resized, size_of, stretch
from fusionkit.numerics.tile_fit import fast_length, moved, orientation, scaled, whitened
from fusionkit.numerics.window import box_mean

from .field import Field, checkerboard, gain_of, pixels

COARSE, FINE = (160, 2), (280, 3)  # to find the layers, and the planes: longest side, radius of windows, pixels
REACH = 1 / 9  # largest shift, of the longest side
SOFT = 0.5  # energy of an edgeless window, relative to the mean one
STEP = 0.4  # cost of a step of one pixel in layers
# cost b of a larger step in layers, and of a break of planes, and k: b / (1 + k g) at edges of strength g over the mean
LEAP, BREAK = (6.0, 0.3), (4.0, 1.0)
STAY = 0.05, 0.02  # cost of a shift in layers, and of a plane, against the transform's own place
MOST, LEAST = 10, 20  # layers, and pixels of one
WORTH = 40.0  # least sum over its pixels by which a plane agrees better than the next best
TAKEN = 0.1  # cost of a place in the source that shows another plane
TURNS = (0.06, 0.12, 0.2), (0.04, 0.08)  # of the direction that are tried, tangents, a round each
AGAINST = 100.0  # most that one plane says against a turn
ROUNDS, NEAR = 3, (1.5, 0.75, 0.75)  # of moving the planes; distance at which costs are compared, pixels
SLOPE = 1e4  # weight of the common slope, in curvatures of costs
DIRECTIONS = 90  # tried over half a turn
PART = 12, 16, 8  # to find the direction: largest shift, tiles and their distance, pixels
LIKE, LEAD = 0.2, 0.1  # least agreement of a plane at edges of the other half, and more than the transform's: planes by
# chance reach 0.19, those of real pairs without depth lead by 0.09
SURE = 1.5  # least gain of a field that is trusted, in standard errors
CLEAR = -0.4  # cost of a clear match
LEAST_ERROR = 0.1  # of a shift, pixels
SAME = 1.5  # difference of two shifts, pixels, that lie on one place for different reasons


def find_parallax(reference: Tensor, source: Tensor, matrix: Tensor) -> Field:
    """Find the field of two lumas (1, 1, H, W) about a transform, (3, 3).

    Shifts up to 1/9 of the longer side are found.
    """
    lumas = reference.float().cpu(), source.float().cpu()
    coarse, fine = (_Pair(*lumas, matrix, *scale) for scale in (COARSE, FINE))
    towards = _direction(coarse)
    planes = _layers(coarse, towards) * torch.tensor([max(fine.size) / max(coarse.size), 1.0, 1.0])
    planes, towards = _fit(fine, planes, towards)
    keep, gain, left = _verdict(fine, planes, towards)
    planes = planes[keep]
    costs, labels = _assigned(fine, planes, towards, rounds=2)
    along, score = (values.gather(0, labels[None])[None] for values in (fine.along(planes), costs))
    factor, shifts = max(size_of(reference)) / max(fine.size), along * towards[:, None, None]
    return Field(shifts * factor, _hidden(along, shifts, score), gain, (left + LEAST_ERROR) * factor, gain >= SURE)


class _Pair:
    """Edges of a reduced reference, and of a source at its pixels.

    first, second: their half whitened orientations, (1, 2, h, w). breaks: costs of breaks of planes, in either.
    """

    def __init__(self, reference: Tensor, source: Tensor, matrix: Tensor, side: int, radius: int) -> None:
        size = self.size = scaled(size_of(reference), min(1.0, side / max(size_of(reference))))
        self.radius, self.small = radius, resized(reference, size)
        other, inside = moved(source, matrix @ stretch(size, size_of(reference)), size)
        shape = [fast_length(n + 2 * math.ceil(REACH * max(size))) for n in size]
        whole = (
            torch.fft.ifft2(whitened(orientation(image) * inside, shape))[: size[0], : size[1]] * inside
            for image in (self.small, other)
        )
        self.first, self.second = (torch.view_as_real(field).permute(2, 0, 1)[None].contiguous() for field in whole)
        own, there = (box_mean(field.square().sum(1, keepdim=True), radius) for field in (self.first, self.second))
        self.own, self.there, self.soft = own + SOFT * own.mean() + 1e-12, there, SOFT * there.mean() + 1e-12
        self.breaks, self.breaks_there = (_breaks(image[0, 0], *BREAK) for image in (self.small, other))
        self.linear = torch.stack([torch.ones(size), *pixels(size)])

    def along(self, planes: Tensor) -> Tensor:
        """Shifts along the baseline of planes (K, 3): constant, change to the right and down; (K, h, w)."""
        return torch.einsum("kc,chw->khw", planes, self.linear)

    def costs(self, planes: Tensor, towards: Tensor, further: float = 0.0) -> Tensor:
        """Costs of planes, (K, h, w), in [-1, 1]; further: that much further along."""
        shifts = (self.along(planes) + further)[:, None] * towards[:, None, None]
        there = self.at(torch.cat([self.second, self.there], 1).expand(len(planes), -1, -1, -1), shifts)
        products = box_mean((self.first * there[:, :2]).sum(1, keepdim=True), self.radius)
        return -(products / (self.own * (there[:, 2:] + self.soft)).sqrt())[:, 0]

    def at(self, values: Tensor, shifts: Tensor) -> Tensor:
        """Values (K, C, h, w) at the pixels plus shifts (K, 2, h, w); 0 outside."""
        height, width = self.size
        places = torch.stack([self.linear[1] + shifts[:, 0], self.linear[2] + shifts[:, 1]], -1)
        places = places * torch.tensor([2 / width, 2 / height])
        return F.grid_sample(values, places, mode="bilinear", padding_mode="zeros", align_corners=False)

    def back(self, planes: Tensor, towards: Tensor) -> Tensor:
        """Shifts (K, 2, h, w) from the source's pixels to those of the reference that each plane puts there."""
        slower = 1 + planes[:, 1:] @ towards
        return -(self.along(planes) / slower[:, None, None])[:, None] * towards[:, None, None]


def _direction(pair: _Pair) -> Tensor:
    """Unit vector along which most tiles agree best."""
    reach, tile, distance = PART
    wide, (height, width), shifts = F.pad(pair.second, (reach,) * 4), pair.size, range(2 * reach + 1)
    products = [
        (pair.first * wide[..., i : i + height, j : j + width]).sum(1, keepdim=True) for i in shifts for j in shifts
    ]
    tiles = F.avg_pool2d(torch.cat(products), tile, distance).flatten(1).T.reshape(-1, 1, len(shifts), len(shifts))
    tiles /= tiles.std((2, 3), keepdim=True) + 1e-9
    angles, along = torch.arange(DIRECTIONS) * (math.pi / DIRECTIONS), torch.linspace(-1, 1, len(shifts))
    units = torch.stack([angles.cos(), angles.sin()], -1)
    lines = units[:, None] * along[:, None]
    agreement = F.grid_sample(tiles, lines.expand(len(tiles), -1, -1, -1), align_corners=True).amax(-1).clamp_min(0)
    return units[agreement.square().sum((0, 1)).argmax()]


def _layers(pair: _Pair, towards: Tensor) -> Tensor:
    """The transform's own plane, and those of one shift that most pixels have, (K, 3)."""
    reach = round(REACH * max(pair.size))
    planes = F.pad(torch.arange(-reach, reach + 1.0)[:, None], (0, 2))
    costs = pair.costs(planes, towards)
    costs[reach] -= STAY[0]
    counts = _labels(costs, _breaks(pair.small[0, 0], *LEAP), STEP).flatten().bincount(minlength=len(planes))
    counts[reach] = 0
    most = counts.topk(min(MOST, len(planes)))
    return torch.cat([planes[reach : reach + 1], planes[most.indices[most.values >= LEAST]]])


def _breaks(luma: Tensor, most: float, flat: float) -> tuple[Tensor, Tensor]:
    """Cost of a break between neighbours in a row, (h, w - 1), and in a column, (h - 1, w)."""
    across, along = luma.diff(dim=1).abs(), luma.diff(dim=0).abs()
    mean = (across.mean() + along.mean()) / 2 + 1e-4
    return most / (1 + flat * across / mean), most / (1 + flat * along / mean)


def _labels(costs: Tensor, breaks: tuple[Tensor, Tensor], step: float = math.inf, rounds: int = 1) -> Tensor:
    """The labels (h, w) of least cost, by belief propagation; step: cost of the next label beside a pixel."""
    costs = costs.permute(1, 2, 0).contiguous()  # the labels last
    across, along = breaks[0].T.contiguous(), breaks[1].contiguous()
    sweep = partial(_sweep, step=step)
    right = left = down = up = torch.zeros_like(costs)
    for _ in range(rounds):
        turned = (costs + down + up).transpose(0, 1).contiguous()
        right = sweep(turned, across).transpose(0, 1)
        left = sweep(turned.flip(0), across.flip(0)).flip(0).transpose(0, 1)
        whole = costs + right + left
        down = sweep(whole, along)
        up = sweep(whole.flip(0), along.flip(0)).flip(0)
    return (whole + down + up).argmin(-1)


def _sweep(costs: Tensor, breaks: Tensor, step: float) -> Tensor:
    """Messages to each line of pixels from the one before: costs and messages (lines, pixels, labels)."""
    messages = torch.zeros_like(costs)
    for i, most in enumerate(breaks):
        before = costs[i] + messages[i]
        least = before.amin(-1, keepdim=True)
        to = messages[i + 1]
        torch.minimum(before, least + most[:, None], out=to)
        if step < math.inf:
            near = before + step
            to[:, 1:] = torch.minimum(to[:, 1:], near[:, :-1])
            to[:, :-1] = torch.minimum(to[:, :-1], near[:, 1:])
        to -= least
    return messages


def _fit(pair: _Pair, planes: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """The planes that are left, and the direction."""
    for number in range(ROUNDS + 1):
        costs, labels = _assigned(pair, planes, towards)
        while number and (worth := _worth(costs, labels)).min() < WORTH:
            least = worth.argmin()
            keep = torch.arange(len(planes)) != least
            planes, costs = planes[keep], costs[keep]
            labels = torch.where(labels == least, costs.argmin(0), labels - (labels > least).long())
        if number < len(TURNS):
            towards = _turned(pair, planes, towards, labels, TURNS[number])
        if number < ROUNDS:
            planes = _moved(pair, planes, towards, labels, NEAR[number])
    return planes, towards


def _assigned(pair: _Pair, planes: Tensor, towards: Tensor, rounds: int = 1) -> tuple[Tensor, Tensor]:
    """Costs of planes (K, h, w), those of places that the source's own labels give to others included, and labels."""
    costs = pair.costs(planes, towards)
    costs[0] -= STAY[1]
    there = pair.at(costs[:, None], pair.back(planes, towards))[:, 0]
    shown = _own(_labels(there, pair.breaks_there), len(planes))
    shifts = pair.along(planes)[:, None] * towards[:, None, None]
    costs = costs + TAKEN * (1 - pair.at(shown[:, None], shifts)[:, 0])
    return costs, _labels(costs, pair.breaks, rounds=rounds)


def _own(labels: Tensor, count: int) -> Tensor:
    """1 at each label's pixels, (count, h, w)."""
    return F.one_hot(labels, count).permute(2, 0, 1).float()


def _worth(costs: Tensor, labels: Tensor) -> Tensor:
    """By how much the planes agree better at their pixels than the next best, summed; the first one has no limit."""
    if len(costs) == 1:
        return torch.full((1,), math.inf)
    best = costs.topk(2, 0, largest=False)
    other = torch.where(best.indices[0] == labels, best.values[1], best.values[0])
    gains = other - costs.gather(0, labels[None])[0]
    worth = torch.zeros(len(costs)).index_add_(0, labels.flatten(), gains.flatten())
    worth[0] = math.inf
    return worth


def _turned(pair: _Pair, planes: Tensor, towards: Tensor, labels: Tensor, turns: tuple[float, ...]) -> Tensor:
    """The direction in which the planes agree best at their pixels."""
    own, normal = _own(labels, len(planes)), torch.stack([-towards[1], towards[0]])
    before, best, most = (pair.costs(planes, towards) * own).sum((1, 2)), towards, 0.0
    for turn in (sign * turn for turn in turns for sign in (-1, 1)):
        gains = before - (pair.costs(planes, towards + turn * normal) * own).sum((1, 2))
        if (gain := float(gains[1:].clamp_min(-AGAINST).sum())) > most:
            best, most = towards + turn * normal, gain
    return best


def _moved(pair: _Pair, planes: Tensor, towards: Tensor, labels: Tensor, near: float) -> Tensor:
    """A Newton step of all planes but the first towards the least cost of their pixels."""
    before, at, after = (pair.costs(planes, towards, further) for further in (-near, 0.0, near))
    own = _own(labels, len(planes))
    curved = (own * ((after - 2 * at + before).clamp_min(0) / near**2 + 1e-4)).flatten(1)
    slope = (own * (after - before) / (2 * near)).flatten(1)
    linear, half = pair.linear.flatten(1), max(pair.size) / 2
    weight = torch.tensor([1e-2, SLOPE, SLOPE])
    common = F.pad(planes[1:, 1:].median(0).values if len(planes) > 2 else torch.zeros(2), (1, 0))
    off = torch.cat([torch.zeros(len(planes), 1), (planes - common)[:, 1:]], 1)
    curvature = torch.einsum("cp,kp,dp->kcd", linear, curved, linear) + weight.diag()
    steps = torch.linalg.solve(curvature, -(slope @ linear.T + weight * off))
    steps[0] = 0
    far = steps[:, 0].abs() + 0.4 * half * steps[:, 1:].abs().sum(1)
    return planes + steps * (2 * near / far.clamp_min(2 * near))[:, None]


def _verdict(pair: _Pair, planes: Tensor, towards: Tensor) -> tuple[Tensor, float, float]:
    """Which planes agree on either half where the other half's pixels put them, the first one always.

    And the gain of these on the other half, in standard errors, and the mean error at clear matches, pixels.
    """
    costs, odd = pair.costs(planes, towards), checkerboard(pair.size)
    halves = torch.stack([_labels(costs * half, pair.breaks) for half in (odd, ~odd)])
    of_other = torch.where(odd, halves[1], halves[0])
    own, energy = _own(of_other, len(planes)), pair.first.square().sum(1)[0]
    edges = own * (energy > energy.mean() / 2)
    gains = costs[0] - costs
    agreement = -(costs * edges).sum((1, 2)) / edges.sum((1, 2)).clamp_min(1)
    lead = (gains * edges).sum((1, 2)) / edges.sum((1, 2)).clamp_min(1)
    keep = (agreement >= LIKE) & (lead >= LEAD)
    keep[0] = True
    first, second = (pair.along(planes) * keep[:, None, None]).gather(0, halves)
    clear = costs.amin(0) < CLEAR
    left = float((first - second).abs()[clear].mean()) / 2 if bool(clear.any()) else math.inf
    return keep, gain_of((gains * own * keep[:, None, None]).sum(0)), left


def _hidden(along: Tensor, shifts: Tensor, score: Tensor) -> Tensor:
    """Pixels whose place in the source belongs to a better match, (1, 1, h, w): costs decide."""
    height, width = size_of(along)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    there = shifts[0].round().long()
    to = (rows + there[1]).clamp(0, height - 1) * width + (columns + there[0]).clamp(0, width - 1)
    flat, shift, cost = to.flatten(), along.flatten(), score.flatten()
    best = cost.new_full((height * width,), math.inf).scatter_reduce(0, flat, cost, "amin")
    first = cost <= best[flat]
    seen = shift.new_full((height * width,), -math.inf).scatter_reduce(0, flat[first], shift[first], "amax")
    hidden = ((shift - seen[flat]).abs() > SAME).float().view(1, 1, height, width)
    return (box_mean(hidden, 1) > 0.5).float()
