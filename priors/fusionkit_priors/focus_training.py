"""Training what tells which source is in focus (`fusionkit train focus`), on pairs rendered from photographs."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.numerics.choice import one_hot
from fusionkit.numerics.luma import luma
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import gaussian_blur
from fusionkit.training.data import centre
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions
from fusionkit.weights import save_weights

from .in_focus import InFocus, InFocusConfig

__all__ = ["FocusTrainer", "FocusTrainerOptions", "Rendered", "render"]

WIDEST = 10.0  # pixels: the largest radius of defocus
GAMMA = 2.2


class FocusTrainerOptions(Options):
    """Options of the trainer of the prior `focus`."""

    architecture: InFocusConfig = Field(InFocusConfig(), description="the network")
    ownership: float = Field(
        0.01, ge=0, description="weight of being wrong about who is in focus, however little the sources differ there"
    )


class FocusTrainer(Trainer):
    """min |Σ_i w_i S_i - all in focus| + ownership |w - o| / 2 over the weights w that the network sees fit.

    On scenes that `render` makes, where o, which picture is focused on what is seen at a pixel, is known: also of a
    smooth wall, where it makes no difference to these pictures, but does to others. What the network sees is moved,
    toned and noisier than what its weights are then applied to: a lens that is focused anew changes the frame, and
    cameras expose anew.
    """

    Options = FocusTrainerOptions

    def __init__(self, options: FocusTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options = options
        self.module: InFocus = InFocus(options.architecture)

    def batch(self, options: TrainOptions, generator: torch.Generator) -> "Rendered":
        """Scenes rendered from random crops."""
        photographs = luma(self.data.batch(options.batch, options.crop, generator))
        return Rendered(*(x.to(self.device) for x in render(photographs, generator)))

    def loss(self, batch: "Rendered", step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss above, and its terms."""
        weights = self.module(list(batch.seen))
        difference, wrong = _difference(weights, batch).mean(), (weights - batch.owner).abs().sum(0).mean() / 2
        figures = {"difference": float(difference.detach()), "wrong": float(wrong.detach())}
        return difference + self.options.ownership * wrong, figures

    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """PSNR to what is in focus everywhere, and the share that is taken from the wrong picture.

        Rendered from centres of what was held out, two at a time.
        """
        generator, crops = torch.Generator().manual_seed(0), [centre(luma(x), 256).cpu() for x in held_out]
        psnr, wrong = [], []
        for i in range(len(crops)):
            pair = torch.cat([crops[i], crops[(i + 1) % len(crops)]])
            scene = Rendered(*(x.to(self.device) for x in render(pair, generator)))
            weights = module(list(scene.seen))
            psnr.append(-10 * torch.log10(_difference(weights, scene).square().mean(dim=(1, 2, 3))))
            wrong.append((weights - scene.owner).abs().sum(0).mean() / 2)
        return {"psnr": float(torch.cat(psnr).mean()), "wrong": float(torch.stack(wrong).mean())}

    def export(self, module: nn.Module, held_out: Any, path: Path, provenance: dict[str, Any]) -> None:
        """Weights as float16."""
        assert isinstance(module, InFocus)
        info = {"kind": "prior focus", "architecture": module.config.model_dump(), **provenance}
        save_weights(path, module.state_dict(), info, half=True)


def _difference(weights: Tensor, scene: "Rendered") -> Tensor:
    return ((weights * scene.sources).sum(0) - scene.sharp).abs()


class Rendered(NamedTuple):
    """Lumas of N sources as a camera saw them and without its faults, and which is in focus, (N, B, 1, H, W) each.

    sharp: in focus everywhere, (B, 1, H, W).
    """

    seen: Tensor
    sources: Tensor
    owner: Tensor
    sharp: Tensor


