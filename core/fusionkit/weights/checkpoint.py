"""Published checkpoints: read without running their code, and converted to weights of a plug-in.

A checkpoint is a pickle, which can name any function to be called. `torch.load(weights_only=True)` calls only its own,
and refuses the class names that training frameworks leave beside the tensors (callbacks, configuration objects, numpy
scalars). Here inert classes stand in for those names; a file with names that could only run code is refused.
"""

import pickle
import pickletools
import re
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import WeightsError, one_line
from ..storage.regular import check_regular
from .files import differences, read_safetensors
from .foreign import MOST_BYTES

if TYPE_CHECKING:
    from torch import Tensor

    Built = TypeVar("Built")

# containers and numbers that some pickles name as classes; the real ones are harmless
TOLERATED = frozenset({"builtins.bytes", "builtins.object", "builtins.range", "builtins.slice"})
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
CONFIG_HINT = "; give the configuration published with it (`config`)"
LEGACY_PICKLES = 5  # magic number, protocol, system, object, keys
LIMIT = 100  # unknown names in one file: each is one more try
MADE = re.compile(r"bytearray$|_rebuild_(sparse|nested|meta|device)\w*$")
MOST_TIMES = 50  # largest ratio of an archive's unpacked to its packed size


class _Inert:
    """Stand-in for a class named in the file: takes any arguments, holds nothing, does nothing.

    container: type made instead, for a class derived from dict or list, since torch fills only its own kinds.
    """

    container: ClassVar[type | None] = None

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(cls) if cls.container is None else cls.container()

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...


@dataclass(frozen=True)
class Imported:
    """A converted checkpoint: tensors by the plug-in's names, the JSON beside them, notes for the user."""

    tensors: "dict[str, Tensor]"
    info: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


class CheckpointImporter(ABC):
    """Converts published checkpoints of one architecture to weights of a plug-in.

    A record names it as its `importer`. The plug-in takes the weights by an option `weights`, or one of type
    `fusionkit.options.WeightsName`.
    """

    @abstractmethod
    def recognises(self, checkpoint: Any) -> bool:
        """Tell whether this looks like a checkpoint that it can convert."""

    @abstractmethod
    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """Convert to tensors and JSON, verified against the architecture.

        config: content of the configuration file published with the checkpoint; None for the published architecture.
        Raises WeightsError that names every tensor that is missing, unexpected or of another shape.
        """


def read_checkpoint(path: Path) -> Any:
    """Read a .pth, .pt, .ckpt or .safetensors file, tensors on the CPU, without running its code; .onnx as bytes."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".pt2":
        raise WeightsError(f"{path}: a program of torch.export is used as it is (`prior.file`), or exported to ONNX")
    onnx = path.suffix.lower() == ".onnx"
    check_regular(path, WeightsError, MOST_BYTES if onnx else None)
    try:
        if onnx:
            return path.read_bytes()
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    as_is = is_zip and _stored_as_is(path)
    _check_calls(path, is_zip)
    return _load(path, as_is)


def _stored_as_is(path: Path) -> bool:
    """Check an archive's checksums, which torch does not; return whether all members are stored uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(m.file_size for m in members) > MOST_TIMES * path.stat().st_size:
                raise WeightsError(f"{path}: unpacks to many times its size; refused")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise WeightsError(f"{path}: damaged, cut short, or no checkpoint ({_first(error)})") from None
    if damaged is not None:
        raise WeightsError(f"{path}: damaged: the sum of {damaged} is not the one stored; copy or download it again")
    return all(m.compress_type == zipfile.ZIP_STORED for m in members)


def _check_calls(path: Path, is_zip: bool) -> None:
    """Refuse what torch would call: bytearray(N), and odd tensors, take memory that their file does not have."""
    try:
        found = next((t for t in _pickled_texts(path, is_zip) if t.split()[-1:] and MADE.match(t.split()[-1])), None)
    except Exception:  # loading will say why it cannot be read
        return
    if found:
        name = found.replace(" ", ".").replace("__builtin__", "builtins")
        raise WeightsError(f"{path}: asks for {name}, which no checkpoint needs; refused, do not trust it")


def _pickled_texts(path: Path, is_zip: bool) -> Iterator[str]:
    """Yield all names and texts in a checkpoint's pickles; a legacy file begins with several of them."""
    with path.open("rb") as file:
        archive = zipfile.ZipFile(file) if is_zip else None
        names = [name for name in archive.namelist() if name.endswith("data.pkl")] if archive else []
        for stream in map(archive.open, names) if archive else [file] * LEGACY_PICKLES:
            yield from (argument for _, argument, _ in pickletools.genops(stream) if isinstance(argument, str))


