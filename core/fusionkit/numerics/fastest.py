"""Whether Winograd's algorithm is the faster convolution on this machine: both are timed once, the answer is kept."""

import json
import platform
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout

from ..errors import InputError, OutputError
from ..storage.atomic import atomic_write
from ..storage.home import home_folder
from ..storage.regular import read_text
from .layers import Convolution, fastest_format, winograd
from .private import has_winograd

LAYERS = ((32, 192), (64, 96), (96, 48))  # channels, height and width: of the shipped flow at 384x384
RUNS = 5  # the fastest counts, since others may work beside
WAIT = 60.0  # seconds for another process that is measuring


class Timed(NamedTuple):
    """Seconds that the same convolutions take by either algorithm, on one thread."""

    direct: float
    winograd: float

    @property
    def pays(self) -> bool:
        """Whether Winograd's algorithm is the faster one."""
        return self.winograd < self.direct

    def __str__(self) -> str:
        slow, fast = max(self), min(self)
        name = "by Winograd's algorithm" if self.pays else "direct"
        return f"{name}, {slow / fast:.1f} times as fast as the other way (measured on this machine, {kept_in()})"


def kept_in() -> Path:
    """The file of the answers; without it they are measured anew."""
    return home_folder() / "convolutions.json"


@cache
def timed() -> Timed | None:
    """Times of both algorithms; None where PyTorch or the processor has one only.

    The first process of a machine measures (0.3 s), all others read its answer, so that their results are the same
    to the bit. Where the folder cannot be written, each process measures for itself.
    """
    if not has_winograd():
        return None
    path, machine = kept_in(), measured()
    with suppress(OSError, OutputError, Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=WAIT):
            known = _known(path)
            if machine not in known:
                known[machine] = _measure()
                with atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(known, indent=1))
            return known[machine]
    return _measure()


def measured() -> str:
    """What an answer is about: processor, PyTorch, and the layers that were timed."""
    return f"{processor()}, torch {torch.__version__}, layers {LAYERS}"


def processor() -> str:
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.partition(":")[2].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _known(path: Path) -> dict[str, Timed]:
    """Answers of a file; of a damaged one, none."""
    try:
        return {
            str(name): Timed(*(float(x) for x in row)) for name, row in json.loads(read_text(path, InputError)).items()
        }
    except (FileNotFoundError, InputError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


@torch.no_grad()
def _measure() -> Timed:
    """Time both in turn, so that what else the machine does meets both."""
    threads, total = torch.get_num_threads(), [0.0, 0.0]
    torch.set_num_threads(1)  # as each of several processes has
    try:
        with torch.random.fork_rng(devices=[]):
            for channels, side in LAYERS:
                layer, x = Convolution(channels, channels, 3, padding=1), torch.rand(1, channels, side, side)
                turns = [(_seconds(layer, x, nullcontext()), _seconds(layer, x, winograd())) for _ in range(RUNS + 1)]
                total = [t + min(each) for t, each in zip(total, zip(*turns[1:], strict=True), strict=True)]
    finally:
        torch.set_num_threads(threads)
    return Timed(*total)


def _seconds(layer: Convolution, x: torch.Tensor, way: AbstractContextManager[None]) -> float:
    with way:
        given = fastest_format(x)
        begun = time.perf_counter()
        layer(given)
        return time.perf_counter() - begun
