"""Volumes: files of several slices fused slice by slice into one file, where its format holds them (.nii.gz)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError, NoEffect
from ..images.picture import Range
from ..method.pipeline import Pipeline
from ..reading.ranges import source_ranges
from ..reading.read import several_in
from ..writing import holds_volumes
from .options import FileOptions
from .plan import Job, by_picture


@dataclass
class Slices:
    """The jobs of one result: slices of a volume, or the job itself.

    reference: its index, where it is one for all slices. ranges: of the sources, where they differ from the options.
    """

    jobs: list[Job]
    reference: int | None = None
    ranges: Sequence[Range] = ()
    notes: tuple[str, ...] = ()


def slices_of(pipeline: Pipeline, job: Job, options: FileOptions, ranges: Sequence[Range]) -> Slices:
    """A job for each slice of the reference that lies where the other volumes have any, in their order; all in one
    range and with one reference, as the middle slices show it.

    A job whose result holds one picture, or that names pictures, stays one. Raises InputError where slices do not
    match.
    """
    if job.output is None or not holds_volumes(job.output) or any(n is not None for n in job.pictures):
        return Slices([job], ranges=ranges)
    counts = [len(several_in(path)) for path in job.sources]
    if len(counts) < 2 or min(counts) < 1 or max(counts) < 2:
        return Slices([job], ranges=ranges)
    if options.save_transform:
        raise NoEffect("`save_transform` is for one set of images; name a slice of each volume, as in FILE#N")
    middle = [
        options.reading.read((path, count // 2), i)
        for i, (path, count) in enumerate(zip(job.sources, counts, strict=True))
    ]
    index = pipeline.reference([picture.has_color for picture in middle])
    notes = list[str]()
    jobs = [replace(part, output=job.output) for part in by_picture(replace(job, pictures=()), index + 1, notes)]
    if jobs[0].refused:
        raise InputError(jobs[0].refused)
    if not ranges and any(picture.measured for picture in middle):  # other files state one range for all slices
        places = [part.places for part in jobs]
        ranges = source_ranges(places, replace(options.reading, folder_scope=True))
    count = f"{len(jobs)} slices fused into {job.output.name}"
    return Slices(jobs, index, ranges, (count, *notes))


def common_notes(notes: Sequence[Sequence[str]]) -> list[str]:
    """Notes of all slices: of those that differ in numbers alone the first one, with how many more there are."""
    kinds: dict[str, list[str]] = {}
    for note in (note for some in notes for note in dict.fromkeys(some)):
        kinds.setdefault(re.sub(r"\d+(\.\d+)?", "#", note), []).append(note)
    return [
        first if not more else type(first)(f"{first}; likewise in {len(more)} more slices")
        for first, *more in kinds.values()
    ]


def rows_of_slices(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The records of stages, of several slices with the number of each in every row."""
    if len(found) == 1:
        return dict(found[0])
    names = dict.fromkeys(name for own in found for name in own)
    return {
        name: [{"slice": k, **row} for k, own in enumerate(found, 1) for row in own.get(name, ())] for name in names
    }
