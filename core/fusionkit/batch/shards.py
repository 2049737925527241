"""Shards: tar files of pairs, fused one shard after another into shards of results, each with a ledger of its own.

The layout is webdataset's: members of one sample stand side by side and share everything up to the first dot of their
names, KEY.ir.png and KEY.vis.png. Whoever plans holds one line a shard, whoever works one shard, so that ten million
pairs never lie in one memory. A shard's result appears whole, after its ledger: what is interrupted is done again and
gives the same bytes.
"""

import io
import json
import shutil
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..engines.engine import Engine
from ..errors import FusionkitError, InputError, OutputError
from ..images.picture import Range
from ..method.pipeline import Pipeline
from ..reading import readable_extensions
from ..reading.ranges import folder_ranges
from ..storage import places
from ..storage.manifest import Manifest, sha256
from .options import FileOptions
from .plan import Job
from .run import Outcome, attempt, method_digest

__all__ = ["Shard", "ShardOutcome", "fuse_shards", "lost_shard", "plan_shards"]

TRIES = 3  # of a pair that fails for another reason than what is wrong with its files


@dataclass(frozen=True)
class Shard:
    """A tar file of pairs, where the tar file of their results goes, and its ledger."""

    source: str
    output: str

    @property
    def ledger(self) -> str:
        """NAME.jsonl beside NAME.tar."""
        return f"{self.output.removesuffix('.tar')}.jsonl"


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard: "fused", "skipped" (was finished before) or "failed"; pairs by what became of them."""

    shard: Shard
    status: str
    fused: int = 0
    failed: int = 0
    seconds: float = 0.0
    reason: str = ""


def plan_shards(sources: Sequence[str], output: str) -> list[Shard]:
    """A shard for each tar file that paths, addresses and patterns name; results have their names, in `output`."""
    found = list(dict.fromkeys(address for source in sources for address in places.expand(source)))
    if not found:
        raise InputError(f"no tar file is named by {', '.join(sources)}")
    odd = [address for address in found if not address.endswith(".tar")]
    if odd:
        raise InputError(f"{odd[0]}: `shards` takes tar files; give folders of images to `pairs`")
    names = [address.rpartition("/")[2] for address in found]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: two shards have this name, and so would their results")
    shards = [Shard(address, places.beside(output, name)) for address, name in zip(found, names, strict=True)]
    if any(shard.source == shard.output for shard in shards):
        raise OutputError(f"{output}: holds the sources; choose another place for the results")
    return shards


def fuse_shards(
    pipeline: Pipeline, shards: Sequence[Shard], options: FileOptions, engine: Engine, suffix: str = ".png"
) -> Iterator[ShardOutcome]:
    """Fuse shard after shard, skipping what an earlier run with the same options and sources finished.

    `range=auto` looks at one shard where `range_scope` says folder. A pair that fails is a line in its shard's ledger.
    """
    yield from engine.map(partial(_attempt, pipeline, options, suffix), shards)


def lost_shard(shard: Shard) -> ShardOutcome:
    """What becomes of a shard whose process is killed each time."""
    return ShardOutcome(shard, "failed", reason="its process was killed each time, perhaps for memory")


def _attempt(pipeline: Pipeline, options: FileOptions, suffix: str, shard: Shard) -> ShardOutcome:
    start = time.perf_counter()
    try:
        tag = places.tag(shard.source)
        if tag is None:
            raise InputError(f"{shard.source}: is not there")
        method = method_digest(pipeline, options) + suffix
        if not options.force and _finished(shard, tag, method):
            return ShardOutcome(shard, "skipped")
        with tempfile.TemporaryDirectory(prefix="fusionkit-") as folder:
            work = _Work(pipeline, options, suffix, shard, Path(folder), tag, method)
            with places.fetched(shard.source, Path(folder)) as tar:
                work.run(tar)
            return ShardOutcome(shard, "fused", work.fused, work.failed, time.perf_counter() - start)
    except FusionkitError as error:
        return ShardOutcome(shard, "failed", reason=str(error))
    except tarfile.TarError as error:
        return ShardOutcome(shard, "failed", reason=f"{shard.source}: is no tar file, or damaged: {error}")
    except Exception as error:  # one shard may never stop the others
        return ShardOutcome(shard, "failed", reason=f"{shard.source}: {type(error).__name__}: {error}"[:500])


def _finished(shard: Shard, tag: dict[str, Any], method: str) -> bool:
    """Whether the last line of the ledger is of this source and method, and the result is there as it says."""
    lines = places.read_text(shard.ledger).splitlines()
    try:
        row = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return False
    if not isinstance(row, dict) or row.get("event") != "shard":
        return False
    if row.get("source") != {"address": shard.source, **tag} or row.get("method") != method:
        return False
    there = places.tag(shard.output)
    return there is not None and there["bytes"] == row.get("output", {}).get("bytes")


@dataclass
class _Work:
    """One shard being fused, in a temporary folder."""

    pipeline: Pipeline
    options: FileOptions
    suffix: str
    shard: Shard
    folder: Path
    tag: dict[str, Any]
    method: str
    fused: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.ledger = Manifest(self.folder / "ledger.jsonl")

    def run(self, tar: Path) -> None:
        """Unpack, fuse, pack, store: the ledger first, as a manifest's line stands before its result."""
        jobs, alone = self._unpacked(tar)
        if not jobs:
            raise InputError(f"{self.shard.source}: no two images share a key; expected KEY.ir.png beside KEY.vis.png")
        count = max(len(job.sources) for job, _ in jobs)
        ranges = self.options.ranges(count)
        if self.options.range_scope == "folder":
            groups = [job.places for job, _ in jobs if len(job.sources) == count]
            ranges = folder_ranges(groups, ranges, self.options.max_pixels)
        self._enter("run", **self.pipeline.describe(), files=self.options.record(), ranges=ranges)
        for key, member in alone:
            self._failed(key, f"one image alone: {member}")
        packed = self.folder / "result.tar"
        with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as results:
            for job, members in jobs:
                self._pair(job, members, ranges, results)
        output = {"address": self.shard.output, "bytes": packed.stat().st_size, "sha256": sha256(packed)}
        source = {"address": self.shard.source, **self.tag}
        self._enter("shard", source=source, output=output, fused=self.fused, failed=self.failed)
        places.store(self.ledger.path, self.shard.ledger)
        places.store(packed, self.shard.output)

    def _unpacked(self, tar: Path) -> tuple[list[tuple[Job, list[str]]], list[tuple[str, str]]]:
        """Jobs with files in the temporary folder, each with its members' names; keys that have one member alone."""
        wanted, groups = readable_extensions(), dict[str, list[tuple[str, Path]]]()
        with tarfile.open(tar, "r|*") as archive:  # a stream: each member once, in order
            for number, member in enumerate(archive):
                path = PurePosixPath(member.name)
                if not member.isfile() or not path.name.lower().endswith(wanted):
                    continue
                stem, _, kind = path.name.partition(".")
                key = str(path.with_name(stem))
                place = self.folder / f"{number:07d}.{kind[-40:].lower()}"
                stream = archive.extractfile(member)
                assert stream is not None
                with place.open("wb") as copy:
                    shutil.copyfileobj(stream, copy, 2**20)
                groups.setdefault(key, []).append((member.name, place))
        jobs, alone = [], []
        for number, (key, found) in enumerate(groups.items()):
            if len(found) < 2:
                alone.append((key, found[0][0]))
                continue
            output = self.folder / f"fused-{number:07d}{self.suffix}"
            jobs.append((Job(key, tuple(place for _, place in found), output), [name for name, _ in found]))
        return jobs, alone

    def _pair(self, job: Job, members: list[str], ranges: tuple[Range, ...], results: tarfile.TarFile) -> None:
        outcome = self._tried(job, ranges[: len(job.sources)])
        names = {str(place): name for place, name in zip(job.sources, members, strict=True)}
        names |= {place.name: name for place, name in zip(job.sources, members, strict=True)}
        for place in job.sources:
            place.unlink(missing_ok=True)
        if outcome.staged is None:
            self._failed(job.key, _renamed(outcome.reason, names))
            return
        data = outcome.staged.temporary.read_bytes()
        outcome.staged.discard()
        member = tarfile.TarInfo(f"{job.key}.fused{self.suffix}")
        member.size = len(data)  # no time, no owner: the same pairs give the same bytes
        results.addfile(member, io.BytesIO(data))
        sources = [
            {"member": name, "sha256": record["sha256"], "bytes": record["bytes"]}
            for name, record in zip(members, outcome.record["sources"], strict=True)
        ]
        notes = [_renamed(note, names) for note in outcome.record["notes"]]
        kept = {name: outcome.record["output"][name] for name in ("sha256", "bytes", "depth", "size")}
        output = {"member": member.name, **kept}
        record = {**outcome.record, "sources": sources, "notes": notes, "output": output}
        self.fused += 1
        self._enter("pair", key=job.key, status="ok", **record)

    def _tried(self, job: Job, ranges: tuple[Range, ...]) -> Outcome:
        """The outcome of the first attempt that is whole, or of the last one; what is wrong with files stays wrong."""
        for _ in range(TRIES):
            outcome = attempt(self.pipeline, self.options, ranges, job, owned=True)
            if outcome.staged is not None or outcome.wrong_files:
                break
        return outcome

    def _failed(self, key: str, reason: str) -> None:
        self.failed += 1
        self._enter("pair", key=key, status="failed", error=reason)

    def _enter(self, event: str, **row: Any) -> None:
        self.ledger.append(event, method=self.method, **row)


def _renamed(text: str, names: dict[str, str]) -> str:
    for place, name in names.items():
        text = text.replace(place, name)
    return text
