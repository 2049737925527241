"""The plan of a run: source files and the files of their results."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import FusionkitError, InputError, OptionError, OutputError
from ..reading.matching import Matching, in_turn, match, spread
from ..reading.ranges import FILES
from ..reading.read import numbered, open_pictures, several_in
from ..reading.slices import partners
from ..storage import places
from ..writing import extension_of


@dataclass(frozen=True)
class Job:
    """Source files and the file of their result; output None: beside the reference.

    pictures: index of each source's picture, where its file holds several. refused: why it cannot be done.
    """

    key: str
    sources: tuple[Path, ...]
    output: Path | None
    pictures: tuple[int | None, ...] = ()
    refused: str = ""

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
class Plan(Matching):
    """A matching with the jobs that it makes; or shards."""

    jobs: list[Job] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)


def plan_folders(
    sources: Sequence[Path], output: Path, extension: str = ".png", group: int = 0, reference: int = 0, limit: int = 0
) -> Plan:
    """Make a job for each group of files that folders, patterns or a table name, with its result in `output`.

    group: number of consecutive files of one folder or pattern that make a group. reference: number of the source whose
    slices are fused where files hold volumes, from 1; 0: the last. limit: number of jobs that will be done; 0: all.
    Where these and a spread of the others hold one picture a file, no other file is opened.
    """
    if os.path.realpath(output) in {os.path.realpath(p) for f in sources for p in (f, f if f.is_dir() else f.parent)}:
        raise OutputError(f"{output}: is a folder of sources; choose another for the results")
    matching = match(sources, group, reference).refuse_empty(sources)
    named = zip(matching.names, matching.groups, strict=True)
    groups = [Job(name, files, output / f"{name}{extension}") for name, files in named]
    notes = [*matching.notes]
    looked_at = [*groups[:limit], *spread(groups, FILES)] if limit and len(groups[0].sources) > 1 else []
    plain = bool(looked_at) and all(by_picture(one, reference, []) == [one] for one in looked_at)
    every = groups if plain else [job for one in groups for job in by_picture(one, reference, notes)]
    jobs, alone = [job for job in every if len(job.sources) > 1], [j.sources[0] for j in every if len(j.sources) == 1]
    if alone and not jobs:
        raise InputError(
            f"fusing needs two or more images of a scene: {alone[0]} and the others hold one picture each; give two "
            "folders or patterns, or `group`"
        )
    return Plan(**{**vars(matching), "unmatched": [*matching.unmatched, *alone], "notes": notes}, jobs=jobs)


def plan_images(sources: Sequence[Path], output: Path | None) -> Plan:
    """Make one job of images, or of all in one folder, in turn; with a note where one file or folder holds all."""
    if len(sources) == 1 and sources[0].is_dir():
        return _plan_series(sources[0], output)
    job = job_of(sources, output)
    alone = len(sources) == 1 and f"{sources[0].name} holds {len(job.sources)} pictures, which were fused"
    return Plan(jobs=[job], notes=[alone] if alone else [])


def _plan_series(folder: Path, output: Path | None) -> Plan:
    """One job of a folder's images; its result is NAME-fused.png beside the folder NAME."""
    matching, whole = Matching(), folder.resolve()
    output = output or whole.with_name(f"{whole.name}-fused.png")
    earlier = {output.resolve()} if output.with_name(f"{output.stem}.manifest.jsonl").exists() else set()
    files, how = in_turn([path for path in matching.in_folder(folder) if path.resolve() not in earlier])
    if len(files) < 2:
        left = "".join(f"; {text}" for text in matching.left_out)
        raise InputError(f"{folder}: fusing needs two or more images; this folder holds {len(files) or 'none'}{left}")
    job = job_of(files, output)
    notes = [f"{len(files)} images of {folder} are fused, {how}"]
    return Plan(jobs=[job], notes=notes, left_out=matching.left_out, lost=matching.lost)


