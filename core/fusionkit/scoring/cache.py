"""Scores that were computed before, by the files' hashes and the metric's version: a stopped evaluation goes on."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..contracts import Metric
from ..storage.home import home_folder

__all__ = ["ScoreCache", "default_cache", "pair_key"]

FORM = 1  # of what is kept; another one begins anew
WAIT = 30.0  # seconds for another process's transaction


def default_cache() -> Path:
    """The file that `fusionkit evaluate` keeps scores in."""
    return home_folder() / "scores.sqlite"


class ScoreCache:
    """A table of values; where its file cannot be used, it knows and keeps nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self, key: str, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Those of the metrics whose value is there."""
        with suppress(sqlite3.Error, OSError), closing(self._open()) as table:
            rows = table.execute("SELECT metric, value FROM scores WHERE pair = ?", (key,)).fetchall()
            values = dict(rows)
            found = {name: values.get(_identity(name, metric), "") for name, metric in metrics.items()}
            return {n: float("nan") if v is None else float(v) for n, v in found.items() if v != ""}
        return {}

    def keep(self, key: str, values: Mapping[str, float], metrics: Mapping[str, Metric]) -> None:
        """Values of some metrics; nan is kept as well."""
        rows = [(key, _identity(name, metrics[name]), value) for name, value in values.items()]
        with suppress(sqlite3.Error, OSError), closing(self._open()) as table, table:
            table.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self.path, timeout=WAIT)
        table.execute(
            "CREATE TABLE IF NOT EXISTS scores (pair TEXT, metric TEXT, value REAL, PRIMARY KEY (pair, metric))"
        )
        return table


def pair_key(result: str, sources: Sequence[str], **how: Any) -> str:
    """What a value depends on beside its metric: hashes of the files, and how they are read."""
    text = json.dumps([FORM, result, list(sources), how], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(name: str, metric: Metric) -> str:
    options = metric.options.model_dump(mode="json") if isinstance(metric.options, BaseModel) else {}
    return json.dumps([name, metric.version, metric.definition, options], sort_keys=True)
