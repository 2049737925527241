"""The VQ autoencoder of latent diffusion (Rombach et al., CVPR 2022; VQ-f4), with its state-dict names."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.numerics.layers import Convolution, attention

from .config import DDConfig, VQConfig


def _norm(channels: int, c: DDConfig) -> nn.Module:
    return nn.GroupNorm(c.norm_groups, channels, eps=1e-6) if c.norm_groups else nn.Identity()


class ResnetBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut."""

    def __init__(self, in_ch: int, out_ch: int, c: DDConfig) -> None:
        super().__init__()
        self.norm1 = _norm(in_ch, c)
        self.conv1 = Convolution(in_ch, out_ch, 3, padding=1)
        self.norm2 = _norm(out_ch, c)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = Convolution(out_ch, out_ch, 3, padding=1)
        self.nin_shortcut = Convolution(in_ch, out_ch, 1) if in_ch != out_ch else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions; never holds the N x N matrix in memory."""

    def __init__(self, channels: int, c: DDConfig) -> None:
        super().__init__()
        self.norm = _norm(channels, c)
        self.q = Convolution(channels, channels, 1)
        self.k = Convolution(channels, channels, 1)
        self.v = Convolution(channels, channels, 1)
        self.proj_out = Convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        h = attention(*(layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))).mT.reshape(x.shape)
        return x + self.proj_out(h)


def _attention(channels: int, c: DDConfig) -> nn.Module:
    return AttnBlock(channels, c) if c.attn_type == "vanilla" else nn.Identity()


class Downsample(nn.Module):
    """A convolution with stride two, padded right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour by two, then a convolution: where four outputs share an input, its taps are added up first.

    Four convolutions of 2x2, one for each place in an input's square, in place of one of 3x3 on four times the inputs:
    four ninths of the multiplications. Winograd's algorithm, where there is one (`fastest_format`), saves more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_contiguous():
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        (height, width), padded = x.shape[-2:], F.pad(x, (1, 1, 1, 1))
        result: Tensor | None = None
        for i, rows in enumerate(_halves(self.conv.weight, 2)):
            for j, taps in enumerate(_halves(rows, 3)):
                part = F.conv2d(padded[..., i : height + 1 + i, j : width + 1 + j], taps, self.conv.bias)
                if result is None:
                    like: Any = {"dtype": part.dtype, "device": part.device, "memory_format": torch.channels_last}
                    result = torch.empty(*part.shape[:2], 2 * height, 2 * width, **like)
                result[..., i::2, j::2] = part
        assert result is not None
        return result


def _halves(taps: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Three taps over samples of which the last, or the first, two are equal, as two taps."""
    before, at, after = taps.unbind(axis)
    return torch.stack([before, at + after], axis), torch.stack([before + at, after], axis)


class Middle(nn.Module):
    """Block, attention, block at the bottom of either network."""

    def __init__(self, channels: int, c: DDConfig) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, c)
        self.attn_1 = _attention(channels, c)
        self.block_2 = ResnetBlock(channels, channels, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """One resolution: residual blocks, attention where the configuration has it, and the resampling after them."""

    def __init__(self, in_ch: int, out_ch: int, blocks: int, level: int, c: DDConfig) -> None:
        super().__init__()
        widths = [in_ch] + [out_ch] * blocks
        self.block = nn.ModuleList(ResnetBlock(a, b, c) for a, b in itertools.pairwise(widths))
        has_attention = c.resolution // 2**level in c.attn_resolutions
        self.attn = nn.ModuleList(_attention(out_ch, c) for _ in range(blocks) if has_attention)

    def forward(self, h: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            h = block(h)
            if len(self.attn):
                h = self.attn[i](h)
        for resample in ("downsample", "upsample"):
            if hasattr(self, resample):
                h = getattr(self, resample)(h)
        return h


class Encoder(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, z_channels, H / factor, W / factor)."""

    def __init__(self, c: DDConfig) -> None:
        super().__init__()
        widths = [c.ch] + [c.ch * m for m in c.ch_mult]
        self.conv_in = Convolution(c.in_channels, c.ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level(widths[i], widths[i + 1], c.num_res_blocks, i, c) for i in range(len(c.ch_mult))
        )
        for i in range(len(c.ch_mult) - 1):
            self.down[i].downsample = Downsample(widths[i + 1])
        self.mid = Middle(widths[-1], c)
        self.norm_out = _norm(widths[-1], c)
        self.conv_out = Convolution(widths[-1], c.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """(B, z_channels, h, w) -> (B, out_ch, factor h, factor w), about [-1, 1], not clamped."""

    def __init__(self, c: DDConfig) -> None:
        super().__init__()
        widths = [c.ch * m for m in c.ch_mult]
        self.conv_in = Convolution(c.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], c)
        below = widths[1:] + widths[-1:]
        self.up = nn.ModuleList(Level(below[i], widths[i], c.num_res_blocks + 1, i, c) for i in range(len(c.ch_mult)))
        for i in range(1, len(c.ch_mult)):
            self.up[i].upsample = Upsample(widths[i])
        self.norm_out = _norm(widths[0], c)
        self.conv_out = Convolution(widths[0], c.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class VectorQuantizer(nn.Module):
    """Nearest entry of the codebook (van den Oord et al., 2017)."""

    def __init__(self, entries: int, dim: int, chunk: int = 4096) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / entries, 1.0 / entries)
        self.chunk = chunk

    def indices(self, z: Tensor) -> Tensor:
        """z (B, C, h, w) -> index of the nearest entry, (B h w,), in the order (b, h, w)."""
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).float()
        codes = self.embedding.weight.float()
        norms = codes.square().sum(dim=1)
        with torch.autocast(z.device.type, enabled=False):  # in bfloat16 many entries are as near as one another
            # argmin |z - e|² = argmin |e|² - 2 z·e, a chunk of positions at a time: N x entries never stands in memory
            return torch.cat(
                [torch.addmm(norms, part, codes.t(), alpha=-2).argmin(dim=1) for part in torch.split(flat, self.chunk)]
            )

    def lookup(self, indices: Tensor, like: Tensor) -> Tensor:
        """Entries at `indices`, in the shape of the latent `like`."""
        b, _, h, w = like.shape
        return self.embedding(indices).view(b, h, w, -1).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z -> (the quantised z with a straight-through gradient, the codebook loss, the indices).

        Loss in the published form: |q - sg(z)|² counts 0.25, |sg(q) - z|² counts 1 (their betas are swapped).
        """
        indices = self.indices(z)
        q = self.lookup(indices, z)
        loss = F.mse_loss(z, q.detach()) + 0.25 * F.mse_loss(q, z.detach())
        return z + (q - z).detach(), loss, indices


class VQModel(nn.Module):
    """Encoder, codebook, decoder. Images in [-1, 1], height and width divisible by `config.factor`."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.ddconfig)
        self.decoder = Decoder(config.ddconfig)
        self.quantize = VectorQuantizer(config.n_embed, config.embed_dim)
        self.quant_conv = Convolution(config.ddconfig.z_channels, config.embed_dim, 1)
        self.post_quant_conv = Convolution(config.embed_dim, config.ddconfig.z_channels, 1)

    def encode_to_prequant(self, x: Tensor) -> Tensor:
        """Image (B, 3, H, W) -> latent (B, embed_dim, h, w) before quantisation."""
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Latent (quantised or not) -> image."""
        return self.decoder(self.post_quant_conv(z))
