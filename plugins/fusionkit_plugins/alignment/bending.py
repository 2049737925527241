"""Smooth fields between two scans of one body, whose parts were bent against each other.

Scans of unlike kinds share few edges, but what one shows at a place says what the other is likely to show there. The
source is regressed on features of the reference (its grey levels at several scales, edge strength, distance into the
body), and moved to where it is nearest to that; both are repeated. It is the sum of conditional variances (Pickering et
al., "Direct visual tracking using the sum of conditional variance", 2009; the correlation ratio of Roche et al., MICCAI
1998, with more features), here of each channel, over a linear shift and Gaussian bumps with Gaussian priors, by
Gauss-Newton steps.

The regression knows as little of the true place as the field does, so it weighs little against the prior, and few steps
are taken: more of either bends the source to what the features happen to show.
"""

import torch
import torch.nn.functional as F
from scipy.ndimage import binary_closing, binary_fill_holes
from torch import Tensor

from fusionkit.numerics.homography import Size, resized, size_of
from fusionkit.numerics.tile_fit import scaled
from fusionkit.numerics.window import gaussian_blur

from .field import Field, checkerboard, gain_of, pixels

SIDE = 128  # longest side at which fields are found, pixels
BUMP = 1 / 16  # deviation of a bump, and the distance between bumps, as a share of the side
FREE = 1.5, 1.5  # deviations of the prior, pixels: of the bumps' shifts; of shift, stretch and shear at the border
CORRELATED = 500  # pixels that count as one measurement: residuals are alike far around
BLURS = (2.0, 2.0, 1.0, 1.0, 0.5, 0.5)  # deviations of the blur of the source, a step each
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)  # deviations of the blurs of the reference that features are of
DISTANCES = (2.0, 4.0, 8.0, 16.0)  # and of its body
LEVELS = 6  # grey levels, between which a feature of each scale is linear
BODY = 0.06  # luma of the least bright tissue
RIDGE = 1e-3  # of the regression, per pixel


def find_bending(reference: Tensor, source: Tensor) -> Field:
    """Find the smooth field of a source (1, C, H, W) about the reference's luma (1, 1, H, W), laid over each other."""
    size = scaled(size_of(reference), min(1.0, SIDE / max(size_of(reference))))
    small, other = resized(reference.float().cpu(), size), resized(source.float().cpu(), size)
    body = _body(small)
    fit = _Fit(_features(small, body), size)
    odd = checkerboard(size)
    (shifts, left), (first, _), (second, _) = (
        fit.field(other, use, body[0, 0]) for use in (torch.ones(size), odd.float(), (~odd).float())
    )
    before, *after = (fit.residual(_shifted(other, field))[0].square().sum(0) for field in (0 * shifts, first, second))
    gains = before - torch.where(odd, after[1], after[0])
    factor = max(size_of(reference)) / max(size)
    gain = gain_of(gains)
    return Field(shifts * factor, torch.zeros(1, 1, *size), gain, left * factor, gain > 0)


def _body(luma: Tensor) -> Tensor:
    """What is tissue, its dark inside as well: (1, 1, H, W), 1 or 0."""
    bright = (gaussian_blur(luma, 1.0) > BODY)[0, 0].numpy()
    return torch.from_numpy(binary_fill_holes(binary_closing(bright, iterations=3))).float()[None, None]


def _features(luma: Tensor, body: Tensor) -> Tensor:
    """What the reference shows at each pixel, (pixels, features)."""
    found = [torch.ones_like(luma)]
    for scale in SCALES:
        blurred = gaussian_blur(luma, scale) if scale else luma
        low, high = blurred.quantile(0.01), blurred.quantile(0.99)
        level = ((blurred - low) / (high - low + 1e-6)).clamp(0, 1) * (LEVELS - 1)
        found += [(1 - (level - k).abs()).clamp_min(0) for k in range(LEVELS)]
        if scale:
            around = F.pad(blurred, (1, 1, 1, 1), mode="replicate")
            left, right, up, down = (
                around[..., 1:-1, :-2],
                around[..., 1:-1, 2:],
                around[..., :-2, 1:-1],
                around[..., 2:, 1:-1],
            )
            found += [
                (right - left).hypot(down - up) * (scale / 2),
                (left + right + up + down - 4 * blurred) * scale**2,
            ]
    for distance in DISTANCES:
        inside = gaussian_blur(body, distance)
        found += [inside, inside.square()]
    return torch.cat(found, 1)[0].flatten(1).T


def _shifted(image: Tensor, shifts: Tensor) -> Tensor:
    """An image (1, C, h, w) at its pixels plus shifts."""
    height, width = size_of(image)
    x, y = pixels((height, width))
    at = torch.stack([(x + shifts[:, 0]) * (2 / width), (y + shifts[:, 1]) * (2 / height)], -1)
    return F.grid_sample(image, at, mode="bilinear", padding_mode="border", align_corners=False)


