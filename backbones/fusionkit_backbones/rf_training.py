"""Trainers of the flow (`fusionkit train rf`).

By default a network like the shipped one learns from pixels, on the part of the path where noisy images lie. With
`domain=latent` one learns plain rectified flow on a decoder's latents, on the whole path.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.errors import OptionError
from fusionkit.flow.path import interpolate, x0_from_velocity
from fusionkit.numerics.luma import luma
from fusionkit.options import WeightsName, When
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions
from fusionkit.weights.network import Network

from .ncsnpp import NCSNpp, NCSNppConfig
from .noising import add_noise, thermal_like
from .rf import RectifiedFlow, RFOptions

# networks by domain: the shipped one, and a small one of the published kind
NETWORKS = {
    "pixel": NCSNppConfig(
        num_channels=1,
        patch=2,
        centered=True,
        nf=32,
        ch_mult=(1, 2, 3, 3),
        normalization="none",
        attention=False,
        attn_resolutions=(),
        scale_by_sigma=False,
    ),
    "latent": NCSNppConfig(
        image_size=32,
        num_channels=8,
        centered=True,
        nf=64,
        ch_mult=(1, 1, 2),
        attn_resolutions=(),
        scale_by_sigma=False,
    ),
}
LATENT_TIMES = (0.05, 0.1, 0.2, 0.4, 0.7)
LEVELS = (10, 15, 25, 50)  # deviations, of 255, of the noise in validation on pixels
LAST = 0.4  # largest t in training on pixels: a deviation of 85 levels


class RFTrainerOptions(Options):
    """Options of the `rf` trainer."""

    domain: Literal["pixel", "latent"] = Field("pixel", description="what it learns: luma, or a decoder's latents")
    architecture: NCSNppConfig = Field(
        NETWORKS["pixel"],
        description="network; what is left out is as in the shipped one, for latents as in a small one",
    )
    time_power: Annotated[float, When("domain", "latent")] = Field(
        1.0, gt=0, description="t = u^power with u uniform; above 1 favours little noise"
    )
    weights: Annotated[WeightsName, When("domain", "pixel")] = Field(
        "", description="weights to start from; their architecture is taken"
    )
    halved: Annotated[float, When("domain", "pixel")] = Field(
        0.4, ge=0, le=1, description="share of crops taken twice as large and halved"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Complete the architecture by that of the domain; beside weights, which have one, it is refused."""
        given, base = values.get("architecture", {}), NETWORKS.get(str(values.get("domain", "pixel")))
        if given and values.get("weights"):
            raise ValueError("architecture: weights have their own; leave one of the two out")
        if base is None or not isinstance(given, dict):
            return values
        return {**values, "architecture": {**base.model_dump(), **given}}


class RFTrainer(Trainer):
    """Trainer on pixels or on latents, by the options' domain."""

    Options = RFTrainerOptions
    kind = "backbone rf"
    module: NCSNpp

    @classmethod
    def wants_decoder(cls, options: RFTrainerOptions) -> bool:
        """Tell whether the network learns from latents."""
        return options.domain == "latent"

    def __new__(cls, options: RFTrainerOptions, *_: Any) -> Any:
        """Make the trainer for these options."""
        task = LatentTrainer if options.domain == "latent" else PixelTrainer
        return super().__new__(task if cls is RFTrainer else cls)


