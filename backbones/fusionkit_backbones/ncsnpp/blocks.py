"""The layers of NCSN++. Attribute names (`Conv_0`, `NIN_1` ...) are those of the published state dicts."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.numerics.layers import Convolution, attention

from .resampling import FIRConv2d, Resampling

SQRT2 = math.sqrt(2.0)
Norm = Callable[[int], nn.Module]  # the normalisation of so many channels


def variance_scaling_(weight: Tensor, scale: float, fan_in: int, fan_out: int) -> Tensor:
    """Initialise uniformly with variance 1/fan_avg, times `scale` (DDPM's `default_init`); 0 means 1e-10."""
    limit = math.sqrt(3.0 * max(scale, 1e-10) / ((fan_in + fan_out) / 2))
    with torch.no_grad():
        return weight.uniform_(-limit, limit)


def conv(
    in_ch: int, out_ch: int, size: int, *, stride: int = 1, padding: int | None = None, init_scale: float = 1.0
) -> Convolution:
    """Make a convolution with DDPM's initialisation and zero bias."""
    layer = Convolution(in_ch, out_ch, size, stride=stride, padding=size // 2 if padding is None else padding)
    variance_scaling_(layer.weight, init_scale, in_ch * size**2, out_ch * size**2)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def dense(in_ch: int, out_ch: int) -> nn.Linear:
    """Make a linear layer with DDPM's initialisation and zero bias."""
    layer = nn.Linear(in_ch, out_ch)
    variance_scaling_(layer.weight, 1.0, in_ch, out_ch)
    nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a group normalisation over at most 32 groups of at least four channels."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


class GaussianFourierProjection(nn.Module):
    """Random Fourier features of a scalar: (B,) -> (B, 2 size). `W` is fixed, yet a parameter in checkpoints."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        frequencies = (torch.randn(size) * scale).half().float()  # which weights stored as float16 keep
        self.W = nn.Parameter(frequencies, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        # the order of the products matters: the phases reach several hundred radians
        phase = x[:, None] * self.W[None, :] * 2 * math.pi
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


def sinusoidal_embedding(t: Tensor, size: int) -> Tensor:
    """Embed a time as the transformer embeds positions: (B,) -> (B, size)."""
    half = size // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000) / (half - 1)))
    phase = t.float()[:, None] * frequencies[None, :]
    return F.pad(torch.cat([phase.sin(), phase.cos()], dim=1), (0, size % 2))


class NIN(nn.Module):
    """ "Network in network": a 1x1 convolution whose weight is stored as (in, out)."""

    def __init__(self, in_ch: int, out_ch: int, init_scale: float = 0.1) -> None:
        super().__init__()
        self.W = nn.Parameter(variance_scaling_(torch.empty(in_ch, out_ch), init_scale, in_ch, out_ch))
        self.b = nn.Parameter(torch.zeros(out_ch))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.W.t()[:, :, None, None], self.b)


class AttnBlockpp(nn.Module):
    """Self-attention over all positions, with a residual connection."""

    def __init__(self, channels: int, *, norm: Norm, init_scale: float, skip_rescale: bool) -> None:
        super().__init__()
        self.GroupNorm_0 = norm(channels)
        self.NIN_0 = NIN(channels, channels)
        self.NIN_1 = NIN(channels, channels)
        self.NIN_2 = NIN(channels, channels)
        self.NIN_3 = NIN(channels, channels, init_scale=init_scale)
        self.scale = SQRT2 if skip_rescale else 1.0

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        h = attention(*(nin(h).flatten(2).mT for nin in (self.NIN_0, self.NIN_1, self.NIN_2))).mT.reshape(x.shape)
        return (x + self.NIN_3(h)) / self.scale


class Combine(nn.Module):
    """Input of the pyramid into a level: a 1x1 convolution, then sum or concatenation."""

    def __init__(self, pyramid_ch: int, channels: int, method: str) -> None:
        super().__init__()
        self.Conv_0 = conv(pyramid_ch, channels, 1)
        self.method = method

    def forward(self, pyramid: Tensor, h: Tensor) -> Tensor:
        pyramid = self.Conv_0(pyramid)
        return pyramid + h if self.method == "sum" else torch.cat([pyramid, h], dim=1)


class Resample(nn.Module):
    """`Resampling`, optionally with a 3x3 convolution; takes the arguments of a `ResnetBlock`."""

    def __init__(self, in_ch: int, out_ch: int, *, up: bool, with_conv: bool, taps: Sequence[float] | None) -> None:
        super().__init__()
        self.up, self.with_conv, self.fir = up, with_conv, bool(taps)
        self.resampling = Resampling(taps, up=up)
        if with_conv and taps:
            self.Conv2d_0 = FIRConv2d(in_ch, out_ch, taps, up=up)
            variance_scaling_(self.Conv2d_0.weight, 1.0, in_ch * 9, out_ch * 9)
        elif with_conv:
            self.Conv_0 = conv(in_ch, out_ch, 3) if up else conv(in_ch, out_ch, 3, stride=2, padding=0)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        if not self.with_conv:
            return self.resampling(x)
        if self.fir:
            return self.Conv2d_0(x)
        return self.Conv_0(self.resampling(x) if self.up else F.pad(x, (0, 1, 0, 1)))


class ResnetBlock(nn.Module):
    """Residual block of NCSN++: `biggan` resamples inside the block, `ddpm` never does.

    The two differ in state-dict names only by the shortcut: `Conv_2` (biggan) or `NIN_0` (ddpm).
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        *,
        temb_ch: int,
        norm: Norm,
        style: str,
        taps: Sequence[float] | None,
        dropout: float,
        skip_rescale: bool,
        init_scale: float,
        up: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.scale = SQRT2 if skip_rescale else 1.0
        self.resampling = Resampling(taps, up=up) if up or down else None
        self.GroupNorm_0 = norm(in_ch)
        self.Conv_0 = conv(in_ch, out_ch, 3)
        self.Dense_0 = dense(temb_ch, out_ch)  # unconditional checkpoints carry it too
        self.GroupNorm_1 = norm(out_ch)
        self.Dropout_0 = nn.Dropout(dropout)
        self.Conv_1 = conv(out_ch, out_ch, 3, init_scale=init_scale)
        self.shortcut = "identity"
        if style == "biggan" and (in_ch != out_ch or up or down):
            self.Conv_2, self.shortcut = conv(in_ch, out_ch, 1), "Conv_2"
        elif style == "ddpm" and in_ch != out_ch:
            self.NIN_0, self.shortcut = NIN(in_ch, out_ch), "NIN_0"

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = F.silu(self.GroupNorm_0(x))
        if self.resampling is not None:
            h, x = self.resampling(h), self.resampling(x)
        h = self.Conv_0(h)
        if temb is not None:
            h += self.Dense_0(F.silu(temb))[:, :, None, None]
        h = self.Conv_1(self.Dropout_0(F.silu(self.GroupNorm_1(h), inplace=not torch.is_grad_enabled())))
        if self.shortcut != "identity":
            x = getattr(self, self.shortcut)(x)
        h += x
        return h.div_(self.scale)
