"""The engine of many machines, by Ray: https://docs.ray.io. Needs the extra `ray`."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OptionError, one_line
from ..extras import install
from .engine import TRIES, Result, Task, begin_worker, unpicklable, worker_threads

AHEAD = 8  # finished results a worker that may wait for an earlier task
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # send nothing anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the next release's default; without it Ray warns at each start
}


@dataclass(frozen=True)
class RayEngine:
    """Actors of a Ray cluster; the work, its model included, is sent to each once; results in the order of the tasks.

    Correctness never rests on Ray: a task writes a whole result or none, the caller's ledger records which. An actor
    whose process or machine is lost is replaced, and its task started again; the result of a task that was lost `TRIES`
    times is `lost(task)`. jobs: number of actors, 0 for the cluster's cores. address: the cluster's ("auto" finds the
    one of this machine); empty starts one here. All machines need fusionkit, the same plug-ins, and the same paths (a
    shared file system), or buckets.
    """

    jobs: int
    address: str
    lost: Callable[[Any], Any]

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """See `Engine.map`; results have the order of the tasks."""
        ray = self._ray()
        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        try:
            try:
                sent = ray.put(work)
            except Exception as error:  # objects of third parties may raise anything
                raise OptionError(unpicklable(self.jobs, error)) from None
            yield from self._map(ray, sent, tasks)
        finally:
            if own:
                ray.shutdown()

    def _ray(self) -> Any:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise OptionError(f"`engine=ray` needs Ray: {install('ray')}") from None
        return ray

    def _connect(self, ray: Any) -> None:
        how: dict[str, Any] = {"address": self.address}
        if not self.address:  # its own cluster has one core a worker
            how = {"address": "local", "num_cpus": self.jobs or os.cpu_count(), "include_dashboard": False}
        host, colon, port = self.address.rpartition("//")[2].rpartition(":")
        try:
            if colon and port.isdigit():  # Ray itself would wait many minutes for a port where nothing listens
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(**how, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            reason = one_line(error)[:300]
            raise OptionError(f"`address={self.address}`: no Ray cluster answers there: {reason}") from None

    def _map(self, ray: Any, sent: Any, tasks: Iterable[Any]) -> Iterator[Any]:
        cores = int(ray.cluster_resources().get("CPU", 1))
        jobs = self.jobs or cores
        threads = max(1, cores // jobs) if self.address else worker_threads(jobs)
        actor = ray.remote(num_cpus=threads if self.address else 1, max_restarts=0)(_Worker)
        start = partial(actor.remote, sent, str(Path.cwd()), threads)
        idle = [start() for _ in range(jobs)]
        try:
            ray.get(idle[0].ready.remote())
        except ray.exceptions.RayError as error:
            reason = one_line(error)[-300:]
            raise OptionError(
                f"`engine=ray`: a worker cannot start; all machines need fusionkit and every plug-in: {reason}"
            ) from None
        first_tries = ((number, task, 1) for number, task in enumerate(tasks))
        again = deque[tuple[int, Any, int]]()
        running: dict[Any, tuple[Any, tuple[int, Any, int]]] = {}
        finished: dict[int, Any] = {}
        due = 0  # number of the next result
        try:
            while True:
                while idle and (again or len(running) + len(finished) < jobs * (1 + AHEAD)):
                    job = again.popleft() if again else next(first_tries, None)
                    if job is None:
                        break
                    worker = idle.pop()
                    running[worker.run.remote(job[1])] = (worker, job)
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                worker, (number, task, tries) = running.pop(done)
                try:
                    finished[number] = ray.get(done)
                    idle.append(worker)
                except ray.exceptions.RayActorError:
                    idle.append(start())
                    if tries < TRIES:
                        again.append((number, task, tries + 1))
                    else:
                        finished[number] = self.lost(task)
                while due in finished:
                    yield finished.pop(due)
                    due += 1
        finally:
            for worker in [*idle, *(worker for worker, _ in running.values())]:
                with suppress(Exception):
                    ray.kill(worker)


class _Worker:
    """One process of the cluster, at the driver's folder where that exists."""

    def __init__(self, work: Callable[[Any], Any], folder: str, threads: int) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        begin_worker(threads)
        self.work = work

    def ready(self) -> None:
        pass

    def run(self, task: Any) -> Any:
        return self.work(task)
