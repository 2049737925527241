"""What `run` says: for people on a terminal, in a log, or for machines."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from .choices import printable
from .fields import in_flags

if TYPE_CHECKING:
    from ..batch.plan import Plan
    from ..batch.run import Outcome
    from ..batch.shards import ShardOutcome
    from ..video.run import SegmentOutcome

__all__ = ["Voice"]

SAID, KINDS_OF_NOTES = 3, 1000  # times that one kind of note is printed; as many kinds are counted
NAMED = 10  # files without a partner that are named


@dataclass
class Voice:
    """machine: a JSON object a result on stdout, nothing else there. quiet: errors alone. loud: seconds a stage."""

    machine: bool = False
    quiet: bool = False
    loud: bool = False
    said: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def line(self, text: str) -> None:
        """A word at the end, on stdout."""
        if not (self.machine or self.quiet):
            typer.echo(text)

    def note(self, text: str) -> None:
        """A word on the side."""
        if not (self.machine or self.quiet):
            typer.echo(f"note: {printable(in_flags(text))}", err=True)

    def warning(self, text: str, color: str = "yellow") -> None:
        """What is not as it should be."""
        typer.secho(printable(in_flags(text)), err=True, fg=color)

    def plan(self, plan: "Plan") -> None:
        """What of the sources cannot be matched."""
        for first, second in plan.ambiguous:
            self.warning(f"failed: {first} and {second} have one name; rename or remove one", "red")
        if plan.unmatched and not self.quiet:
            names = ", ".join(str(p) for p in plan.unmatched[:NAMED])
            more = f" and {len(plan.unmatched) - NAMED} more" if len(plan.unmatched) > NAMED else ""
            self.warning(f"without a partner: {names}{more}")
        for note in plan.notes:
            self.note(note)

    def outcome(self, outcome: "Outcome", *, alone: bool = False) -> None:
        """What became of a job; a note that many share is only counted after the first few."""
        if self.machine:
            typer.echo(json.dumps(_row(outcome)))
        if outcome.status == "failed":
            self.warning(f"failed: {outcome.job.key}: {outcome.reason}", "red")
        before = "" if alone else f"{outcome.job.key}: "
        for note in outcome.notes:
            kind = _kind(note, outcome)
            if kind in self.said or len(self.said) < KINDS_OF_NOTES:
                self.said[kind] += 1
                self.examples.setdefault(kind, note)
            if self.said[kind] <= SAID:
                self.note(f"{before}{note}")
        if self.loud and outcome.record:
            stages = ", ".join(f"{name} {seconds:g} s" for name, seconds in outcome.record["seconds"].items())
            self.note(f"{before}{stages}; at most {outcome.record['peak_memory_mb']:g} MB")

    def shard(self, outcome: "ShardOutcome") -> None:
        """What became of a shard; its pairs are in its ledger."""
        shard = outcome.shard
        if self.machine:
            row = {"key": shard.source, "status": outcome.status, "output": shard.output, "ledger": shard.ledger}
            counts = {"fused": outcome.fused, "failed": outcome.failed, "seconds": round(outcome.seconds, 3)}
            typer.echo(json.dumps({**row, **counts, "reason": in_flags(outcome.reason)}))
        if outcome.status == "failed":
            self.warning(f"failed: {outcome.reason}", "red")
        elif outcome.failed:
            self.warning(f"{shard.source}: {outcome.failed} pairs failed, see {shard.ledger}")

    def segment(self, outcome: "SegmentOutcome") -> None:
        """What became of a segment of a video; each note once."""
        for note in outcome.notes:
            if note not in self.said:
                self.said[note] = 1
                self.examples[note] = note
                self.note(note)
        if self.machine:
            row = {"key": outcome.segment.number, "status": outcome.status, "frames": outcome.frames}
            typer.echo(json.dumps({**row, "reason": in_flags(outcome.reason)}))
        if outcome.status == "failed":
            self.warning(f"failed: from {outcome.segment.start:.1f} s: {outcome.reason}", "red")

    def counted(self) -> None:
        """How often the notes that were not printed any more came."""
        for kind, times in self.said.items():
            if times > SAID:
                how = "the same" if kind == self.examples[kind] else "likewise"
                self.note(f"{how} for {times - SAID} more: {self.examples[kind]}")


def _kind(note: str, outcome: "Outcome") -> str:
    """A note without what differs from pair to pair: names of files, and numbers where a file is named."""
    kind = note
    for path in outcome.job.sources:
        kind = kind.replace(path.name, "FILE")
    return kind if kind == note else re.sub(r"[-+]?\d+(\.\d+)?", "N", kind)


def _row(outcome: "Outcome") -> dict[str, Any]:
    """A result for machines; `record` is what the manifest has of it."""
    record = {key: value for key, value in outcome.record.items() if key != "notes"}
    return {
        "key": outcome.job.key,
        "status": outcome.status,
        "output": str(outcome.job.output),
        "seconds": round(outcome.seconds, 3),
        "reason": in_flags(outcome.reason),
        "notes": [in_flags(note) for note in outcome.notes],
        "record": record,
    }
