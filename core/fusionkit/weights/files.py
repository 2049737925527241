"""Reading and writing weights: safetensors with a JSON file of the same stem beside it.

The JSON holds architecture, conventions and the SHA-256 of the tensors, so that damage is noticed. Nothing is
downloaded, and no code of a file is run.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import WeightsError, one_line
from ..options import first_of
from ..storage.atomic import atomic_write
from ..storage.manifest import sha256
from ..storage.regular import check_regular, read_text

if TYPE_CHECKING:
    from torch import Tensor, nn

    Built = TypeVar("Built", bound="nn.Module")


@dataclass(frozen=True)
class WeightsFile:
    """Weights on disk: path of the tensors, content of the JSON beside them."""

    path: Path
    info: Mapping[str, Any]

    @property
    def json(self) -> Path:
        """Path of the JSON."""
        return self.path.with_suffix(".json")

    def section(self, name: str) -> Any:
        """Get an entry of the JSON; WeightsError where it is missing."""
        if name not in self.info:
            raise WeightsError(f"{self.json}: has no {name!r}; it describes other weights")
        return self.info[name]

    def architecture(self, model: Any) -> Any:
        """Validate the architecture by a pydantic model or a union of models; WeightsError where it does not fit."""
        return self._validated(model, self.section("architecture"), "the architecture of this plug-in")

    def conventions(self, model: Any) -> Any:
        """Validate those entries of the JSON that `model` has; WeightsError names a wrong one."""
        known = {k: v for k, v in self.info.items() if k in model.model_fields}
        return self._validated(model, known, "conventions of this plug-in")

    def _validated(self, model: Any, values: Any, what: str) -> Any:
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(model).validate_python(values)
        except ValidationError as error:
            raise WeightsError(f"{self.json}: not {what} ({first_of(error)}); train or import them again") from None


def open_weights(path: Path) -> WeightsFile:
    """Read the JSON beside the weights at `path` (.safetensors)."""
    described = path.with_suffix(".json")
    try:
        check_regular(path, WeightsError)
        info = json.loads(read_text(described, WeightsError))
    except FileNotFoundError:
        raise WeightsError(f"{described}: missing; it must lie beside the weights and describe them") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{described}: cannot be read: {error}") from None
    if not isinstance(info, dict):
        raise WeightsError(f"{described}: must hold a JSON object")
    return WeightsFile(path, info)


def read_tensors(file: WeightsFile) -> "dict[str, Tensor]":
    """Read the tensors, floating ones as float32, and compare their SHA-256 with the JSON's."""
    expected = file.info.get("sha256")
    if "sha256" in file.info and not isinstance(expected, str):
        raise WeightsError(f"{file.json}: its sha256 must be a text")
    if expected is not None and sha256(file.path) != expected:
        raise WeightsError(f"{file.path}: damaged (not the SHA-256 in its JSON): copy, export or import it again")
    return {k: v.float() if v.is_floating_point() else v for k, v in read_safetensors(file.path).items()}


def read_safetensors(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a .safetensors file as they are stored."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(path, WeightsError)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from None


def differences(tensors: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> list[str]:
    """Name every tensor that is missing in, unexpected in or shaped unlike a module's state dict `own`."""
    shapes = ((k, tuple(tensors[k].shape), tuple(own[k].shape)) for k in own if k in tensors)
    return [
        *(f"missing {k}" for k in own if k not in tensors),
        *(f"unexpected {k}" for k in tensors if k not in own),
        *(f"{k} is {given}, expected {expected}" for k, given, expected in shapes if given != expected),
    ]


def load_weights(module: "nn.Module", file: WeightsFile) -> None:
    """Load the tensors strictly into `module`, as float32; WeightsError names every misfit."""
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
        reason = one_line(error)[:300]
        raise WeightsError(f"{file.json}: its architecture cannot be built ({reason})") from None
    load_weights(network, file)
    return network


def save_weights(path: Path, tensors: "Mapping[str, Tensor]", info: Mapping[str, Any], *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its JSON, both or none; `half` stores float32 tensors as float16."""
    import torch
    from safetensors.torch import save

    stored = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    if half:
        stored = {k: v.half() if v.dtype == torch.float32 else v for k, v in stored.items()}
    described = path.with_suffix(".json")
    with atomic_write(described) as temporary_json, atomic_write(path) as temporary:
        temporary.write_bytes(save(stored))
        text = json.dumps({**info, "sha256": sha256(temporary)}, indent=2)
        temporary_json.write_text(text + "\n", encoding="utf-8")
