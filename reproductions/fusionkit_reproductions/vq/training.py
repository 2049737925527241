"""Training the autoencoder (`fusionkit train decoder`) in the two stages of RFfusion.

Stage one: it learns to reconstruct images. Stage two: the encoder is frozen, and the decoder learns on latents of fused
images.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from fusionkit.contracts import Options, pad_to_multiple
from fusionkit.errors import OptionError
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.ssim import ssim_map
from fusionkit.numerics.window import gaussian_blur
from fusionkit.options import WeightsName, When
from fusionkit.training.data import PairSampler
from fusionkit.training.loop import Trainer
from fusionkit.training.options import TrainOptions
from fusionkit.weights import save_weights
from fusionkit_reproductions.fusion_loss import FusionLoss, stage_two_input

from .config import DDConfig, VQConfig
from .decoder import VQDecoder, VQOptions
from .losses import frequency_loss
from .network import VQModel

SMALL = VQConfig(
    embed_dim=8,
    n_embed=4096,
    ddconfig=DDConfig(z_channels=8, ch=24, ch_mult=(1, 2, 4), num_res_blocks=1, norm_groups=0, attn_type="none"),
)
FIRST, SECOND = When("stage", 1), When("stage", 2)


class VQTrainerOptions(Options):
    """Options of the `vq` trainer."""

    stage: Literal[1, 2] = Field(1, description="1: give back images; 2: the decoder alone, on fused pairs")
    architecture: Annotated[VQConfig, FIRST] = Field(
        SMALL, description="the network; a partial architecture changes the small one"
    )
    quantize_from: Annotated[int, FIRST] = Field(
        4000, ge=0, description="first step with the codebook, which k-means sets at that moment"
    )
    gradient: Annotated[float, FIRST] = Field(0.0, ge=0, description="weight of the L1 distance of image gradients")
    structure: Annotated[float, FIRST] = Field(0.0, ge=0, description="weight of 1 - SSIM")
    frequency: Annotated[float, FIRST] = Field(0.0, ge=0, description="weight of the distance of log spectra")
    codebook: Annotated[float, FIRST] = Field(1.0, ge=0, description="weight of the codebook loss")
    weights: Annotated[WeightsName, SECOND] = Field(
        "vq-small", description="weights to start from, whose architecture is taken"
    )
    prior: Annotated[str, SECOND] = Field("em_tv", description="the prior that fuses the pairs")
    fidelity: Annotated[float, SECOND] = Field(10.0, ge=0, description="weight of the L1 distance to the fused image")

    @field_validator("architecture", mode="before")
    @classmethod
    def _change_small(cls, value: Any) -> Any:
        """A partial architecture changes the small one."""
        if not isinstance(value, dict):
            return value
        base = SMALL.model_dump()
        return {**base, **value, "ddconfig": {**base["ddconfig"], **value.get("ddconfig", {})}}


def preserve_variance_(model: VQModel) -> None:
    """Initialise so that signals keep their variance and residual branches start at zero (Zhang et al., Fixup).

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
    """Trains the stage that the options name."""

    Options = VQTrainerOptions
    module: VQModel

    def __new__(cls, options: VQTrainerOptions, *_: Any) -> Any:
        """The trainer for these options."""
        stage = FusionTrainer if options.stage == 2 else ReconstructionTrainer
        return super().__new__(stage if cls is VQTrainer else cls)

    @classmethod
    def learns_from(cls, options: VQTrainerOptions) -> tuple[Literal["images", "pairs"], ...]:
        """Images for stage 1, pairs for stage 2."""
        return ("pairs",) if options.stage == 2 else ("images",)

    def _fits(self, images: Tensor) -> None:
        if images.shape[-1] % self.module.config.factor:
            raise OptionError(f"crop={images.shape[-1]} must be a multiple of {self.module.config.factor}")


class ReconstructionTrainer(VQTrainer):
    """L1 on pixels and on their gradients, SSIM, spectra; the codebook joins once the latents have settled.

    A codebook that learns from the first step collapses to a few entries. Here the latents form without it, then
    k-means places the entries where latents are, and entries that go unused for a while are moved to fresh latents.
    """

    REVIVE_EVERY = 100

    def __init__(self, options: VQTrainerOptions, decoder: None = None) -> None:
        self.options = options
        self.module = VQModel(options.architecture)
        preserve_variance_(self.module)
        self._recent: list[Tensor] = []
        self._unused = torch.ones(options.architecture.n_embed, dtype=torch.bool)

    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruction and codebook losses at `step`."""
        o, x = self.options, 2 * images - 1
        self._fits(images)
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
        if o.structure:
            total = total + o.structure * (1 - ssim_map(x, y, lambda a: gaussian_blur(a, 1.5), 2.0).mean())
        if o.frequency:
            total = total + o.frequency * frequency_loss(x, y)
        mse = float((y - x).detach().square().mean()) / 4
        return total, {
            "l1": float(l1.detach()) / 2,
            "psnr": -10 * float(np.log10(mse)),
            "codebook": float(commitment.detach()),
        }

    def state(self) -> dict[str, Any]:
        """Codebook entries unused lately, and recent latents, among which the codebook is placed."""
        return {"unused": self._unused, "recent": list(self._recent)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave."""
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
        conventions = {
            "latent": {"mean": latents.mean(1).tolist(), "std": latents.std(1).tolist()},
            "quantize": "decode" if figures["psnr_quantized"] > figures["psnr"] else "none",
        }
        _save(module, path, conventions, provenance)


