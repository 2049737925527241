"""A small U-Net that predicts the noise of pixels: no normalisation, no attention, one evaluation."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from fusionkit.numerics.layers import Convolution, fastest_format

Few = Annotated[int, Field(ge=1, le=10_000)]


class UNetConfig(BaseModel):
    """Architecture of `UNet`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overlap: ClassVar[int] = 64  # pixels around a tile that influence it
    name: Literal["unet"] = "unet"
    num_channels: int = Field(1, ge=1, le=10_000, description="channels of the image")
    widths: tuple[Few, ...] = Field(
        (48, 96, 160), min_length=2, description="channels at half, quarter, eighth ... of the image's size"
    )
    blocks: Few | tuple[Few, ...] = Field(
        2,
        description="residual blocks of a scale, down and up each: one number, or one for each scale but the coarsest",
    )
    middle: int = Field(3, ge=1, le=1000, description="residual blocks of the coarsest scale")

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if isinstance(self.blocks, tuple) and len(self.blocks) != len(self.widths) - 1:
            raise ValueError(f"blocks: {len(self.blocks)} numbers for {len(self.widths) - 1} scales")
        return self

    @property
    def multiple(self) -> int:
        """Number that height and width must be multiples of."""
        return int(2 ** len(self.widths))


class Residual(nn.Module):
    """x + conv(relu(conv(x))); the second convolution starts at zero (Zhang et al., "Fixup", ICLR 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, 3, padding=1)
        self.second = Convolution(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        for parameter in (self.first.bias, self.second.weight, self.second.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; the shape stays."""
        result: Tensor = self.second(F.relu(self.first(x), inplace=True))
        return result.add_(x)


class UNet(nn.Module):
    """ε̂(y, s) for y = x₀ + s ε: images (B, C, H, W) in [-1, 1] with noise, and its deviation s (B,).

    2x2 blocks of pixels become channels, s one more (as in FFDNet, Zhang et al., 2018); strided convolutions down,
    transposed ones up, skips added (as in DRUNet, Zhang et al., 2021).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths

        def stage(channels: int, blocks: int) -> nn.Sequential:
            return nn.Sequential(*(Residual(channels) for _ in range(blocks)))

        self.stem = Convolution(4 * config.num_channels + 1, widths[0], 3, padding=1)
        blocks = config.blocks if isinstance(config.blocks, tuple) else (config.blocks,) * (len(widths) - 1)
        scales = list(zip(widths[:-1], blocks, strict=True))
        self.encoder = nn.ModuleList(stage(*scale) for scale in scales)
        self.down = nn.ModuleList(Convolution(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = stage(widths[-1], config.middle)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(stage(*scale) for scale in scales)
        self.head = Convolution(widths[0], 4 * config.num_channels, 3, padding=1)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Predict the noise, in the shape of y; height and width are multiples of `config.multiple`."""
        x = F.pixel_unshuffle(y, 2)
        level = s.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[-2:])
        x = self.stem(fastest_format(torch.cat([x, level], dim=1)))
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, stage, skip in reversed(list(zip(self.up, self.decoder, skips, strict=True))):
            x = stage(up(x).add_(skip))
        return F.pixel_shuffle(self.head(x), 2)
