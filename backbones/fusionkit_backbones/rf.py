"""The backbone `rf`: a rectified flow by a U-Net or an NCSN++."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag
from torch import Tensor, nn

from fusionkit.contracts import Backbone, Options
from fusionkit.errors import OptionError
from fusionkit.flow.path import velocity_from_noise, velocity_from_x0
from fusionkit.options import WeightsName
from fusionkit.weights.network import Network

from .ncsnpp import NCSNpp, NCSNppConfig
from .unet import UNet, UNetConfig

FALLBACK = "`backbone=identity` runs every prior without a flow"
PUBLISHED = {  # names that presets and the documentation use: the file they are imported from, and what does without
    "rf-celebahq": ", and `prior=released_rffusion` comes close to the released RFfusion; they are published as "
    "checkpoint_12.pth, CelebA HQ in the README of github.com/gnobitab/RectifiedFlow (docs/rffusion.md)"
}


def _named(described: object) -> str:
    return "unet" if isinstance(described, dict) and described.get("name") == "unet" else "ncsnpp"


Architecture = Annotated[  # published configurations of NCSN++ carry no name
    Annotated[UNetConfig, Tag("unet")] | Annotated[NCSNppConfig, Tag("ncsnpp")], Discriminator(_named)
]


def _build(architecture: NCSNppConfig | UNetConfig) -> NCSNpp | UNet:
    return UNet(architecture) if isinstance(architecture, UNetConfig) else NCSNpp(architecture)


class RFOptions(Options):
    """Options of the backbone `rf`; all but `weights` apply to networks of the published kind (NCSN++)."""

    weights: WeightsName = Field(
        "rf-luma", description="name of shipped or imported weights, or a .safetensors file with its .json"
    )
    output: Literal["velocity", "x0"] = Field(
        "velocity",
        description="meaning of the network's output; x0: the clean image, as the released RFfusion takes it",
    )
    centered: bool | None = Field(
        None, description="whether the network's input is in [-1, 1], or it applies 2x - 1; by default as trained"
    )
    time: Literal["exact", "shifted"] = Field(
        "exact",
        description="s = 1 - t, at least 0.001; shifted: s = 0.001 + 0.999 (1 - t), the published sampler's grid",
    )


class RFConventions(BaseModel):
    """Use of the network, from the JSON beside the weights."""

    domain: Literal["latent", "pixel", "any"] = "latent"
    decoder: str = "vq"
    decoder_options: dict[str, Any] = {}
    restores: float = Field(0.0, ge=0, lt=1)


class RectifiedFlow(nn.Module, Backbone):
    """v(x_t, t) by the network that the weights name.

    NCSN++ (Liu et al., ICLR 2023; Song et al., ICLR 2021) keeps the published convention, which runs the other way:
    data at s = 1, label 999 s with s in [0.001, 1], output dx/ds = -v. The U-Net predicts the noise of x_t / (1 - t),
    whose deviation is t / (1 - t); then v = (ε̂ - x_t) / (1 - t). Only this adapter knows of either convention.
    """

    Options = RFOptions
    LABEL = 999.0
    EPS = 1e-3

    def __init__(self, options: RFOptions, network: NCSNpp | UNet | None = None) -> None:
        super().__init__()
        self.options = options
        otherwise = FALLBACK + PUBLISHED.get(options.weights, "")
        self.network = Network(
            network or options.weights, _build, Architecture, kind="backbone rf", otherwise=otherwise
        )
        self.provenance = self.network.provenance
        if options.centered is not None and isinstance(self.network.architecture, NCSNppConfig):
            self.network.architecture = self.network.architecture.model_copy(update={"centered": options.centered})
        unread = [name for name in ("output", "centered", "time") if name in options.model_fields_set]
        if unread and isinstance(self.network.architecture, UNetConfig):
            raise OptionError(
                f"backbone rf: {unread[0]} is for networks of the published kind, {options.weights} is none"
            )
        conventions = self.network.conventions(RFConventions)
        self.channels = self.network.architecture.num_channels
        self.multiple, self.overlap = self.network.multiple, self.network.overlap
        self.domain, self.restores = conventions.domain, conventions.restores
        self.decoder, self.decoder_options = conventions.decoder, conventions.decoder_options

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Compute v at x_t (B, channels, H, W) of any size and t (B,)."""
        time = t.view(-1, 1, 1, 1)
        if isinstance(self.network.architecture, UNetConfig):
            signal = (1 - time).clamp_min(self.EPS)
            noise = self.network(x_t / signal, t / signal.view(-1))
            return velocity_from_noise(x_t, noise, 1 - signal)
        s = self.EPS + (1 - self.EPS) * (1 - t) if self.options.time == "shifted" else (1 - t).clamp(self.EPS, 1.0)
        out = self.network(x_t, self.LABEL * s)
        return velocity_from_x0(x_t, out, time) if self.options.output == "x0" else -out
