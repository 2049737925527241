"""The engine of several processes on this machine."""

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..errors import OptionError
from ..streams import own_streams
from .engine import TRIES, Result, Task, begin_worker, unpicklable, worker_threads

AHEAD = 2  # waiting tasks a process


@dataclass
class _Pending:
    """A task and its number of starts; without a future it waits for the next start."""

    task: Any
    future: "Future[Any] | None" = None
    tries: int = 1

    @property
    def finished(self) -> bool:
        future = self.future
        return future is not None and future.done() and not future.cancelled() and future.exception() is None


@dataclass(frozen=True)
class ProcessEngine:
    """Processes side by side that share the cores; results in the order of the tasks.

    The work is sent to each process once and must be picklable. Where the system kills a process (out of memory,
    kill -9), the running tasks are started again one by one, to find which of them it is; the result of a task that was
    lost `TRIES` times is `lost(task)`.
    """

    jobs: int
    lost: Callable[[Any], Any]

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """See `Engine.map`; results have the order of the tasks."""
        try:
            pickle.dumps(work)
        except Exception as error:  # objects of third parties may raise anything
            raise OptionError(unpicklable(self.jobs, error)) from None
        waiting, pending, alone = iter(tasks), deque[_Pending](), 0
        pool = self._pool(work)
        try:
            while True:
                pending.extend(_Pending(task) for task in islice(waiting, self.jobs * (1 + AHEAD) - len(pending)))
                if not pending:
                    return
                first = pending[0]
                try:
                    for one in islice(pending, 1 if alone else None):
                        one.future = one.future or pool.submit(_run, one.task)
                    assert first.future is not None
                    result = first.future.result()
                except BrokenProcessPool:
                    pool.shutdown(wait=True, cancel_futures=True)
                    pool = self._pool(work)
                    for one in pending:
                        one.future = one.future if one.finished else None
                    first.tries += bool(alone)
                    open_ones = [i for i, one in enumerate(pending) if one.future is None][: self.jobs]
                    alone = alone or open_ones[-1] + 1  # tasks to run one by one, to find the killer
                    if first.tries < TRIES:
                        continue
                    result = self.lost(first.task)
                pending.popleft()
                alone = max(0, alone - 1)
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, work: Callable[[Any], Any]) -> ProcessPoolExecutor:
        start = (work, worker_threads(self.jobs))
        return ProcessPoolExecutor(self.jobs, multiprocessing.get_context("spawn"), _begin, start)


_work: list[Callable[[Any], Any]] = []  # the work of a worker process


def _begin(work: Callable[[Any], Any], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which lets running tasks end
    own_streams()
    begin_worker(threads)
    _work[:] = [work]


def _run(task: Any) -> Any:
    return _work[0](task)