class PixelTrainer(RFTrainer):
    """min E s |ε - ε̂(x₀ + s ε, s)|² over luma crops, s = t / (1 - t), t uniform in [0, 0.4], a tenth of it below 0.04.

    The weight s lies between those of the velocity's loss, which nearly ignores weak noise, and of ε's own loss.
    `add_noise` makes the noise. Crops are made `thermal_like`; some are halved copies of larger ones, which are
    sharper and free of a camera's noise.
    """

    def __init__(self, options: RFTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options = options
        self.module = _begun(options.weights) if options.weights else NCSNpp(options.architecture)

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = False) -> None:
        """Read images large enough for the crops that are halved; raises OptionError where crops do not fit."""
        config = self.module.config
        if options.crop % config.multiple:
            raise OptionError(f"crop={options.crop} must be a multiple of {config.multiple}")
        if config.num_channels != 1:
            raise OptionError(f"architecture.num_channels={config.num_channels}: pixels are luma, 1 channel")
        side = options.crop * (2 if self.options.halved > 0 else 1)
        super().open(folders, options.model_copy(update={"crop": side}))

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Tensor:
        """Draw luma (B, 1, crop, crop) in [0, 1]."""
        large = round(options.batch * self.options.halved)
        parts = [self.data.batch(options.batch - large, options.crop, generator)] if large < options.batch else []
        if large:
            parts.append(F.avg_pool2d(self.data.batch(large, 2 * options.crop, generator), 2))
        return thermal_like(luma(torch.cat(parts)), generator)

    def loss(self, batch: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss above."""
        t, u = LAST * torch.rand(2, len(batch), generator=generator)
        t = torch.where(torch.rand(len(batch), generator=generator) < 0.1, 0.1 * u, t).clamp_min(0.002)
        s = t / (1 - t)
        y, noise = add_noise(2 * batch - 1, s, generator)
        estimate = self.module(y.to(self.device), s.to(self.device))
        loss = (s.view(-1, 1, 1, 1).to(self.device) * (estimate - noise.to(self.device)).square()).mean()
        return loss, {"loss": float(loss.detach())}

    def validate(self, module: nn.Module, held_out: Sequence[Tensor]) -> dict[str, float]:
        """Measure the PSNR in dB of luma after one evaluation, for white noise of several `LEVELS`, not clipped."""
        generator, figures = torch.Generator().manual_seed(0), dict[str, float]()
        network = Network(cast(NCSNpp, module), NCSNpp, NCSNppConfig, kind=self.kind, otherwise="")
        for level in LEVELS:
            s = 2 * level / 255
            ratios = []
            for image in held_out:
                x0 = 2 * luma(image) - 1
                y = x0 + s * torch.randn(x0.shape, generator=generator).to(x0.device)
                noise = network(y, torch.full((1,), s, device=y.device))
                ratios.append(-10 * math.log10(float((y - s * noise - x0).square().mean()) / 4))
            figures[f"psnr_{level}"] = sum(ratios) / len(ratios)
        return figures

    def usage(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """State the domain, the decoder, the noise that it restores, and what it predicts."""
        return {
            "domain": "pixel",
            "decoder": "identity",
            "decoder_options": {"signal": "signed"},
            "restores": LAST,
            "predicts": "noise",
            "time": "the noise of x_t / (1 - t), whose deviation is t / (1 - t)",
        }


def _begun(weights: str) -> NCSNpp:
    """The network of weights that predict the noise of pixels, to go on from."""
    flow = RectifiedFlow(RFOptions(weights=weights))
    if flow.predicts != "noise":
        raise OptionError(f"weights={weights}: predict no noise of pixels, so pixels cannot go on from them")
    return flow.network.module.requires_grad_(True)


class LatentTrainer(RFTrainer):
    """min E |v(x_t, t) - (ε - z)|² over latents z = encode(image), ε ~ N(0, I), t in (0, 1) (Liu et al., eq. 1)."""

    def __init__(self, options: RFTrainerOptions, decoder: Decoder | None = None) -> None:
        assert decoder is not None
        channels = options.architecture.num_channels
        if decoder.channels not in (None, channels):
            raise OptionError(f"architecture.num_channels={channels}, but the latents have {decoder.channels}")
        self.options, self.decoder = options, decoder
        self.module = NCSNpp(options.architecture)

    def to(self, device: torch.device) -> None:
        """Compute on `device`, the decoder, too."""
        super().to(device)
        if isinstance(self.decoder, nn.Module):
            self.decoder.to(device)

    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the mean squared error of the velocity."""
        with torch.no_grad():
            z = self.decoder.encode(images)
        t = (torch.rand(len(z), generator=generator) ** self.options.time_power).to(z.device)
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        flow = RectifiedFlow(RFOptions(), self.module)
        self.module.train()
        v = flow.velocity(interpolate(z, noise, t.view(-1, 1, 1, 1)), t)
        loss = (v - (noise - z)).square().mean()
        return loss, {"loss": float(loss.detach())}

    def validate(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
        """Measure the PSNR in dB of denoised latents at several t, beside the best that variance alone allows.

        denoised_T: of x̂₀ against z, peak 1 (z has unit variance), noise level t = T. wiener_T: the same for
        x̂₀ = (1 - t) / ((1 - t)² + t²) x_t, the linear estimate for white latents.
        """
        generator, figures = torch.Generator().manual_seed(0), dict[str, float]()
        flow = RectifiedFlow(RFOptions(), cast(NCSNpp, module))
        for t in LATENT_TIMES:
            errors, linear = [], []
            for image in images:
                z = self.decoder.encode(image)
                x = interpolate(z, torch.randn(z.shape, generator=generator).to(z.device), t)
                x0 = x0_from_velocity(x, flow.velocity(x, torch.full((1,), t, device=x.device)), t)
                errors.append(float((x0 - z).square().mean()))
                linear.append(float((x * (1 - t) / ((1 - t) ** 2 + t**2) - z).square().mean()))
            figures[f"denoised_{t}"] = -10 * math.log10(sum(errors) / len(errors))
            figures[f"wiener_{t}"] = -10 * math.log10(sum(linear) / len(linear))
        return figures

    def usage(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """State the domain, the decoder whose latents it learned, and the published convention of time."""
        decoder = {name: provenance["training"][name] for name in ("decoder", "decoder_options")}
        return {"domain": "latent", **decoder, "time": "label 999 s, s = 1 - t in [0.001, 1], output dx/ds"}
