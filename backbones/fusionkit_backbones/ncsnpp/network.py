"""NCSN++, the network of score-SDE and of the published rectified flows."""

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.numerics.layers import fastest_format

from .blocks import (
    SQRT2,
    AttnBlockpp,
    Combine,
    GaussianFourierProjection,
    Norm,
    Resample,
    ResnetBlock,
    conv,
    dense,
    group_norm,
    sinusoidal_embedding,
)
from .config import NCSNppConfig
from .resampling import Resampling


class NCSNpp(nn.Module):
    """U-Net of Song et al. (2021), appendix H; state-dict names and parameter order of the published code.

    With `patch` 2, blocks of 2x2 pixels enter and leave as channels (pixel unshuffle and shuffle; Shi et al., 2016).

    forward: x (B, num_channels, H, W), label (B,) > 0 -> (B, num_channels, H, W). H and W must be
    multiples of `config.multiple`. With Fourier features the label is the noise level itself (published rectified flows
    pass 999 s, with s = 1 at the data); with positional ones it is an index into `sigmas`.

    The modules stand in one flat list because checkpoints number them so; `forward` walks the list in the order in
    which `_Builder` filled it.
    """

    sigmas: Tensor

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = c = config
        sigmas = torch.linspace(math.log(c.sigma_max), math.log(c.sigma_min), c.num_scales, dtype=torch.float64).exp()
        self.register_buffer("sigmas", sigmas.float())
        builder = _Builder(c)
        self.all_modules = nn.ModuleList(builder.layers())
        # the pyramids' own resampling has no parameters, so it is no part of the numbered list
        self.pyramid_upsample = Resampling(builder.taps, up=True)
        self.pyramid_downsample = Resampling(builder.taps, up=False)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        c, layers = self.config, iter(self.all_modules)
        if c.embedding_type == "fourier":
            sigma, temb = label, next(layers)(label.log())
        else:
            sigma, temb = self.sigmas[label.long()], sinusoidal_embedding(label, c.nf)
        if c.conditional:
            temb = next(layers)(temb)
            temb = next(layers)(F.silu(temb))
        else:
            temb = None
        x = x if c.centered else 2 * x - 1
        hs = self._down(x if c.patch == 1 else fastest_format(F.pixel_unshuffle(x, c.patch)), temb, layers)
        h = next(layers)(hs[-1], temb)
        if c.attention:
            h = next(layers)(h)
        h = self._up(next(layers)(h, temb), hs, temb, layers)
        h = h if c.patch == 1 else F.pixel_shuffle(h, c.patch)
        return h / sigma.view(-1, 1, 1, 1) if c.scale_by_sigma else h

    def _down(self, x: Tensor, temb: Tensor | None, layers: Iterator[nn.Module]) -> list[Tensor]:
        """Compute the features that are skipped to the way up, finest first."""
        c, pyramid, hs = self.config, x, [next(layers)(x)]
        for level in range(len(c.ch_mult)):
            for _ in range(c.num_res_blocks):
                h = next(layers)(hs[-1], temb)
                hs.append(next(layers)(h) if c.has_attention(level) else h)
            if level == len(c.ch_mult) - 1:
                continue
            h = next(layers)(hs[-1], temb)
            if c.progressive_input == "input_skip":
                pyramid = self.pyramid_downsample(pyramid)
                h = next(layers)(pyramid, h)
            elif c.progressive_input == "residual":
                h = pyramid = self._residual(next(layers)(pyramid), h)
            hs.append(h)
        return hs

    def _up(self, h: Tensor, hs: list[Tensor], temb: Tensor | None, layers: Iterator[nn.Module]) -> Tensor:
        """Compute the output from the coarsest features and those that were skipped."""
        c, pyramid = self.config, h
        for level in reversed(range(len(c.ch_mult))):
            for _ in range(c.num_res_blocks + 1):
                h = next(layers)(torch.cat([h, hs.pop()], dim=1), temb)
            if c.has_attention(level):
                h = next(layers)(h)
            coarsest = level == len(c.ch_mult) - 1
            if c.progressive == "output_skip":
                output = _head(h, layers)
                pyramid = output if coarsest else self.pyramid_upsample(pyramid) + output
            elif c.progressive == "residual" and coarsest:
                pyramid = _head(h, layers)
            elif c.progressive == "residual":
                h = pyramid = self._residual(next(layers)(pyramid), h)
            if level:
                h = next(layers)(h, temb)
        return pyramid if c.progressive == "output_skip" else _head(h, layers)

    def _residual(self, x: Tensor, h: Tensor) -> Tensor:
        return (x + h) / (SQRT2 if self.config.skip_rescale else 1.0)


