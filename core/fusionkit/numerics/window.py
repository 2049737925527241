"""Means and maxima over windows, Gaussian blur, guided filter."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the part of a (2 radius + 1)² window that lies inside the image: (B, C, H, W)."""
    full = 1.0
    for axis in (-1, -2):
        length = x.shape[axis]
        r = min(radius, length - 1)
        full *= 2 * r + 1
        if r == 1 and length > 2 and not x.requires_grad:
            x = _three(x, axis)
            continue
        x = _window_sum(F.pad(x, (r, r, 0, 0) if axis == -1 else (0, 0, r, r)), axis, 2 * r + 1)
        held = [min(i + r + 1, length) - max(i - r, 0) for i in range(r)]  # at either end windows hold fewer pixels
        ends = x.new_tensor([(2 * r + 1) / count for count in held])
        last = ends[: length - r].flip(0)
        x.narrow(axis, 0, r).mul_(ends if axis == -1 else ends[:, None])
        x.narrow(axis, length - len(last), len(last)).mul_(last if axis == -1 else last[:, None])
    return x.div_(full)


def _three(x: Tensor, axis: int) -> Tensor:
    """Sums of three neighbours along an axis, of the two at either end times 3 / 2: two passes in place of ten."""
    count = x.shape[axis] - 2
    left, middle, right = (x.narrow(axis, i, count) for i in range(3))
    total = torch.empty_like(x)
    torch.add(middle, left, out=total.narrow(axis, 1, count)).add_(right)
    for end, beside in ((0, 1), (count + 1, count)):
        ends = torch.add(x.narrow(axis, end, 1), x.narrow(axis, beside, 1), out=total.narrow(axis, end, 1))
        ends.mul_(1.5)
    return total


def box_max(x: Tensor, radius: int) -> Tensor:
    """Maximum over the part of a (2 radius + 1)² window that lies inside the image: (B, C, H, W).

    By doubling: maxima of 1, 2, 4 ... neighbours, and two that overlap at the end.
    """
    for axis in (-1, -2):
        r = min(radius, x.shape[axis] - 1)
        size, width = 2 * r + 1, 1
        x = F.pad(x, (r, r, 0, 0) if axis == -1 else (0, 0, r, r), value=-torch.inf)
        while width < size:
            step = min(width, size - width)
            length = x.shape[axis] - step
            x = torch.maximum(x.narrow(axis, 0, length), x.narrow(axis, step, length))
            width += step
    return x


def _window_sum(x: Tensor, axis: int, size: int) -> Tensor:
    """Sum `size` neighbours along an axis by doubling: sums of 1, 2, 4 ... add up by the binary digits of `size`."""
    length = x.shape[axis] - size + 1
    total, start, width = x.narrow(axis, 0, length).clone(), 1, 1  # a window's size is odd
    while True:
        if width > 1 and size & width:
            total += x.narrow(axis, start, length)
            start += width
        if 2 * width > size:
            return total
        x = x.narrow(axis, 0, x.shape[axis] - width) + x.narrow(axis, width, x.shape[axis] - width)
        width *= 2


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of deviation `sigma` pixels, cut at three of them, borders replicated: (B, C, H, W)."""
    radius = max(1, round(3 * sigma))
    taps = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(radius + 1)]
    whole = taps[0] + 2 * sum(taps[1:])
    for axis in (-1, -2):
        length = x.shape[axis]
        padded = F.pad(x, (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius), mode="replicate")
        x = padded.narrow(axis, radius, length) * (taps[0] / whole)
        for i, tap in enumerate(taps[1:], start=1):
            x.add_(padded.narrow(axis, radius - i, length), alpha=tap / whole)
            x.add_(padded.narrow(axis, radius + i, length), alpha=tap / whole)
    return x


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: Tensor | float) -> Tensor:
    """Smooth x along the edges of `guide` (He et al., TPAMI 2013): per window the best fit x ≈ a guide + b.

    a = cov(guide, x) / (var(guide) + eps), b = mean(x) - a mean(guide), both averaged over windows.
    """
    gain, offset = guided_line(guide, x, radius, eps)
    return offset.addcmul_(gain, guide)


def guided_line(guide: Tensor, x: Tensor, radius: int, eps: Tensor | float) -> tuple[Tensor, Tensor]:
    """Averaged a and b of `guided_filter`, (B, C, H, W) each."""
    mean_g, mean_x = box_mean(guide, radius), box_mean(x, radius)
    covariance = box_mean(guide * x, radius).addcmul_(mean_g, mean_x, value=-1)
    variance = box_mean(guide * guide, radius).addcmul_(mean_g, mean_g, value=-1).clamp_min_(0)
    a = covariance / variance.add_(eps)
    b = torch.addcmul(mean_x, a, mean_g, value=-1)
    return box_mean(a, radius), box_mean(b, radius)


def reduced(x: Tensor, factor: int) -> Tensor:
    """Means of factor² pixels, fewer at the far borders: (B, C, H, W) -> (B, C, h, w)."""
    if factor == 1:
        return x
    if x.device.type != "cpu":
        return F.avg_pool2d(x, factor, ceil_mode=True)
    for axis in (-2, -1):  # by slices: on a CPU, `avg_pool2d` takes five times as long
        step = (slice(None),) * (x.ndim + axis)
        total, last = x[(*step, slice(0, None, factor))].clone(), x.shape[axis] % factor or factor
        for i in range(1, factor):
            part = x[(*step, slice(i, None, factor))]
            total.narrow(axis, 0, part.shape[axis]).add_(part)
        total.narrow(axis, -1, 1).mul_(factor / last)
        x = total
    return x.div_(factor**2)


def enlarged_rows(x: Tensor, factor: int, rows: slice, width: int) -> Tensor:
    """Interpolate samples of factor² pixels each, (B, C, h, w), linearly to rows of the pixels, `width` long."""
    if factor == 1:
        return x[..., rows, :]

    def above(row: int) -> int:  # the sample at or above the middle of a row; -1 over the first one's
        return (2 * row + 1 - factor) // (2 * factor)

    first, count = above(rows.start), x.shape[-1]
    few = torch.arange(first, above(rows.stop - 1) + 2, device=x.device).clamp_(0, x.shape[-2] - 1)
    few = x.index_select(-2, few)  # widened before they become more
    few = torch.cat([few[..., :1], few, few[..., -1:]], -1)
    wide = few.new_empty(*few.shape[:-1], factor * count)
    result = few.new_empty(*few.shape[:-2], rows.stop - rows.start, width)
    shares = [(i + 0.5) / factor - 0.5 for i in range(factor)]
    for i, share in enumerate(shares):  # by slices: on a CPU, `interpolate` takes three times as long
        left = few[..., share >= 0 :]
        wide[..., i::factor] = torch.lerp(left[..., :count], left[..., 1 : count + 1], share % 1)
    for row in range(rows.start, min(rows.start + factor, rows.stop)):
        part = result[..., row - rows.start :: factor, :]
        upper, lower = (
            wide.narrow(-2, at, part.shape[-2])[..., :width] for at in (above(row) - first, above(row) - first + 1)
        )
        torch.lerp(upper, lower, shares[row % factor] % 1, out=part)
    return result
