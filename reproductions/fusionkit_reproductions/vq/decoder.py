"""The decoder `vq`: a VQ autoencoder behind the contract of decoders."""

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from fusionkit.contracts import Decoder, Options, pad_to_multiple
from fusionkit.errors import WeightsError
from fusionkit.numerics.layers import fastest_format
from fusionkit.options import WeightsName
from fusionkit.weights.network import Network

from .config import VQConfig
from .network import VQModel

FALLBACK = "`backbone=identity` fuses without any network"
PUBLISHED = {  # names that presets and the documentation use: the file they are imported from, and what does without
    "rffusion-vq": ", and `prior=released_rffusion` comes close to the released RFfusion; they are published as "
    "autoencoder.ckpt, linked in the README of github.com/zirui0625/RFfusion (docs/rffusion.md)"
}


class VQOptions(Options):
    """Options of the decoder `vq`."""

    weights: WeightsName = Field(
        "vq-small", description="name of shipped or imported weights, or a .safetensors file with its .json"
    )
    quantize: Literal["auto", "none", "encode", "decode"] = Field(
        "auto", description="where latents are snapped to the codebook; auto: as the weights' JSON says"
    )
    scale: float | None = Field(
        None, gt=0, description="factor of the latents, instead of the mean and deviation in the weights' JSON"
    )


class LatentMoments(BaseModel):
    """Mean and standard deviation of each channel of the latent over natural images."""

    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None


class VQConventions(BaseModel):
    """Use of weights, as the JSON beside them states it: moments of the latent, and when it is quantised."""

    latent: LatentMoments = LatentMoments()
    quantize: Literal["none", "encode", "decode"] = "decode"


class VQDecoder(nn.Module, Decoder):
    """The VQ-f4 autoencoder of latent diffusion (Rombach et al., CVPR 2022, section 3.1).

    The network works on images in [-1, 1]; this adapter owns that range, the latent's normalisation (mean and
    standard deviation of each channel over natural images, from the weights' JSON) and the padding of odd sizes.
    """

    Options = VQOptions
    overlap = 64
    mean: Tensor
    std: Tensor

    def __init__(
        self, options: VQOptions, model: VQModel | None = None, conventions: VQConventions | None = None
    ) -> None:
        super().__init__()
        self.options = options
        otherwise = FALLBACK + PUBLISHED.get(options.weights, "")
        self.network = Network(model or options.weights, VQModel, VQConfig, kind="decoder vq", otherwise=otherwise)
        self.provenance = self.network.provenance
        conventions = conventions or self.network.conventions(VQConventions)
        self.factor = self.network.architecture.factor
        self.channels = channels = self.network.architecture.embed_dim
        mean, std = conventions.latent.mean or [0.0] * channels, conventions.latent.std or [1.0] * channels
        if options.scale is not None:
            mean, std = [0.0] * channels, [1 / options.scale] * channels
        if not len(mean) == len(std) == channels:
            raise WeightsError(f"weights {options.weights}: latent has {len(mean)} means for {channels} channels")
        self.register_buffer("mean", torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, channels, 1, 1))
        self.quantize = conventions.quantize if options.quantize == "auto" else options.quantize

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, channels, ceil(H / factor), ceil(W / factor))."""
        model = self.network.on(image.device)
        z = model.encode_to_prequant(fastest_format(2 * pad_to_multiple(image, self.factor) - 1))
        if self.quantize == "encode":
            z = model.quantize(z)[0]
        return (z - self.mean) / self.std

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Latent -> (B, 3, *size), about [0, 1]."""
        model, z = self.network.on(z.device), z * self.std + self.mean
        if self.quantize == "decode":
            z = model.quantize(z)[0]
        return (model.decode(fastest_format(z))[..., : size[0], : size[1]] + 1) / 2
