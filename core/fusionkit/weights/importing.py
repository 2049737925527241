"""`fusionkit weights import` and `verify`: convert published checkpoints, check stored weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BrokenPlugin, FusionkitError, OptionError, UnknownPlugin, WeightsError, one_line
from ..extras import DISTRIBUTION
from ..options import opens
from ..registry.loading import get_registry, import_target
from ..storage.manifest import sha256
from ..storage.regular import read_text
from .checkpoint import CheckpointImporter, Imported, read_checkpoint
from .files import read_tensors, save_weights
from .store import Stored, check_name, list_weights, user_folder

if TYPE_CHECKING:
    from torch import Tensor

MOST_ALIASES = 20  # in YAML: a few lines of nested ones stand for billions of values


def import_weights(
    checkpoint: Path, name: str, *, config: Path | None = None, plugin: str | None = None, force: bool = False
) -> tuple[Path, Imported]:
    """Convert `checkpoint`, verify it and store it as `name`; returns its path and the converted tensors.

    config: configuration file published with it (.yaml, .json or .toml). plugin: KIND:NAME, for a file whose plug-in
    cannot be recognised. Everything is read and verified before anything is written.
    """
    check_name(name)
    path = user_folder() / f"{name}.safetensors"
    if any(isinstance(s, Stored) and s.shipped and s.name == name for s in list_weights()):
        raise WeightsError(f"weights {name!r} are shipped with a package; choose another name")
    if path.exists() and not force:
        raise WeightsError(f"weights {name!r} exist ({path}); choose another name, or pass `force` to replace them")
    settings = read_config(config) if config is not None else None
    content = read_checkpoint(checkpoint)
    kind, plugin_name, importer = _importer(content, checkpoint, plugin)
    with _about(checkpoint):
        imported = importer.convert(content, settings)
    _check_finite(imported.tensors, checkpoint)
    source = {
        "file": checkpoint.name,
        "sha256": sha256(checkpoint),
        "imported_by": f"fusionkit {version(DISTRIBUTION)}",
        "notes": list(imported.notes),
    }
    info = {"kind": f"{kind} {plugin_name}", **imported.info, "source": source}
    save_weights(path, imported.tensors, info)
    return path, imported


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a configuration file as nested tables. YAML is read without constructing objects."""
    import json
    import tomllib

    import yaml

    suffix = path.suffix.lower().replace(".yml", ".yaml")
    parsers: dict[str, Any] = {".json": json.loads, ".toml": tomllib.loads, ".yaml": yaml.safe_load}
    if suffix not in parsers:
        raise OptionError(f"{path}: expected .yaml, .json or .toml")
    try:
        text = read_text(path, OptionError)
        if suffix == ".yaml" and sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) > MOST_ALIASES:
            raise OptionError(f"{path}: repeats parts of itself more than {MOST_ALIASES} times; write them out")
        content = parsers[suffix](text)
    except FileNotFoundError:
        raise OptionError(f"{path}: does not exist") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise OptionError(f"{path}: not valid {suffix[1:].upper()}: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise OptionError(f"{path}: expected tables such as `model:`, found {type(content).__name__}")
    return content


def _importer(content: Any, path: Path, wanted: str | None) -> tuple[str, str, CheckpointImporter]:
    """Find the importer that takes this checkpoint: kind and name of its plug-in, and the importer."""
    offered = [p for p in get_registry().plugins if p.record.importer is not None]
    labels = [f"{p.kind}:{p.record.name}" for p in offered]
    if wanted is not None and wanted not in labels:
        raise UnknownPlugin(f"no plug-in {wanted!r} imports checkpoints; there are: {', '.join(labels)}")
    broken = []
    for plugin, label in zip(offered, labels, strict=True):
        if wanted not in (None, label):
            continue
        try:
            importer: CheckpointImporter = import_target(plugin, str(plugin.record.importer))()
        except BrokenPlugin as error:
            if wanted is not None:
                raise
            broken.append(f"; {error}")
            continue
        with _about(path):
            fits = wanted is not None or importer.recognises(content)
        if fits:
            return plugin.kind, plugin.record.name, importer
    known = f"(checkpoints are read by {', '.join(labels)})"
    raise WeightsError(f"{path}: holds no weights that an installed plug-in knows {known}{''.join(broken)}")


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Turn any error inside the block into one line about the file."""
    try:
        yield
    except FusionkitError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:
        reason = one_line(error)[:200]
        raise WeightsError(f"{path}: cannot be converted ({type(error).__name__}: {reason})") from None


def _check_finite(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if broken:
        raise WeightsError(f"{path}: holds NaN or infinite values in {'; '.join(broken)}")


def verify_weights(stored: Stored) -> int:
    """Compare the SHA-256, load strictly into the plug-in; returns the number of values. Raises WeightsError."""
    tensors = read_tensors(stored.file)
    _check_finite(tensors, stored.file.path)
    get_registry().create(*stored.plugin, {option_of(stored): str(stored.file.path)}).prepare()
    return sum(v.numel() for v in tensors.values())


def option_of(stored: Stored) -> str:
    """The option of their plug-in that takes weights. Raises WeightsError where it has none."""
    fields = get_registry().load(*stored.plugin).Options.model_fields
    for field, info in fields.items():
        if field == "weights" or opens(info) == "weights":
            return field
    raise WeightsError(f"{stored.file.path}: {' '.join(stored.plugin)} has no option that takes weights")
