"""Trainer of the prior `exposure` (`fusionkit train exposure`), on rendered brackets."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import gaussian_blur

from .decision import DecisionNetConfig, Exposed, mixed
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

WIDTHS = (16, 24, 32, 32, 32, 32)  # one level more than for focus: exposedness depends on a larger neighbourhood
APART = 5.0  # largest difference, in stops, between the light of the two layers
BEYOND = 3.5  # largest difference, in stops, from the exposure that suits a layer
KEPT = 0.04, 0.18  # share of the stops kept in the target: bright layer, dark layer
MIDDLE, TOWARDS = 0.48, 0.5  # target mean brightness; share of the way to it, by gamma
SCALES = (1, 4, 16)  # pixels over which gradients are compared


def render(photographs: Tensor, generator: torch.Generator) -> Rendered:
    """Render two or three exposures of one scene from lumas (B, 1, H, W) in [0, 1]; B at least two.

    A layer of one photograph, cut out by blobs and bars, lies before another. Their light is up to five stops apart
    and may vary smoothly; bright parts have glare. Exposures suit the darker or the brighter layer, or go beyond; they
    are clipped, toned by a camera's curve, noisy, in 8 bits. Target: each layer at a middle brightness, much fewer
    stops apart, within the sources' range.
    """
    batch, _, height, width = photographs.shape

    def one() -> Tensor:
        return torch.rand(batch, 1, 1, 1, generator=generator)

    steepness, gamma = 0.6 * one(), 1.8 + 0.8 * one()

    def tone(x: Tensor) -> Tensor:
        y = x.clamp(0, 1) ** (1 / gamma)
        return y + steepness * (3 * y**2 - 2 * y**3 - y)

    def exposed(light: Tensor) -> Tensor:
        """Bring linear light towards the middle as a camera would; black and white stay."""
        mean = (light ** (1 / GAMMA)).mean(dim=(2, 3), keepdim=True).clamp(0.02, 0.95)
        return light ** ((math.log(MIDDLE) / mean.log()).clamp(0.4, 1.4) ** TOWARDS)

    cover = cut_out(height, width, batch, generator)
    apart = APART * one() * (one() < 0.75)
    lit = torch.where(one() < 0.5, 1.0, -1.0)  # 1: the front layer is the brighter one
    light = torch.exp2(1.2 * one() * (one() < 0.6) * smooth_noise(photographs, 1, generator))
    front, back = photographs.roll(1, 0) ** GAMMA, photographs**GAMMA
    of_front, of_back = torch.exp2(apart * (1 + lit) / 2), torch.exp2(apart * (1 - lit) / 2)
    scene = (cover * front * of_front + (1 - cover) * back * of_back) * light
    more, less = torch.exp2(KEPT[0] * apart), torch.exp2(-KEPT[1] * apart)
    of_front, of_back = torch.where(lit > 0, more, less), torch.where(lit > 0, less, more)
    shown = (cover * exposed(front) * of_front + (1 - cover) * exposed(back) * of_back) * light**0.4
    glare = 0.03 * one() * (one() < 0.5)
    scene = scene + glare * gaussian_blur(scene, 4 + 12 * float(torch.rand(1, generator=generator)))

    under, over = 0.5 - apart - BEYOND * one(), BEYOND * one() - 0.5
    stops = [under, over] + ([(under + over) / 2] if float(torch.rand(1, generator=generator)) < 0.15 else [])
    clean = torch.stack([tone(scene * torch.exp2(stop)) for stop in stops])
    noise = (0.5 + 7.5 * one() * (one() < 0.5)) / 255 * torch.randn(clean.shape, generator=generator)
    sources = in_8_bits(clean + noise)
    wanted = torch.minimum(torch.maximum(tone(shown), clean.amin(0)), clean.amax(0))
    flat = sources.flatten(0, 1)
    which = (torch.rand(len(flat), 1, 1, 1, generator=generator) < 0.3).float()
    seen = moved(flat, which, 4.0, 0.0, torch.zeros(1, 2, 1, 1), generator).view_as(sources)
    return Rendered(seen, sources, wanted)


class ExposureTrainerOptions(DecisionTrainerOptions):
    """Options of the trainer of the prior `exposure`."""

    architecture: DecisionNetConfig = Field(DecisionNetConfig(widths=WIDTHS), description="the network")
    edges: float = Field(1.0, ge=0, description="weight of the gradients, over 1, 4 and 16 pixels, beside brightness")


class ExposureTrainer(DecisionTrainer):
    """min |F - G| + edges Σ over scales of |∇F - ∇G|,  F = Σ_i w_i S_i, over the weights w that the network predicts.

    On scenes from `render`, where the target G is known: each part of the scene as a camera exposed for it alone
    shows it. Gradients over 16 pixels reveal a dark rim round a bright window, or a false cloud in a plain sky.
    """

    Options = ExposureTrainerOptions
    options: ExposureTrainerOptions
    Net = Exposed
    render = staticmethod(render)

    def loss(self, batch: Rendered, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss above, and its terms."""
        terms = {k: v.mean() for k, v in self.figures(self.module(list(batch.seen)), batch).items()}
        loss = terms["brightness"] + self.options.edges * terms["edges"]
        return loss, {k: float(v.detach()) for k, v in terms.items()}

    def figures(self, weights: Tensor, scene: Rendered) -> dict[str, Tensor]:
        """Compute the terms of the loss."""
        fused = mixed(weights, scene.sources)
        off = fused - scene.wanted
        edges = [g.abs().mean() for scale in SCALES for g in gradient(F.avg_pool2d(off, scale))]
        return {"brightness": off.abs(), "edges": torch.stack(edges).sum()}
