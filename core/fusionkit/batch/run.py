"""Fusing files: one job, from paths to a written result, and folders of jobs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..engines.engine import Engine, SerialEngine
from ..errors import Caution, InputError, NoEffect, OutputError
from ..images.metadata import settings_in
from ..images.picture import Depth, Picture, Range
from ..images.transforms import save_transforms
from ..memory import free_memory, peak_memory_mb
from ..method.checkpoint import Checkpoint
from ..method.frames import Series
from ..method.pipeline import Pipeline
from ..method.radiance import exposures_of, fuse_radiance, unexposed
from ..method.result import FusedPicture
from ..method.series import AT_ONCE, Progress
from ..reading import header_size
from ..reading.matching import bare_name
from ..reading.ranges import refuse_unread, source_ranges
from ..storage.atomic import Staged, check_place, remove_strays, stage
from ..storage.manifest import Ledger, digest, file_record
from ..storage.outcome import Outcome, attempt
from ..storage.regular import check_regular
from ..timing import Stopwatch
from ..writing import check_output, depth_in, extension_of, store_image, store_volume, write_image
from .aligned import aligned_paths, save_aligned
from .options import IMAGES, RADIANCE, FileOptions, refuse_ignored
from .plan import Job
from .readings import readings_of
from .volumes import Slices, common_notes, rows_of_slices, slices_of

LOCK, LEDGER = ".fusionkit.lock", "manifest.jsonl"
LEAST_BYTES = 14  # memory per pixel and source: grey and colour in 8 bits with the cheapest prior; em_tv takes 18


def method_digest(pipeline: Pipeline, options: FileOptions) -> str:
    """A hash of all that decides a result except its sources: plug-ins, their options and weights, file options."""
    return digest(pipeline.method(), options.record())


def fuse_files(
    pipeline: Pipeline, job: Job, options: FileOptions, *, manifest: bool = False, progress: Progress | None = None
) -> Outcome:
    """Fuse one job; without an output, its result is NAME-fused beside the reference NAME.

    manifest: record options, versions, hashes and times in NAME.manifest.jsonl beside the result. progress: told of the
    frames of a series.
    """
    aligned = aligned_paths(Path(options.save_aligned), job.sources) if options.save_aligned else []
    taken = [job.output] if job.output else []
    for beside in (*map(Path, filter(None, (options.save_transform, options.save_depth))), *aligned):
        check_place(beside, job.sources, replaceable=options.force)
        if os.path.realpath(beside) in map(os.path.realpath, taken):
            raise OutputError(f"{beside}: is named for two files of this run; choose another name for one of them")
        taken.append(beside)
    if options.save_depth:
        check_output(Path(options.save_depth), depth_in(Path(options.save_depth), "16", "8"), 1)
    _check_format(job, options)
    refuse_unread([job.places], options.reading)
    outcome = fuse_job(pipeline, options, (), job, progress=progress)
    assert outcome.staged is not None
    try:
        if aligned:
            read, main = partial(_read_source, job, options, ()), outcome.record["reference_source"] - 1
            save_aligned(aligned, read, outcome.record, main, options)
        if manifest:
            output = outcome.staged.path
            ledger = Ledger(output.with_name(f"{output.stem}.manifest.jsonl"), method_digest(pipeline, options))
            ledger.done(outcome, **pipeline.describe())
    except BaseException:
        outcome.staged.discard()
        raise
    outcome.staged.commit(replace=options.force)
    return outcome


def fuse_folders(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    output: Path,
    options: FileOptions,
    unmatched: Sequence[str] = (),
    engine: Engine | None = None,
    *,
    limit: int = 0,
) -> Iterator[Outcome]:
    """Fuse job after job, skipping results that an earlier run with the same options and sources finished.

    A job that fails is recorded and the next one starts. Without `options.force`, only results of earlier runs in this
    folder whose sources have changed are overwritten. `unmatched` is recorded. limit: the first so many jobs are done,
    with the ranges of all; 0: all.
    """
    for job in jobs[:1]:
        _check_format(job, options)
    with _alone(output):
        ledger = Ledger(output / LEDGER, method_digest(pipeline, options), force=options.force)
        ledger.refuse_others()
        ranges = ledger.ranges if options.reading.folder_scope else ()
        if len(ranges) != max((len(job.sources) for job in jobs), default=0):
            ranges = source_ranges([job.places for job in jobs], options.reading)
        ledger.run(**pipeline.describe(), files=options.record(), ranges=ranges, unmatched=unmatched)
        work = partial(attempt, partial(_fuse_new, pipeline, options, ranges, ledger))
        for outcome in (engine or SerialEngine()).map(work, jobs[: limit or None]):
            yield ledger.settle(outcome)


def _check_format(job: Job, options: FileOptions) -> None:
    """Refuse, before anything is read, a format that cannot hold what is asked for; every one holds 8 bits of grey."""
    if job.output is not None:
        check_output(job.output, options.depth or depth_in(job.output, "8"), 1, readings=options.readings)


def _fuse_new(pipeline: Pipeline, options: FileOptions, ranges: tuple[Range, ...], ledger: Ledger, job: Job) -> Outcome:
    """Fuse one job of a folder, unless it is finished."""
    assert job.output is not None
    if ledger.finished(job.key, job.sources, job.output):
        return Outcome(job.key, "skipped", output=str(job.output))
    return fuse_job(pipeline, options, ranges, job, owned=ledger.owns(job.key, job.output))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder; remove temporary files of a killed run."""
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
        remove_strays(folder)  # results of jobs that were stopped before their rename
        (folder / LOCK).unlink(missing_ok=True)  # before the release, after which it may be another run's
        lock.release()


