"""`fusionkit doctor`: versions, devices and settings, for a bug report or for somebody whose device is not found."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

import typer

from ..extras import DISTRIBUTION, extras, install, installed, package, required
from .messages import printable

if TYPE_CHECKING:
    from ..registry.loading import Registry


def doctor() -> None:
    """Print versions, extras, devices, threads, plug-ins and weights; exit 1 if something is broken."""
    from ..registry.loading import get_registry
    from ..weights.store import list_weights, user_folder

    registry, weights = get_registry(), list(list_weights())
    for what, text in (*_machine(), *_extras(), *_plugins(registry)):
        typer.echo(f"{what:10} {printable(text)}")
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
    yield "libraries", ", ".join(map(_stated, required().get("", ())))
    yield "devices", ", ".join(_devices())
    count = os.environ.get("OMP_NUM_THREADS", "unset")
    capability = torch.backends.cpu.get_cpu_capability()
    yield "threads", f"{torch.get_num_threads()} ({capability}; OMP_NUM_THREADS={count}); waiting: {waiting()}"
    if (found := timed()) is not None:
        yield "", f"convolutions of `precision=auto` in float32: {found}"
    for name in missing():
        yield "", f"this PyTorch has no torch.{name}: {LOSS[name]}"


def _extras() -> Iterator[tuple[str, str]]:
    """Extras with the versions of their packages, then the command that installs each other one."""
    found = extras()
    missing = [extra for extra, needed in found.items() if not all(map(installed, needed))]
    there = [f"{extra} ({', '.join(map(_stated, needed))})" for extra, needed in found.items() if extra not in missing]
    yield "extras", ", ".join(there) or "none"
    for extra in missing:
        yield "", f"not installed: {extra}: {install(extra)}"


def _stated(requirement: str) -> str:
    """Name and version of a required package."""
    name = package(requirement)
    return f"{name} {installed(name) or 'missing'}"


def _plugins(registry: "Registry") -> Iterator[tuple[str, str]]:
    """Number of plug-ins by origin, modules that are not installed, and whether loading is restricted."""
    from ..registry.loading import RESTRICT_VARIABLE

    origins = Counter(plugin.origin for plugin in registry.plugins)
    yield "plug-ins", ", ".join(f"{count} of {origin}" for origin, count in origins.items())
    others = {p for p in registry.plugins if p.missing and not (p.distribution == DISTRIBUTION and p.record.extra)}
    for plugin in sorted(others, key=lambda p: p.name):
        yield "", f"{plugin.kind} {plugin.name} needs {', '.join(plugin.missing)}: {plugin.remedy}"
    if RESTRICT_VARIABLE in os.environ:
        yield "", f"{RESTRICT_VARIABLE}={os.environ[RESTRICT_VARIABLE]} restricts what is loaded"


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
