"""Outcomes of tasks; a task that fails stops no other."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from ..errors import FusionkitError, OutputError, one_line
from ..extras import culprit
from .atomic import Staged

KILLED = "its process was killed each time, perhaps for memory; fewer `jobs` need less"
MEMORY = "; a smaller `tile` or fewer `jobs` need less memory"


class Stopped(SystemExit):
    """Ctrl-C or SIGTERM: ends the program; the SystemExit of a plug-in fails its task alone."""


class Task(Protocol):
    """A pair, a shard or a segment."""

    @property
    def key(self) -> str:
        """Name in messages and journals."""


AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True)
class Outcome:
    """Outcome of the task `key`: "done", "skipped" (finished by an earlier run), or "failed" with the reason.

    output: path or address of the result. staged: the result, whole under a temporary name. record: its row in the
    manifest. counts: pairs of a shard, frames of a segment, by their fate. blame: a known cause of the failure, the
    task's own files or a disk that takes no more.
    """

    key: str
    status: Literal["done", "skipped", "failed"] = "done"
    reason: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    output: str = ""
    staged: Staged | None = None
    record: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    blame: Literal["", "files", "disk"] = ""


def attempt(work: Callable[[AnyTask], Outcome], task: AnyTask) -> Outcome:
    """Run work(task); an exception becomes a failed outcome with one line."""
    start = time.perf_counter()
    try:
        outcome = work(task)
        return outcome if outcome.seconds else replace(outcome, seconds=time.perf_counter() - start)
    except Stopped:
        raise
    except FusionkitError as error:
        disk = isinstance(error, OutputError) and isinstance(error.__cause__, OSError)
        reason = str(error).removeprefix(f"{task.key}: ")
        return Outcome(task.key, "failed", reason, blame="disk" if disk else "files")
    except (Exception, SystemExit) as error:
        text = culprit(error) or f"{type(error).__name__}: {one_line(error)[:500]}"
        hint = MEMORY if "memory" in text or isinstance(error, MemoryError) else ""
        blame: Literal["", "disk"] = "disk" if isinstance(error, OSError) else ""
        return Outcome(task.key, "failed", f"{text}{hint}", blame=blame)


def lost(task: Task) -> Outcome:
    """The outcome of a task whose process was killed each time."""
    return Outcome(task.key, "failed", KILLED)
