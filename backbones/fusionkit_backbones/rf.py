"""The backbone `rf`: an NCSN++ as the contract wants it."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn

from fusionkit.contracts import Backbone, Options, pad_to_multiple
from fusionkit.flow.path import velocity_from_x0
from fusionkit.weights import find_weights, load_weights

from .ncsnpp import NCSNpp, NCSNppConfig

__all__ = ["RFConventions", "RFOptions", "RectifiedFlow"]

FALLBACK = "`backbone=identity` runs every prior without a flow"


class RFOptions(Options):
    """Options of the backbone `rf`."""

    weights: str = Field(
        "rf-small", description="name of shipped or imported weights, or a .safetensors file with its .json"
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


class RectifiedFlow(nn.Module, Backbone):
    """v(x_t, t) by an NCSN++ (Liu et al., ICLR 2023; Song et al., ICLR 2021).

    The network keeps the published convention, which runs the other way: data at s = 1, label 999 s with s in
    [0.001, 1], output dx/ds = -v. This adapter turns it round (s = 1 - t) and pads sizes to what the network
    divides by; nothing else knows.
    """

    Options = RFOptions
    LABEL = 999.0
    EPS = 1e-3

    def __init__(
        self, options: RFOptions, network: NCSNpp | None = None, conventions: RFConventions | None = None
    ) -> None:
        super().__init__()
        self.options = options
        if network is None:
            file = find_weights(options.weights, "fusionkit_backbones", FALLBACK)
            architecture = file.architecture(NCSNppConfig)
            if options.centered is not None:
                architecture = architecture.model_copy(update={"centered": options.centered})
            conventions = file.conventions(RFConventions)
            network = file.build(NCSNpp, architecture)
            load_weights(network, file)
            self.provenance = {"weights": file.path.name, "sha256": file.info.get("sha256")}
        conventions = conventions or RFConventions()
        self.network = network.eval()
        self.channels = network.config.num_channels
        self.multiple = network.config.multiple
        self.domain = conventions.domain
        self.decoder = conventions.decoder
        self.decoder_options = conventions.decoder_options

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """v at x_t (B, channels, H, W), any size, and t (B,)."""
        height, width = x_t.shape[-2:]
        s = self.EPS + (1 - self.EPS) * (1 - t) if self.options.time == "shifted" else (1 - t).clamp(self.EPS, 1.0)
        out = self.network(pad_to_multiple(x_t, self.multiple), self.LABEL * s)[..., :height, :width]
        return velocity_from_x0(x_t, out, t.view(-1, 1, 1, 1)) if self.options.output == "x0" else -out
