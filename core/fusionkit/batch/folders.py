"""A run over folders: what it would fuse, and fusing it, with a page to look it through."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..engines.engine import Engine
from ..errors import FusionkitError
from ..method.pipeline import Pipeline
from ..reading import header_size
from ..scene import Scene
from ..scoring.evaluation import as_sources
from ..storage.manifest import Ledger
from ..storage.outcome import Outcome
from .options import FileOptions, ResultOptions
from .plan import Job, Plan
from .review import check_review, reviewed
from .run import LEDGER, fuse_folders, method_digest, read_sources


@dataclass(frozen=True)
class Preview:
    """What would be done with a job. sizes: (width, height) of each source. finished: by an earlier run."""

    job: Job
    sizes: tuple[tuple[int, int], ...] = ()
    finished: bool = False
    reason: str = ""

    def __str__(self) -> str:
        """One line: sources with their sizes, the result, and what stands in the way."""
        if self.reason:
            return f"{self.job.key}: would fail: {self.reason}"
        files = ", ".join(f"{path} {w}x{h}" for path, (w, h) in zip(self.job.sources, self.sizes, strict=True))
        said = ["finished before"] if self.finished else ["sizes differ"] if len(set(self.sizes)) > 1 else []
        return f"{self.job.key}: {files} -> {self.job.output}" + "".join(f" ({text})" for text in said)


def preview(pipeline: Pipeline, plan: Plan, output: Path, files: FileOptions, limit: int = 0) -> Iterator[Preview]:
    """What `fuse_plan` would do with each job, from the headers of the files; nothing is written."""
    ledger = Ledger(output / LEDGER, method_digest(pipeline, files), force=files.force)
    for job in plan.jobs[: limit or None]:
        try:
            sizes = tuple(_size(path, number, files, i) for i, (path, number) in enumerate(job.places))
        except FusionkitError as error:
            yield Preview(job, reason=str(error))
            continue
        done = job.output is not None and ledger.finished(job.key, job.sources, job.output)
        yield Preview(job, sizes, done, job.refused)


def _size(path: Path, number: int | None, files: FileOptions, index: int) -> tuple[int, int]:
    found = header_size(path) if number is None else None
    return found or files.reading.read((path, number), index).size


def scene_of_first(pipeline: Pipeline, plan: Plan, files: FileOptions) -> Scene | None:
    """The kind of scene that an option states, or that the first job whose files can be read shows."""
    for job in plan.jobs if pipeline.stated_scene is None else ():
        try:
            return as_sources(read_sources(job, files), resize=True).scenes[0]
        except FusionkitError:
            continue
    return pipeline.stated_scene


def fuse_plan(
    pipeline: Pipeline,
    plan: Plan,
    output: Path,
    files: FileOptions,
    result: ResultOptions,
    engine: Engine | None = None,
) -> tuple[Iterator[Outcome], int]:
    """Fuse the jobs of folders; the outcomes as they come, and their number."""
    if result.review:
        check_review(Path(result.review), files.force)
    unmatched = [*map(str, plan.unmatched)]
    outcomes = fuse_folders(pipeline, plan.jobs, output, files, unmatched, engine, limit=result.limit)
    jobs = plan.jobs[: result.limit or None]
    if result.review:
        outcomes = reviewed(outcomes, jobs, output / LEDGER, files, Path(result.review))
    return outcomes, len(jobs)
