"""The backbone `rf`: a rectified flow as the contract wants it, whichever network computes it."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn

from fusionkit.contracts import Backbone, Options, pad_to_multiple
from fusionkit.errors import OptionError
from fusionkit.flow.path import velocity_from_noise, velocity_from_x0
from fusionkit.numerics.layers import fastest_format
from fusionkit.weights import WeightsFile, find_weights, load_network

from .ncsnpp import NCSNpp, NCSNppConfig
from .unet import UNet, UNetConfig

__all__ = ["RFConventions", "RFOptions", "RectifiedFlow"]

FALLBACK = "`backbone=identity` runs every prior without a flow"
Network = NCSNpp | UNet


class RFOptions(Options):
    """Options of the backbone `rf`; all but the weights are for networks of the published kind (NCSN++)."""

    weights: str = Field(
        "rf-luma", description="name of shipped or imported weights, or a .safetensors file with its .json"
    )
    output: Literal["velocity", "x0"] = Field(
        "velocity",
        description="what the network's output is taken for; x0: the clean image, as the released RFfusion does",
    )
    centered: bool | None = Field(
        None, description="whether the network takes its input as it is, or applies 2x - 1; by default as trained"
    )
    time: Literal["exact", "shifted"] = Field(
        "exact",
        description="s = 1 - t, at least 0.001; shifted: s = 0.001 + 0.999 (1 - t), the published sampler's grid",
    )


class RFConventions(BaseModel):
    """What the JSON beside the weights says on how they are used."""

    domain: Literal["latent", "pixel", "any"] = "latent"
    decoder: str = "vq"
    decoder_options: dict[str, Any] = {}
    restores: float = Field(0.0, ge=0, lt=1)


class RectifiedFlow(nn.Module, Backbone):
    """v(x_t, t) by one of two networks, which the weights name.

    NCSN++ (Liu et al., ICLR 2023; Song et al., ICLR 2021) keeps the published convention, which runs the other way:
    data at s = 1, label 999 s with s in [0.001, 1], output dx/ds = -v. The U-Net predicts the noise of x_t / (1 - t),
    whose deviation is t / (1 - t); then v = (ε̂ - x_t) / (1 - t). This adapter turns both round and pads sizes to what
    the network divides by; nothing else knows. Weights are read when the field is first asked.
    """

    Options = RFOptions
    LABEL = 999.0
    EPS = 1e-3

    def __init__(
        self, options: RFOptions, network: Network | None = None, conventions: RFConventions | None = None
    ) -> None:
        super().__init__()
        self.options = options
        self._network = network
        self._file: WeightsFile | None = None
        if network is None:
            self._file = file = find_weights(options.weights, "fusionkit_backbones", FALLBACK)
            self.architecture = self._described(file)
            conventions = file.conventions(RFConventions)
            self.provenance = {"weights": file.path.name, "sha256": file.info.get("sha256")}
        else:
            self.architecture = network.config
            network.eval()
        conventions = conventions or RFConventions()
        self.channels = self.architecture.num_channels
        self.multiple = self.architecture.multiple
        self.domain = conventions.domain
        self.decoder = conventions.decoder
        self.decoder_options = conventions.decoder_options
        self.restores = conventions.restores
        self.overlap = 64 if isinstance(self.architecture, UNetConfig) else 0

    def _described(self, file: WeightsFile) -> NCSNppConfig | UNetConfig:
        """The architecture that the JSON names, changed by the options."""
        described = file.section("architecture")
        if isinstance(described, dict) and described.get("name") == "unet":
            odd = [name for name in ("output", "centered", "time") if name in self.options.model_fields_set]
            if odd:
                raise OptionError(
                    f"backbone rf: {odd[0]} is for networks of the published kind, {file.path.name} is none"
                )
            return file.architecture(UNetConfig)
        architecture = file.architecture(NCSNppConfig)
        centered = self.options.centered
        return architecture if centered is None else architecture.model_copy(update={"centered": centered})

    @property
    def network(self) -> Network:
        """The network; its weights are read at the first call, strictly."""
        if self._network is None:
            assert self._file is not None
            kind: Any = UNet if isinstance(self.architecture, UNetConfig) else NCSNpp
            network: Network = load_network(self._file, kind, self.architecture)
            self._network = network.requires_grad_(False).eval()
        return self._network

    def prepare(self) -> None:
        """Read the weights now."""
        self.network  # noqa: B018

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """v at x_t (B, channels, H, W), any size, and t (B,)."""
        height, width = x_t.shape[-2:]
        network = self.network.to(x_t.device)
        padded = fastest_format(pad_to_multiple(x_t, self.multiple))
        time = t.view(-1, 1, 1, 1)
        if isinstance(network, UNet):
            signal = (1 - time).clamp_min(self.EPS)
            noise = network(padded / signal, t / signal.view(-1))[..., :height, :width]
            return velocity_from_noise(x_t, noise, 1 - signal)
        s = self.EPS + (1 - self.EPS) * (1 - t) if self.options.time == "shifted" else (1 - t).clamp(self.EPS, 1.0)
        out = network(padded, self.LABEL * s)[..., :height, :width]
        return velocity_from_x0(x_t, out, time) if self.options.output == "x0" else -out
