"""Two networks in the forms of published ones, trained for a minute on scenes made by code, as ONNX files with cards.

    python docs/examples/networks.py nets

They show how networks are brought, and what an untuned one does; they stand for no published weights. Needs onnx.
"""

import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.numerics.luma import luma
from fusionkit.scenes import infrared_visible

SIDE, STEPS, BATCH = 64, 150, 4


class DenseFuse(nn.Module):
    """Encoder with a dense block, mean of the features, decoder (Li & Wu, "DenseFuse", IEEE TIP 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1, padding_mode="reflect")
        self.dense = nn.ModuleList(nn.Conv2d(16 * (i + 1), 16, 3, padding=1) for i in range(3))
        widths = (64, 64, 32, 16, 1)
        self.decoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def encoded(self, x: Tensor) -> Tensor:
        """Features (B, 64, H, W)."""
        x = self.first(x).relu()
        for layer in self.dense:
            x = torch.cat([x, layer(x).relu()], 1)
        return x

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse."""
        x = (self.encoded(a) + self.encoded(b)) / 2
        for layer in self.decoder[:-1]:
            x = layer(x).relu()
        return self.decoder[-1](x)

    def loss(self, heat: Tensor, shown: Tensor) -> Tensor:
        """As an autoencoder: each image comes back."""
        return sum(F.l1_loss(self(y, y), y) for y in (heat, shown))


class GradientResidual(nn.Module):
    """Two branches of gradient residual dense blocks (Tang et al., "SeAFusion", Information Fusion 2022), small."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])[None, None].repeat(width, 1, 1, 1)
        self.register_buffer("x", sobel)
        self.register_buffer("y", sobel.mT.contiguous())
        self.first = nn.ModuleList(nn.Conv2d(1, width, 3, padding=1) for _ in range(2))
        self.dense = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.residual = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def branch(self, i: int, image: Tensor) -> Tensor:
        """Features of one source (B, width, H, W)."""
        x = F.leaky_relu(self.first[i](image), 0.2)
        edges = sum(F.conv2d(x, k, padding=1, groups=x.shape[1]).abs() for k in (self.x, self.y))
        return F.leaky_relu(self.dense[i](x), 0.2) + self.residual[i](edges)

    def forward(self, heat: Tensor, shown: Tensor) -> Tensor:
        """Fuse."""
        return torch.tanh(self.last(torch.cat([self.branch(0, heat), self.branch(1, shown)], 1))) / 2 + 0.5

    def loss(self, heat: Tensor, shown: Tensor) -> Tensor:
        """The brighter source's values, the stronger one's gradients (the paper's loss of content)."""
        fused = self(heat, shown)
        wanted = torch.maximum(*(self.slopes(y) for y in (heat, shown)))
        return F.l1_loss(fused, torch.maximum(heat, shown)) + 10 * F.l1_loss(self.slopes(fused), wanted)

    def slopes(self, image: Tensor) -> Tensor:
        """|∇| by Sobel's filters, borders left out."""
        return sum(F.conv2d(image, k[:1] / 8).abs() for k in (self.x, self.y))


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network after a few hundred steps on crops of rendered infrared and visible scenes."""
    torch.manual_seed(seed)
    rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(net.parameters(), 1e-3)
    scenes = [infrared_visible((240, 320), number) for number in range(16)]
    lumas = [[luma(torch.from_numpy(y).float().movedim(-1, 0)[None]) for y in pair] for pair in scenes]
    for _ in range(STEPS):
        crops = []
        for number in rng.integers(len(lumas), size=BATCH):
            top, left = rng.integers((240 - SIDE, 320 - SIDE))
            crops.append([y[..., top : top + SIDE, left : left + SIDE] for y in lumas[number]])
        loss = net.loss(*(torch.cat(images) for images in zip(*crops, strict=True)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def export(net: nn.Module, place: Path, card: str, *, channels: Sequence[int] = (1, 1), **how: Any) -> None:
    """Write the network, one input for each number of channels, with its card beside it.

    fixed=True: for one size only. kind: type of its numbers.
    """
    names = [f"x{i}" for i in range(len(channels))]
    free = {} if how.get("fixed") else {name: {2: "h", 3: "w"} for name in [*names, "y"]}
    given = tuple(torch.rand(1, c, 32, 48, dtype=how.get("kind")) for c in channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age
        torch.onnx.export(
            net.eval(), given, place, dynamo=False, input_names=names, output_names=["y"], dynamic_axes=free
        )
    place.with_suffix(".toml").write_text(card)


def main(folder: Path) -> None:
    """Train and write both."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, net in (("densefuse", DenseFuse()), ("gradient-residual", GradientResidual())):
        export(trained(net), folder / f"{name}.onnx", 'credit = "trained on rendered scenes for a minute"\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
