"""Threads of PyTorch: how long an idle one keeps its core, and tasks side by side with one thread each."""

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

__all__ = ["side_by_side", "wait_briefly", "waiting"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Turns that a thread of libgomp waits for the others at the end of each operation before it sleeps. By default 300,000:
# where another program has one of the cores, each of thousands of small operations then loses a slice of the scheduler.
TURNS = ("GOMP_SPINCOUNT", "500")
POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

_late = False  # PyTorch was loaded before it could be told


def wait_briefly() -> None:
    """Let PyTorch's idle threads sleep soon, unless the environment says how they wait; before PyTorch is imported."""
    global _late  # noqa: PLW0603
    if not any(name in os.environ for name in POLICIES):
        os.environ.update([TURNS])
        _late = "torch" in sys.modules


def waiting() -> str:
    """How idle threads wait, in words, and whether that was said too late for this process."""
    said = ", ".join(f"{name}={os.environ[name]}" for name in POLICIES if name in os.environ)
    if not _late:
        return said or "as PyTorch has it"
    return f"{said} came too late, torch was imported before fusionkit; another busy program costs much time"


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `function` for each item, in order: as many at once as PyTorch has threads, with one thread each.

    For tasks on the CPU of large operations (milliseconds): Python's lock makes small ones slower than one after
    another. Modes of the calling thread, as of gradients, do not hold inside. Inside of itself it is a loop.
    """
    import torch

    tasks, count = list(items), torch.get_num_threads()
    if count == 1 or len(tasks) < 2:
        return [function(task) for task in tasks]
    return list(_pool(count).map(function, tasks))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that have told PyTorch to use one thread, which it remembers for each of them."""
    import torch

    pool, ready = ThreadPoolExecutor(count, "fusionkit"), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # its first call in a thread sets the number that all have
        torch.set_num_threads(1)
        ready.wait()

    for _ in range(count):
        pool.submit(begin)
    ready.wait()
    torch.set_num_threads(count)  # PyTorch gives new threads the last number set, now one
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows; a child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
