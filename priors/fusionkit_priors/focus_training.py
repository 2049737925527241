"""Trainer of the prior `focus` (`fusionkit train focus`), on pairs rendered from photographs."""

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

WIDEST = 10.0  # pixels: the largest radius of defocus


class _Layer(NamedTuple):
    """Linear light times cover, and cover: (B, 1, H, W), each blurred by 0, 1/3, 2/3 and 1 of a radius."""

    light: list[Tensor]
    cover: list[Tensor]

    @classmethod
    def of(cls, light: Tensor, cover: Tensor, radius: Tensor, round_: Tensor) -> Self:
        """Blur a layer; radius: (B,) pixels. round_: (B,), discs where true, else Gaussians."""
        blurred = [_defocus(torch.cat([light * cover, cover], dim=1), k / 3 * radius, round_) for k in range(4)]
        return cls([x[:, :1] for x in blurred], [x[:, 1:] for x in blurred])

    def at(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate both between the blurs, at a share (B, 1, H, W) or (B, 1, 1, 1) of the radius."""
        weights = [(1 - (3 * share - k).abs()).clamp_min(0) for k in range(4)]
        light, cover = (sum((w * x for w, x in zip(weights, part, strict=True)), torch.zeros(())) for part in self)
        return light, cover


def render(photographs: Tensor, generator: torch.Generator) -> Rendered:
    """Render two or three pictures of one scene at different focus from lumas (B, 1, H, W) in [0, 1]; B at least two.

    A layer of one photograph, cut out by blobs and bars, lies before another that may recede; either may be smooth, or
    have lights far brighter than white, which defocus spreads into discs. Blurring is in linear light; the front's
    blur extends over its edge.
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
    # distance of the ground behind the nearest plane of focus: everywhere the same, or it recedes
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    angle = 6.2832 * one()
    ramp = (0.5 + (x * angle.cos() + y * angle.sin()) * (0.3 + one())).clamp(0, 1)
    depth = torch.where(one() < 0.35, ramp, torch.ones_like(ramp))
    middle = [torch.full_like(angle, 0.5)] if float(draw(1)) < 0.2 else []
    never = 0.15 * one() * (one() < 0.4)  # the least blur: sometimes nothing is quite in focus
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
    """Blur images (B, C, H, W) by discs of these radii (B,), or by Gaussians of the same variance."""
    margin = int(WIDEST) + 2
    padded = F.pad(x, (margin,) * 4, mode="replicate")
    height, width = padded.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n) * n for n in (height, width))  # whole pixels, modulo the size
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
    """Move half of the sources by some pixels, change brightness or contrast of half; add noise; round to 8 bits.

    Half of these changes vary over the image: parallax, and uneven light.
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


class FocusTrainerOptions(DecisionTrainerOptions):
    """Options of the trainer of the prior `focus`."""

    ownership: float = Field(
        0.01, ge=0, description="weight of a source that is not in focus, even where the sources hardly differ"
    )


class FocusTrainer(DecisionTrainer):
    """min |Σ_i w_i S_i - all in focus| + ownership |w - o| / 2 over the weights w that the network predicts.

    On scenes from `render`, where the picture o that is in focus at each pixel is known. On a smooth wall o makes no
    difference to these pictures, but does to others. The network is given sources that are moved, toned and noisier
    than those its weights are applied to: refocusing a lens changes the frame, and cameras change their exposure.
    """

    Options = FocusTrainerOptions
    options: FocusTrainerOptions
    Net = InFocus
    render = staticmethod(render)

    def loss(self, batch: Rendered, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss above, and its terms."""
        weights = self.module(list(batch.seen))
        difference = (mixed(weights, batch.sources) - batch.wanted).abs().mean()
        wrong = self.figures(weights, batch)["wrong"].mean()
        figures = {"difference": float(difference.detach()), "wrong": float(wrong.detach())}
        return difference + self.options.ownership * wrong, figures

    def figures(self, weights: Tensor, scene: Rendered) -> dict[str, Tensor]:
        """Compute the share taken from a picture that is not in focus."""
        assert scene.owner is not None
        return {"wrong": (weights - scene.owner).abs().sum(0) / 2}
