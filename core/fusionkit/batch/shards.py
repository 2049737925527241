"""Shards: tar files of pairs, fused into tar files of results, each with its own ledger.

The layout is webdataset's: members of one sample are neighbours whose names are the same up to the first dot,
KEY.ir.png and KEY.vis.png. The planning process holds one line per shard, a worker one shard, so that ten million pairs
are never in memory at once. A shard's result appears whole, after its ledger; an interrupted shard is repeated and
gives the same bytes.
"""

import io
import json
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from ..engines.engine import Engine
from ..errors import InputError, OutputError
from ..images.picture import Range
from ..method.pipeline import Pipeline
from ..reading import readable_extensions
from ..reading.ranges import source_ranges
from ..storage import places
from ..storage.manifest import Ledger, is_current, sha256
from ..storage.outcome import Outcome, attempt
from .options import FileOptions
from .plan import Job, Shard
from .run import fuse_job, method_digest

TRIES = 3  # attempts at a pair that fails neither for its files nor for the disk


def fuse_shards(
    pipeline: Pipeline, shards: Sequence[Shard], options: FileOptions, engine: Engine, suffix: str = ".png"
) -> Iterator[Outcome]:
    """Fuse shard after shard, skipping results that an earlier run with the same options and sources finished.

    With `range_scope=folder`, `range=auto` takes one range for each shard. A pair that fails is a line in its shard's
    ledger; a shard that is damaged, or finds the disk full, fails as a whole. An outcome counts the pairs fused and
    failed; a skipped shard's failures are counted, too.
    """
    method = method_digest(pipeline, options) + suffix
    return engine.map(partial(attempt, partial(_fuse_shard, pipeline, options, suffix, method)), shards)


def _fuse_shard(pipeline: Pipeline, options: FileOptions, suffix: str, method: str, shard: Shard) -> Outcome:
    state = places.tag(shard.key)
    if state is None:
        raise InputError(f"{shard.key}: does not exist")
    row = _last_row(shard.ledger)
    skipped = not options.force and is_current(row, method, [shard.key], shard.output)
    if not skipped:
        with tempfile.TemporaryDirectory(prefix="fusionkit-") as folder:
            fusing = _Fusing(pipeline, options, suffix, shard, Path(folder), Ledger(Path(folder, "l.jsonl"), method))
            with places.fetched(shard.key, Path(folder)) as tar:
                row = fusing.run(tar, {"address": shard.key, **state})
    return Outcome(
        shard.key,
        "skipped" if skipped else "done",
        f"{row['failed']} pairs failed, see {shard.ledger}" if row["failed"] else "",
        output=shard.output,
        record={"ledger": shard.ledger},
        counts={"fused": 0 if skipped else row["fused"], "failed": row["failed"]},
    )


def _last_row(ledger: str) -> dict[str, Any]:
    """The last row of a ledger, which describes the whole shard; empty where it is missing."""
    lines = places.read_text(ledger).splitlines()
    try:
        row = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return row if isinstance(row, dict) and row.get("event") == "shard" else {}


