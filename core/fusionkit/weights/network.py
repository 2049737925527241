"""The network of a plug-in: its weights file, its architecture, its loading, its device."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Generic, TypeVar, cast

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ..contracts import Lazy, pad_to_multiple
from ..errors import WeightsError
from ..numerics.layers import fastest_format
from .files import WeightsFile, load_network
from .store import find_weights

Built = TypeVar("Built", bound=nn.Module)
Model = TypeVar("Model", bound=BaseModel)


class Network(nn.Module, Lazy, Generic[Built]):
    """A network that is loaded strictly at its first use: frozen, in evaluation mode, on the device of its input.

        self.network = Network(options.weights, MyNet, MyNetConfig, kind="prior mine", otherwise="`prior=b` has none")
        self.provenance = self.network.provenance
        ...
        answer = self.network(x)

    weights: a name, in the user's folder or the folder `weights` of the package of `build`; or a .safetensors file; or
    a network with its architecture in `config`, which is taken as it is. build: makes the network from its
    architecture. config: pydantic model of the architecture, which may state the `multiple` that sides are padded to,
    and the `overlap` of tiles. kind: as in the JSON beside the weights. otherwise: what works without them, for errors.

    Raises WeightsError at once where weights are missing, of another kind or architecture; the tensors are read later.
    `prepare` of the plug-in loads all networks that are its attributes. A pickled network is loaded where it arrives.
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
        if isinstance(weights, str):
            self.file = file = find_weights(weights, build.__module__.partition(".")[0], otherwise)
            if (found := file.info.get("kind", kind)) != kind:
                hint = "`fusionkit weights list` shows the kind of each"
                raise WeightsError(f"weights {weights} are of kind {found!r:.40}, expected {kind!r}; {hint}")
            self.architecture = file.architecture(config)
            self.provenance = {"weights": file.path.name, "sha256": file.info.get("sha256")}
        else:
            self._module, self.architecture = weights.eval(), weights.config
        self.multiple: int = getattr(self.architecture, "multiple", 1)
        self.overlap: int = getattr(self.architecture, "overlap", 0)

    def conventions(self, model: type[Model]) -> Model:
        """Read from the JSON how the network is used; the defaults for a network without a file."""
        return model() if self.file is None else cast(Model, self.file.conventions(model))

    @property
    def module(self) -> Built:
        """The network itself, loaded at the first call; on the device of its last use, at first the CPU."""
        with self._lock:
            if self._module is None:
                assert self.file is not None
                with torch.inference_mode(False):  # its tensors may meet gradients later
                    self._module = load_network(self.file, self._build, self.architecture).requires_grad_(False).eval()
            return self._module

    def prepare(self) -> None:
        """Load the network now."""
        self.module  # noqa: B018

    def on(self, device: torch.device) -> Built:
        """Move the network itself to a device."""
        return self.module.to(device)

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """Apply the network to x (B, C, H, W), padded to `multiple`, and `others`; crop the answer to H and W."""
        padded = fastest_format(pad_to_multiple(x, self.multiple))
        return cast(Tensor, self.on(x.device)(padded, *others))[..., : x.shape[-2], : x.shape[-1]]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_lock"}
        return state if self.file is None else {**state, "_modules": {"_module": None}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_lock": Lock()})  # type: ignore[no-untyped-call]
