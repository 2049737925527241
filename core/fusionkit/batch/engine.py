"""Who does the work: an engine maps it over jobs. The plan before it and the ledger behind it do not know how."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Engine", "SerialEngine"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a function over tasks, here or elsewhere, and gives the results back as they come."""

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results of work(task), in any order. `work` never raises: what goes wrong is in its result."""


class SerialEngine:
    """One after another, in this process, in order."""

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """As in `Engine.map`; the next task begins when its result is asked for."""
        return map(work, tasks)