@dataclass
class _Fusing:
    """Fuses one shard in a temporary folder."""

    pipeline: Pipeline
    options: FileOptions
    suffix: str
    shard: Shard
    folder: Path
    ledger: Ledger

    def run(self, tar: Path, source: dict[str, Any]) -> dict[str, Any]:
        """Unpack, fuse, pack and store; returns the shard's row. The ledger is stored before the result."""
        jobs, alone = self._unpacked(tar)
        if not jobs:
            raise InputError("no two images share a key; expected KEY.ir.png beside KEY.vis.png")
        ranges = source_ranges([job.places for job, _ in jobs], self.options.reading)
        self.ledger.run(**self.pipeline.describe(), files=self.options.record(), ranges=ranges)
        packed, counts = self.folder / "result.tar", Counter[str]()
        with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as results:
            fused = (self._pair(job, members, ranges, results) for job, members in jobs)
            for outcome in chain(alone, fused):
                counts[outcome.status] += 1
                self.ledger.settle(outcome)
        output = {"address": self.shard.output, "bytes": packed.stat().st_size, "sha256": sha256(packed)}
        row = {"source": source, "output": output, "fused": counts["done"], "failed": counts["failed"]}
        self.ledger.append("shard", method=self.ledger.method, **row)
        places.store(self.ledger.path, self.shard.ledger)
        places.store(packed, self.shard.output)
        return row

    def _unpacked(self, tar: Path) -> tuple[list[tuple[Job, list[str]]], list[Outcome]]:
        """Jobs of files in the temporary folder, each with its members' names; failures of keys with one member."""
        wanted, groups = readable_extensions(), dict[str, list[tuple[str, Path]]]()
        try:
            with tarfile.open(tar, "r|*") as archive:  # a stream: each member once, in order
                for number, member in enumerate(archive):
                    path = PurePosixPath(member.name)
                    if not member.isfile() or path.name[:1] == "." or not path.name.lower().endswith(wanted):
                        continue
                    if member.issparse():  # a few bytes that unpack to any number
                        raise InputError(f"{member.name} is a sparse member; pack the files as they are")
                    stem, _, kind = path.name.partition(".")
                    place = self.folder / f"{number:07d}.{kind[-40:].lower()}"
                    stream = archive.extractfile(member)
                    assert stream is not None
                    with place.open("wb") as copy:
                        shutil.copyfileobj(stream, copy, 2**20)
                    groups.setdefault(str(path.with_name(stem)), []).append((member.name, place))
                _check_end(archive)
        except tarfile.TarError as error:
            raise InputError(f"is no tar file, or damaged: {error}") from None
        jobs, alone = [], []
        for number, (key, found) in enumerate(groups.items()):
            if len(found) < 2:
                alone.append(Outcome(key, "failed", f"one image alone: {found[0][0]}"))
                continue
            output = self.folder / f"fused-{number:07d}{self.suffix}"
            jobs.append((Job(key, tuple(place for _, place in found), output), [name for name, _ in found]))
        return jobs, alone

    def _pair(self, job: Job, members: list[str], ranges: tuple[Range, ...], results: tarfile.TarFile) -> Outcome:
        """Fuse a pair and pack its result; the outcome names members of the shard instead of temporary files."""

        def renamed(text: str) -> str:
            for place, name in zip(job.sources, members, strict=True):
                text = text.replace(str(place), name).replace(place.name, name)
            return text

        outcome = self._tried(job, ranges)
        for place in job.sources:
            place.unlink(missing_ok=True)
        if outcome.staged is None:
            return replace(outcome, reason=renamed(outcome.reason))
        data = outcome.staged.temporary.read_bytes()
        outcome.staged.discard()
        member = tarfile.TarInfo(f"{job.key}.fused{self.suffix}")
        member.size = len(data)  # no time, no owner: the same pairs give the same bytes
        results.addfile(member, io.BytesIO(data))
        sources = [
            {"member": name, "sha256": record["sha256"], "bytes": record["bytes"]}
            for name, record in zip(members, outcome.record["sources"], strict=True)
        ]
        notes = [renamed(note) for note in outcome.record["notes"]]
        kept = {name: outcome.record["output"][name] for name in ("sha256", "bytes", "depth", "size")}
        output = {"member": member.name, **kept}
        return Outcome(job.key, record={**outcome.record, "sources": sources, "notes": notes, "output": output})

    def _tried(self, job: Job, ranges: tuple[Range, ...]) -> Outcome:
        """Try a pair until it succeeds, its files are to blame, or TRIES are used. Raises OutputError: disk full."""
        for _ in range(TRIES):
            outcome = attempt(partial(fuse_job, self.pipeline, self.options, ranges, owned=True), job)
            if outcome.blame == "disk":
                raise OutputError(f"nothing was kept of it: {outcome.reason}")
            if outcome.status == "done" or outcome.blame == "files":
                break
        return outcome


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse an archive without the zeros that end it, or with members after them: `tarfile` accepts both."""
    stream = archive.fileobj
    assert stream is not None
    whole = stream.tell() - archive.offset == tarfile.BLOCKSIZE  # a whole block where the next member would begin
    while whole and (part := stream.read(2**20)):
        whole = not part.strip(b"\0")
    if not whole:
        raise InputError("is damaged or cut off: its end mark is missing, or members follow it; copy it again")
