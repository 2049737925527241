"""The prior `exposure`: multi-exposure fusion by a network that was trained on rendered brackets."""

from typing import Any

from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.options import WeightsName

from .decision import Decision, Exposed, mixed

__all__ = ["Exposure", "ExposureOptions"]


class ExposureOptions(Options):
    """Options of the prior `exposure`."""

    weights: WeightsName = Field("exposure-rendered", description="weights of the network")


class Exposure(Prior):
    """F = Σ_i W_i S_i for any number of sources, W a softmax over sources (`fusionkit_priors.decision.Exposed`).

    The network was trained on scenes whose parts are lit up to five stops apart; its target shows each part as if it
    were photographed by itself. Without bands there is no dark rim round a bright window. `em_tv` uses the network
    for sources that differ in exposure. A closed form of the sources: the estimate x0 is not read. `fusionkit train
    exposure` trains the network.
    """

    Options = ExposureOptions
    reads_x0 = False
    options: ExposureOptions

    def __init__(self, options: ExposureOptions) -> None:
        super().__init__(options)
        self.network = Decision(Exposed, options.weights, "`prior=mertens` needs none")
        self.provenance = self.network.provenance

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma (B, 1, H, W)."""
        return mixed(self.network.weights(sources.luma), sources.luma), None
