"""Training what tells which source is in focus (`fusionkit train focus`), on pairs rendered from photographs."""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.numerics.choice import one_hot
from fusionkit.numerics.window import gaussian_blur

from .decision import InFocus, mixed
from .decision_training import (
    GAMMA,
    DecisionTrainer,
    DecisionTrainerOptions,
    Rendered,
    cut_out,
    in_8_bits,
    moved,
    smooth_noise,
)

__all__ = ["FocusTrainer", "FocusTrainerOptions", "render"]

WIDEST = 10.0  # pixels: the largest radius of defocus


class FocusTrainerOptions(DecisionTrainerOptions):
    """Options of the trainer of the prior `focus`."""

    ownership: float = Field(
        0.01, ge=0, description="weight of being wrong about who is in focus, however little the sources differ there"
    )


class FocusTrainer(DecisionTrainer):
    """min |Σ_i w_i S_i - all in focus| + ownership |w - o| / 2 over the weights w that the network sees fit.

    On scenes that `render` makes, where o, which picture is focused on what is seen at a pixel, is known: also of a
    smooth wall, where it makes no difference to these pictures, but does to others. What the network sees is moved,
    toned and noisier than what its weights are then applied to: a lens that is focused anew changes the frame, and
    cameras expose anew.
    """

    Options = FocusTrainerOptions
    options: FocusTrainerOptions
    Net = InFocus

    def loss(self, batch: Rendered, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss above, and its terms."""
        weights = self.module(list(batch.seen))
        difference = (mixed(weights, batch.sources) - batch.wanted).abs().mean()
        wrong = self.figures(weights, batch)["wrong"].mean()
        figures = {"difference": float(difference.detach()), "wrong": float(wrong.detach())}
        return difference + self.options.ownership * wrong, figures

    def figures(self, weights: Tensor, scene: Rendered) -> dict[str, Tensor]:
        """The share that is taken from the wrong picture."""
        assert scene.owner is not None
        return {"wrong": (weights - scene.owner).abs().sum(0) / 2}

    @staticmethod
    def render(photographs: Tensor, generator: torch.Generator) -> Rendered:
        """See `render`."""
        return render(photographs, generator)


class _Layer(NamedTuple):
    """Linear light times cover, and cover: (B, 1, H, W), each blurred by 0, 1/3, 2/3 and 1 of a radius."""

    light: list[Tensor]
    cover: list[Tensor]

    @classmethod
    def of(cls, light: Tensor, cover: Tensor, radius: Tensor, round_: Tensor) -> Self:
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
    cover = cut_out(height, width, batch, generator)
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
    return Rendered(_seen(sources, generator), sources, sharp, torch.stack(one_hot(owner, len(planes))))


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
    """Half of them moved by some pixels, half brighter or darker or of another contrast; with noise, in 8 bits.

    Of both halves one half is so by a field that varies over the image: parallax, and another light.
    """
    x = sources.flatten(0, 1)

    def one() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5

    which, toned = (one() > 0).float(), (one() > 0).float()
    bend, light = (
        scale * (one() > 0) * smooth_noise(x, channels, generator) for scale, channels in ((2.0, 2), (0.1, 1))
    )
    x = moved(x, which, 3.0, 0.02, bend, generator)
    x = x.clamp(0, 1) ** torch.exp(0.5 * toned * one()) * torch.exp(toned * (0.8 * one() + light))
    level = torch.where(one() > 0.25, 8.0, 1.5) * (one() + 0.5) / 255
    x = x + level * torch.randn(x.shape, generator=generator)
    return in_8_bits(x).view_as(sources)
