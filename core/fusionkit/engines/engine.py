"""The contract of an engine, and the engine of this process alone."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from ..memory import keep_pages

Task = TypeVar("Task")
Result = TypeVar("Result")

TRIES = 3  # starts of a task whose process is killed


class Engine(Protocol):
    """Maps a function over tasks, here or elsewhere; yields results as they come."""

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results of work(task), in any order. `work` never raises: see `storage.outcome.attempt`."""


class SerialEngine:
    """Tasks one after another, in this process."""

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """See `Engine.map`; a task begins when its result is requested."""
        return map(work, tasks)


def worker_threads(jobs: int) -> int:
    """Threads of each of `jobs` processes that share this machine's cores."""
    return max(1, (os.cpu_count() or 1) // jobs)


def begin_worker(threads: int) -> None:
    """Prepare a process of an engine: memory and threads."""
    import torch

    keep_pages()
    torch.set_num_threads(threads)


def unpicklable(jobs: Any, error: Exception) -> str:
    """Message for work that cannot be pickled."""
    return f"`jobs={jobs}`: the method cannot be sent to other processes: {error}"
