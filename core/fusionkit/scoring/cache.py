"""Scores computed before, by the files' hashes and the metric's version: a stopped evaluation goes on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..contracts import Metric
from ..errors import OutputError
from ..storage.home import home_folder
from ..storage.manifest import Manifest, digest

__all__ = ["ScoreCache", "default_cache", "pair_key"]

FORM = 1  # of the rows; rows of another one are not read


def default_cache() -> Path:
    """The folder that `fusionkit evaluate` keeps scores in."""
    return home_folder() / "scores"


class ScoreCache:
    """Journals of scores in a folder, one for each beginning of a key, so that a look-up reads few rows.

    A folder that cannot be used knows and keeps nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, key: str, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Known values of these metrics."""
        values: dict[str, float] = {}
        with suppress(OutputError, OSError):
            for found, row in self._journal(key).finished_rows():
                values |= row["values"] if found == key and isinstance(row.get("values"), dict) else {}
        identities = {name: _identity(name, metric) for name, metric in metrics.items()}
        return {name: float(values[identity]) for name, identity in identities.items() if identity in values}

    def keep(self, key: str, values: Mapping[str, float], metrics: Mapping[str, Metric]) -> None:
        """Keep values of some metrics, undefined ones included."""
        row = {_identity(name, metrics[name]): value for name, value in values.items()}
        with suppress(OutputError, OSError):
            self._journal(key).append("score", key=key, status="ok", values=row)

    def _journal(self, key: str) -> Manifest:
        return Manifest(self.folder / f"{key[:2]}.jsonl")


def pair_key(result: str, sources: Sequence[str], **how: Any) -> str:
    """Identity of a score beside its metric: hashes of the files, and how they are read."""
    return digest(FORM, result, list(sources), how)


def _identity(name: str, metric: Metric) -> str:
    options = metric.options.model_dump(mode="json") if isinstance(metric.options, BaseModel) else {}
    return digest(name, metric.version, metric.definition, options)
