"""Reports of `run`: on a terminal, in a log, or for programs."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..storage.outcome import Stopped
from .messages import in_flags, printable
from .progress import Progress, progress

if TYPE_CHECKING:
    from ..batch.folders import Preview
    from ..batch.plan import Plan
    from ..storage.outcome import Outcome
    from ..video.plan import Video

SAID, KINDS_OF_NOTES = 3, 1000  # times that one kind of note is printed; number of kinds that are counted
PARTS = {"": ("", ""), "shards": ("fused", "pairs"), "segments": ("frames", "frames")}  # of a task: count and name


@dataclass
class Reporter:
    """Print outcomes. machine: on stdout only a JSON object per result. quiet: errors only. loud: seconds per stage."""

    machine: bool = False
    quiet: bool = False
    loud: bool = False
    said: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def line(self, text: str) -> None:
        """Print a result to stdout."""
        if not (self.machine or self.quiet):
            typer.echo(text)

    def note(self, text: str) -> None:
        """Print a note to stderr."""
        if not (self.machine or self.quiet):
            typer.echo(f"note: {printable(text)}", err=True)

    def warning(self, text: str, color: str = "yellow") -> None:
        """Print a warning to stderr."""
        typer.secho(printable(text), err=True, fg=color)

    def plan(self, plan: "Plan") -> None:
        """Name the sources that cannot be matched."""
        for first, second in plan.ambiguous:
            self.warning(f"failed: {first} and {second} have one name; rename or remove one", "red")
        lost = plan.left_out if plan.lost else []
        for text in lost if self.quiet else plan.alone:
            self.warning(text)
        for note in plan.notes:
            self.note(note)

    def planned(self, row: "Preview") -> None:
        """Print what would be done with a job, also with `quiet`, since nothing else is asked for."""
        if not self.machine:
            typer.echo(printable(row))
            return
        described = {
            "key": row.job.key,
            "status": "failed" if row.reason else "skipped" if row.finished else "planned",
            "sources": [str(path) for path in row.job.sources],
            "sizes": row.sizes,
            "output": str(row.job.output),
            "reason": in_flags(row.reason),
        }
        typer.echo(json.dumps(described))

    @contextmanager
    def looking(self, unit: str) -> Iterator[Callable[[int], None]]:
        """Show the number of units that a plan has read, for which nothing is known before."""
        if self.machine or self.quiet:
            yield lambda number: None
            return
        with progress(unit) as state:
            yield lambda number: state("looking for cuts", number)

    def follow(
        self,
        outcomes: "Iterable[Outcome]",
        number: int,
        output: str,
        tasks: str = "",
        video: "Video | None" = None,
    ) -> bool:
        """Report each of `number` outcomes as it comes, then their counts; true if nothing failed.

        tasks: "shards" or "segments", which hold several pairs or frames. video: whose frames are counted meanwhile.
        """
        began, status, parts = time.monotonic(), Counter[str](), Counter[str]()
        part, unit = PARTS[tasks]
        shown = progress(unit, video.frames, count=video.seen) if video else progress(tasks or "pairs", number)
        try:
            with shown if not (self.machine or self.quiet) else nullcontext() as state:
                for outcome in outcomes:
                    status[outcome.status] += 1
                    parts.update(outcome.counts)
                    if state:
                        state.before += outcome.status == "skipped" and not video
                        state(outcome.key.rpartition("/")[2], None if video else status.total())
                    self.outcome(outcome)
        except Stopped:
            if video:
                kept = status["done"] + status["skipped"]
                self.warning(
                    f"{kept} of {number} segments are kept, of the one at work nothing; a shorter `segment` loses less"
                )
            raise
        self._count_notes()
        rate = f"{parts[part] / max(1e-9, time.monotonic() - began):.2f} {unit}/s" if parts[part] else ""
        held = f"{tasks} of {parts[part]} {unit} " if part else ""
        lost = f"; {parts['failed']} pairs failed" if "failed" in parts else ""
        again = "; the same command tries them again" if status["failed"] else ""
        counted = f"{status['done']} {held}fused, {status['skipped']} finished before, {status['failed']} failed"
        self.line(f"{output}: {counted}{lost}{again}" + (f"; {rate}" if part and rate else ""))
        return not (status["failed"] or parts["failed"])

    @contextmanager
    def frames(self) -> Iterator[Callable[[int, int], object]]:
        """The progress of the frames of a series, which is shown from the first one on; yields what is told of them."""
        with ExitStack() as shown:
            states: list[Progress] = []

            def told(done: int, count: int) -> None:
                if not states and not (self.machine or self.quiet):
                    states.append(shown.enter_context(progress("frames", count)))
                for state in states:
                    state(done=done)

            yield told

    def outcome(self, outcome: "Outcome", *, named: bool = True) -> None:
        """Report an outcome; of several, a note that many share is only counted after the first few."""
        before = f"{outcome.key}: " if named else ""
        for note in outcome.notes:
            kind = _kind(note, outcome)
            if kind in self.said or len(self.said) < KINDS_OF_NOTES:
                self.said[kind] += 1
                self.examples.setdefault(kind, note)
            if self.said[kind] <= SAID or not named:
                self.note(f"{before}{note}")
        if outcome.status == "failed":
            self.warning(f"failed: {outcome.key}: {outcome.reason}", "red")
        elif outcome.reason:
            self.warning(f"{outcome.key}: {outcome.reason}")
        if self.loud and outcome.seconds:
            seconds = outcome.record.get("seconds", {"total": round(outcome.seconds, 3)})
            memory = [f"at most {outcome.record['peak_memory_mb']:g} MB"] if "peak_memory_mb" in outcome.record else []
            self.note(before + "; ".join([", ".join(f"{name} {s:g} s" for name, s in seconds.items()), *memory]))
        if self.machine:
            typer.echo(json.dumps(_row(outcome)))

    def _count_notes(self) -> None:
        """Count the notes that were suppressed."""
        for kind, times in self.said.items():
            if times > SAID:
                how = "the same" if kind == self.examples[kind] else "likewise"
                self.note(f"{how} for {times - SAID} more: {self.examples[kind]}")


def _kind(note: str, outcome: "Outcome") -> str:
    """A note without names of files, and without numbers where it names a file: the same for all pairs."""
    kind = note
    for source in outcome.record.get("sources", ()):
        kind = kind.replace(Path(source["path"]).name, "FILE")
    return kind if kind == note else re.sub(r"[-+]?\d+(\.\d+)?", "N", kind)


def _row(outcome: "Outcome") -> dict[str, Any]:
    """An outcome for programs; `record` is its row in the manifest."""
    return {
        "key": outcome.key,
        "status": "fused" if outcome.status == "done" else outcome.status,
        "output": outcome.output,
        "seconds": round(outcome.seconds, 3),
        "reason": in_flags(outcome.reason),
        "notes": [in_flags(note) for note in outcome.notes],
        **outcome.counts,
        "record": {key: value for key, value in outcome.record.items() if key != "notes"},
    }