class _Fit:
    """Regression on features (pixels, features) of a reference of this size, and fields that explain its residuals."""

    def __init__(self, features: Tensor, size: Size) -> None:
        self.features = features
        weight = RIDGE * len(features) * torch.eye(features.shape[1])
        self.factor = torch.linalg.cholesky(features.T @ features + weight)
        self.down, self.right = (_bumps(n, BUMP * max(size)) for n in size)
        x, y = pixels(size)
        half = max(size) / 2
        self.linear = torch.stack([torch.ones(size), x / half, y / half])
        self.count = self.down.shape[1] * self.right.shape[1]
        free = torch.tensor([FREE[0]] * self.count + [FREE[1]] * len(self.linear))
        self.stiff = free.pow(-2).repeat(2)

    def residual(self, moved: Tensor) -> Tensor:
        """What the regression leaves of a moved source, (1, C, h, w)."""
        values = moved[0].flatten(1).T
        expected = self.features @ torch.cholesky_solve(self.features.T @ values, self.factor)
        return (expected - values).T.reshape(moved.shape)

    def field(self, source: Tensor, use: Tensor, body: Tensor) -> tuple[Tensor, float]:
        """The shifts (1, 2, h, w) by the pixels used, (h, w), and their posterior deviation over a body."""
        found = torch.zeros_like(self.stiff)
        for blur in BLURS:
            step, curved = self._step(gaussian_blur(source, blur), found, use)
            found = found + step
        effects, covariance = self._gram(body / body.sum().clamp_min(1)), torch.linalg.inv(curved)
        half = len(effects)
        variance = ((covariance[:half, :half] + covariance[half:, half:]) * effects).sum()
        return self._shifts(found), float(variance.clamp_min(0).sqrt())

    def _step(self, source: Tensor, found: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
        """A Gauss-Newton step of all parameters, and the curvature there, the inverse of their covariance."""
        shifts = self._shifts(found)
        error = self.residual(_shifted(source, shifts))[0]
        across, along = (
            (_shifted(source, shifts + half) - _shifted(source, shifts - half))[0]
            for half in (torch.tensor(v).view(1, 2, 1, 1) for v in ((0.5, 0.0), (0.0, 0.5)))
        )
        variance = error.square().mean((1, 2), keepdim=True) + 1e-9
        weight = use / (CORRELATED * len(error) * variance * (1 + error.square() / (4 * variance)))
        both = self._gram((weight * across * along).sum(0))
        curved = torch.cat(
            [
                torch.cat([self._gram((weight * across.square()).sum(0)), both], 1),
                torch.cat([both, self._gram((weight * along.square()).sum(0))], 1),
            ]
        )
        slope = torch.cat([self._onto((weight * towards * error).sum(0)) for towards in (across, along)])
        curved = curved + self.stiff.diag()
        return torch.linalg.solve(curved, slope - self.stiff * found), curved

    def _shifts(self, found: Tensor) -> Tensor:
        """The shifts (1, 2, h, w) of parameters."""
        parts = found.view(2, -1)
        bumps = parts[:, : self.count].view(2, self.down.shape[1], self.right.shape[1])
        linear = torch.einsum("dk,khw->dhw", parts[:, self.count :], self.linear)
        return (self.down @ bumps @ self.right.T + linear)[None]

    def _onto(self, values: Tensor) -> Tensor:
        """Sums of values (h, w) weighted by each parameter's effect."""
        return torch.cat([(self.down.T @ values @ self.right).flatten(), (self.linear * values).sum((1, 2))])

    def _gram(self, weight: Tensor) -> Tensor:
        """Weighted sums of products of every two parameters' effects."""
        rows = torch.einsum("hi,hk,hw->ikw", self.down, self.down, weight)
        bumps = torch.einsum("ikw,wj,wl->ijkl", rows, self.right, self.right).reshape(self.count, self.count)
        mixed = torch.stack([(self.down.T @ (weight * one) @ self.right).flatten() for one in self.linear], 1)
        linear = torch.einsum("khw,hw,lhw->kl", self.linear, weight, self.linear)
        return torch.cat([torch.cat([bumps, mixed], 1), torch.cat([mixed.T, linear], 1)])


def _bumps(length: int, deviation: float) -> Tensor:
    """Gaussians along an axis, (length, bumps), of which the squares add up to about 1 everywhere."""
    count = round(length / deviation) + 1
    centres = (torch.arange(count) - (count - 1) / 2) * deviation + (length - 1) / 2
    bumps = (-(torch.arange(length)[:, None] - centres).square() / (2 * deviation**2)).exp()
    return bumps / bumps[length // 2].square().sum().sqrt()
