"""The worker that fuses for all visitors: small jobs beside large ones, a bounded queue, pipelines kept built."""

import json
import os
import sys
import threading
import time
from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any

import torch

from ..contracts import Metric
from ..errors import FusionkitError, InputError
from ..images.convert import to_tensor
from ..method.pipeline import Pipeline
from ..registry.loading import get_registry
from ..registry.records import MetricRecord
from ..scoring.evaluation import score_images
from ..scoring.metrics import load_metrics
from ..timing import Stopwatch
from .choices import config_of
from .sessions import Limits, Result, Session

__all__ = ["Busy", "Worker"]

KEPT = 8  # pipelines of a line that stay built
SMALL = (
    4_000_000  # pixels of all sources together below which a job waits for small ones alone: some seconds on two cores
)
PATIENCE = 4  # later jobs go first for this many times the seconds that a job takes
NICE = 10  # priority of large jobs
RATE = 1e-6  # seconds a pixel of the sources, before any was measured: twice what two cores take by default


class Busy(InputError):
    """The queue is full."""


class _Cancelled(Exception):
    pass


class _Line:
    """Jobs of one class of sizes, the one first whose turn is due first, with the pipelines of their thread."""

    def __init__(self) -> None:
        self.jobs: list[tuple[float, Session, Result]] = []
        self.running: Result | None = None
        self.ready: OrderedDict[str, Pipeline] = OrderedDict()

    def waiting(self) -> list[tuple[float, Session, Result]]:
        """The jobs that nobody cancelled."""
        self.jobs = [job for job in self.jobs if job[-1].status == "waiting"]
        return self.jobs


class Worker:
    """Two threads, one for small jobs and one for large ones, each of which fuses one after the other."""

    def __init__(self, limits: Limits, device: str) -> None:
        self.device, self.limits = device, limits
        self._small, self._large = self._lines = _Line(), _Line()
        self._changed = threading.Condition()
        self._rates: dict[str, float] = {}  # seconds a pixel, as last measured with these choices; "": with any
        self._metrics: dict[str, Metric] = {}
        self.looking = threading.Lock()  # held while figures and maps are computed
        self._stopped = False

    def start(self) -> None:
        """Start the threads; the one for small jobs builds the default pipeline first."""
        for line in self._lines:
            threading.Thread(target=self._run, args=(line,), name="fusionkit-worker", daemon=True).start()

    def stop(self) -> None:
        """Cancel the running jobs and begin no other."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def put(self, session: Session, result: Result) -> None:
        """Queue a job. Raises Busy where too many wait."""
        result.cost = sum(p.size[0] * p.size[1] for p in session.pictures)
        result.estimate = result.cost * self._rates.get(_key(result.choices), self._rates.get("", RATE))
        with self._changed:
            if sum(len(line.waiting()) for line in self._lines) >= self.limits.waiting:
                raise Busy("too many fusions are waiting; try again in a moment")
            due = time.monotonic() + PATIENCE * result.estimate
            insort(self._line(result).jobs, (due, session, result), key=itemgetter(0))
            self._changed.notify_all()

    def progress(self, result: Result) -> dict[str, float]:
        """Tell a job's place in its line, from 1, the seconds until it is done, and its share done; by estimates."""
        with self._changed:
            line, now = self._line(result), time.monotonic()
            before = [job[-1] for job in line.waiting()]
            before = before[: before.index(result)] if result in before else []
            first = line.running if result.status == "waiting" else None
            over = now - result.began if result.began else 0.0
            left = max(0.0, first.estimate - (now - first.began)) if first else 0.0
            left += sum(other.estimate for other in before) + max(0.0, result.estimate - over)
        share = min(0.99, over / result.estimate) if result.estimate else 0.0
        return {"place": 1 + len(before) + (first is not None), "left": left, "share": share}

    def _line(self, result: Result) -> _Line:
        return self._small if result.cost < SMALL else self._large

    def _next(self, line: _Line) -> tuple[Session, Result] | None:
        """Wait for the next job of a line; None when the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or line.waiting())
            if self._stopped:
                return None
            _, session, result = line.jobs.pop(0)
            result.began, line.running = time.monotonic(), result
            result.become("running")
            return session, result

    def _run(self, line: _Line) -> None:
        if line is self._small:
            self._warm()
        elif sys.platform == "linux":  # where threads have priorities of their own: small jobs get the processor first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (job := self._next(line)) is not None:
            session, result = job
            try:
                self._fuse(line, session, result)
                result.become("done")
            except _Cancelled:
                result.become("cancelled")
            except FusionkitError as error:
                result.mends = self._mends(line, session, result, error)
                result.become("failed", str(error))
            except BaseException as error:  # raised by a plug-in, even sys.exit(); the thread goes on
                result.become("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            line.running = None
            del job, session, result  # else they stay in memory until the next one comes

    def _mends(self, line: _Line, session: Session, result: Result, error: FusionkitError) -> list[dict[str, Any]]:
        """Write what mends an error for a button, without what was chosen already."""
        if not error.mends:
            return []
        reference = self._pipeline(line, result.choices).reference_in(session.pictures)
        name = session.pictures[reference].name
        return [
            {"label": label.format(reference=name), "choices": dict(choices)}
            for label, choices in error.mends.items()
            if not choices.items() <= result.choices.items()
        ]

    def _warm(self) -> None:
        pair = [torch.linspace(0, 1, 300 * 300).view(1, 1, 300, 300), torch.full((1, 3, 300, 300), 0.5)]
        with suppress(BaseException):  # whoever asks for it is told
            self._pipeline(self._small, {}).run(pair)
            self.metrics()

    def _pipeline(self, line: _Line, choices: Mapping[str, Any]) -> Pipeline:
        key = _key(choices)
        if key not in line.ready:
            line.ready[key] = Pipeline(config_of(choices), device=self.device)
            if len(line.ready) > KEPT:
                line.ready.popitem(last=False)
        line.ready.move_to_end(key)
        return line.ready[key]

    def _fuse(self, line: _Line, session: Session, result: Result) -> None:
        def stop_if_cancelled(*_: object) -> None:
            if self._stopped or result.status == "cancelled":
                raise _Cancelled

        pipeline, watch = self._pipeline(line, result.choices), Stopwatch()
        with watch.stage("fuse"):
            pictures = session.pictures_of(result.choices)
            fused = pipeline.fuse_pictures(pictures, callback=stop_if_cancelled, progress=stop_if_cancelled)
        result.fused, result.seconds = fused, watch.seconds["fuse"]
        self._rates[""] = self._rates[_key(result.choices)] = result.seconds / result.cost

    def metrics(self) -> dict[str, Metric]:
        """Load the page's metrics: those of the audit, and those whose records are `short`."""
        if not self._metrics:
            records = [p.record for p in get_registry().of_kind("metric") if p.installed]
            short = sorted((r for r in records if isinstance(r, MetricRecord) and r.short), key=lambda r: r.rank)
            self._metrics = load_metrics(["audit", *(record.name for record in short)], None)
        return self._metrics

    def figures(self, session: Session, result: Result) -> dict[str, float]:
        """Compute all metrics of a result, once."""
        with self.looking, session.lock:
            if not result.figures:
                image = (to_tensor(result.done.picture.pixels) * 255).round() / 255
                [(_, values)] = score_images({"": image}, session.sources_of(result), self.metrics(), baselines=False)
                result.figures = {name.removeprefix("audit."): value for name, value in values.items()}
        return result.figures


def _key(choices: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in choices.items() if key != "range"}, sort_keys=True)
