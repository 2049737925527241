"""Fusing files: one job from paths to a written result, and folders of them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..engines.engine import KILLED, Engine, SerialEngine
from ..errors import FusionkitError, OutputError
from ..images import Picture, check_output, store_image
from ..images.picture import Range
from ..images.transforms import save_transforms
from ..memory import free_memory, peak_memory_mb
from ..method.pipeline import Pipeline, output_depth
from ..reading import header_pixels, read_image
from ..reading.matching import bare_name
from ..reading.ranges import folder_ranges
from ..storage.atomic import Staged, remove_strays, stage
from ..storage.ledger import Ledger
from ..storage.manifest import Manifest, file_record
from ..storage.regular import check_regular
from ..timing import Stopwatch
from .options import FileOptions
from .plan import Job

__all__ = ["Outcome", "attempt", "beside_reference", "fuse_files", "fuse_folders", "lost", "method_digest"]

LOCK = ".fusionkit.lock"
LEAST_BYTES = 14  # of memory a pixel and source: grey and colour in 8 bits with the cheapest prior; em_tv takes 18


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "fused", "skipped" (was finished before) or "failed" with the reason.

    staged: the result, written whole under a temporary name. record: what the manifest says of it. wrong_files: it
    failed for what its files are, so that no other attempt ends otherwise.
    """

    job: Job
    status: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    staged: Staged | None = None
    record: dict[str, Any] = field(default_factory=dict)
    wrong_files: bool = False


def beside_reference(pipeline: Pipeline, job: Job, options: FileOptions) -> Job:
    """The job with a place for its result: NAME-fused beside the reference NAME, numbered where that is taken."""
    pictures = _pictures(job, options.ranges(len(job.sources)), options)
    index = pipeline.reference([p.has_color for p in pictures])
    depth, _ = output_depth(pictures[index], options.depth)
    path, suffix = job.sources[index], ".tif" if depth == "float" else ".png"
    numbers = chain([""], (f"-{n}" for n in count(2)))
    names = (f"{bare_name(path)}-fused{number}{suffix}" for number in numbers)
    output = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return replace(job, key=output.stem, output=output)


def fuse_files(
    pipeline: Pipeline,
    job: Job,
    options: FileOptions,
    manifest: Manifest | None,
    description: dict[str, Any] | None = None,
) -> Outcome:
    """Read, fuse, write. The manifest's line is written just before the result appears under its name.

    description: of the run, for the manifest of a single result.
    """
    transforms = Path(options.save_transform) if options.save_transform else None
    if transforms is not None and transforms.exists() and not options.force:
        raise OutputError(f"{transforms}: exists already; `force` overwrites it")
    outcome = _fuse(pipeline, options, options.ranges(len(job.sources)), job, owned=False)
    assert outcome.staged is not None
    try:
        if transforms is not None:
            save_transforms(transforms, outcome.record.get("aligned", []))
        if manifest is not None:
            digest = method_digest(pipeline, options)
            manifest.append("pair", key=job.key, status="ok", method=digest, **(description or {}), **outcome.record)
    except FusionkitError:
        outcome.staged.discard()
        raise
    outcome.staged.commit()
    return outcome


def fuse_folders(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    output: Path,
    options: FileOptions,
    unmatched: Sequence[str] = (),
    engine: Engine | None = None,
) -> Iterator[Outcome]:
    """Fuse job after job, skipping what an earlier run with the same options and sources finished.

    A job that fails is recorded and the next one starts. Nothing is overwritten unless `options.force`, but results
    of this folder's own earlier runs whose sources have changed. `unmatched` is recorded.
    """
    if options.save_transform:
        raise OutputError("`save_transform` is for one set of images: align one, then give `transform` for the folder")
    with _alone(output):
        yield from _fuse_folders(pipeline, jobs, output, options, unmatched, engine or SerialEngine())


def lost(job: Job) -> Outcome:
    """What becomes of a job whose process is killed each time."""
    return Outcome(job, "failed", KILLED)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The one that writes results into a folder; another process is refused, a killed one's leavings are removed."""
    from filelock import FileLock, Timeout

    check_regular(folder / LOCK, OutputError)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, blocking=False)
        lock.acquire()
    except Timeout:
        raise OutputError(f"{folder}: another run is writing into it; wait for it, or choose another folder") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        remove_strays(folder)
        yield
    finally:
        remove_strays(folder)  # of a job that was stopped between writing its result and letting it appear
        (folder / LOCK).unlink(missing_ok=True)  # before it is released: afterwards it may be somebody else's
        lock.release()


def _fuse_folders(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    output: Path,
    options: FileOptions,
    unmatched: Sequence[str],
    engine: Engine,
) -> Iterator[Outcome]:
    ledger = Ledger(output, method_digest(pipeline, options), force=options.force)
    ranges = options.ranges(max((len(job.sources) for job in jobs), default=0))
    if options.range_scope == "folder":
        groups = [job.places for job in jobs]
        ranges = ledger.ranges(len(ranges)) or folder_ranges(groups, ranges, options.max_pixels)
    ledger.run(**pipeline.describe(), files=options.record(), ranges=ranges, unmatched=unmatched)
    for outcome in engine.map(partial(_attempt, pipeline, options, ranges, ledger), jobs):
        yield _settle(outcome, ledger)


def _attempt(pipeline: Pipeline, options: FileOptions, ranges: tuple[Range, ...], ledger: Ledger, job: Job) -> Outcome:
    """One job; whatever goes wrong is in the outcome, since one pair may never stop the others."""
    if ledger.finished(job.key, job.sources, job.output):
        return Outcome(job, "skipped")
    return attempt(pipeline, options, ranges, job, owned=ledger.owns(job.key, job.output))


