"""A network that looks at a small copy of the whole picture, and says how each place is to be toned.

    b = 1 - (1 - (x - a) / (1 - a))^k             tone of the whole picture: black a, light k >= 1
    x₀ = b + A b + c                              3x4 numbers A, c of each place and brightness

A, c come from a grid over height, width and brightness, read at each pixel by trilinear interpolation, so that they
follow the picture's edges (Chen et al., "Real-time edge-aware image processing with the bilateral grid", SIGGRAPH 2007;
predicted by a network: Gharbi et al., "Deep bilateral learning for real-time image enhancement", SIGGRAPH 2017). Such
an answer cannot invent texture, and its cost hardly grows with the picture's size.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fusionkit.numerics.layers import fastest_format
from fusionkit.numerics.luma import luma

SIDE, CELL = 160, 16  # longer side of the small copy, and pixels of it to a cell of the grid
LEVEL = 1 / 255
RANKS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)  # of the brightness, which the network is told
MOST = 3.5  # largest log k: light of 33 times


class AffineGridConfig(BaseModel):
    """Architecture of an `AffineGrid`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    multiple: ClassVar[int] = CELL
    widths: tuple[int, int, int, int] = Field((16, 32, 64, 96), description="channels at 1/2, 1/4, 1/8, 1/16")
    blocks: int = Field(2, ge=0, le=100, description="residual blocks at 1/16")
    depth: int = Field(8, ge=2, le=64, description="cells over brightness")


class Tones:
    """What the network says of B pictures: how each of their pixels is toned, at any size.

    black, light: a and log k of the whole picture, (B, 1, 1, 1). grid: A and c, (B, 12, depth, h, w).
    """

    def __init__(self, black: Tensor, light: Tensor, grid: Tensor) -> None:
        self.black, self.light, self.grid = black, light, grid

    def whole(self, x: Tensor) -> Tensor:
        """Tone by a and k alone: (B, 3, H, W) in [0, 1] -> the same."""
        return _toned(x, self.black, self.light)

    def __call__(self, x: Tensor, y: Tensor, x_: Tensor) -> Tensor:
        """Tone pixels x (B, 3, H, W) at places y (H,) and x_ (W,) in [-1, 1], the picture's ends; in about [0, 1]."""
        base = self.whole(x)
        brightness = 2 * luma(base) - 1
        places = torch.stack(
            [
                x_.view(1, 1, -1).expand_as(brightness[:, 0]),
                y.view(1, -1, 1).expand_as(brightness[:, 0]),
                brightness[:, 0],
            ],
            dim=-1,
        )
        read = F.grid_sample(self.grid, places[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        read = read.view(len(x), 3, 4, *x.shape[-2:])
        return base + (read[:, :, :3] * base[:, None]).sum(2) + read[:, :, 3]


class AffineGrid(nn.Module):
    """Tones of pictures from small copies (B, 3, h, w) in [0, 1], h and w multiples of 16, and t (B,)."""

    def __init__(self, config: AffineGridConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        told, wide = len(RANKS) + 3 + 1, widths[-1]
        self.told = nn.Sequential(nn.Linear(told, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
        self.tone = _zero(nn.Linear(wide, 2))
        self.down = nn.ModuleList(
            nn.Conv2d(channels, width, 3, 2, padding=1) for channels, width in zip((6, *widths), widths, strict=False)
        )
        self.told_to = nn.ModuleList(nn.Linear(wide, width) for width in widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), _zero(nn.Conv2d(wide, wide, 3, padding=1)))
            for _ in range(config.blocks)
        )
        self.seen = nn.Sequential(nn.Linear(2 * wide, wide), nn.ReLU(), nn.Linear(wide, wide))
        self.last = _zero(nn.Conv2d(wide, 12 * config.depth, 1))
        self.gate = _zero(nn.Linear(wide, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tones:
        """Say how each place is toned."""
        ranks = luma(x)[..., ::2, ::2].flatten(1).quantile(torch.tensor(RANKS, device=x.device), dim=1).T
        means = x.mean(dim=(2, 3))
        told = torch.cat([torch.log(torch.cat([ranks, means], 1) + LEVEL) / 2 + 1, t.view(-1, 1)], 1)
        told = self.told(told)
        black, light = self.tone(told).view(-1, 2, 1, 1, 1).unbind(1)
        black = torch.sigmoid(black - 2) * ranks[:, :1, None, None]
        light = MOST * torch.sigmoid(light - 1)
        base = _toned(x, black, light)
        h = fastest_format(torch.cat([2 * base - 1, 2 * x - 1], 1))
        for conv, to in zip(self.down, self.told_to, strict=True):
            h = F.relu(conv(h) + to(told)[..., None, None])
        for block in self.blocks:
            h = h + block(h)
        whole = self.seen(torch.cat([h.mean(dim=(2, 3)), told], 1))
        gate = torch.sigmoid(4 * self.gate(F.relu(whole)) + 2)
        grid = self.last(F.relu(h + whole[..., None, None])).view(len(x), 12, self.config.depth, *h.shape[-2:])
        return Tones(gate[..., None, None] * black, gate[..., None, None] * light, gate[..., None, None, None] * grid)


def thumbnail(x: Tensor) -> Tensor:
    """A small copy of pictures (B, C, H, W), by means: longer side 160 or less, sides multiples of 16."""
    height, width = x.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    rows, columns = (max(CELL, round(n * scale / CELL) * CELL) for n in (height, width))
    return x if (rows, columns) == (height, width) else F.adaptive_avg_pool2d(x, (rows, columns))


def _toned(x: Tensor, black: Tensor, light: Tensor) -> Tensor:
    """1 - (1 - (x - a) / (1 - a))^k."""
    return 1 - ((1 - x) / (1 - black)).clamp(LEVEL / 16, 1) ** light.exp()


def _zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """A layer that answers 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
