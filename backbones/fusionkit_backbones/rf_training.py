"""Training the flow (`fusionkit train rf`).

By default the U-Net that is shipped: pixels, and the part of the path that noisy images lie on. With an NCSN++ as
architecture: plain rectified flow on a decoder's latents, all of the path.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.errors import OptionError
from fusionkit.flow.path import interpolate, x0_from_velocity
from fusionkit.numerics.luma import luma
from fusionkit.options import WeightsName
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions

from .ncsnpp import NCSNpp, NCSNppConfig
from .noising import add_noise, thermal_like
from .rf import RectifiedFlow, RFOptions
from .unet import UNet, UNetConfig

__all__ = ["LatentTrainer", "PixelTrainer", "RFTrainer", "RFTrainerOptions"]

SMALL = NCSNppConfig(
    image_size=32, num_channels=8, centered=True, nf=64, ch_mult=(1, 1, 2), attn_resolutions=(), scale_by_sigma=False
)
LATENT_TIMES = (0.05, 0.1, 0.2, 0.4, 0.7)
LEVELS = (10, 15, 25, 50)  # of 255, that pixels are validated at
LAST = 0.4  # t of the noisiest images that pixels are trained on: a deviation of 85 levels


class RFTrainerOptions(Options):
    """Options of the `rf` trainer."""

    architecture: UNetConfig | NCSNppConfig = Field(UNetConfig(), description="network; a partial NCSN++ is completed")
    time_power: float = Field(
        1.0, gt=0, description="latents: t = u^power with u uniform; above 1 favours little noise"
    )
    weights: WeightsName = Field(
        "",
        description="pixels: weights to start from, whose architecture is taken, or grown to `architecture` if that is "
        "given; by default none",
    )
    halved: float = Field(0.4, ge=0, le=1, description="pixels: share of crops taken twice as large and halved")

    @field_validator("architecture", mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """A partial architecture without a name changes the small NCSN++."""
        partial = isinstance(value, dict) and value.get("name") != "unet"
        return NCSNppConfig.model_validate({**SMALL.model_dump(), **value}) if partial else value


class RFTrainer(Trainer):
    """Trains the network that the options name, by the task that it is for."""

    Options = RFTrainerOptions
    kind = "backbone rf"

    @classmethod
    def wants_decoder(cls, options: RFTrainerOptions) -> bool:
        """Latents need one."""
        return isinstance(options.architecture, NCSNppConfig)

    def __new__(cls, options: RFTrainerOptions, *_: Any) -> Any:
        """The trainer for these options."""
        task = LatentTrainer if isinstance(options.architecture, NCSNppConfig) else PixelTrainer
        return super().__new__(task if cls is RFTrainer else cls)


class PixelTrainer(RFTrainer):
    """min E s |ε - ε̂(x₀ + s ε, s)|² over luma crops, s = t / (1 - t), t uniform in [0, 0.4], a tenth of it below 0.04.

    The weight s lies between that of the velocity's loss, which sees little noise hardly at all, and that of ε's own.
    Noise is `add_noise`'s, crops are `thermal_like` or halved copies of larger ones, which are sharper and free of a
    camera's noise.
    """

    def __init__(self, options: RFTrainerOptions, decoder: Decoder | None = None) -> None:
        self.options = options
        if options.weights:
            network = RectifiedFlow(RFOptions(weights=options.weights)).network.module
            if not isinstance(network, UNet):
                raise OptionError(f"weights={options.weights}: no weights of a U-Net, so pixels cannot go on from them")
            if "architecture" in options.model_fields_set:
                network = _grown(network, options)
            self.module = network.requires_grad_(True)
        else:
            assert isinstance(options.architecture, UNetConfig)
            self.module = UNet(options.architecture)

    module: UNet

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = False) -> None:
        """Crops must divide by what the network divides by; images must hold those that are halved."""
        if options.crop % self.module.config.multiple:
            raise OptionError(f"crop={options.crop} must be a multiple of {self.module.config.multiple}")
        if self.module.config.num_channels != 1:
            raise OptionError(
                f"architecture.num_channels={self.module.config.num_channels}: pixels are luma, 1 channel"
            )
        side = options.crop * (2 if self.options.halved > 0 else 1)
        super().open(folders, options.model_copy(update={"crop": side}))

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Tensor:
        """Luma (B, 1, crop, crop) in [0, 1]."""
        large = round(options.batch * self.options.halved)
        parts = [self.data.batch(options.batch - large, options.crop, generator)] if large < options.batch else []
        if large:
            parts.append(F.avg_pool2d(self.data.batch(large, 2 * options.crop, generator), 2))
        return thermal_like(luma(torch.cat(parts)), generator)

    def loss(self, batch: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss above."""
        t, u = LAST * torch.rand(2, len(batch), generator=generator)
        t = torch.where(torch.rand(len(batch), generator=generator) < 0.1, 0.1 * u, t).clamp_min(0.002)
        s = t / (1 - t)
        y, noise = add_noise(2 * batch - 1, s, generator)
        estimate = self.module(y.to(self.device), s.to(self.device))
        loss = (s.view(-1, 1, 1, 1).to(self.device) * (estimate - noise.to(self.device)).square()).mean()
        return loss, {"loss": float(loss.detach())}

    def validate(self, module: nn.Module, held_out: Sequence[Tensor]) -> dict[str, float]:
        """PSNR in dB of luma at white noise of so many levels, not clipped, one evaluation."""
        assert isinstance(module, UNet)
        flow = RectifiedFlow(RFOptions(), module)
        generator = torch.Generator().manual_seed(0)
        figures = {}
        for level in LEVELS:
            s = 2 * level / 255
            t = s / (1 + s)
            found = []
            for image in held_out:
                x0 = 2 * luma(image) - 1
                x = (1 - t) * (x0 + s * torch.randn(x0.shape, generator=generator).to(x0.device))
                clean = x0_from_velocity(x, flow.velocity(x, torch.full((1,), t, device=x.device)), t)
                found.append(-10 * math.log10(float((clean - x0).square().mean()) / 4))
            figures[f"psnr_{level}"] = sum(found) / len(found)
        return figures

    def usage(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """State the domain, the decoder, the noise that it restores, and what it predicts."""
        return {
            "domain": "pixel",
            "decoder": "identity",
            "decoder_options": {"signal": "signed"},
            "restores": LAST,
            "time": "the noise of x_t / (1 - t), whose deviation is t / (1 - t)",
        }


def _grown(network: UNet, options: RFTrainerOptions) -> UNet:
    """The network with more residual blocks, which begin as the identity: it computes what it did before."""
    assert isinstance(options.architecture, UNetConfig)
    grown = UNet(options.architecture)
    own, more = network.state_dict(), grown.state_dict()
    if any(name not in more or more[name].shape != tensor.shape for name, tensor in own.items()):
        raise OptionError(f"weights={options.weights}: only blocks can be added to a network, not widths changed")
    grown.load_state_dict({**more, **own})
    return grown


class LatentTrainer(RFTrainer):
    """min E |v(x_t, t) - (ε - z)|² over latents z = encode(image), ε ~ N(0, I), t in (0, 1) (Liu et al., eq. 1)."""

    def __init__(self, options: RFTrainerOptions, decoder: Decoder | None = None) -> None:
        assert decoder is not None
        assert isinstance(options.architecture, NCSNppConfig)
        channels = options.architecture.num_channels
        if decoder.channels not in (None, channels):
            raise OptionError(
                f"architecture.num_channels={channels}, but the decoder's latents have {decoder.channels}"
            )
        self.options, self.decoder = options, decoder
        self.module: NCSNpp = NCSNpp(options.architecture)

    def to(self, device: torch.device) -> None:
        """The decoder computes there, too."""
        super().to(device)
        if isinstance(self.decoder, nn.Module):
            self.decoder.to(device)

    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of the velocity."""
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
        """PSNR in dB of the denoised latent at several t, beside the best that variance alone allows.

        denoised_T: of x̂₀ against z, peak 1 (z has unit variance), noise level t = T. wiener_T: the same for
        x̂₀ = (1 - t) / ((1 - t)² + t²) x_t, the linear estimate for white latents.
        """
        assert isinstance(module, NCSNpp)
        flow = RectifiedFlow(RFOptions(), module)
        generator = torch.Generator().manual_seed(0)
        figures: dict[str, float] = {}
        for t in LATENT_TIMES:
            errors, linear = [], []
            for image in images:
                z = self.decoder.encode(image)
                x = interpolate(z, torch.randn(z.shape, generator=generator).to(z.device), t)
                x0 = x0_from_velocity(x, flow.velocity(x, torch.full((1,), t, device=z.device)), t)
                errors.append(float((x0 - z).square().mean()))
                linear.append(float((x * (1 - t) / ((1 - t) ** 2 + t**2) - z).square().mean()))
            figures[f"denoised_{t}"] = -10 * math.log10(sum(errors) / len(errors))
            figures[f"wiener_{t}"] = -10 * math.log10(sum(linear) / len(linear))
        return figures

    def usage(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """State the domain, the decoder whose latents it learned, and the published convention of time."""
        decoder = {name: provenance["training"][name] for name in ("decoder", "decoder_options")}
        return {"domain": "latent", **decoder, "time": "label 999 s, s = 1 - t in [0.001, 1], output dx/ds"}
