"""The worker that fuses for all visitors in turn: a bounded queue, jobs that can be cancelled, pipelines kept built."""

import json
import queue
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from ..contracts import Metric
from ..errors import FusionkitError, InputError
from ..images.convert import to_tensor
from ..method.pipeline import Pipeline
from ..method.sampler import Step
from ..registry.loading import get_registry
from ..registry.records import MetricRecord
from ..scoring.evaluation import score_images
from ..scoring.metrics import load_metrics
from ..timing import Stopwatch
from .choices import config_of
from .sessions import Limits, Result, Session

__all__ = ["Busy", "Worker"]

KEPT = 8  # pipelines that stay built


class Busy(InputError):
    """The queue is full."""


class _Cancelled(Exception):
    pass


class Worker:
    """A thread that fuses one queued job after the other."""

    def __init__(self, limits: Limits, device: str) -> None:
        self.device = device
        self._jobs: queue.Queue[tuple[Session, Result] | None] = queue.Queue(limits.waiting)
        self._ready: OrderedDict[str, Pipeline] = OrderedDict()
        self._metrics: dict[str, Metric] = {}
        self.looking = threading.Lock()  # held while figures and maps are computed
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="fusionkit-worker", daemon=True)

    def start(self) -> None:
        """Start the thread, which builds the default pipeline first."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel the running job and begin no other."""
        self._stopped = True
        with suppress(queue.Full):  # else the thread sees `_stopped` before its next job
            self._jobs.put_nowait(None)

    def put(self, session: Session, result: Result) -> None:
        """Queue a job. Raises Busy where too many wait."""
        try:
            self._jobs.put_nowait((session, result))
        except queue.Full:
            raise Busy("too many fusions are waiting; try again in a moment") from None

    def _run(self) -> None:
        self._warm()
        while (job := self._jobs.get()) is not None and not self._stopped:
            session, result = job
            if result.status != "waiting":
                continue
            result.become("running")
            try:
                self._fuse(session, result)
                result.become("done")
            except _Cancelled:
                result.become("cancelled")
            except FusionkitError as error:
                result.become("failed", str(error))
            except BaseException as error:  # raised by a plug-in, even sys.exit(); the thread goes on
                result.become("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _warm(self) -> None:
        pair = [torch.linspace(0, 1, 300 * 300).view(1, 1, 300, 300), torch.full((1, 3, 300, 300), 0.5)]
        with suppress(BaseException):  # whoever asks for it is told
            self._pipeline({}).run(pair)
            self.metrics()

    def _pipeline(self, choices: Mapping[str, Any]) -> Pipeline:
        key = json.dumps(choices, sort_keys=True)
        if key not in self._ready:
            self._ready[key] = Pipeline(config_of(choices), device=self.device)
            if len(self._ready) > KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]

    def _fuse(self, session: Session, result: Result) -> None:
        def stop_if_cancelled(_: Step) -> None:
            if self._stopped or result.status == "cancelled":
                raise _Cancelled

        pipeline, watch = self._pipeline(result.choices), Stopwatch()
        with watch.stage("fuse"):
            fused = pipeline.fuse_pictures(session.pictures, callback=stop_if_cancelled)
        result.fused, result.seconds = fused, watch.seconds["fuse"]

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
