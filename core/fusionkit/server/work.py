"""The worker that fuses for all visitors: previews, small jobs beside large ones, a bounded queue, built pipelines."""

import json
import math
import os
import sys
import threading
import time
from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from typing import Any

import torch

from ..contracts import Metric
from ..errors import FusionkitError, InputError, SizeMismatch, one_line
from ..extras import culprit
from ..images.convert import to_tensor
from ..memory import release_pages
from ..method.choice import Choice
from ..method.pipeline import Pipeline
from ..method.result import FusedPicture
from ..registry.loading import get_registry
from ..registry.records import MetricRecord
from ..scoring.evaluation import score_images
from ..scoring.metrics import load_metrics
from ..timing import Stopwatch
from .choices import config_of
from .previews import Seen, can_shrink
from .sessions import Limits, Result, Session

KEPT = 8  # pipelines of a line that stay built
# pixels of all sources together up to which jobs wait in one line, and the priority of its thread: previews take tenths
# of a second on two cores, jobs of the second line some seconds
LINES = (640_000, 0), (4_000_000, 5), (math.inf, 10)
SOON = 0.7  # seconds of waiting from which a preview comes first
SETTLE = 1.0  # seconds without a new job after which the largest ones begin, unless somebody waits for one
PATIENCE = 4  # later jobs go first for this many times the seconds that a job takes
RATE = 1e-6  # seconds a pixel of the sources, before any was measured: twice what two cores take by default


class Busy(InputError):
    """The queue is full."""


class _Cancelled(Exception):
    pass


class _Line:
    """Jobs of up to `most` pixels, the one first whose turn is due first, with the pipelines of their thread."""

    def __init__(self, most: float, nice: int) -> None:
        self.most, self.nice = most, nice
        self.jobs: list[tuple[float, Session, Result]] = []
        self.running: Result | None = None
        self.ready: OrderedDict[str, tuple[Pipeline, Seen]] = OrderedDict()
        self.rates: dict[str, float] = {}  # seconds a pixel, as last measured with these choices; "": with any

    def waiting(self) -> list[tuple[float, Session, Result]]:
        """The jobs that nobody cancelled."""
        self.jobs = [job for job in self.jobs if job[-1].status == "waiting"]
        return self.jobs

    def put(self, session: Session, result: Result, cost: int) -> None:
        """Add a job of `cost` pixels where its turn is due."""
        result.cost, rate = cost, self.rates.get(_key(result.choices), self.rates.get("", RATE))
        result.estimate = cost * rate
        insort(self.jobs, (time.monotonic() + PATIENCE * result.estimate, session, result), key=itemgetter(0))