def attempt(pipeline: Pipeline, options: FileOptions, ranges: tuple[Range, ...], job: Job, *, owned: bool) -> Outcome:
    """Read, fuse and write one job under a temporary name. owned: what lies at the result's place may be replaced."""
    try:
        return _fuse(pipeline, options, ranges, job, owned=owned)
    except FusionkitError as error:
        return Outcome(job, "failed", str(error), wrong_files=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        hint = "; a smaller `tile` needs less memory" if "memory" in reason or isinstance(error, MemoryError) else ""
        return Outcome(job, "failed", f"{type(error).__name__}: {reason}{hint}")


def _settle(outcome: Outcome, ledger: Ledger) -> Outcome:
    """Enter an outcome into the ledger, and let its result appear."""
    if outcome.staged is not None:
        try:
            ledger.done(outcome.job.key, outcome.record)
        except FusionkitError:
            outcome.staged.discard()
            raise
        try:
            outcome.staged.commit()
        except FusionkitError as error:
            outcome = Outcome(outcome.job, "failed", str(error))
    if outcome.status == "failed":
        ledger.failed(outcome.job.key, outcome.reason)
    return outcome


def _fuse(pipeline: Pipeline, options: FileOptions, ranges: tuple[Range, ...], job: Job, *, owned: bool) -> Outcome:
    """Read, fuse, and write under a temporary name. owned: what lies at the result's place may be replaced."""
    _check_place(job, replaceable=options.force or owned)
    _check_memory(job, options)
    watch = Stopwatch()
    with watch.stage("total"):
        with watch.stage("read"):
            pictures = _pictures(job, ranges, options)
        index = pipeline.reference([p.has_color for p in pictures])
        reference = pictures[index]
        depth, span = output_depth(reference, options.depth)
        channels = max(p.channels for p in pictures)
        check_output(job.output, depth, channels, alpha=reference.alpha is not None)
        fused = pipeline.fuse_pictures(pictures, reference=index)
        notes = [
            f"{p.name}: {low:g} to {high:g} taken as black and white, as of the whole folder (`range_scope=folder`)"
            for i, (p, (low, high)) in enumerate((p, p.span) for p in pictures)
            if options.span(i) == "auto" and ranges[i] != "auto"
        ]
        notes += [f"{p.name}: {n}" for p in pictures for n in p.notes if p is not reference] + list(fused.picture.notes)
        with stage(job.output) as staged, watch.stage("write"):
            notes += store_image(
                staged.temporary,
                fused.picture.pixels,
                depth,
                span=span,
                alpha=fused.picture.alpha,
                icc=fused.picture.icc,
                png_level=options.png_level,
                quality=options.quality,
                metadata=None if options.strip else fused.picture.metadata,
            )
    record = {
        "sources": [file_record(p) for p in job.sources],
        "ranges": [None if p.depth == "8" else list(p.span) for p in pictures],
        "reference_source": fused.reference + 1,
        "notes": notes,
        "output": {
            **file_record(staged.temporary),
            "path": str(job.output),
            "depth": depth,
            "size": list(fused.picture.size),
        },
        "restored": [r.record() for r in fused.restored],
        **fused.found,
        "evaluations": fused.evaluations,
        "seconds": {**watch.rounded(), **fused.seconds},
        "peak_memory_mb": peak_memory_mb(),
    }
    return Outcome(job, "fused", notes=tuple(notes), seconds=watch.seconds["total"], staged=staged, record=record)


def _pictures(job: Job, ranges: tuple[Range, ...], options: FileOptions) -> list[Picture]:
    return [
        read_image(path, span, options.max_pixels, picture)
        for (path, picture), span in zip(job.places, ranges, strict=True)
    ]


def _check_place(job: Job, *, replaceable: bool) -> None:
    """Refuse, before any work, an output that is a folder, a source, or there already."""
    try:
        if job.output.is_dir():
            raise OutputError(f"{job.output}: is a folder; name a file, such as {job.output / 'fused.png'}")
        if job.output.exists() and not replaceable:
            raise OutputError(f"{job.output}: exists already; `force` overwrites it")
        if any(job.output.resolve() == s.resolve() for s in job.sources):
            raise OutputError(f"{job.output}: is one of the sources; choose another name")
    except OSError as error:
        raise OutputError(f"{job.output}: cannot be written: {error.strerror}") from None


def _check_memory(job: Job, options: FileOptions) -> None:
    """Refuse, before anything is read, what cannot fit: pixels as numbers, twice, whatever the method is."""
    pixels = [header_pixels(path) for path in job.sources]
    known = [count for count in pixels if count is not None and count <= options.max_pixels]
    needed, free = LEAST_BYTES * max(known, default=0) * len(known), free_memory()
    if free is not None and needed > free:
        raise OutputError(
            f"{job.key}: {len(known)} images of up to {max(known) / 1e6:.0f} megapixels need {needed / 1e9:.1f} GB at "
            f"the very least, {max(0, free) / 1e9:.1f} GB are free; make them smaller, or free memory"
        )


def method_digest(pipeline: Pipeline, options: FileOptions) -> str:
    """A hash of all that decides the pixels of a result but the sources: plug-ins, options, weights, depth, ranges."""
    text = json.dumps(
        [pipeline.method(), options.depth, options.range, options.range_scope, options.quality], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