def job_of(sources: Sequence[Path], output: Path | None) -> Job:
    """Make one job of images: files, FILE#N for picture N of a file, or one file whose pictures are the sources."""
    if output is not None and not output.name:
        raise OptionError(f"`output={str(output)!r}`: is a folder; name a file, such as fused.png")
    found = [numbered(source) for source in sources]
    paths, pictures = tuple(path for path, _ in found), tuple(picture for _, picture in found)
    if len(sources) > 1 == len({*zip(map(os.path.realpath, paths), pictures, strict=True)}):
        raise OptionError(f"fusing needs two different images; all are {sources[0]}")
    job = Job(output.stem if output else "", paths, output, pictures)
    if len(sources) == 1 and job.pictures == (None,):
        job = _of_stack(job)
    if len(job.sources) < 2:
        raise OptionError("fusing needs two or more images of one scene; got one")
    return job


def _of_stack(job: Job) -> Job:
    """The job of all pictures of one file. Raises InputError where they are no stack of one kind."""
    path = job.sources[0]
    found = open_pictures(path)
    if len(axes := getattr(found, "axes", ())) > 1:
        raise InputError(
            f"{path}: holds {len(found)} pictures, of {' and '.join(axes)}; name those to fuse, as in {path.name}#1 "
            f"{path.name}#2"
        )
    return replace(job, sources=job.sources * len(found), pictures=tuple(range(len(found))))


def by_picture(job: Job, reference: int, notes: list[str]) -> list[Job]:
    """Make a job for each picture of the reference, where files hold several (slices of volumes); else keep the job.

    A single file of several pictures (a thermal camera's, with the visible image inside) becomes one job of them.
    reference: number of the reference, from 1; 0: the last. notes: takes what the user should know.
    """
    try:
        found = [several_in(path) for path in job.sources]
    except FusionkitError:
        if len(job.sources) == 1:
            raise
        return [job]  # reported when the job is done
    if len(job.sources) == 1 and len(found[0]) > 1:
        return [_of_stack(job)]
    if max(map(len, found)) < 2 or not all(found) or job.output is None:
        return [job]
    index = min(reference, len(found)) - 1
    main, path = found[index], job.sources[index]
    try:
        columns = [
            [*range(len(main))] if own is main else partners(main, own, (str(path), str(other)))
            for own, other in zip(found, job.sources, strict=True)
        ]
    except InputError as error:
        return [replace(job, refused=str(error))]
    rows = [(i, row) for i, row in enumerate(zip(*columns, strict=True)) if None not in row]
    if not rows:
        return [replace(job, refused=f"{path}: none of its slices lies where the others have any")]
    if len(rows) < len(main):
        notes.append(
            f"{len(main) - len(rows)} of {len(main)} slices of {path} lie where other sources have none: left out"
        )
    keys = [f"{job.key}_{i + 1:04d}" for i, _ in rows]
    outputs = [job.output.with_name(f"{key}{extension_of(job.output)}") for key in keys]
    return [
        replace(job, key=key, output=output, pictures=row)
        for key, output, (_, row) in zip(keys, outputs, rows, strict=True)
    ]


def plan_shards(sources: Sequence[str], output: str) -> Plan:
    """Make a shard for each tar file that paths, addresses and patterns name, with a result of its name in `output`."""
    found = list(dict.fromkeys(address for source in sources for address in places.expand(source)))
    if not found:
        raise InputError(f"no tar file is named by {', '.join(sources)}")
    shards = dict[str, Shard]()
    for address in found:
        name = address.rpartition("/")[2]
        if not name.endswith(".tar"):
            raise InputError(f"{address}: `shards` takes tar files; give folders of images to `pairs`")
        if name in shards:
            raise InputError(f"{name}: two shards have this name, and so would their results")
        shards[name] = Shard(address, places.beside(output, name))
        if shards[name].output == address:
            raise OutputError(f"{output}: holds the sources; choose another place for the results")
    return Plan(shards=list(shards.values()))
