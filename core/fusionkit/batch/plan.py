"""What is to do: which files are fused into which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import FusionkitError, OutputError
from ..reading import count_pictures
from ..reading.matching import bare_name, match_folders

__all__ = ["Job", "Plan", "by_picture", "plan_folders"]


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
    """The jobs of folders; files without a partner; files of one folder that have one name."""

    jobs: list[Job] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)


def plan_folders(folders: Sequence[Path], output: Path, extension: str = ".png") -> Plan:
    """A job for every stem that all folders have: its result goes to `output` under the last source's name."""
    if output.resolve() in {f.resolve() for f in folders}:
        raise OutputError(f"{output}: is a folder of sources; choose another for the results")
    matching = match_folders(folders)
    named = ((bare_name(sources[-1]), sources) for sources in matching.groups)
    jobs = [Job(name, sources, output / f"{name}{extension}") for name, sources in named]
    return Plan([one for job in jobs for one in by_picture(job)], matching.unmatched, matching.ambiguous)


def by_picture(job: Job) -> Iterator[Job]:
    """A job for each picture, where all files hold equally many (slices of volumes); else the job itself.

    A single file of several pictures (a thermal camera's, with the visible image inside) is a job of those.
    """
    try:
        counts = [count_pictures(path) for path in job.sources]
    except FusionkitError:
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