class Worker:
    """Threads, one for each class of sizes, each of which fuses one after the other."""

    def __init__(self, limits: Limits, device: str) -> None:
        self.device, self.limits = device, limits
        self._lines = [_Line(most, nice) for most, nice in LINES]
        self._changed = threading.Condition()
        self._last = 0.0  # when the last job came
        self._metrics: dict[str, Metric] = {}
        self.looking = threading.Lock()  # held while figures and maps are computed
        self._stopped = False

    def start(self) -> None:
        """Start the threads; the one for the smallest jobs builds the default pipeline first.

        Only the largest jobs are shared among PyTorch's threads, which wait for each other where the processor is busy.
        """
        count = torch.get_num_threads()
        for line in self._lines:
            ready = threading.Event()
            threading.Thread(target=self._run, args=(line, ready), name="fusionkit-worker", daemon=True).start()
            ready.wait()
            torch.set_num_threads(count)  # PyTorch gives new threads the last number set

    def stop(self) -> None:
        """Cancel the running jobs and begin no other."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def put(self, session: Session, result: Result) -> None:
        """Queue a job, and a preview where it would be waited for. Raises Busy where too many wait."""
        cost = sum(p.size[0] * p.size[1] for p in session.pictures)
        factor = math.ceil(math.sqrt(cost / self._lines[0].most))
        with self._changed:
            if sum(job[-1].of is None for line in self._lines for job in line.waiting()) >= self.limits.waiting:
                raise Busy("too many fusions are waiting; try again in a moment")
            self._line(cost).put(session, result, cost)
            if factor > 1 and not result.wanted and self._left(result) > SOON and can_shrink(session.pictures):
                result.preview = Result(result.number, result.choices, factor=factor, of=result)
                self._lines[0].put(session, result.preview, cost // factor**2)
            self._last = time.monotonic()
            self._changed.notify_all()

    def want(self, result: Result) -> None:
        """Let a job begin though its preview is there."""
        with self._changed:
            result.wanted = True
            self._changed.notify_all()

    def progress(self, result: Result) -> dict[str, float]:
        """Tell a job's place in its line, from 1, the seconds until it is done, and its share done; by estimates."""
        with self._changed:
            over = time.monotonic() - result.began if result.began else 0.0
            share = min(0.99, over / result.estimate) if result.estimate else 0.0
            return {"place": 1 + len(self._before(result)), "left": self._left(result), "share": share}

    def _before(self, result: Result) -> list[Result]:
        """The jobs that are done before another that waits."""
        line = self._line(result.cost)
        waiting = [job[-1] for job in line.waiting()]
        before = waiting[: waiting.index(result)] if result in waiting else []
        return ([line.running] if line.running is not None and result.status == "waiting" else []) + before

    def _left(self, result: Result) -> float:
        """Seconds until a job is done, by estimates."""
        now = time.monotonic()
        return sum(
            max(0.0, job.estimate - (now - job.began if job.began else 0.0)) for job in (*self._before(result), result)
        )

    def _line(self, cost: int) -> _Line:
        return next(line for line in self._lines if cost <= line.most)

    def _due(self, line: _Line) -> tuple[float, Session, Result] | None:
        """The first job of a line that may begin; those of the last one wait until nobody chooses anything."""
        now = time.monotonic()
        quiet = now - self._last > SETTLE and not any(o.running or o.waiting() for o in self._lines[:-1])
        for job in line.waiting():
            due, _, result = job
            if line is not self._lines[-1] or result.preview is None or result.wanted or quiet or due < now:
                return job
        return None

    def _next(self, line: _Line) -> tuple[Session, Result] | None:
        """Wait for the next job of a line; None when the server stops."""
        with self._changed:
            while not self._stopped:
                if (job := self._due(line)) is not None:
                    line.jobs.remove(job)
                    _, session, result = job
                    result.began, line.running = time.monotonic(), result
                    result.become("running")
                    return session, result
                self._changed.wait(SETTLE / 4 if line.jobs else None)
        return None

    def _run(self, line: _Line, ready: threading.Event) -> None:
        torch.get_num_threads()  # the first call in a thread sets the number of all threads
        if line is not self._lines[-1]:
            torch.set_num_threads(1)
        ready.set()
        if line is self._lines[0]:
            self._warm()
        if line.nice and sys.platform == "linux":  # where threads have priorities of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), line.nice)
        while (job := self._next(line)) is not None:
            session, result = job
            try:
                self._fuse(line, session, result)
                result.become("done")
                if result.status == "cancelled":
                    result.forget()
            except _Cancelled:
                result.become("cancelled")
            except FusionkitError as error:
                result.mends = self._mends(line, session, result, error)
                result.become("failed", str(error))
                if result.of is not None and isinstance(error, SizeMismatch):
                    self._hurry(session, result.of)
            except BaseException as error:  # raised by a plug-in, even sys.exit(); the thread goes on
                result.become("failed", culprit(error) or f"{type(error).__name__}: {one_line(error)[:300]}")
            line.running = None
            del job, session, result  # else they stay in memory until the next one comes
            release_pages()

    def _hurry(self, session: Session, result: Result) -> None:
        """Let the first line do a job that will be refused at once, which says why."""
        with self._changed:
            if result.status == "waiting":
                line = self._line(result.cost)
                line.jobs = [job for job in line.jobs if job[-1] is not result]
                self._lines[0].jobs.insert(0, (0.0, session, result))

    def _mends(self, line: _Line, session: Session, result: Result, error: FusionkitError) -> list[dict[str, Any]]:
        """Write what mends an error for a button, without what was chosen already."""
        if not error.mends:
            return []
        reference = self._pipeline(line, result.choices)[0].reference_in(session.pictures)
        name = session.pictures[reference].name
        return [
            {"label": label.format(reference=name), "choices": dict(choices)}
            for label, choices in error.mends.items()
            if not choices.items() <= result.choices.items()
        ]

    def _warm(self) -> None:
        pair = [torch.linspace(0, 1, 300 * 300).view(1, 1, 300, 300), torch.full((1, 3, 300, 300), 0.5)]
        with suppress(BaseException):  # whoever asks for it is told
            self._pipeline(self._lines[0], {})[0].run(pair)
            self.metrics()

    def _pipeline(self, line: _Line, choices: Mapping[str, Any]) -> tuple[Pipeline, Seen]:
        key = _key(choices)
        if key not in line.ready:
            config, seen = config_of(choices), Seen()
            stages = (*config.stages, Choice.model_validate(seen))
            line.ready[key] = Pipeline(config.model_copy(update={"stages": stages}), device=self.device), seen
            if len(line.ready) > KEPT:
                line.ready.popitem(last=False)
        line.ready.move_to_end(key)
        return line.ready[key]

    def _fuse(self, line: _Line, session: Session, result: Result) -> None:
        def stop_if_cancelled(*_: object) -> None:
            if self._stopped or result.status == "cancelled":
                raise _Cancelled

        (pipeline, seen), watch = self._pipeline(line, result.choices), Stopwatch()
        with watch.stage("fuse"):
            pictures = session.pictures_of(result)
            fused = pipeline.fuse_pictures(pictures, callback=stop_if_cancelled, progress=stop_if_cancelled)
        picture = fused.picture
        if picture.depth != "float":  # a quarter or half of the memory, and what a file has
            fused = FusedPicture.of(replace(picture, values=picture.stored()), fused.facts)
        result.fused, result.seen, result.seconds = fused, seen.sources, watch.seconds["fuse"]
        seen.sources = []
        if result.preview is not None and result.preview.status == "waiting":
            result.preview.forget()
        line.rates[""] = line.rates[_key(result.choices)] = result.seconds / result.cost

    def metrics(self) -> dict[str, Metric]:
        """Load the page's metrics: those of the audit, and those whose records are `short`."""
        if not self._metrics:
            records = [p.record for p in get_registry().of_kind("metric") if p.installed]
            short = sorted((r for r in records if isinstance(r, MetricRecord) and r.short), key=lambda r: r.rank)
            self._metrics = load_metrics(["audit", *(record.name for record in short)], None)
        return self._metrics

    def figures(self, session: Session, result: Result) -> dict[str, float]:
        """Compute the metrics of a result that suit its kind of scene, once."""
        with self.looking:
            if not result.figures:
                image = (to_tensor(result.done.picture.pixels) * 255).round() / 255
                sources = session.sources_of(result)
                suited = {name: metric for name, metric in self.metrics().items() if metric.suits(sources.scenes[0])}
                [(_, values)] = score_images({"": image}, sources, suited, baselines=False)
                result.figures = {name.removeprefix("audit."): value for name, value in values.items()}
        return result.figures


def _key(choices: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in choices.items() if key != "range"}, sort_keys=True)
