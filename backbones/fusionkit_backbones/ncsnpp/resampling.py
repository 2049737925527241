"""FIR resampling by two (StyleGAN2's `upfirdn2d`) as depthwise convolutions.

A separable kernel k = a aᵀ / sum is applied after zero insertion (up) or before decimation (down). One depthwise
(transposed) convolution does both steps: no custom kernels, every device, exportable.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACTOR = 2


def fir_kernel(taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """Compute the outer product of `taps`, normalised to sum to `gain`: (K, K)."""
    a = torch.tensor(taps, dtype=torch.float32)
    k = torch.outer(a, a)
    return k * (gain / k.sum())


LINEAR = fir_kernel((1, 3, 3, 1), FACTOR**2)  # the published taps: linear interpolation


def _depthwise(kernel: Tensor, x: Tensor) -> Tensor:
    size = kernel.shape[-1]
    return kernel.to(x.dtype).view(1, 1, size, size).expand(x.shape[1], 1, size, size)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Insert zeros, then apply the FIR filter (`kernel` sums to 4): (B, C, H, W) -> (B, C, 2H, 2W)."""
    height, width = FACTOR * x.shape[-2], FACTOR * x.shape[-1]
    if x.is_contiguous(memory_format=torch.channels_last) and x.device.type == "cpu" and torch.equal(kernel, LINEAR):
        # a tenth of the time of the transposed convolution, in this layout
        wide = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=float(FACTOR), mode="bilinear")
        return wide[..., FACTOR : FACTOR + height, FACTOR : FACTOR + width]
    size = kernel.shape[-1]
    full = F.conv_transpose2d(x, _depthwise(kernel, x), stride=FACTOR, groups=x.shape[1])
    # conv_transpose2d gives the full convolution; upfirdn2d pads by (p + 1) // 2 + 1 before it, p = size - 2
    start = size - 1 - ((size - FACTOR + 1) // 2 + FACTOR - 1)
    return full[..., start : start + height, start : start + width]


def downsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Apply the FIR filter (`kernel` sums to 1), then decimate: (B, C, H, W) -> (B, C, H/2, W/2)."""
    return _filter(x, kernel, kernel.shape[-1] - FACTOR, stride=FACTOR)


def _filter(x: Tensor, kernel: Tensor, pad: int, stride: int) -> Tensor:
    before, after = (pad + 1) // 2, pad // 2
    # upfirdn2d is a true convolution, conv2d a correlation: flip
    kernel = _depthwise(kernel.flip(-1, -2), x)
    return F.conv2d(F.pad(x, (before, after) * 2), kernel, stride=stride, groups=x.shape[1])


class Resampling(nn.Module):
    """Resampling by two (`up` or down) with FIR `taps`; without them by nearest neighbour (up) and mean (down)."""

    kernel: Tensor | None

    def __init__(self, taps: Sequence[float] | None, *, up: bool) -> None:
        super().__init__()
        self.up = up
        kernel = fir_kernel(taps, FACTOR**2 if up else 1.0) if taps else None
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel is None:
            return F.interpolate(x, scale_factor=2, mode="nearest") if self.up else F.avg_pool2d(x, 2)
        return upsample(x, self.kernel) if self.up else downsample(x, self.kernel)


class FIRConv2d(Resampling):
    """A 3x3 convolution that resamples by two: transposed before the FIR filter (up), or strided after it (down)."""

    kernel: Tensor

    def __init__(self, in_ch: int, out_ch: int, taps: Sequence[float], *, up: bool) -> None:
        super().__init__(taps, up=up)
        self.weight = nn.Parameter(torch.empty(out_ch, in_ch, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_ch))

    def forward(self, x: Tensor) -> Tensor:
        pad = self.kernel.shape[-1] - FACTOR
        if self.up:
            x = F.conv_transpose2d(x, self.weight.flip(-1, -2).transpose(0, 1), stride=FACTOR)
            x = _filter(x, self.kernel, pad, stride=1)
        else:
            x = F.conv2d(_filter(x, self.kernel, pad + FACTOR, stride=1), self.weight, stride=FACTOR)
        return x + self.bias.view(1, -1, 1, 1)
