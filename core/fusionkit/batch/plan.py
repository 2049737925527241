"""What is to do: which files are fused into which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import FusionkitError, InputError, OptionError, OutputError
from ..reading.matching import match
from ..reading.read import count_pictures, numbered

__all__ = ["Job", "Plan", "by_picture", "job_of", "plan_folders"]


@dataclass(frozen=True)
class Job:
    """Source files, which picture of each where they hold several, and the file their fusion goes to."""

    key: str
    sources: tuple[Path, ...]
    output: Path
    pictures: tuple[int | None, ...] = ()

    @property
    def places(self) -> tuple[tuple[Path, int | None], ...]:
        """Each source: its file, and which of its pictures, None where it holds one."""
        return tuple(zip(self.sources, self.pictures or (None,) * len(self.sources), strict=True))


@dataclass
class Plan:
    """The jobs; files without a partner; files of one folder that have one name; what is to be said."""

    jobs: list[Job] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_folders(sources: Sequence[Path], output: Path, extension: str = ".png", group: int = 0) -> Plan:
    """A job for each group of files that folders, patterns or a table name: its result goes to `output`.

    group: so many files in turn of one folder or pattern.
    """
    if output.resolve() in {f.resolve() for f in sources} | {f.parent.resolve() for f in sources if not f.is_dir()}:
        raise OutputError(f"{output}: is a folder of sources; choose another for the results")
    matching = match(sources, group)
    named = zip(matching.names, matching.groups, strict=True)
    jobs = [Job(name, files, output / f"{name}{extension}") for name, files in named]
    plan = Plan(
        [one for job in jobs for one in by_picture(job)], matching.unmatched, matching.ambiguous, matching.notes
    )
    alone = [job.sources[0] for job in plan.jobs if len(job.sources) == 1]
    if len(alone) == len(plan.jobs) and alone:
        raise InputError(
            f"one source is nothing to fuse: {alone[0]} and the others hold one picture each; give two folders or "
            "patterns, or `group`"
        )
    return replace(plan, jobs=[job for job in plan.jobs if len(job.sources) > 1], unmatched=[*plan.unmatched, *alone])


def job_of(sources: Sequence[Path], output: Path) -> Job:
    """One job of images: files, FILE#N for picture N of a file, or one file that holds several."""
    places = [numbered(source) for source in sources]
    job = Job(output.stem, tuple(path for path, _ in places), output, tuple(picture for _, picture in places))
    if len(sources) == 1 and job.pictures == (None,):
        job = next(by_picture(job))
    if len(job.sources) < 2:
        raise OptionError("one source is nothing to fuse; give two or more images, or `pairs` and folders")
    return job


def by_picture(job: Job) -> Iterator[Job]:
    """A job for each picture, where all files hold equally many (slices of volumes); else the job itself.

    A single file of several pictures (a thermal camera's, with the visible image inside) is a job of those.
    """
    try:
        counts = [count_pictures(path) for path in job.sources]
    except FusionkitError:
        if len(job.sources) == 1:
            raise
        counts = [1]  # said when the job is done
    if len(job.sources) == 1 and counts[0] > 1:
        yield replace(job, sources=job.sources * counts[0], pictures=tuple(range(counts[0])))
    elif counts[0] > 1 and len(set(counts)) == 1:
        for i in range(counts[0]):
            key = f"{job.key}_{i + 1:04d}"
            output = job.output.with_name(f"{key}{job.output.suffix}")
            yield replace(job, key=key, output=output, pictures=(i,) * len(counts))
    else:
        yield job
