"""Fusing files: one job from paths to a written result, and folders of them."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .atomic import atomic_write
from .errors import FusionkitError, InputError, OutputError
from .images import EXTENSIONS, MAX_PIXELS, Depth, check_output, read_image, store_image
from .manifest import Manifest, file_record
from .pipeline import Pipeline, output_depth
from .timing import Stopwatch, peak_memory_mb

__all__ = ["FileOptions", "Job", "Matching", "Outcome", "fuse_files", "fuse_folders", "match_folders"]

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written.

    depth: of the result; None keeps the reference's. spans: the stored values for black and white of data that do
    not fill their type, one for all sources or one a source. force: overwrite and redo.
    """

    depth: Depth | None = None
    spans: tuple[tuple[float, float], ...] = ()
    png_level: int = 1
    max_pixels: int = MAX_PIXELS
    force: bool = False

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"depth": self.depth, "ranges": self.spans, "png_level": self.png_level}

    def span(self, index: int) -> tuple[float, float] | None:
        """The span of source `index`."""
        return self.spans[min(index, len(self.spans) - 1)] if self.spans else None


@dataclass(frozen=True)
class Job:
    """Source files and the file their fusion goes to."""

    key: str
    sources: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "fused", "skipped" (was finished before) or "failed" with the reason."""

    job: Job
    status: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass
class Matching:
    """Files of several folders, matched by stem."""

    jobs: list[Job] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)


def fuse_files(
    pipeline: Pipeline,
    job: Job,
    options: FileOptions,
    manifest: Manifest | None,
    description: dict[str, Any] | None = None,
) -> Outcome:
    """Read, fuse, write. The manifest's line is written just before the result appears under its name.

    description: of the run, for the manifest of a single result; a folder's manifest has it in a line of its own.
    """
    _check_place(job, options)
    watch = Stopwatch()
    with watch.stage("total"):
        with watch.stage("read"):
            pictures = [read_image(p, options.span(i), options.max_pixels) for i, p in enumerate(job.sources)]
        reference = pictures[pipeline.reference([p.has_color for p in pictures])]
        depth, span = output_depth(reference, options.depth)
        channels = max(p.pixels.shape[2] for p in pictures)
        check_output(job.output, depth, channels, alpha=reference.alpha is not None)
        fused = pipeline.fuse_pictures(pictures)
        notes = [f"{p.name}: {n}" for p in pictures for n in p.notes if p is not reference] + list(fused.picture.notes)
        with atomic_write(job.output) as temporary:
            with watch.stage("write"):
                notes += store_image(
                    temporary, fused.picture.pixels, depth, span=span, alpha=fused.picture.alpha,
                    icc=fused.picture.icc, png_level=options.png_level,
                )  # fmt: skip
            if manifest is not None:
                manifest.append(
                    "pair", key=job.key, status="ok", method=method_digest(pipeline, options), **(description or {}),
                    sources=[file_record(p) for p in job.sources], reference_source=fused.reference + 1, notes=notes,
                    output={**file_record(temporary), "path": str(job.output), "depth": depth,
                            "size": list(fused.picture.size)},
                    seconds={**watch.rounded(), **fused.seconds}, peak_memory_mb=peak_memory_mb(),
                )  # fmt: skip
    return Outcome(job, "fused", notes=tuple(notes), seconds=watch.seconds["total"])


def _check_place(job: Job, options: FileOptions) -> None:
    """Refuse, before any work, an output that is a folder, a source, or there already."""
    try:
        if job.output.is_dir():
            raise OutputError(f"{job.output}: is a folder; name a file, such as {job.output / 'fused.png'}")
        if job.output.exists() and not options.force:
            raise OutputError(f"{job.output}: exists already; --force overwrites it")
        if any(job.output.resolve() == s.resolve() for s in job.sources):
            raise OutputError(f"{job.output}: is one of the sources; choose another name")
    except OSError as error:
        raise OutputError(f"{job.output}: cannot be written: {error.strerror}") from None


def match_folders(folders: Sequence[Path], output: Path | None = None, extension: str = ".png") -> Matching:
    """Jobs for every stem that all folders have, whatever extension and case; the rest is listed.

    output: the folder for results; None when there will be none.
    """
    if len({f.resolve() for f in folders}) < len(folders):
        raise InputError("one folder is named twice")
    if output is not None and output.resolve() in {f.resolve() for f in folders}:
        raise OutputError(f"{output}: is a folder of sources; choose another for the results")
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: not a folder; folders are matched by file name, --pairs takes no single images"
            )
    matching, tables = Matching(), []
    for folder in folders:
        table: dict[str, Path] = {}
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file()):
            if path.name.startswith("."):
                continue
            other = table.setdefault(_stem(path), path)
            if other != path:
                matching.ambiguous.append((other, path))
        tables.append(table)
    for first, _second in matching.ambiguous:
        for table in tables:
            table.pop(_stem(first), None)
    common = set.intersection(*(set(t) for t in tables))
    for stem in sorted(common):
        sources = tuple(t[stem] for t in tables)
        name = f"{sources[-1].stem}{extension}"
        matching.jobs.append(Job(sources[-1].stem, sources, (output or folders[-1]) / name))
    matching.unmatched = sorted(p for t in tables for s, p in t.items() if s not in common)
    return matching


def fuse_folders(
    pipeline: Pipeline, jobs: Sequence[Job], output: Path, options: FileOptions, unmatched: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Fuse job after job, skipping what an earlier run with the same options and sources finished.

    A job that fails is recorded and the next one starts. Nothing is overwritten unless `options.force`, but results
    of this folder's own earlier runs whose sources have changed. `unmatched` is recorded.
    """
    manifest = Manifest(output / MANIFEST)
    digest = method_digest(pipeline, options)
    done = {row["key"]: row for row in manifest.rows() if row.get("status") == "ok" and "output" in row}
    stale = {k for k, row in done.items() if row.get("method") != digest and (output / _name(row)).exists()}
    if stale and len(stale) == len(done) and not options.force:
        raise OutputError(
            f"{output}: holds {len(stale)} result(s) made with other options ({min(stale)} ...); choose another "
            "folder, or --force to redo them"
        )
    manifest.append("run", method=digest, **pipeline.describe(), files=options.record(), unmatched=unmatched)
    for job in jobs:
        row = done.get(job.key)
        if row is not None and job.key not in stale and not options.force and _finished(row, job):
            yield Outcome(job, "skipped")
            continue
        # sources changed since: redo what an earlier run made here, and nothing else
        mine = row is not None and job.key not in stale and _is_output(row, job.output)
        try:
            outcome = fuse_files(pipeline, job, replace(options, force=True) if mine else options, manifest)
        except FusionkitError as error:
            outcome = Outcome(job, "failed", str(error))
        except Exception as error:  # one pair may never stop the others, whatever a plug-in raises
            reason = " ".join(str(error).split())[:500]
            hint = (
                "; a smaller --tile needs less memory" if "memory" in reason or isinstance(error, MemoryError) else ""
            )
            outcome = Outcome(job, "failed", f"{type(error).__name__}: {reason}{hint}")
        if outcome.status == "failed":
            manifest.append("pair", key=job.key, status="failed", method=digest, error=outcome.reason)
        yield outcome


def method_digest(pipeline: Pipeline, options: FileOptions) -> str:
    """A hash of all that decides the pixels of a result but the sources: plug-ins, options, weights, depth, ranges."""
    text = json.dumps([pipeline.method(), options.depth, options.spans], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stem(path: Path) -> str:
    """The name that files are matched by: composed and decomposed accents and both cases are one."""
    return unicodedata.normalize("NFC", path.stem).casefold()


def _name(row: dict[str, Any]) -> str:
    return Path(row["output"]["path"]).name


def _is_output(row: dict[str, Any], path: Path) -> bool:
    """Whether `path` is the file that the row tells of, not one that somebody put or changed there since."""
    return _name(row) == path.name and path.is_file() and row["output"].get("bytes") == path.stat().st_size


def _finished(row: dict[str, Any] | None, job: Job) -> bool:
    """Whether the manifest's row is this very job: same sources, unchanged since, and the result is there."""
    if row is None or not _is_output(row, job.output):
        return False
    try:
        return [(s["path"], s["bytes"], s["modified_ns"]) for s in row["sources"]] == [
            (str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in job.sources
        ]
    except OSError:
        return False
