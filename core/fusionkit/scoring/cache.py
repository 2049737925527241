"""Cache of scores by the files' hashes and the metric's version, so that a stopped evaluation goes on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..contracts import Metric
from ..errors import OutputError
from ..storage.home import home_folder
from ..storage.manifest import Manifest, digest

FORMAT = 1  # of the rows; rows of another format are ignored


def default_cache() -> Path:
    """Folder in which `fusionkit evaluate` keeps scores."""
    return home_folder() / "scores"


class ScoreCache:
    """Journals of scores in a folder, one for each prefix of a key, so that a look-up reads few rows.

    An unusable folder acts as an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, key: str, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Look up known values of these metrics."""
        values: dict[str, float] = {}
        with suppress(OutputError, OSError):
            for found, row in self._journal(key).finished_rows():
                values |= row["values"] if found == key and isinstance(row.get("values"), dict) else {}
        return {name: float(values[i]) for name, metric in metrics.items() if (i := _identity(name, metric)) in values}

    def keep(self, key: str, values: Mapping[str, float], metrics: Mapping[str, Metric]) -> None:
        """Keep values of metrics, undefined ones included."""
        row = {_identity(name, metrics[name]): value for name, value in values.items()}
        with suppress(OutputError, OSError):
            self._journal(key).append("score", key=key, status="ok", values=row)

    def _journal(self, key: str) -> Manifest:
        return Manifest(self.folder / f"{key[:2]}.jsonl")


def pair_key(result: str, sources: Sequence[str], **how: Any) -> str:
    """Key of the scores of a result: hashes of the files, and options of reading them."""
    return digest(FORMAT, result, list(sources), how)


def _identity(name: str, metric: Metric) -> str:
    options = metric.options.model_dump(mode="json") if isinstance(metric.options, BaseModel) else {}
    return digest(name, metric.version, metric.definition, options)
