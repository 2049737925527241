"""Defocus in a stack of frames: discs, how they grow from frame to frame, which end is near, the veil of the near.

A thin lens shows a point that is m frames out of focus as a disc of radius `blur` m, where the focus moves by even
steps. Depth is counted in frames; light is linear, the square of stored values.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.window import box_max, box_mean

Near = Literal["auto", "first", "last"]
# samples within a disc; radii that frames are compared with; frames that are compared; samples that suffice
POINTS, RADII, COMPARED, ENOUGH = 96, tuple(2 ** (i / 2) for i in range(9)), 6, 300
FLAT, SURE = 6, (1 / 255) ** 2  # radius within which depth is even where the blur is measured; least curve of the error
AGREE = 0.7  # quartiles of the blur are this share of the median apart, at most, where it is taken to be known
BESIDE, LEAST, MOST, CONTRAST = 3, 2.0, 30.0, 8 / 255  # of edges at which the near end is sought: radius, discs, light
DECIDED = 0.9  # error of the better end over the other's, at most
# of near regions that are too wide: pixels that they lose, at most; how much sharper the far frame is there, at least
# (less eats into near things); deviations, and share of the root of the light, by which the near frame may differ from
# the blurred ground
WIDTH, SHARPER, ALIKE, STEP = 8, 1.5, 0.5, 6 / 255
# a thin thing that was missed: its sharpness over that of the least sharp frame behind it, and over none, at least; the
# radius of its disc in the frame that was taken
TWICE, SHARP, SPREAD = 2.5, 12 / 255, 3.0
THIN = 1.0  # radius of a disc below which it covers nothing
COVERED = 0.7  # cover beyond which what lies below is not brought out: noise grows by 1 / (1 - cover)
WRONG = 0.1  # error of a veil's light, as a share of it


class Optics(NamedTuple):
    """Growth of discs a frame, in samples, 0 if it is not known; the near end, None if it is not."""

    blur: float
    near: Near | None


def defocused(x: Tensor, radius: float) -> Tensor:
    """Blur images (B, C, H, W) by a disc; borders replicated."""
    margin = math.ceil(radius) + 1
    padded = F.pad(x, (margin,) * 4, mode="replicate")
    size = padded.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n, device=x.device) * n for n in size)  # whole pixels, modulo the size
    kernel = (radius + 0.5 - torch.hypot(fy[:, None], fx)).clamp(0, 1)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(kernel / kernel.sum()), s=size)
    return blurred[..., margin:-margin, margin:-margin]


def fit(frames: Tensor, sharp: Tensor, depth: Tensor, told: Near = "auto") -> Optics:
    """Find the optics of frames (N, 1, H, W) whose sharp image and depth, (1, 1, H, W), are known about.

    depth: as the frames are counted. told: the near end, if it is known.
    """
    blur = _growth(frames, sharp.square(), depth)
    near = told if told != "auto" else _nearest_end(frames, sharp.square(), depth, blur) if blur else None
    return Optics(blur, near)


def _growth(frames: Tensor, light: Tensor, depth: Tensor) -> float:
    """Growth of discs a frame: the median over places of even depth of the radius that explains a frame there."""
    count = len(frames)
    discs = torch.cat([defocused(light, r) for r in RADII]).clamp_min_(0).sqrt_()
    even = box_max(depth, FLAT) + box_max(-depth, FLAT)
    found = []
    for j in sorted({round(i * (count - 1) / (COMPARED - 1)) for i in range(COMPARED)}):
        apart = (depth - j).abs()
        errors = box_mean((discs - frames[j]).square(), 2)
        best = errors.argmin(0, keepdim=True)
        low, mid, high = (errors.gather(0, (best + i).clamp(0, len(RADII) - 1)) for i in (-1, 0, 1))
        curve = low + high - 2 * mid
        inside = (best > 0) & (best < len(RADII) - 1)
        valid = inside & (curve > SURE) & (apart > 0.75) & (even < 0.25 + 0.2 * apart)
        place = best + 0.5 * (low - high) / curve.clamp_min(1e-12)
        found.append((2 ** (place / 2) / apart)[valid])
    ratios = torch.cat(found)
    if len(ratios) < ENOUGH:
        return 0.0
    low, mid, high = torch.quantile(ratios[:: max(1, len(ratios) // 100_000)], torch.tensor([0.25, 0.5, 0.75])).tolist()
    return mid if high - low < AGREE * mid else 0.0


def _nearest_end(frames: Tensor, light: Tensor, depth: Tensor, blur: float) -> Near | None:
    """The near end: of two surfaces at an edge, the frame focused on the near one shows the far one unmixed, blurred.

    The frame focused on the far one shows both mixed on either side.
    """
    errors = []
    for sign in (-1, 1):  # beside a surface that was sharp in earlier frames, and in later ones
        other = sign * box_max(sign * depth, BESIDE)
        radius = (other - depth).abs() * blur
        at = _some((radius >= LEAST) & (radius <= MOST))
        y, x = _around(at, radius[at], depth.shape[-2:])
        own = (depth[0, 0, y, x] - depth[at]).abs() < radius[at] / blur / 2
        values, shares = light[0, 0, y, x], own.sum(0).clamp_min(1)
        ground, beside = ((values * part).sum(0) / part.sum(0).clamp_min(1) for part in (own, ~own))
        seen = frames[other[at].round().long(), 0, at[2], at[3]].square()
        contrast = (ground.sqrt() - beside.sqrt()).abs()
        clear = (contrast > CONTRAST) & (shares > POINTS // 4) & (shares < POINTS)
        relative = ((seen - ground).abs() / (ground - beside).abs().clamp_min(1e-6))[clear]
        if len(relative) < ENOUGH:
            return None
        errors.append(float(relative.median()))
    first, last = errors
    return "first" if first < DECIDED * last else "last" if last < DECIDED * first else None


def rescued(depth: Tensor, sharpness: Tensor, blur: float) -> Tensor:
    """The depth, with thin things before something textured: both are sharp there, each in its frame, none between.

    From the far end a pixel's sharpness falls behind its own frame and rises again in a nearer one: that one is taken
    where most of 5x5 pixels agree. depth: (1, 1, H, W) from the near end, in which order the sharpness is.
    """
    found, best, valley = depth.clone(), torch.zeros_like(depth), torch.full_like(depth, torch.inf)
    for j in reversed(range(len(sharpness))):
        sharp, nearer = sharpness[j : j + 1], depth - j >= 1
        again = nearer & (sharp > TWICE * valley) & (sharp > best) & (sharp > SHARP)
        found, best = torch.where(again, j, found), torch.where(again, sharp, best)
        valley = torch.where(nearer, torch.minimum(valley, sharp), valley)
    mask = (blur * (depth - found) >= SPREAD).float()
    share = box_mean(mask, 2)
    around = (box_mean(mask * found, 2) / share.clamp_min(1e-6)).round()
    return torch.where(share > 0.5, torch.where(mask > 0, found, around), depth)


def slimmed(depth: Tensor, frames: Tensor, sharpness: Tensor, blur: float) -> Tensor:
    """The depth, near regions narrowed to what is near: a measure of focus reaches over their edges by its window.

    From its border inwards, a pixel goes to the far side if the far frame is clearly sharper there, and if its light in
    the near frame is what the far side's gives through a disc. depth: (1, 1, H, W) from the near end, in which order
    the frames and their sharpness, (N, 1, H, W), are.
    """
    depth = depth.clone()
    for _ in range(WIDTH):
        far = box_max(depth, 1)
        behind, now = (sharpness.gather(0, z.round().long()) for z in (far, depth))
        at = tuple(((far > depth + 0.75) & (behind > SHARPER * now)).nonzero().T)
        if not len(at[0]):
            break
        near, beyond = depth[at], far[at]
        y, x = _around(at, blur * (beyond - near) + 0.5, depth.shape[-2:])
        ground = depth[0, 0, y, x] > beyond - 0.75
        count, values = ground.sum(0).clamp_min(1), frames[beyond.round().long().expand_as(y), 0, y, x].square()
        mean = (values * ground).sum(0) / count
        deviation = ((values - mean).square() * ground).sum(0).div(count).sqrt()
        apart = (frames[near.round().long(), 0, at[2], at[3]].square() - mean).abs()
        alike = apart < torch.maximum(ALIKE * deviation, STEP * mean.sqrt())
        depth[at] = torch.where(alike & (ground.sum(0) > POINTS // 8), beyond, near)
    return depth


def veil(image: Tensor, depth: Tensor, edges: Tensor, blur: float) -> tuple[Tensor, Tensor]:
    """Light of nearer things that lies over each pixel, and how much of it they cover.

        cover(x) = Σ_y D(x - y; r_y),  veil(x) = Σ_y D(x - y; r_y) light(y),  r_y = blur (depth(x) - edges(y)) >= 1

    with D a disc of area one: a pixel is taken from the frame in which `depth` is sharp, where what lies r_y / blur
    frames nearer is a disc. Sums are over 96 points of the largest disc that may reach x.

    image: (1, 1 or 3, H, W), luma or RGB. depth: (1, 1, H, W) from the near end; edges: that of what covers, whose
    edges lie as they are seen. Gives (1, 1, H, W) and (1, C, H, W), linear.
    """
    light, radius = image.square(), reached(depth, edges, blur)[0]
    cover, spread = torch.zeros_like(depth), torch.zeros_like(light)
    places = (radius >= THIN).nonzero()
    for start in range(0, len(places), 2**17):
        at = tuple(places[start : start + 2**17].T)
        reach, taken = radius[at], depth[at]
        y, x = _around(at, reach + 0.5, depth.shape[-2:])
        r = blur * (taken - edges[0, 0, y, x])
        disc = (r + 0.5 - torch.hypot((y - at[2]).float(), (x - at[3]).float())).clamp_(0, 1)
        disc.div_((math.pi * r.square()).clamp_min_(1)).mul_(r >= THIN)
        disc.mul_(math.pi * (reach + 0.5).square() / POINTS)
        cover[at] = disc.sum(0)
        for c in range(light.shape[1]):
            spread[0, c, at[2], at[3]] = (disc * light[0, c, y, x]).sum(0)
    return cover, spread


def cleared(image: Tensor, cover: Tensor, spread: Tensor) -> Tensor:
    """What lies below the veil: (light - veil) / (1 - cover), as far as that brings out more than noise."""
    gain = (COVERED / cover.clamp_min(1e-6)).clamp_(max=1)
    return (image.square() - gain * spread).div_(1 - gain * cover).clamp_(0, 1).sqrt_()


def trusted(image: Tensor, beside: Tensor, cover: Tensor, spread: Tensor) -> Tensor:
    """Share of the cleared image in its best mean with `beside`: 1 - E[error²] / E[difference²] over 5x5 pixels.

    image: sharp under a veil; beside: the frame that is focused on the veil's thing, which shows the same place without
    veil, but blurred; (1, C, H, W) each. The error is that of a veil that is wrong by a tenth: large on dark ground.
    Empirical Wiener filter (Lee, "Digital image enhancement and noise filtering by use of local statistics", 1980).
    """
    below = cleared(image, cover, spread)
    light = below.square() + WRONG * spread / (1 - cover.clamp(max=COVERED))
    error, apart = ((x - below).square().sum(1, keepdim=True) for x in (light.sqrt_(), beside))
    share = 1 - box_mean(error, 2) / box_mean(apart, 2).clamp_min_(1e-9)
    return torch.where(cover > 0, share.clamp_(0, 1), 1)


def reached(depth: Tensor, edges: Tensor, blur: float) -> tuple[Tensor, Tensor]:
    """Bound of the distance from which nearer things reach each pixel, and the nearest one's depth; see `veil`.

    By windows of 1, 2, 3, 4, 5, 7, 9 ... samples; depth: the pixel's own where nothing reaches it.
    """
    bound, found, size, most = torch.zeros_like(depth), depth, 1, blur * float(depth.max() - edges.min())
    while True:
        nearest = -box_max(-edges, size)
        radius = blur * (depth - nearest)
        bound = torch.maximum(bound, radius.clamp(max=1.42 * size))
        found = torch.where(radius + 0.5 >= size, torch.minimum(found, nearest), found)
        if size >= most:
            return bound, found
        size = math.ceil(1.25 * size)


def _some(mask: Tensor) -> tuple[Tensor, ...]:
    """Places where a mask (1, 1, H, W) is true, evenly some thousands of them."""
    places = mask.nonzero()
    return tuple(places[:: max(1, len(places) // 8000)].T)


def _around(at: tuple[Tensor, ...], radius: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Rows and columns of `POINTS` points, evenly over discs around places: (POINTS, places) each."""
    order = torch.arange(POINTS, device=radius.device).view(-1, 1)
    distance, angle = ((order + 0.5) / POINTS).sqrt() * radius, order * (math.pi * (3 - math.sqrt(5)))
    y = (at[2] + distance * angle.sin()).round_().long().clamp_(0, size[-2] - 1)
    x = (at[3] + distance * angle.cos()).round_().long().clamp_(0, size[-1] - 1)
    return y, x
