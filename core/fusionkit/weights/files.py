"""Reading and writing weights: safetensors with a JSON file of the same stem beside it.

The JSON holds the architecture, the conventions and the SHA-256 of the tensors, so that a file explains itself and a
damaged one is noticed. Nothing is downloaded and no code is run from a file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import WeightsError
from ..storage.atomic import atomic_write
from ..storage.manifest import sha256

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

    Model = TypeVar("Model", bound=BaseModel)
    Built = TypeVar("Built", bound="nn.Module")

__all__ = ["WeightsFile", "differences", "load_network", "load_weights", "open_weights", "read_tensors", "save_weights"]


@dataclass(frozen=True)
class WeightsFile:
    """Weights on disk: where the tensors lie, and what the JSON beside them says."""

    path: Path
    info: Mapping[str, Any]

    def section(self, name: str) -> Any:
        """A part of the JSON, or an error that names the file."""
        if name not in self.info:
            raise WeightsError(f"{self.path.with_suffix('.json')}: has no {name!r}; it describes other weights")
        return self.info[name]

    def architecture(self, model: Any) -> Any:
        """The architecture as a pydantic model, or one of a union; WeightsError where it is another network's."""
        return self._validated(model, self.section("architecture"), "the architecture of this plug-in")

    def conventions(self, model: "type[Model]") -> "Model":
        """Those fields of the JSON that `model` has, or an error that names what is wrong."""
        known = {k: v for k, v in self.info.items() if k in model.model_fields}
        validated: Model = self._validated(model, known, "conventions of this plug-in")
        return validated

    def _validated(self, model: Any, values: Any, what: str) -> Any:
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(model).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            name = self.path.with_suffix(".json")
            raise WeightsError(f"{name}: not {what} ({where}: {first['msg']})") from None


def open_weights(path: Path) -> WeightsFile:
    """The weights at `path` (.safetensors) with their JSON."""
    described = path.with_suffix(".json")
    try:
        info = json.loads(described.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{described}: missing; it must lie beside the weights and describe them") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{described}: cannot be read: {error}") from None
    if not isinstance(info, dict):
        raise WeightsError(f"{described}: must hold a JSON object")
    return WeightsFile(path, info)


def read_tensors(file: WeightsFile) -> "dict[str, Tensor]":
    """The tensors, floating ones as float32, after their SHA-256 has been compared with the JSON's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected = file.info.get("sha256")
    if "sha256" in file.info and not isinstance(expected, str):
        raise WeightsError(f"{file.path.with_suffix('.json')}: its sha256 must be a text")
    if expected is not None and sha256(file.path) != expected:
        raise WeightsError(
            f"{file.path}: damaged (SHA-256 is not the one in its JSON): copy, export or import it again"
        )
    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(file.path).items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file.path}: not a readable safetensors file: {error}") from None


def differences(tensors: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> list[str]:
    """What keeps `tensors` from being loaded into a module whose state dict is `own`: nothing is left unnamed."""
    problems = [f"missing {k}" for k in own if k not in tensors] + [f"unexpected {k}" for k in tensors if k not in own]
    return problems + [
        f"{k} is {tuple(tensors[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]


def load_weights(module: "nn.Module", file: WeightsFile) -> None:
    """Load strictly into `module`, as float32; every missing, unexpected or mis-shaped tensor is named."""
    tensors = read_tensors(file)
    problems = differences(tensors, module.state_dict())
    if problems:
        raise WeightsError(f"{file.path}: not weights of this architecture: {'; '.join(problems)}")
    module.load_state_dict(tensors)


def load_network(file: WeightsFile, build: "Callable[[Any], Built]", architecture: Any) -> "Built":
    """Build the network of an architecture and load the file's weights into it, strictly."""
    try:
        network = build(architecture)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        name = file.path.with_suffix(".json")
        raise WeightsError(f"{name}: its architecture cannot be built ({reason})") from None
    load_weights(network, file)
    return network


def save_weights(path: Path, tensors: "Mapping[str, Tensor]", info: Mapping[str, Any], *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its JSON, both or neither; `half` stores float32 tensors as float16."""
    import torch
    from safetensors.torch import save

    stored = {
        k: (v.half() if half and v.dtype == torch.float32 else v).detach().cpu().contiguous()
        for k, v in tensors.items()
    }
    described = path.with_suffix(".json")
    with atomic_write(described) as temporary_json, atomic_write(path) as temporary:
        temporary.write_bytes(save(stored))
        text = json.dumps({**info, "sha256": sha256(temporary)}, indent=2)
        temporary_json.write_text(text + "\n", encoding="utf-8")
