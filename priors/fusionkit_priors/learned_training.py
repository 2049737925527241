"""Trainer of the prior `learned` (`fusionkit train learned`), on real pairs or pairs rendered from photographs."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options, Sources
from fusionkit.numerics.choice import argmax, gather
from fusionkit.numerics.luma import luma
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.ssim import ssim_map
from fusionkit.numerics.window import box_mean, gaussian_blur
from fusionkit.training.data import centre
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions

from .evidence import STRATEGIES, Evidence
from .learned import Choices, ChoicesConfig, fuse

HEAT = Evidence(lit=0.6, decisions={}, steady=lambda _, value: value)


class LearnedTrainerOptions(Options):
    """Options of the trainer of the prior `learned`."""

    architecture: ChoicesConfig = Field(ChoicesConfig(), description="the network")
    edges: float = Field(8.0, ge=0, description="weight of the strongest gradient")
    structure: float = Field(1.0, ge=0, description="weight of the SSIM to the locally more contrasted source")
    brightness: float = Field(4.0, ge=0, description="weight of the brightness that evidence of heat asks for")


class LearnedTrainer(Trainer):
    """min  edges |∇F - ∇S*| + structure (1 - SSIM(F, S°)) + brightness |G * (F - T)|, without references.

    S*: the source whose gradient is the strongest over 3x3 pixels; S°: the source of the largest local variance;
    T: the brightness by evidence of heat, which makes hot objects bright and keeps the reference's brightness
    elsewhere; G: a Gaussian of 4 pixels. From photographs, pairs are rendered (`render`).
    """

    Options = LearnedTrainerOptions
    kind = "prior learned"

    def __init__(self, options: LearnedTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options = options
        self.module: Choices = Choices(options.architecture)

    @classmethod
    def learns_from(cls, options: LearnedTrainerOptions) -> tuple[Literal["images", "pairs"], ...]:
        """Name both kinds: photographs and pairs."""
        return ("images", "pairs")

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Tensor:
        """Draw lumas (2, B, 1, crop, crop), the reference last."""
        drawn = self.data.batch(options.batch, options.crop, generator)
        pairs = torch.stack([luma(x) for x in drawn]) if self.paired else render(luma(drawn), generator)
        return pairs.to(self.device)

    def loss(self, batch: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss above, and its terms."""
        terms = self._terms(self.module, batch)
        weights = (self.options.edges, self.options.structure, self.options.brightness)
        total = sum((w * term for w, term in zip(weights, terms.values(), strict=True)), torch.zeros(()))
        return total, {name: float(term.detach()) for name, term in terms.items()}

    @staticmethod
    def _terms(network: nn.Module, lumas: Tensor) -> dict[str, Tensor]:
        """Fuse lumas (2, B, 1, H, W) by the network and compute the terms of the loss."""
        silent = torch.zeros(len(lumas), lumas.shape[1], 1, 1, 1, device=lumas.device)
        fused = fuse(lumas, *network(lumas, len(lumas) - 1, silent))
        with torch.no_grad():
            fields = [gradient(y) for y in lumas]
            strongest = argmax([box_mean(x.square() + y.square(), 1) for x, y in fields])
            gx, gy = (gather(parts, strongest) for parts in zip(*fields, strict=True))
            variances = [box_mean(y.square(), 3) - box_mean(y, 3).square() for y in lumas]
            structured = gather(list(lumas), argmax(variances))
            sources = Sources(tuple(lumas), tuple(lumas))
            wanted = STRATEGIES["heat"](lumas[-1], sources, HEAT).brightness
        fx, fy = gradient(fused)
        edges = (fx - gx).abs() + (fy - gy).abs()
        similar = ssim_map(fused, structured, lambda x: gaussian_blur(x, 1.5), 1.0)
        drift = gaussian_blur(fused - wanted, 4.0).abs()
        return {"edges": edges.mean(), "structure": 1 - similar.mean(), "brightness": drift.mean()}

    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """Average the terms of the loss over centres, at most 256 pixels a side, of held-out images."""
        generator, seen = torch.Generator().manual_seed(0), dict[str, float]()
        for scene in held_out:
            parts = [centre(luma(x), 256) for x in (scene if self.paired else (scene,))]
            pair = torch.stack(parts) if self.paired else render(parts[0].cpu(), generator).to(self.device)
            for name, term in self._terms(module, pair).items():
                seen[name] = seen.get(name, 0.0) + float(term) / len(held_out)
        return seen


def render(photographs: Tensor, generator: torch.Generator) -> Tensor:
    """Render infrared and visible images from photographs (B, 1, H, W) in [0, 1]: (2, B, 1, H, W), visible last.

    Infrared: a smooth random curve of the photograph's brightness, which need not rise, without fine texture and with
    a detector's grain; hot bodies of two ellipses each at 0.75 to 1. Visible: the photograph, a third of them as at
    night, a third under a patch of haze or glare; bodies are dark as a coat, or invisible.
    """
    batch, _, height, width = photographs.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    visible = photographs
    knots = torch.cumsum(draw(batch, 6) - 0.35, 1)
    knots = (knots - knots.amin(1, keepdim=True)) / (knots.amax(1, keepdim=True) - knots.amin(1, keepdim=True) + 1e-3)
    place = (gaussian_blur(photographs, 1.0 + float(draw(1))) * 5).clamp(0, 4.999)
    low = place.long()
    curve = [knots.gather(1, (low + k).flatten(1)).view_as(place) for k in (0, 1)]
    infrared = 0.1 + 0.5 * (curve[0] + (place - low) * (curve[1] - curve[0]))
    infrared = infrared * (0.3 + 0.7 * draw(batch, 1, 1, 1))
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    for _ in range(3):
        cx, cy, size, there = draw(4, batch, 1, 1, 1)
        size = 0.04 + 0.12 * size
        body = ((x - cx) / size).square() + ((y - cy) / (2.2 * size)).square()
        head = ((x - cx) / (0.5 * size)).square() + ((y - cy + 2.4 * size) / (0.6 * size)).square()
        mask = torch.sigmoid((1 - torch.minimum(body, head)) * 12) * (there < 0.6)
        heat, coat, seen = draw(3, batch, 1, 1, 1)
        infrared = torch.lerp(infrared, 0.75 + 0.25 * heat, mask)
        visible = torch.lerp(visible, 0.05 + 0.3 * coat, mask * (seen < 0.7) * 0.9)
    night, haze, cx, cy, strength = draw(5, batch, 1, 1, 1)
    visible = torch.where(night < 1 / 3, (0.08 + 0.4 * strength) * visible, visible)
    patch = torch.exp(-((x - cx).square() + (y - cy).square()) / 0.06) * (haze < 1 / 3)
    visible = torch.lerp(visible, 0.4 + 0.6 * strength, 0.95 * patch)
    infrared = gaussian_blur(infrared, 0.8) + 0.008 * torch.randn(infrared.shape, generator=generator)
    return torch.stack([infrared, visible + 0.004 * torch.randn(visible.shape, generator=generator)]).clamp(0, 1)