class FusionTrainer(VQTrainer):
    """min  FusionLoss(D(E(F)), visible, infrared) + fidelity |D(E(F)) - F|₁ over the decoder D alone.

    F is the fusion of each whole pair by the frozen method with `prior`; crops of the pair and of F are the same.
    FusionLoss is the rule-based loss of RFfusion's second stage (`fusionkit_reproductions.fusion_loss`).
    """

    def __init__(self, options: VQTrainerOptions, decoder: None = None) -> None:
        self.options = options
        start = VQDecoder(VQOptions(weights=options.weights))
        self.module = start.network.module
        self.quantize = start.quantize
        self.conventions = {
            "latent": {"mean": start.mean.flatten().tolist(), "std": start.std.flatten().tolist()},
            "quantize": start.quantize,
        }
        self.module.requires_grad_(False)
        for part in (self.module.decoder, self.module.post_quant_conv):
            part.requires_grad_(True)
        self._rules = FusionLoss()

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = True) -> None:
        """Fuse every pair once."""
        if len(folders) != 2:
            raise OptionError(f"stage 2 learns from two folders, infrared and visible, not {len(folders)}")
        method = Pipeline(prior=self.options.prior, backbone="identity", restore="none", device="cpu")
        self.paired = True
        self.data = PairSampler(folders, options, lambda pair: method.fuse_tensors(pair, reference=-1))

    def _decoded(self, module: VQModel, fused: Tensor) -> Tensor:
        """D(E(F)), about [0, 1]."""
        with torch.no_grad():
            z = module.encode_to_prequant(2 * stage_two_input(fused, fused) - 1)
            if self.quantize != "none":
                z = module.quantize(z)[0]
        return (module.decode(z) + 1) / 2

    def loss(
        self, batch: tuple[Tensor, Tensor, Tensor], step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss above, of infrared, visible and fused crops (B, 3, H, W), and its terms."""
        infrared, visible, fused = batch
        self._fits(fused)
        out = self._decoded(self.module, fused)
        terms = self._rules(out, visible, infrared)
        fidelity = (out - fused).abs().mean()
        total = terms.total + self.options.fidelity * fidelity
        named = {**terms._asdict(), "total": total, "fidelity": fidelity}
        return total, {name: float(term.detach()) for name, term in named.items()}

    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """The rule-based loss of the decoded and of the fused image, and the PSNR between the two."""
        assert isinstance(module, VQModel)
        seen = {"rules": 0.0, "rules_of_fused": 0.0, "psnr": 0.0}
        for infrared, visible, fused in held_out:
            height, width = fused.shape[-2:]
            out = self._decoded(module, pad_to_multiple(fused, module.config.factor))[..., :height, :width].clamp(0, 1)
            seen["rules"] += float(self._rules(out, visible, infrared).total)
            seen["rules_of_fused"] += float(self._rules(fused, visible, infrared).total)
            seen["psnr"] -= 10 * float(torch.log10((out - fused).square().mean()))
        return {name: value / len(held_out) for name, value in seen.items()}

    def export(self, module: nn.Module, held_out: Any, path: Path, provenance: dict[str, Any]) -> None:
        """Weights as float16; the latent is that of the weights it started from."""
        assert isinstance(module, VQModel)
        _save(module, path, self.conventions, provenance)


def _save(module: VQModel, path: Path, conventions: dict[str, Any], provenance: dict[str, Any]) -> None:
    info = {"kind": "decoder vq", "architecture": module.config.model_dump(), **conventions, **provenance}
    save_weights(path, module.state_dict(), info, half=True)


def _psnr(decoder: VQDecoder, image: Tensor) -> float:
    size = (image.shape[-2], image.shape[-1])
    out = decoder.decode(decoder.encode(image), size).clamp(0, 1)
    return -10 * float(torch.log10((out - image).square().mean()))
