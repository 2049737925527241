"""Finding, reading and writing weights: safetensors with a JSON file of the same stem beside it.

The JSON holds the architecture, the conventions and the SHA-256 of the tensors, so that a file explains itself and a
damaged one is noticed. Nothing is downloaded and no code is run from a file.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .atomic import atomic_write
from .errors import WeightsError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

    Model = TypeVar("Model", bound=BaseModel)

__all__ = ["WeightsFile", "find_weights", "load_weights", "save_weights"]

HOME_VARIABLE = "FUSIONKIT_HOME"


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

    def architecture(self, model: "type[Model]") -> "Model":
        """The architecture as a pydantic model, or an error that says that it is another network's."""
        from pydantic import ValidationError

        try:
            return model.model_validate(self.section("architecture"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            name = self.path.with_suffix(".json")
            raise WeightsError(f"{name}: not the architecture of this plug-in ({where}: {first['msg']})") from None


def user_folder() -> Path | None:
    """Where a user's own weights are looked for: $FUSIONKIT_HOME/weights, when the variable is set."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home) / "weights" if home else None


def find_weights(name: str, package: str, fallback: str) -> WeightsFile:
    """The weights called `name`: a path to a .safetensors file, or a name in the user's folder or in `package`.

    `fallback` says what works without them, for the error.
    """
    if Path(name).suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise WeightsError(f"weights {name}: only .safetensors files with a .json beside them are read; convert it")
    candidates = [Path(name)] if name.endswith(".safetensors") else []
    if not candidates:
        folder = user_folder()
        candidates = [folder / f"{name}.safetensors"] if folder else []
        candidates.append(Path(str(resources.files(package))) / "weights" / f"{name}.safetensors")
    for path in candidates:
        if path.is_file():
            return WeightsFile(path, _read_info(path.with_suffix(".json")))
    looked = ", ".join(str(p) for p in candidates)
    raise WeightsError(
        f"weights {name!r} not found (looked for {looked}): reinstall fusionkit, which ships its own weights, or give "
        f"weights=FILE.safetensors; without them, {fallback}"
    )


def _read_info(path: Path) -> Mapping[str, Any]:
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: missing; it must lie beside the weights and describe them") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from None
    if not isinstance(info, dict):
        raise WeightsError(f"{path}: must hold a JSON object")
    return info


def load_weights(module: "nn.Module", file: WeightsFile) -> None:
    """Load strictly into `module`, as float32; every missing, unexpected or mis-shaped tensor is named."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected = file.info.get("sha256")
    if expected is not None and _sha256(file.path) != expected:
        raise WeightsError(f"{file.path}: damaged (SHA-256 is not the one in its JSON): copy or export it again")
    try:
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_file(file.path).items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file.path}: not a readable safetensors file: {error}") from None
    own = module.state_dict()
    problems = [f"missing {k}" for k in own if k not in tensors] + [f"unexpected {k}" for k in tensors if k not in own]
    problems += [
        f"{k} is {tuple(tensors[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    if problems:
        raise WeightsError(f"{file.path}: not weights of this architecture: {'; '.join(problems)}")
    module.load_state_dict(tensors)


def save_weights(path: Path, tensors: "Mapping[str, Tensor]", info: Mapping[str, Any], *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its JSON, each atomically; `half` stores float32 tensors as float16."""
    import torch
    from safetensors.torch import save

    stored = {
        k: (v.half() if half and v.dtype == torch.float32 else v).detach().cpu().contiguous()
        for k, v in tensors.items()
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(stored))
        digest = _sha256(temporary)
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({**info, "sha256": digest}, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
