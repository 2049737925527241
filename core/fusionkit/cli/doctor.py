"""`fusionkit doctor`: versions, devices and settings, for a bug report or for somebody whose device is not found."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import typer

from ..registry.kinds import DISTRIBUTION

if TYPE_CHECKING:
    from ..registry.loading import Registry

__all__ = ["doctor"]

LIBRARIES = ("torch", "numpy", "scipy", "pillow", "tifffile", "pydantic", "pluggy", "typer")


def doctor() -> None:
    """Print versions, devices, threads, plug-ins and weights; exit 1 if something is broken."""
    from ..registry.loading import get_registry
    from ..weights.store import list_weights, user_folder

    registry, weights = get_registry(), list(list_weights())
    for what, text in (*_machine(), *_plugins(registry)):
        typer.echo(f"{what:10} {text}")
    typer.echo(f"weights    {len(weights)}, shipped and in {user_folder()}")
    broken = [f"failed to load: {failure}" for failure in registry.failures]
    broken += [str(entry) for entry in weights if isinstance(entry, Exception)]
    for text in broken:
        typer.echo(f"wrong: {text}", err=True)
    if broken:
        raise typer.Exit(1)


def _machine() -> Iterator[tuple[str, str]]:
    """Versions, devices and threads; private functions of PyTorch that are missing, and the loss."""
    import torch

    from ..numerics.fastest import timed
    from ..numerics.private import LOSS, missing
    from ..threads import waiting

    python = f"Python {platform.python_version()} at {sys.executable}"
    yield "fusionkit", f"{version(DISTRIBUTION)} ({DISTRIBUTION}), {python}"
    yield "system", f"{platform.platform()}, {os.cpu_count()} CPUs"
    yield "libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    yield "devices", ", ".join(_devices())
    count = os.environ.get("OMP_NUM_THREADS", "unset")
    capability = torch.backends.cpu.get_cpu_capability()
    yield "threads", f"{torch.get_num_threads()} ({capability}; OMP_NUM_THREADS={count}); waiting: {waiting()}"
    if (found := timed()) is not None:
        yield "", f"convolutions of `precision=auto` in float32: {found}"
    for name in missing():
        yield "", f"this PyTorch has no torch.{name}: {LOSS[name]}"


def _plugins(registry: "Registry") -> Iterator[tuple[str, str]]:
    """Number of plug-ins by origin, modules that are not installed, and whether loading is restricted."""
    from ..registry.loading import RESTRICT_VARIABLE

    origins = Counter(plugin.origin for plugin in registry.plugins)
    yield "plug-ins", ", ".join(f"{count} of {origin}" for origin, count in origins.items())
    for extra, module in sorted({(plugin.record.extra, m) for plugin in registry.plugins for m in plugin.missing}):
        yield "", f"not installed: {module}" + (f", for the extra [{extra}]" if extra else "")
    if RESTRICT_VARIABLE in os.environ:
        yield "", f"{RESTRICT_VARIABLE}={os.environ[RESTRICT_VARIABLE]} restricts what is loaded"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _devices() -> Iterator[str]:
    import torch

    yield "cpu"
    if torch.backends.mps.is_available():
        yield "mps"
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield f"cuda:{i} ({torch.cuda.get_device_name(i)}, {memory:.0f} GiB)"
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        yield "no CUDA: this PyTorch is built for CPUs"
