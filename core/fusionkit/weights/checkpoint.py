"""Published checkpoints: reading them without running code from them, and turning them into our weights.

A checkpoint is a pickle, and a pickle can name any function to be called. `torch.load(weights_only=True)` calls none
but its own; it therefore refuses the class names that training frameworks leave beside the tensors (callbacks,
configuration objects, numpy scalars). Those names are given inert classes that take anything and do nothing; names
that could only be there to run code are refused with the file.
"""

import pickle
import re
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CheckpointImporter", "Imported", "read_checkpoint", "state_dict", "without_prefix"]

# containers and numbers, which some pickles name as classes: the real ones, they only hold values
PLAIN = {f"builtins.{t.__name__}": t for t in (dict, list, tuple, set, frozenset, int, float, complex, bool, str)}
# modules that a checkpoint names only to run code
REFUSED = frozenset({
    "__builtin__", "asyncio", "bdb", "builtins", "code", "codeop", "commands", "ctypes", "ftplib", "http", "imp",
    "importlib", "marshal", "multiprocessing", "nt", "operator", "os", "pdb", "pickle", "pip", "pkgutil", "posix",
    "profile", "pty", "pydoc", "runpy", "shutil", "signal", "site", "smtplib", "socket", "subprocess", "sys",
    "tempfile", "timeit", "trace", "urllib", "venv", "webbrowser", "zipimport",
})  # fmt: skip
UNKNOWN = re.compile(r"\bGLOBAL ([\w.]+)")
FILLED = re.compile(r"Can only (SETITEM|append|extend).*but got <class '([\w.]+)'>")
LIMIT = 1000  # names in one file


class _Inert:
    """Stands for a class of the file: made of anything, holds nothing, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...


class _InertTable(_Inert):
    """The same for a class derived from dict: torch fills only its own kinds of table."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _InertList(_Inert):
    """The same for a class derived from list."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


@dataclass(frozen=True)
class Imported:
    """What an importer made of a checkpoint: tensors by our names, the JSON beside them, notes for the user."""

    tensors: "dict[str, Tensor]"
    info: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


class CheckpointImporter(ABC):
    """Turns the published checkpoints of one architecture into weights for a plug-in.

    Named by a record's `importer`; the plug-in's options then have a field `weights`.
    """

    @abstractmethod
    def recognises(self, checkpoint: Any) -> bool:
        """Whether this looks like one of the checkpoints it can convert."""

    @abstractmethod
    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """Tensors and JSON, verified against the architecture.

        config: the configuration file published with the checkpoint; None for the published architecture. Raises
        WeightsError that names every tensor that is missing, unexpected or of another shape.
        """


def read_checkpoint(path: Path) -> Any:
    """What a .pth, .pt, .ckpt or .safetensors file holds, tensors on the CPU. No code of the file is run."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: not a readable safetensors file: {error}") from None
    try:
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    return _load(path, is_zip)


def _load(path: Path, is_zip: bool) -> Any:
    """Load, and where a class is not known try again with a placeholder for it."""
    import torch

    allowed: dict[str, type] = {}
    for _ in range(LIMIT):
        try:
            with torch.serialization.safe_globals(list(allowed.values())), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on the pickle's protocol
                return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            if not _allow_more(str(error), allowed, path):
                raise WeightsError(f"{path}: no checkpoint that can be read safely ({_first(error)})") from None
        except Exception as error:  # a damaged file can raise anything
            raise WeightsError(f"{path}: damaged, cut short, or no checkpoint ({_first(error)})") from None
    raise WeightsError(f"{path}: names more than {LIMIT} classes; this is no checkpoint")


def _allow_more(message: str, allowed: dict[str, type], path: Path) -> bool:
    """Add what `message` complains of to `allowed`; False if that does not help."""
    if found := UNKNOWN.search(message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"  # torch leaves that out
        if name.partition(".")[0] in REFUSED and name not in PLAIN:
            raise WeightsError(f"{path}: asks for {name}, which can run code when it is read; refused, do not trust it")
        base: type = _Inert
    elif found := FILLED.search(message):
        name, base = found[2], (_InertTable if found[1] == "SETITEM" else _InertList)
    else:
        return False
    known = allowed.get(name)
    if known is not None and (base is _Inert or issubclass(known, base)):
        return False
    module, _, attribute = name.rpartition(".")
    placeholder = type(attribute, (base,), {"__module__": module, "__qualname__": attribute})
    allowed[name] = PLAIN.get(name, placeholder)
    return True


def _first(error: Exception) -> str:
    """The telling sentence of an error of torch's."""
    text = str(error)
    text = (text.partition("WeightsUnpickler error:")[2] or text).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0][:200]


def state_dict(checkpoint: Any) -> dict[str, Any]:
    """The tensors of a checkpoint by name: unwraps `state_dict` or `model`, takes off `module.`; {} if it has none."""
    for key in ("state_dict", "model"):
        inner = checkpoint.get(key) if isinstance(checkpoint, Mapping) else None
        checkpoint = inner if isinstance(inner, Mapping) else checkpoint
    if not isinstance(checkpoint, Mapping):
        return {}
    import torch

    return without_prefix({k: v for k, v in checkpoint.items() if isinstance(v, torch.Tensor)}, "module.")


def without_prefix(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Names without `prefix`, where they have it (DataParallel wraps every name of a network)."""
    return {str(name).removeprefix(prefix): value for name, value in tensors.items()}