def read_sources(job: Job, options: FileOptions, ranges: Sequence[Range] = ()) -> list[Picture]:
    """Read a job's pictures; with their folders' names where files have one name.

    ranges: where they differ from `options`. Raises NoEffect for bands that none has.
    """
    pictures = [_read_source(job, options, ranges, i) for i in range(len(job.sources))]
    _check_bands(options, pictures)
    if len({picture.name for picture in pictures}) == len(pictures):
        return pictures
    named = zip(pictures, job.sources, strict=True)
    return [replace(p, name=f"{path.parent.name}/{p.name}") for p, path in named]  # ir/1.png and vis/1.png


def _read_source(job: Job, options: FileOptions, ranges: Sequence[Range], index: int) -> Picture:
    """Read one of a job's pictures."""
    return options.reading.read(job.places[index], index, ranges[index] if ranges else None)


def _check_bands(options: FileOptions, pictures: Sequence[Picture]) -> None:
    if options.bands and not any(p.bands for p in pictures):
        raise NoEffect("`bands` has no effect: no source holds others than grey or RGB")


def _pictures(pipeline: Pipeline, job: Job, options: FileOptions, ranges: Sequence[Range]) -> Sequence[Picture]:
    """The pictures of a job in one range; of many frames a series, each read when its turn comes."""
    if len(job.sources) > AT_ONCE:
        return Series(
            [path.name if number is None else f"{path.name}#{number + 1}" for path, number in job.places],
            partial(_read_source, job, options, ranges),
            lambda i: settings_in(job.sources[i]),
            partial(_check_memory, job, options, pipeline.parts["prior"].name),
        )
    _check_memory(job, options)
    return pipeline.ranged(read_sources(job, options, ranges))


def _checkpoint(pipeline: Pipeline, job: Job, options: FileOptions, output: Path) -> Checkpoint:
    """Where the state of a series is kept until its result is written."""
    states = [[*map(str, place), place[0].stat().st_size, place[0].stat().st_mtime_ns] for place in job.places]
    method = digest(pipeline.method(), options.record(), states)
    return Checkpoint(output.with_name(f".{output.name}.frames"), method)


