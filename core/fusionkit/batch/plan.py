"""What is to do: which files are fused into which."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OutputError
from ..images.matching import match_folders

__all__ = ["Job", "Plan", "plan_folders"]


@dataclass(frozen=True)
class Job:
    """Source files and the file their fusion goes to."""

    key: str
    sources: tuple[Path, ...]
    output: Path


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
    jobs = [Job(sources[-1].stem, sources, output / f"{sources[-1].stem}{extension}") for sources in matching.groups]
    return Plan(jobs, matching.unmatched, matching.ambiguous)
