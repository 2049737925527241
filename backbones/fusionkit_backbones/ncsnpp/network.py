"""NCSN++, the network of score-SDE and of the published rectified flows."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    SQRT2,
    AttnBlockpp,
    Combine,
    GaussianFourierProjection,
    Resample,
    ResnetBlock,
    conv,
    dense,
    group_norm,
    sinusoidal_embedding,
)
from .config import NCSNppConfig


class NCSNpp(nn.Module):
    """U-Net of Song et al. (2021), appendix H; state-dict names and parameter order of the published code.

    forward: x (B, num_channels, H, W), label (B,) > 0 -> (B, num_channels, H, W). H and W must be
    multiples of `config.multiple`. With Fourier features the label is the noise level itself (published rectified flows
    pass 999 s, with s = 1 at the data); with positional ones it is an index into `sigmas`.

    The modules stand in one flat list because checkpoints number them so; `forward` walks the list in the
    order in which `__init__` filled it.
    """

    sigmas: Tensor

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = c = config
        sigmas = torch.linspace(math.log(c.sigma_max), math.log(c.sigma_min), c.num_scales, dtype=torch.float64).exp()
        self.register_buffer("sigmas", sigmas.float())

        attention = partial(AttnBlockpp, init_scale=c.init_scale, skip_rescale=c.skip_rescale)
        resampler = partial(Resample, fir=c.fir, taps=c.fir_kernel)
        block = partial(
            ResnetBlock,
            temb_ch=4 * c.nf,
            style=c.resblock_type,
            taps=c.fir_kernel if c.fir else None,
            dropout=c.dropout,
            skip_rescale=c.skip_rescale,
            init_scale=c.init_scale,
        )
        last = len(c.ch_mult) - 1
        layers: list[nn.Module] = []

        # time embedding
        if c.embedding_type == "fourier":
            layers.append(GaussianFourierProjection(c.nf, c.fourier_scale))
        if c.conditional:
            layers.append(dense(2 * c.nf if c.embedding_type == "fourier" else c.nf, 4 * c.nf))
            layers.append(dense(4 * c.nf, 4 * c.nf))

        # way down
        layers.append(conv(c.num_channels, c.nf, 3))
        skips, ch, pyramid_ch = [c.nf], c.nf, c.num_channels
        for level, mult in enumerate(c.ch_mult):
            for _ in range(c.num_res_blocks):
                layers.append(block(ch, c.nf * mult))
                ch = c.nf * mult
                if c.has_attention(level):
                    layers.append(attention(ch))
                skips.append(ch)
            if level == last:
                continue
            if c.resblock_type == "ddpm":
                layers.append(resampler(ch, ch, up=False, with_conv=c.resamp_with_conv))
            else:
                layers.append(block(ch, ch, down=True))
            if c.progressive_input == "input_skip":
                layers.append(Combine(pyramid_ch, ch, c.progressive_combine))
                ch *= 2 if c.progressive_combine == "cat" else 1
            elif c.progressive_input == "residual":
                layers.append(resampler(pyramid_ch, ch, up=False, with_conv=True))
                pyramid_ch = ch
            skips.append(ch)

        # bottom
        layers += [block(ch, ch), attention(ch), block(ch, ch)]

        # way up
        for level in reversed(range(last + 1)):
            for _ in range(c.num_res_blocks + 1):
                layers.append(block(ch + skips.pop(), c.nf * c.ch_mult[level]))
                ch = c.nf * c.ch_mult[level]
            if c.has_attention(level):
                layers.append(attention(ch))
            if c.progressive == "output_skip":
                layers += [group_norm(ch), conv(ch, c.num_channels, 3, init_scale=c.init_scale)]
            elif c.progressive == "residual":
                if level == last:
                    layers += [group_norm(ch), conv(ch, ch, 3)]
                else:
                    layers.append(resampler(pyramid_ch, ch, up=True, with_conv=True))
                pyramid_ch = ch
            if level and c.resblock_type == "ddpm":
                layers.append(resampler(ch, ch, up=True, with_conv=c.resamp_with_conv))
            elif level:
                layers.append(block(ch, ch, up=True))
        if c.progressive != "output_skip":
            layers += [group_norm(ch), conv(ch, c.num_channels, 3, init_scale=c.init_scale)]

        self.all_modules = nn.ModuleList(layers)
        # the pyramids' own resampling has no parameters, so it is no part of the numbered list
        self.pyramid_upsample = resampler(0, 0, up=True, with_conv=False)
        self.pyramid_downsample = resampler(0, 0, up=False, with_conv=False)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        c = self.config
        layers = iter(self.all_modules)
        last = len(c.ch_mult) - 1
        scale = SQRT2 if c.skip_rescale else 1.0

        if c.embedding_type == "fourier":
            sigma = label
            temb = next(layers)(label.log())
        else:
            sigma = self.sigmas[label.long()]
            temb = sinusoidal_embedding(label, c.nf)
        if c.conditional:
            temb = next(layers)(temb)
            temb = next(layers)(F.silu(temb))
        else:
            temb = None
        if not c.centered:
            x = 2 * x - 1

        pyramid = x
        hs = [next(layers)(x)]
        for level in range(last + 1):
            for _ in range(c.num_res_blocks):
                h = next(layers)(hs[-1], temb)
                if c.has_attention(level):
                    h = next(layers)(h)
                hs.append(h)
            if level == last:
                continue
            h = next(layers)(hs[-1]) if c.resblock_type == "ddpm" else next(layers)(hs[-1], temb)
            if c.progressive_input == "input_skip":
                pyramid = self.pyramid_downsample(pyramid)
                h = next(layers)(pyramid, h)
            elif c.progressive_input == "residual":
                h = pyramid = (next(layers)(pyramid) + h) / scale
            hs.append(h)

        h = next(layers)(hs[-1], temb)
        h = next(layers)(h)
        h = next(layers)(h, temb)

        for level in reversed(range(last + 1)):
            for _ in range(c.num_res_blocks + 1):
                h = next(layers)(torch.cat([h, hs.pop()], dim=1), temb)
            if c.has_attention(level):
                h = next(layers)(h)
            if c.progressive == "output_skip":
                output = next(layers)(h)
                output = next(layers)(F.silu(output))
                pyramid = output if level == last else self.pyramid_upsample(pyramid) + output
            elif c.progressive == "residual" and level == last:
                pyramid = next(layers)(h)
                pyramid = next(layers)(F.silu(pyramid))
            elif c.progressive == "residual":
                h = pyramid = (next(layers)(pyramid) + h) / scale
            if level:
                h = next(layers)(h) if c.resblock_type == "ddpm" else next(layers)(h, temb)

        if c.progressive == "output_skip":
            h = pyramid
        else:
            h = next(layers)(h)
            h = next(layers)(F.silu(h))
        return h / sigma.view(-1, 1, 1, 1) if c.scale_by_sigma else h