def _load(path: Path, mapped: bool) -> Any:
    """Load; where a class is unknown, try again with a stand-in for it."""
    import torch

    allowed: dict[str, type] = {}
    for _ in range(LIMIT):
        try:
            with torch.serialization.safe_globals(list(allowed.values())), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on the pickle's protocol
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            if not _allow_more(str(error), allowed, path):
                raise WeightsError(f"{path}: no checkpoint that can be read safely ({_first(error)})") from None
        except Exception as error:  # a damaged file can raise anything
            raise WeightsError(f"{path}: damaged, cut short, or no checkpoint ({_first(error)})") from None
    raise WeightsError(f"{path}: names more than {LIMIT} classes; this is no checkpoint")


def _allow_more(message: str, allowed: dict[str, type], path: Path) -> bool:
    """Add the class that `message` refuses to `allowed`; return whether loading can be tried again."""
    if found := UNKNOWN.search(message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"  # torch leaves that out
        if name.partition(".")[0] in REFUSED and name not in PLAIN and name not in TOLERATED:
            raise WeightsError(f"{path}: asks for {name}, which can run code when it is read; refused, do not trust it")
        container: type | None = None
    elif found := FILLED.search(message):
        name, container = found[2], (OrderedDict if found[1] == "SETITEM" else list)
    else:
        return False
    if name in allowed and container in (None, getattr(allowed[name], "container", None)):
        return False
    module, _, attribute = name.rpartition(".")
    placeholder = type(attribute, (_Inert,), {"__module__": module, "__qualname__": attribute, "container": container})
    allowed[name] = PLAIN.get(name, placeholder)
    return True


def _first(error: Exception) -> str:
    """Extract the sentence that matters from an error of torch."""
    text = str(error)
    text = (text.partition("WeightsUnpickler error:")[2] or text).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0][:200]


def state_dict(checkpoint: Any) -> dict[str, Any]:
    """Collect a checkpoint's tensors by name, from its `state_dict` or `model`, without `module.`; {} if none."""
    import torch

    for key in ("state_dict", "model"):
        inner = dict.get(checkpoint, key) if isinstance(checkpoint, dict) else None
        checkpoint = inner if isinstance(inner, dict) else checkpoint
    if not isinstance(checkpoint, dict):
        return {}
    # dict.items, since a pickle can replace the instance's own
    tensors = {str(k): v for k, v in dict.items(checkpoint) if isinstance(v, torch.Tensor)}
    return {name.removeprefix("module."): plain(tensor) for name, tensor in tensors.items()}


def plain(tensor: "Tensor") -> "Tensor":
    """Make a tensor contiguous, to be stored; WeightsError for sparse, quantized and other kinds."""
    import torch

    kinds = ("is_meta", "is_nested", "is_quantized", "is_sparse", "is_sparse_csr")
    odd = [kind for kind in kinds if getattr(tensor, kind, False)]
    if odd or tensor.layout != torch.strided:
        raise WeightsError(f"holds a tensor that is no plain array ({' '.join(odd) or tensor.layout})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise WeightsError(f"holds a tensor of {tuple(tensor.shape)} that repeats fewer values; refused")
    return torch.Tensor.detach(tensor).contiguous().as_subclass(torch.Tensor)


def fitted(
    tensors: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]", config: Mapping[str, Any] | None
) -> "dict[str, Tensor]":
    """Copy `tensors` in the order and types of a network's state dict `own`; WeightsError names every misfit.

    Integers are not converted to floating point. Without `config` the error says that one can be given.
    """
    problems = differences(tensors, own)
    if problems:
        hint = "" if config is not None else CONFIG_HINT
        raise WeightsError(f"not weights of this architecture: {'; '.join(problems)}{hint}")
    for name, expected in own.items():
        if tensors[name].is_floating_point() != expected.is_floating_point():
            raise WeightsError(f"{name} is {tensors[name].dtype}, expected {expected.dtype}")
    return {name: tensors[name].to(expected.dtype, copy=True) for name, expected in own.items()}


def described(build: "Callable[[Any], Built]", config: Any) -> "Built":
    """Build something from a configuration; a network without memory, for the names and shapes of its tensors.

    Raises WeightsError where it cannot be built.
    """
    import torch

    try:
        with torch.device("meta"):
            return build(config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = one_line(error)[:300]
        raise WeightsError(f"the configuration is not one that can be built: {reason}") from None
