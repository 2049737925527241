"""One network of a plug-in: its file, its architecture, when it is loaded, where it computes."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from ..contracts import Lazy, pad_to_multiple
from ..errors import WeightsError
from ..numerics.layers import fastest_format
from .files import load_network
from .store import find_weights

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .files import WeightsFile

    Model = TypeVar("Model", bound=BaseModel)

__all__ = ["Network"]

Built = TypeVar("Built", bound=nn.Module)


class Network(nn.Module, Lazy, Generic[Built]):
    """A network that is loaded, strictly, when it is first used: frozen, in evaluation mode, on its input's device.

        self.network = Network(options.weights, MyNet, MyNetConfig, kind="prior mine", otherwise="`prior=average` ...")
        self.provenance = self.network.provenance
        ...
        fused = self.network(x)  # padded to a multiple of `architecture.multiple`, and cropped again

    weights: a name, in the user's folder or in the folder `weights` of the package of `build`; a .safetensors file; or
    a network, which is taken as it is and has its architecture in `config`. build: makes the network from its
    architecture. config: pydantic model of the architecture. kind: as in the JSON beside the weights. otherwise: what
    works without them, for the error.

    The JSON is read at once: WeightsError where weights are missing, of another kind, or of another architecture.
    `Plugin.prepare` loads the networks among a plug-in's attributes. A pickled one is loaded where it arrives.
    """

    architecture: Any
    _module: Built | None

    def __init__(
        self, weights: str | Built, build: Callable[[Any], Built], config: Any, *, kind: str, otherwise: str
    ) -> None:
        super().__init__()
        self._build, self._lock = build, Lock()
        self.file: WeightsFile | None = None
        self.provenance: Mapping[str, Any] = {}
        self.register_module("_module", None)
        if not isinstance(weights, str):
            self._module, self.architecture = weights.eval(), weights.config
            return
        self.file = file = find_weights(weights, build.__module__.partition(".")[0], otherwise)
        if (found := file.info.get("kind", kind)) != kind:
            raise WeightsError(
                f"weights {weights} are of kind {found!r:.40}, expected {kind!r}; `fusionkit weights list` shows what "
                "there is"
            )
        self.architecture = file.architecture(config)
        self.provenance = {"weights": file.path.name, "sha256": file.info.get("sha256")}

    def conventions(self, model: "type[Model]") -> "Model":
        """What the JSON says of how the network is used; defaults for a network without a file."""
        return model() if self.file is None else self.file.conventions(model)

    @property
    def multiple(self) -> int:
        """Sides of its input are padded to a multiple of this."""
        return getattr(self.architecture, "multiple", 1)

    @property
    def overlap(self) -> int:
        """Samples around a tile that influence it."""
        return getattr(self.architecture, "overlap", 0)

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._module is not None

    @property
    def module(self) -> Built:
        """The network itself, on the device of its last use, at first the CPU."""
        with self._lock:
            if self._module is None:
                assert self.file is not None
                with torch.inference_mode(False):  # its tensors must be able to meet gradients
                    self._module = load_network(self.file, self._build, self.architecture).requires_grad_(False).eval()
            return self._module

    def prepare(self) -> None:
        """Load it now."""
        self.module  # noqa: B018

    def on(self, device: torch.device) -> Built:
        """The network itself, moved to a device."""
        return self.module.to(device)

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """The network's answer to x (B, C, H, W) of any size and `others`, cropped to H and W."""
        padded = fastest_format(pad_to_multiple(x, self.multiple))
        return cast(Tensor, self.on(x.device)(padded, *others))[..., : x.shape[-2], : x.shape[-1]]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_lock"}
        return state if self.file is None else {**state, "_modules": {"_module": None}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_lock": Lock()})  # type: ignore[no-untyped-call]
