"""Training the flow (`fusionkit train rf`): plain rectified flow on a decoder's latents."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options
from fusionkit.errors import OptionError
from fusionkit.flow.path import interpolate, x0_and_noise
from fusionkit.training.loop import Trainer
from fusionkit.weights import save_weights

from .ncsnpp import NCSNpp, NCSNppConfig
from .rf import RectifiedFlow, RFOptions

__all__ = ["RFTrainer", "RFTrainerOptions"]

SMALL = NCSNppConfig(
    image_size=32,
    num_channels=8,
    centered=True,
    nf=64,
    ch_mult=(1, 1, 2),
    num_res_blocks=2,
    attn_resolutions=(),
    scale_by_sigma=False,
)
VALIDATION_TIMES = (0.05, 0.1, 0.2, 0.4, 0.7)


class RFTrainerOptions(Options):
    """Options of the `rf` trainer."""

    architecture: NCSNppConfig = SMALL
    time_power: float = Field(1.0, gt=0, description="t = u^power with u uniform; above 1 favours little noise")

    @field_validator("architecture", mode="before")
    @classmethod
    def _change_small(cls, value: Any) -> Any:
        """A partial architecture changes the small one."""
        return {**SMALL.model_dump(), **value} if isinstance(value, dict) else value


class RFTrainer(Trainer):
    """min E |v(x_t, t) - (ε - z)|² over latents z = encode(image), ε ~ N(0, I), t in (0, 1) (Liu et al., eq. 1)."""

    Options = RFTrainerOptions
    needs_decoder = True

    def __init__(self, options: RFTrainerOptions, decoder: Decoder) -> None:
        channels = options.architecture.num_channels
        if decoder.channels not in (None, channels):
            raise OptionError(
                f"architecture.num_channels={channels}, but the decoder's latents have {decoder.channels}"
            )
        self.options, self.decoder = options, decoder
        self.module: NCSNpp = NCSNpp(options.architecture)

    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of the velocity."""
        with torch.no_grad():
            z = self.decoder.encode(images)
        t = torch.rand(len(z), generator=generator) ** self.options.time_power
        noise = torch.randn(z.shape, generator=generator)
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
        for t in VALIDATION_TIMES:
            errors, linear = [], []
            for image in images:
                z = self.decoder.encode(image)
                x = interpolate(z, torch.randn(z.shape, generator=generator), t)
                x0, _ = x0_and_noise(x, flow.velocity(x, torch.full((1,), t)), t)
                errors.append(float((x0 - z).square().mean()))
                linear.append(float((x * (1 - t) / ((1 - t) ** 2 + t**2) - z).square().mean()))
            figures[f"denoised_{t}"] = -10 * math.log10(sum(errors) / len(errors))
            figures[f"wiener_{t}"] = -10 * math.log10(sum(linear) / len(linear))
        return figures

    def export(self, module: nn.Module, images: Sequence[Tensor], path: Path, provenance: dict[str, Any]) -> None:
        """Weights as float16; the JSON names the decoder that the latents belong to."""
        assert isinstance(module, NCSNpp)
        info = {
            "kind": "backbone rf",
            "architecture": module.config.model_dump(),
            "domain": "latent",
            "decoder": provenance["training"]["decoder"],
            "decoder_options": provenance["training"]["decoder_options"],
            "time": "label 999 s, s = 1 - t in [0.001, 1], output dx/ds",
            **provenance,
        }
        save_weights(path, module.state_dict(), info, half=True)
