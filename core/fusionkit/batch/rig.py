"""The transform of a rig, estimated over many pairs of its pictures."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..engines.engine import Engine, SerialEngine
from ..errors import InputError
from ..images.convert import StoredImages
from ..images.onto import onto
from ..images.transforms import about_corner
from ..method.pictures import reference_of, views_of
from ..numerics.homography import displacement, scale_of, size_of
from ..numerics.registration import LEAST_SIDE, Model, Registration
from ..numerics.rig import LEAST_PAIRS, consensus, limit_of, register_view
from ..reading.ranges import refuse_unread
from ..sources import Sources
from ..storage.outcome import Outcome, attempt
from .options import FileOptions
from .plan import Job
from .run import read_sources

NAMED = 10  # pairs that a message names


@dataclass(frozen=True)
class RigOptions:
    """model: what is fitted. fov: fields of view, one or one a source. reference: its number, from 1; 0: by colour."""

    model: Model = "affine"
    fov: tuple[float, ...] = ()
    reference: int = 0


@dataclass(frozen=True)
class Found:
    """Registration of one source of a pair. sizes: (height, width) of the reference and of the source."""

    source: int
    reference: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    match: Registration | None


@dataclass(frozen=True)
class Rig:
    """Rows as `save_transforms` takes them, a line for people about each source, and pairs that could not be read."""

    rows: list[dict[str, Any]]
    lines: list[str]
    failures: list[str]


def fit_rig(
    jobs: Sequence[Job],
    options: RigOptions,
    files: FileOptions,
    engine: Engine | None = None,
    report: Callable[[str, int, int], None] = lambda pair, done, total: None,
) -> Rig:
    """Register the sources of each job and find what the jobs agree on, for each source but the reference.

    report: called after each job. Raises InputError where fewer than three pairs have a sure match, or where no half of
    these agree.
    """
    refuse_unread([job.places for job in jobs], files.reading)
    found: dict[str, list[Found]] = {}
    failures = []
    work = partial(attempt, partial(_registered, options, files))
    for done, outcome in enumerate((engine or SerialEngine()).map(work, jobs), 1):
        report(outcome.key, done, len(jobs))
        if outcome.status == "failed":
            failures.append(f"{outcome.key}: {outcome.reason}")
        else:
            found[outcome.key] = outcome.record["found"]
    if not found:
        raise InputError(f"no pair could be read: {failures[0]}" if failures else "no pairs")
    order = {job.key: i / max(1, len(jobs) - 1) for i, job in enumerate(jobs)}
    rows, lines = [], []
    for source in sorted({one.source for every in found.values() for one in every}):
        own = {key: one for key in order for one in found.get(key, ()) if one.source == source}
        row, said = _source(own, order, options.model, len(jobs))
        rows.append(row)
        lines += said
    return Rig(rows, lines, failures)


def _registered(options: RigOptions, files: FileOptions, job: Job) -> Outcome:
    """Register the sources of one job with its reference."""
    if job.refused:
        raise InputError(job.refused)
    pictures = read_sources(job, files)
    index = reference_of([p.has_color for p in pictures], options.reference, [p.settings for p in pictures])
    placed, _ = onto(pictures, index)
    views = views_of(pictures, placed)
    sources = Sources.of(StoredImages(placed, torch.device("cpu")), reference=index)
    main, size, rows = sources.reference_luma, size_of(sources.reference_luma), []
    for i, luma in enumerate(sources.luma):
        if i != index:
            match = None
            if min(*size, *size_of(luma)) >= LEAST_SIDE:
                match = register_view(main, luma, options.model, options.fov, views, (i, index))
            rows.append(Found(i, index, (size, size_of(luma)), match))
    return Outcome(job.key, record={"found": rows})


def _source(
    found: dict[str, Found], order: dict[str, float], model: Model, count: int
) -> tuple[dict[str, Any], list[str]]:
    """The row of one source in the file of transforms, and what is said of it."""
    kinds = Counter((one.reference, one.sizes) for one in found.values())
    (reference, (size, given)), _ = kinds.most_common(1)[0]
    sure = {
        key: one.match
        for key, one in found.items()
        if (one.reference, one.sizes) == (reference, (size, given)) and one.match is not None and one.match.sure
    }
    name = f"source {next(iter(found.values())).source + 1}"
    if len(sure) < LEAST_PAIRS:
        raise InputError(
            f"{name}: {len(sure)} of {count} pairs have a sure match, a rig needs {LEAST_PAIRS}; `fov` states the "
            "field of view; pairs with more texture, and seen by day, match more often"
        )
    rig = consensus(list(sure.values()), [order[key] for key in sure], model, size, given)
    limit = limit_of(size)
    apart = {key: float(off) for key, off in zip(sure, rig.off, strict=True) if off > limit}
    if not rig.near.any() or 2 * len(apart) > len(sure):
        raise InputError(
            f"{name}: the pairs agree on no one transform: {len(apart)} of {len(sure)} lie more than {limit:.3g} px "
            "from their median; are all from one fixed rig?"
        )
    fit = {
        "pairs": count,
        "matched": len(sure),
        "left": round(rig.left, 3),
        "spread": round(rig.spread, 3),
        "limit": round(limit, 1),
        "disagree": {key: round(off, 1) for key, off in sorted(apart.items(), key=lambda item: -item[1])},
        "drift": [round(shift, 2) for shift in rig.drift],
    }
    row = {
        "source": found[next(iter(found))].source + 1,
        "reference": reference + 1,
        "size": list(size[::-1]),
        "given": list(given[::-1]),
        "matrix": about_corner(rig.matrix.numpy(), size, given).tolist(),
        "fit": fit,
    }
    off, view = displacement(rig.matrix, size, given), max(given) / max(size) / scale_of(rig.matrix)
    lines = [
        f"{name} lies {off:.1f} px off the reference, source {reference + 1}, and sees {view:.2f} of its field of "
        f"view; about {rig.left:.1f} px left, of {len(sure)} of {count} pairs with a sure match"
    ]
    unlike = len(found) - kinds[reference, (size, given)]
    if unlike:
        lines.append(f"{name}: {unlike} pairs of other sizes, or with another reference, were left out")
    return row, lines + _doubts(name, fit, len(sure))


def _doubts(name: str, fit: dict[str, Any], sure: int) -> list[str]:
    """Pairs that disagree with the rig, and its drift, in words."""
    lines, apart = [], fit["disagree"]
    if apart:
        named = ", ".join(f"{key} ({off:.0f} px)" for key, off in list(apart.items())[:NAMED])
        more = f" and {len(apart) - NAMED} more, all in the file" if len(apart) > NAMED else ""
        lines.append(
            f"{name}: {len(apart)} of {sure} pairs disagree with the rig by more than {fit['limit']:g} px: "
            f"{named}{more}"
        )
    right, down = fit["drift"]
    if right or down:
        lines.append(
            f"{name} drifts: from the first pair to the last it moves by {right:+.1f} px to the right and {down:+.1f} "
            "px down; the transform is that of the middle, so fit shorter runs by themselves"
        )
    return lines
