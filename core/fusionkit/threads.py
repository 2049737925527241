"""Threads of PyTorch: how many there are, how long idle ones keep their cores, parallel tasks with one thread each."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from threading import Barrier, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Turns that a thread of libgomp spins after each operation before it sleeps. With the default of 300,000, each of
# thousands of small operations loses a slice of the scheduler where another program has one of the cores.
TURNS = ("GOMP_SPINCOUNT", "1000")
POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

_late = False  # whether PyTorch was loaded before the policy was set


def wait_briefly() -> None:
    """Let PyTorch's idle threads sleep soon, unless the environment sets a policy. Call it before importing PyTorch."""
    global _late  # noqa: PLW0603
    if not any(name in os.environ for name in POLICIES):
        os.environ.update([TURNS])
        _late = "torch" in sys.modules


def waiting() -> str:
    """Describe how idle threads wait, and whether this process set it too late."""
    said = ", ".join(f"{name}={os.environ[name]}" for name in POLICIES if name in os.environ)
    if not _late:
        return said or "as PyTorch has it"
    return f"{said} came too late, torch was imported before fusionkit; another busy program costs much time"


@contextmanager
def on_free_cores() -> Iterator[None]:
    """Let PyTorch use as many threads as there are free cores, at most those it has; also a decorator.

    At the end of each operation threads wait for the one whose core another program has, thousands of times a picture.
    Only for what gives the same bytes with any number of threads. A sum of more than 32,768 values to one does not;
    take the mean of means along the axes.
    """
    import torch

    count = torch.get_num_threads()
    fit = count if count == 1 else max(1, min(count, (os.cpu_count() or count) - _other_tasks()))
    if fit == count:
        yield
        return
    torch.set_num_threads(fit)
    keeper = Thread(target=torch.set_num_threads, args=(count,))  # new threads get the last number that was set
    keeper.start()
    keeper.join()
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _other_tasks() -> int:
    """Number of other programs' threads that run or wait for a core now; 0 where the system is not Linux."""
    with suppress(OSError, ValueError, IndexError):
        if _words("/proc/loadavg")[3].startswith("1/"):  # this thread alone
            return 0
        own = [_words(f"/proc/self/task/{task}/stat")[0] == "R" for task in os.listdir("/proc/self/task")]
        running = int(_words("/proc/loadavg")[3].partition("/")[0])
        return max(0, running - sum(own))  # PyTorch's threads spin for a while
    return 0


def _words(path: str) -> list[str]:
    """Words of a file of the kernel, after the program's name if it states one."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Map `function` over items in order, in as many parallel tasks as PyTorch has threads, with one thread each.

    For CPU tasks of large operations (milliseconds); small ones are slower in parallel, for Python's lock. Modes of the
    calling thread, such as `no_grad`, do not hold inside. Nested calls are loops.
    """
    import torch

    tasks, count = list(items), torch.get_num_threads()
    if count == 1 or len(tasks) < 2:
        return [function(task) for task in tasks]
    return list(_pool(count).map(function, tasks))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch uses one thread; it keeps that number per thread."""
    import torch

    pool, ready = ThreadPoolExecutor(count, "fusionkit"), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread sets the number of all threads
        torch.set_num_threads(1)
        ready.wait()

    for _ in range(count):
        pool.submit(begin)
    ready.wait()
    torch.set_num_threads(count)  # PyTorch gives new threads the last number set, now one
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows; a child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
