"""Training the autoencoder (`fusionkit train decoder`): reconstruction and codebook, no adversary."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from fusionkit.contracts import Options, pad_to_multiple
from fusionkit.errors import OptionError
from fusionkit.training.loop import Trainer
from fusionkit.weights import save_weights

from .config import DDConfig, VQConfig
from .decoder import VQDecoder, VQOptions
from .network import VQModel

__all__ = ["VQTrainer", "VQTrainerOptions"]

SMALL = VQConfig(
    embed_dim=8,
    n_embed=4096,
    ddconfig=DDConfig(z_channels=8, ch=24, ch_mult=(1, 2, 4), num_res_blocks=1, norm_groups=0, attn_type="none"),
)


class VQTrainerOptions(Options):
    """Options of the `vq` trainer."""

    architecture: VQConfig = SMALL
    quantize_from: int = Field(4000, ge=0, description="first step with the codebook, set by k-means at that moment")
    gradient: float = Field(0.0, ge=0, description="weight of the L1 distance of image gradients")
    codebook: float = Field(1.0, ge=0, description="weight of the codebook loss")

    @field_validator("architecture", mode="before")
    @classmethod
    def _change_small(cls, value: Any) -> Any:
        """A partial architecture changes the small one."""
        if not isinstance(value, dict):
            return value
        base = SMALL.model_dump()
        return {**base, **value, "ddconfig": {**base["ddconfig"], **value.get("ddconfig", {})}}


def preserve_variance_(model: VQModel) -> None:
    """Initialise so that signals keep their size and every residual branch starts at zero (Zhang et al., Fixup).

    PyTorch's default shrinks the signal at each convolution; without normalisation layers little would come out.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("conv2.weight"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class VQTrainer(Trainer):
    """L1 on pixels and on their gradients; the codebook joins once the latents have settled.

    A codebook that learns from the first step collapses to a few entries. Here the latents form without it, then
    k-means places the entries where latents are, and entries that go unused for a while are moved to fresh latents.
    """

    Options = VQTrainerOptions
    REVIVE_EVERY = 100

    def __init__(self, options: VQTrainerOptions, decoder: None = None) -> None:
        self.options = options
        self.module: VQModel = VQModel(options.architecture)
        preserve_variance_(self.module)
        self._recent: list[Tensor] = []
        self._unused = torch.ones(options.architecture.n_embed, dtype=torch.bool)

    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruction and codebook losses at `step`."""
        o, x = self.options, 2 * images - 1
        if images.shape[-1] % self.module.config.factor:
            raise OptionError(f"crop={images.shape[-1]} must be a multiple of {self.module.config.factor}")
        z = self.module.encode_to_prequant(x)
        flat = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        commitment = torch.zeros(())
        if step >= o.quantize_from:
            if step == o.quantize_from:
                self._place_codes(flat)
            z, commitment, indices = self.module.quantize(z)
            self._revive(flat, indices, step, generator)
        elif step >= o.quantize_from - 50:
            self._recent.append(flat)
        y = self.module.decode(z)
        l1 = (y - x).abs().mean()
        gradient = sum(((y - x).diff(dim=d)).abs().mean() for d in (-1, -2))
        total = l1 + o.gradient * gradient + o.codebook * commitment
        mse = float((y - x).detach().square().mean()) / 4
        return total, {
            "l1": float(l1.detach()) / 2,
            "psnr": -10 * float(np.log10(mse)),
            "codebook": float(commitment.detach()),
        }

    def state(self) -> dict[str, Any]:
        """Which entries were used lately, and the latents that the codebook will be placed by."""
        return {"unused": self._unused, "recent": list(self._recent)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up `state` again."""
        self._unused, self._recent = state["unused"], state["recent"]

    def _place_codes(self, flat: Tensor) -> None:
        latents = torch.cat([*self._recent, flat]).cpu().numpy()
        entries = self.module.quantize.embedding.weight
        rng = np.random.default_rng(0)
        latents = latents[rng.permutation(len(latents))[: 16 * len(entries)]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # empty clusters: their entries are revived below
            centres, _ = kmeans2(latents, len(entries), iter=8, minit="points", missing="warn", rng=rng)
        with torch.no_grad():
            entries.copy_(torch.from_numpy(centres))
        self._recent.clear()

    def _revive(self, flat: Tensor, indices: Tensor, step: int, generator: torch.Generator) -> None:
        self._unused[indices.cpu()] = False
        if step % self.REVIVE_EVERY == 0:
            dead = self._unused.nonzero().flatten()[: len(flat)]
            chosen = torch.randperm(len(flat), generator=generator)[: len(dead)]
            with torch.no_grad():
                self.module.quantize.embedding.weight[dead] = flat[chosen]
            self._unused.fill_(True)

    def validate(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
        """Mean PSNR (dB, RGB, 8-bit range) of the reconstruction, without and with the codebook."""
        assert isinstance(module, VQModel)
        figures = {}
        for name, where in (("psnr", "none"), ("psnr_quantized", "decode")):
            decoder = VQDecoder(VQOptions(quantize=where), module)
            figures[name] = float(np.mean([_psnr(decoder, image) for image in images]))
        return figures

    def export(self, module: nn.Module, images: Sequence[Tensor], path: Path, provenance: dict[str, Any]) -> None:
        """Weights as float16, with the latent's mean and standard deviation over `images`."""
        assert isinstance(module, VQModel)
        factor = module.config.factor
        latents = torch.cat(
            [module.encode_to_prequant(2 * pad_to_multiple(x, factor) - 1).flatten(2)[0] for x in images], dim=1
        )
        figures = provenance["held_out"]
        info = {
            "kind": "decoder vq",
            "architecture": module.config.model_dump(),
            "latent": {"mean": latents.mean(1).tolist(), "std": latents.std(1).tolist()},
            "quantize": "decode" if figures["psnr_quantized"] > figures["psnr"] else "none",
            **provenance,
        }
        save_weights(path, module.state_dict(), info, half=True)


def _psnr(decoder: VQDecoder, image: Tensor) -> float:
    size = (image.shape[-2], image.shape[-1])
    out = decoder.decode(decoder.encode(image), size).clamp(0, 1)
    return -10 * float(torch.log10((out - image).square().mean()))