def _head(h: Tensor, layers: Iterator[nn.Module]) -> Tensor:
    """Normalise and convolve by the next two layers."""
    h = next(layers)(h)
    result: Tensor = next(layers)(F.silu(h))
    return result


class _Builder:
    """Makes the layers of one architecture."""

    def __init__(self, c: NCSNppConfig) -> None:
        self.config = c
        self.channels = c.num_channels * c.patch**2
        self.norm: Norm = group_norm if c.normalization == "GroupNorm" else _no_norm
        self.attention = partial(AttnBlockpp, norm=self.norm, init_scale=c.init_scale, skip_rescale=c.skip_rescale)
        self.taps = c.fir_kernel if c.fir else None
        self.resampler = partial(Resample, taps=self.taps)
        self.block = partial(
            ResnetBlock,
            temb_ch=4 * c.nf,
            norm=self.norm,
            style=c.resblock_type,
            taps=self.taps,
            dropout=c.dropout,
            skip_rescale=c.skip_rescale,
            init_scale=c.init_scale,
        )

    def layers(self) -> Iterator[nn.Module]:
        """Yield the layers in the order of the published code."""
        c = self.config
        if c.embedding_type == "fourier":
            yield GaussianFourierProjection(c.nf, c.fourier_scale)
        if c.conditional:
            yield dense(2 * c.nf if c.embedding_type == "fourier" else c.nf, 4 * c.nf)
            yield dense(4 * c.nf, 4 * c.nf)
        yield conv(self.channels, c.nf, 3)
        skips = [c.nf]  # channels of the features that are skipped to the way up
        yield from self._down(skips)
        ch = skips[-1]
        yield self.block(ch, ch)
        if c.attention:
            yield self.attention(ch)
        yield self.block(ch, ch)
        yield from self._up(ch, skips)

    def _down(self, skips: list[int]) -> Iterator[nn.Module]:
        c, pyramid_ch = self.config, self.channels
        for level, mult in enumerate(c.ch_mult):
            for _ in range(c.num_res_blocks):
                yield self.block(skips[-1], c.nf * mult)
                if c.has_attention(level):
                    yield self.attention(c.nf * mult)
                skips.append(c.nf * mult)
            if level == len(c.ch_mult) - 1:
                continue
            ch = skips[-1]
            yield self._halved_or_doubled(ch, up=False)
            if c.progressive_input == "input_skip":
                yield Combine(pyramid_ch, ch, c.progressive_combine)
                ch *= 2 if c.progressive_combine == "cat" else 1
            elif c.progressive_input == "residual":
                yield self.resampler(pyramid_ch, ch, up=False, with_conv=True)
                pyramid_ch = ch
            skips.append(ch)

    def _up(self, ch: int, skips: list[int]) -> Iterator[nn.Module]:
        c, pyramid_ch = self.config, ch
        for level in reversed(range(len(c.ch_mult))):
            for _ in range(c.num_res_blocks + 1):
                yield self.block(ch + skips.pop(), c.nf * c.ch_mult[level])
                ch = c.nf * c.ch_mult[level]
            if c.has_attention(level):
                yield self.attention(ch)
            coarsest = level == len(c.ch_mult) - 1
            if c.progressive == "output_skip":
                yield from self._head(ch)
            elif c.progressive == "residual" and coarsest:
                yield from (self.norm(ch), conv(ch, ch, 3))
            elif c.progressive == "residual":
                yield self.resampler(pyramid_ch, ch, up=True, with_conv=True)
            pyramid_ch = ch
            if level:
                yield self._halved_or_doubled(ch, up=True)
        if c.progressive != "output_skip":
            yield from self._head(ch)

    def _halved_or_doubled(self, ch: int, *, up: bool) -> nn.Module:
        if self.config.resblock_type == "ddpm":
            return self.resampler(ch, ch, up=up, with_conv=self.config.resamp_with_conv)
        return self.block(ch, ch, up=up, down=not up)

    def _head(self, ch: int) -> Iterator[nn.Module]:
        yield self.norm(ch)
        yield conv(ch, self.channels, 3, init_scale=self.config.init_scale)


def _no_norm(_: int) -> nn.Module:
    return nn.Identity()