def fuse_job(
    pipeline: Pipeline,
    options: FileOptions,
    ranges: Sequence[Range],
    job: Job,
    *,
    owned: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Read, fuse, and write under a temporary name; files of volumes slice by slice, where the result holds them.

    ranges: of the sources, where they differ from `options`. owned: an existing output may be replaced. progress: told
    of the frames of a series.
    """
    if job.refused:
        raise InputError(job.refused)
    if job.output is not None:
        check_place(job.output, job.sources, replaceable=options.force or owned)
    watch = Stopwatch()
    with watch.stage("total"):
        slices = slices_of(pipeline, job, options, ranges)
        done = [_fused(pipeline, options, slices, part, watch, progress) for part in slices.jobs]
        first = done[0]
        notes = [*slices.notes, *(common_notes([one.notes for one in done]) if len(done) > 1 else first.notes)]
        with stage(first.output) as staged, watch.stage("write"):
            if len(done) > 1:
                pictures = [one.fused.picture for one in done]
                notes += store_volume(staged.temporary, pictures, first.depth, strip=options.strip)
            else:
                notes += store_image(
                    staged.temporary,
                    first.fused.picture,
                    first.depth,
                    png_level=options.png_level,
                    quality=options.quality,
                    strip=options.strip,
                    readings=readings_of(job, options, [*first.pictures.values()], first.fused)
                    if options.readings
                    else (),
                )
            if options.save_depth and "depth" not in first.fused.planes:
                raise NoEffect(
                    "`save_depth` has no effect: this method finds depth in focus stacks of three or more frames"
                )
            if options.save_transform:
                save_transforms(Path(options.save_transform), first.fused.found.get("aligned", []))
            if options.save_depth:
                _save_depth(Path(options.save_depth), first.fused)
    record = _record(job, done, notes, staged, watch)
    key = job.key or first.output.stem
    return Outcome(
        key, notes=tuple(notes), seconds=watch.seconds["total"], output=str(first.output), staged=staged, record=record
    )


def _record(
    job: Job, done: Sequence["_Done"], notes: Sequence[str], staged: Staged, watch: Stopwatch
) -> dict[str, Any]:
    """The row of the manifest: of a picture, or of the slices of a volume."""
    first, doubts = done[0], [note for note in notes if isinstance(note, Caution)]
    cut = first.fused.facts.cut
    size = [*first.fused.picture.size, *([len(done)] if len(done) > 1 else [])]
    seconds = [one.fused.seconds for one in done]
    return {
        "sources": [file_record(p) for p in job.sources],
        "ranges": [None if p.depth == "8" else list(p.span) for p in first.pictures.values()],
        "reference_source": first.fused.reference + 1,
        "notes": notes,
        **({"warnings": doubts} if doubts else {}),
        "output": {**file_record(staged.temporary), "path": str(first.output), "depth": first.depth, "size": size},
        "restored": [r.record() for one in done for r in one.fused.restored],
        **rows_of_slices([one.fused.found for one in done]),
        **({"cut": [cut[1].start, cut[0].start, cut[1].stop, cut[0].stop]} if cut else {}),
        "evaluations": sum(one.fused.evaluations for one in done),
        "seconds": {**watch.rounded(), **{k: round(sum(own.get(k, 0.0) for own in seconds), 3) for k in seconds[0]}},
        "peak_memory_mb": peak_memory_mb(),
    }


@dataclass
class _Done:
    """One fusion: the sources that were read, of a series the reference; the result, its file and depth, and notes."""

    pictures: dict[int, Picture]
    fused: FusedPicture
    output: Path
    depth: Depth
    notes: list[str]


def _fused(
    pipeline: Pipeline, options: FileOptions, slices: Slices, job: Job, watch: Stopwatch, progress: Progress | None
) -> _Done:
    """Read and fuse the pictures of a job, which may be one of several slices."""
    with watch.stage("read"):
        pictures = _pictures(pipeline, job, options, slices.ranges)
        index = pipeline.reference_in(pictures) if slices.reference is None else slices.reference
        reference = pictures[index]
    output = job.output or _beside(job.sources[index], options.depth or reference.depth)
    depth = options.depth or depth_in(output, reference.depth)
    if job.output is None:
        refuse_ignored(options, "single", extension_of(output), IMAGES)
    series = isinstance(pictures, Series)
    read = {index: reference} if series else dict(enumerate(pictures))
    _check_bands(options, [*read.values()])
    if series and options.readings:
        raise NoEffect(f"`readings=true` has no effect on series of more than {AT_ONCE} frames")
    channels, alpha = max(p.channels for p in read.values()), reference.alpha is not None
    check_output(output, depth, channels, alpha=alpha, readings=options.readings)
    checkpoint = _checkpoint(pipeline, job, options, output) if series else None
    how: dict[str, Any] = {"reference": index, "progress": progress, "checkpoint": checkpoint}
    light = Series.of(pictures) if extension_of(output) in RADIANCE else None
    exposures = exposures_of(pipeline, light, options.times) if light is not None else ()
    if light is not None and exposures:
        fused = fuse_radiance(pipeline, light, exposures, **how)
    else:
        fused = pipeline.fuse_pictures(pictures, **how)
    whole = "folder (`range_scope=folder`)" if slices.reference is None else "volume"
    notes = [
        f"{p.name}: black is {p.span[0]:g}, white is {p.span[1]:g}, as of the whole {whole}"
        for i, p in read.items()
        if slices.ranges and options.reading.span(i) == "auto" and slices.ranges[i] != "auto"
    ]
    if light is not None and not exposures and (unknown := unexposed(light)):
        notes.append(
            Caution(
                f"{output.name} holds the fused picture, not the radiance: the exposure of {' and '.join(unknown)} is "
                "not known; `times` states those of all frames"
            )
        )
    return _Done(read, fused, output, depth, [*notes, *fused.picture.notes])


def _save_depth(path: Path, fused: FusedPicture) -> None:
    """Write the depth of a focus stack, with 16 bits or more where the format has them."""
    plane = fused.planes["depth"][(..., *fused.cut)] if fused.cut else fused.planes["depth"]
    write_image(path, plane, depth_in(path, "16", "8"), strip=True)


def _beside(reference: Path, depth: Depth) -> Path:
    """NAME-fused beside the reference NAME, numbered where that exists."""
    suffix = ".tif" if depth == "float" else ".png"
    numbers = chain([""], (f"-{n}" for n in count(2)))
    paths = (reference.with_name(f"{bare_name(reference)}-fused{number}{suffix}") for number in numbers)
    return next(path for path in paths if not path.exists())


def _check_memory(job: Job, options: FileOptions, prior: str = "") -> None:
    """Refuse, before anything is read, sources that do not fit into memory with any method.

    prior: its name, where other priors take many frames one after another.
    """
    sizes = [header_size(path) for path in job.sources]
    known = [size[0] * size[1] for size in sizes if size and size[0] * size[1] <= options.max_pixels]
    needed, free = LEAST_BYTES * max(known, default=0) * len(known), free_memory()
    if free is not None and needed > free:
        raise OutputError(
            f"{len(known)} images of up to {max(known) / 1e6:.0f} megapixels need {needed / 1e9:.1f} GB at "
            f"the very least, {max(0, free) / 1e9:.1f} GB are free; make them smaller, or free memory"
            + (
                f"; with other options or priors than {prior}, frames of stacks and brackets go one by one"
                if prior
                else ""
            )
        )