class _Layer(NamedTuple):
    """Linear light times cover, and cover: (B, 1, H, W), each blurred by 0, 1/3, 2/3 and 1 of a radius."""

    light: list[Tensor]
    cover: list[Tensor]

    @classmethod
    def of(cls, light: Tensor, cover: Tensor, radius: Tensor, round_: Tensor) -> "_Layer":
        """A layer and its blurs; radius: (B,) pixels, round_: (B,), discs where true, else Gaussians."""
        blurred = [_defocus(torch.cat([light * cover, cover], dim=1), k / 3 * radius, round_) for k in range(4)]
        return cls([x[:, :1] for x in blurred], [x[:, 1:] for x in blurred])

    def at(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Both at a share (B, 1, H, W) or (B, 1, 1, 1) of the radius, between the blurs that there are."""
        weights = [(1 - (3 * share - k).abs()).clamp_min(0) for k in range(4)]
        light, cover = (sum((w * x for w, x in zip(weights, part, strict=True)), torch.zeros(())) for part in self)
        return light, cover


def render(photographs: Tensor, generator: torch.Generator) -> Rendered:
    """Two pictures, or three, of one scene at different focus, of lumas (B, 1, H, W) in [0, 1]; B at least two.

    A layer of one photograph, cut out by blobs and bars, before another that may recede; either may be smooth, or have
    lights far beyond white, which defocus spreads into discs. Blurred in linear light, the front over its edge.
    """
    batch, _, height, width = photographs.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def one() -> Tensor:
        return draw(batch, 1, 1, 1)

    def scenery(x: Tensor) -> Tensor:
        light = x**GAMMA * (0.3 + 0.7 * one())
        smooth = gaussian_blur(light, 8.0) * (0.95 + 0.1 * light)
        light = torch.where(one() < 0.25, smooth, light)
        lamps = (draw(*x.shape) < 6e-4 * one()).float() * (one() < 0.5)
        spots = gaussian_blur(lamps, 0.8 + 1.2 * float(draw(1)))
        return light + (30 + 200 * one()) * spots

    radius, round_ = 1.5 + (WIDEST - 1.5) * draw(batch), draw(batch) < 0.7
    back = _Layer.of(scenery(photographs), torch.ones_like(photographs), radius, round_)
    cover = _cut_out(height, width, batch, generator)
    front = _Layer.of(scenery(photographs.roll(1, 0)), cover, (0.4 + 0.6 * draw(batch)) * radius, round_)
    # how far behind the nearest place in focus the ground is: everywhere the same, or it recedes
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    angle = 6.2832 * one()
    ramp = (0.5 + (x * angle.cos() + y * angle.sin()) * (0.3 + one())).clamp(0, 1)
    depth = torch.where(one() < 0.35, ramp, torch.ones_like(ramp))
    middle = [torch.full_like(angle, 0.5)] if float(draw(1)) < 0.2 else []
    never = 0.15 * one() * (one() < 0.4)  # the least blur, where nothing is quite in focus
    planes = [torch.zeros_like(angle), torch.ones_like(angle), *middle]  # where each picture is focused

    def shoot(behind: Tensor, before: Tensor) -> Tensor:
        veil, covered = front.at(before.clamp_min(never))
        light, _ = back.at(behind.clamp_min(never))
        return (veil + light * (1 - covered)).clamp(0, 1) ** (1 / GAMMA)

    sources = torch.stack([shoot((depth - p).abs(), p) for p in planes])
    apart = torch.stack([(depth - p).abs() for p in planes])
    least, nearest = apart.min(0)
    owner = torch.where(cover > 0.5, torch.zeros_like(nearest), nearest)
    sharp = shoot(least, torch.zeros_like(angle))
    return Rendered(_seen(sources, generator), sources, torch.stack(one_hot(owner, len(planes))), sharp)


def _cut_out(height: int, width: int, batch: int, generator: torch.Generator) -> Tensor:
    """Blobs, and in half of the images bars, with an edge one pixel wide: (B, 1, H, W)."""

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


def _defocus(x: Tensor, radius: Tensor, round_: Tensor) -> Tensor:
    """Images (B, C, H, W) blurred by discs of these radii (B,), or by Gaussians of the same variance."""
    margin = int(WIDEST) + 2
    padded = F.pad(x, (margin,) * 4, mode="replicate")
    height, width = padded.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n) * n for n in (height, width))  # whole numbers: places round the corner
    distance = torch.sqrt(fy[:, None].square() + fx.square())
    r = radius.view(-1, 1, 1, 1)
    disc = (r + 0.5 - distance).clamp(0, 1)
    gauss = torch.exp(-2 * distance.square() / r.clamp_min(0.1).square())
    kernel = torch.where(round_.view(-1, 1, 1, 1), disc, gauss)
    kernel = kernel / kernel.sum(dim=(2, 3), keepdim=True)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(kernel), s=(height, width))
    blurred = blurred[..., margin:-margin, margin:-margin]
    return torch.where(r < 0.3, x, blurred)


def _seen(sources: Tensor, generator: torch.Generator) -> Tensor:
    """Half of them moved by some pixels, half brighter or darker or of another contrast; with noise, in 8 bits."""
    count, batch, _, height, width = sources.shape

    def one() -> Tensor:
        return torch.rand(count * batch, 1, 1, 1, generator=generator) - 0.5

    moved = (one() > 0).float()
    scale = (1 + 0.04 * moved * one()).view(-1)
    shift_x, shift_y = ((12 * moved * one()).view(-1) / side for side in (width, height))  # 2 is a whole side
    zeros = torch.zeros_like(scale)
    maps = torch.stack([torch.stack([scale, zeros, shift_x], 1), torch.stack([zeros, scale, shift_y], 1)], 1)
    grid = F.affine_grid(maps, [count * batch, 1, height, width], align_corners=False)
    x = F.grid_sample(sources.flatten(0, 1), grid, padding_mode="reflection", align_corners=False)
    x = torch.where(moved > 0, x, sources.flatten(0, 1))  # what did not move is not resampled
    toned = (one() > 0).float()
    x = x.clamp(0, 1) ** torch.exp(0.5 * toned * one()) * torch.exp(0.8 * toned * one())
    level = torch.where(one() > 0.25, 8.0, 1.5) * (one() + 0.5) / 255
    x = x + level * torch.randn(x.shape, generator=generator)
    return (255 * x).round().div(255).clamp(0, 1).view_as(sources)
