"""The plan of a run: which files are fused into which."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import FusionkitError, InputError, OptionError, OutputError
from ..reading.matching import match
from ..reading.read import count_pictures, numbered
from ..storage import places

__all__ = ["Job", "Plan", "Shard", "by_picture", "job_of", "plan_folders", "plan_shards"]


@dataclass(frozen=True)
class Job:
    """Source files, the number of the picture of each where they hold several, and the file of their fusion.

    output None: beside the reference.
    """

    key: str
    sources: tuple[Path, ...]
    output: Path | None
    pictures: tuple[int | None, ...] = ()

    @property
    def places(self) -> tuple[tuple[Path, int | None], ...]:
        """File of each source, and the index of its picture; None where it holds one."""
        return tuple(zip(self.sources, self.pictures or (None,) * len(self.sources), strict=True))


@dataclass(frozen=True)
class Shard:
    """A tar file of pairs, and the path or address of the tar file of their results."""

    key: str
    output: str

    @property
    def ledger(self) -> str:
        """NAME.jsonl beside NAME.tar."""
        return f"{self.output.removesuffix('.tar')}.jsonl"


@dataclass
class Plan:
    """The jobs or shards; files without a partner; files of one name in one folder; notes."""

    jobs: list[Job] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_folders(sources: Sequence[Path], output: Path, extension: str = ".png", group: int = 0) -> Plan:
    """A job for each group of files that folders, patterns or a table name: its result goes to `output`.

    group: number of files that make a group, in turn, of one folder or pattern.
    """
    if os.path.realpath(output) in {os.path.realpath(p) for f in sources for p in (f, f if f.is_dir() else f.parent)}:
        raise OutputError(f"{output}: is a folder of sources; choose another for the results")
    matching = match(sources, group)
    named = zip(matching.names, matching.groups, strict=True)
    jobs = [Job(name, files, output / f"{name}{extension}") for name, files in named]
    jobs = [one for job in jobs for one in by_picture(job)]
    plan = Plan(jobs, [], matching.unmatched, matching.ambiguous, matching.notes)
    alone = [job.sources[0] for job in plan.jobs if len(job.sources) == 1]
    if len(alone) == len(plan.jobs) and alone:
        raise InputError(
            f"one source is nothing to fuse: {alone[0]} and the others hold one picture each; give two folders or "
            "patterns, or `group`"
        )
    return replace(plan, jobs=[job for job in plan.jobs if len(job.sources) > 1], unmatched=[*plan.unmatched, *alone])


def job_of(sources: Sequence[Path], output: Path | None) -> Job:
    """One job of images: files, FILE#N for picture N of a file, or one file that holds several."""
    if output is not None and not output.name:
        raise OptionError(f"`output={str(output)!r}`: is a folder; name a file, such as fused.png")
    found = [numbered(source) for source in sources]
    key = "" if output is None else output.stem
    job = Job(key, tuple(path for path, _ in found), output, tuple(picture for _, picture in found))
    if len(sources) == 1 and job.pictures == (None,):
        job = next(by_picture(job))
    if len(job.sources) < 2:
        raise OptionError("one source is nothing to fuse; give two or more images, or `pairs` and folders")
    return job


def by_picture(job: Job) -> Iterator[Job]:
    """A job for each picture, where all files hold the same number (slices of volumes); else the job itself.

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
    elif counts[0] > 1 and len(set(counts)) == 1 and job.output is not None:
        for i in range(counts[0]):
            key = f"{job.key}_{i + 1:04d}"
            output = job.output.with_name(f"{key}{job.output.suffix}")
            yield replace(job, key=key, output=output, pictures=(i,) * len(counts))
    else:
        yield job


def plan_shards(sources: Sequence[str], output: str) -> Plan:
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
    if any(shard.key == shard.output for shard in shards):
        raise OutputError(f"{output}: holds the sources; choose another place for the results")
    return Plan(shards=shards)
