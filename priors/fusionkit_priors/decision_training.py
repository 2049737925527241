"""Trainer of networks that choose between sources, on scenes rendered from photographs."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.numerics.luma import luma
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import gaussian_blur
from fusionkit.training.data import centre
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions

from .decision import DecisionNet, DecisionNetConfig, mixed

GAMMA = 2.2  # from photographs to linear light


class Rendered(NamedTuple):
    """Rendered sources: `seen` as a camera records them, `sources` without its faults, (N, B, 1, H, W) each.

    wanted: the ideal fusion, (B, 1, H, W). owner: which source shows each pixel, as shares (N, B, 1, H, W); None
    where the rendering does not know.
    """

    seen: Tensor
    sources: Tensor
    wanted: Tensor
    owner: Tensor | None = None

    def to(self, device: torch.device) -> "Rendered":
        """Move all of it to another device."""
        owner = None if self.owner is None else self.owner.to(device)
        return Rendered(self.seen.to(device), self.sources.to(device), self.wanted.to(device), owner)


class DecisionTrainerOptions(Options):
    """Options of a trainer of such a network."""

    architecture: DecisionNetConfig = Field(DecisionNetConfig(), description="the network")


class DecisionTrainer(Trainer):
    """Loss on the image that the predicted weights give.

    The network is given sources as a camera records them, and its weights are applied to the sources without the
    camera's faults, so that it learns to decide and not to undo faults.
    """

    Options = DecisionTrainerOptions
    Net: ClassVar[type[DecisionNet]]

    def __init__(self, options: DecisionTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options = options
        self.kind, self.module = f"prior {self.Net.prior}", self.Net(options.architecture)

    @staticmethod
    @abstractmethod
    def render(photographs: Tensor, generator: torch.Generator) -> Rendered:
        """Render scenes from lumas (B, 1, H, W) in [0, 1]."""

    @abstractmethod
    def figures(self, weights: Tensor, scene: Rendered) -> dict[str, Tensor]:
        """Compute the figures, of any shape, whose means validation reports beside the PSNR."""

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Rendered:
        """Render scenes from random crops."""
        photographs = luma(self.data.batch(options.batch, options.crop, generator))
        return self.render(photographs, generator).to(self.device)

    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """Measure PSNR to the target and `figures` on scenes rendered from held-out images, two at a time."""
        generator, crops = torch.Generator().manual_seed(0), [centre(luma(x), 256).cpu() for x in held_out]
        found: dict[str, list[Tensor]] = {"psnr": []}
        for i in range(len(crops)):
            pair = torch.cat([crops[i], crops[(i + 1) % len(crops)]])
            scene = self.render(pair, generator).to(self.device)
            weights = module(list(scene.seen))
            error = (mixed(weights, scene.sources) - scene.wanted).square().mean(dim=(1, 2, 3))
            found["psnr"].append(-10 * torch.log10(error).mean())
            for name, figure in self.figures(weights, scene).items():
                found.setdefault(name, []).append(figure.mean())
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}


def in_8_bits(x: Tensor) -> Tensor:
    """Clip and round to whole levels of 255, as a camera stores images."""
    return (255 * x).round().div(255).clamp(0, 1)


def cut_out(height: int, width: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw blobs, and in half of the images bars, with an edge one pixel wide: (B, 1, H, W)."""

    def edge(x: Tensor) -> Tensor:
        gx, gy = gradient(x)
        return (x / (torch.sqrt(gx.square() + gy.square()) + 1e-4) + 0.5).clamp(0, 1)

    draws = torch.rand(5, batch, 1, 1, 1, generator=generator)
    noise = torch.randn(batch, 1, height, width, generator=generator)
    fields = torch.cat([gaussian_blur(n[None], 5.0 * 6 ** float(d)) for n, d in zip(noise, draws[0], strict=True)])
    blobs = edge(fields / fields.std(dim=(1, 2, 3), keepdim=True) + 1.5 * (draws[1] - 0.5))
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    angle, size = 3.1416 * draws[2], min(height, width)
    along = x * angle.cos() + y * angle.sin() + size * (draws[3] - 0.5)
    bars = (1.5 + 0.08 * size * draws[4] - along.abs() + 0.5).clamp(0, 1)
    return torch.where(draws[4] * 2 % 1 < 0.5, torch.maximum(blobs, bars), blobs)


def smooth_noise(images: Tensor, channels: int, generator: torch.Generator) -> Tensor:
    """Draw noise that varies over a quarter of an image, of variance about 0.8: (B, channels, H, W)."""
    coarse = torch.randn(len(images), channels, 4, 4, generator=generator)
    return F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=False)


def moved(
    images: Tensor, which: Tensor, pixels: float, scale: float, bend: Tensor, generator: torch.Generator
) -> Tensor:
    """Shift images (B, 1, H, W) by at most `pixels` each way and scale them by a factor of 1 ± `scale` at most.

    which: (B, 1, 1, 1), 1 for those that are moved; the others keep their bits. bend: parallax, a field of pixels
    (B or 1, 2, H or 1, W or 1).
    """
    count, _, height, width = images.shape
    draws = 2 * torch.rand(3, count, generator=generator) - 1
    factor, zeros = 1 + scale * draws[0], torch.zeros(count)
    shift_x, shift_y = (2 * pixels * d / side for d, side in zip(draws[1:], (width, height), strict=True))  # side: 2
    maps = torch.stack([torch.stack([factor, zeros, shift_x], 1), torch.stack([zeros, factor, shift_y], 1)], 1)
    grid = F.affine_grid(maps, [count, 1, height, width], align_corners=False)
    grid = grid + (bend * torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)).movedim(1, -1)
    resampled = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return torch.where(which > 0, resampled, images)
