"""`fusionkit doctor`: versions, devices and settings, for a bug report or for somebody whose device is not found."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import typer

from ..registry.kinds import DISTRIBUTION

__all__ = ["doctor"]

LIBRARIES = ("torch", "numpy", "scipy", "pillow", "tifffile", "pydantic", "pluggy", "typer")


def doctor() -> None:
    """Say which versions, devices, threads, plug-ins and weights there are; exit 1 where something is broken."""
    from ..registry.loading import RESTRICT_VARIABLE, get_registry
    from ..weights.store import list_weights, user_folder

    def line(what: str, text: str) -> None:
        typer.echo(f"{what:10} {text}")

    line(
        "fusionkit", f"{version(DISTRIBUTION)} ({DISTRIBUTION}), Python {platform.python_version()} at {sys.executable}"
    )
    line("system", f"{platform.platform()}, {os.cpu_count()} CPUs")
    line("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES))
    line("devices", ", ".join(_devices()))
    for text in _threads():
        line("threads", text)
    for text in _without():
        line("", text)
    registry = get_registry()
    by_origin: dict[str, int] = {}
    for plugin in registry.plugins:
        by_origin[plugin.origin] = by_origin.get(plugin.origin, 0) + 1
    line("plug-ins", ", ".join(f"{count} of {origin}" for origin, count in by_origin.items()))
    missing = sorted({(plugin.record.extra, module) for plugin in registry.plugins for module in plugin.missing})
    for extra, module in missing:
        line("", f"not installed: {module}, for the extra [{extra}]")
    if os.environ.get(RESTRICT_VARIABLE) is not None:
        line("", f"{RESTRICT_VARIABLE}={os.environ[RESTRICT_VARIABLE]} restricts what is loaded")
    weights = list(list_weights())
    line("weights", f"{len(weights)}, shipped and in {user_folder()}")
    broken = [f"failed to load: {failure}" for failure in registry.failures]
    broken += [str(entry) for entry in weights if isinstance(entry, Exception)]
    for text in broken:
        typer.echo(f"wrong: {text}", err=True)
    if broken:
        raise typer.Exit(1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _threads() -> Iterator[str]:
    import torch

    from ..threads import waiting

    count = os.environ.get("OMP_NUM_THREADS", "unset")
    yield f"{torch.get_num_threads()} ({torch.backends.cpu.get_cpu_capability()}; OMP_NUM_THREADS={count})"
    yield f"waiting: {waiting()}"


def _without() -> Iterator[str]:
    """Private functions of PyTorch that are missing, and the loss."""
    from ..numerics.private import LOSS, missing

    for name in missing():
        yield f"this PyTorch has no torch.{name}: {LOSS[name]}"


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
