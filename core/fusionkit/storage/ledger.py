"""Which results of a folder are whose: what earlier runs finished, and what this one does.

The manifest is the ledger's memory. A result's line is written just before the result appears under its name, so that
a crash between the two leaves a line without its file, which counts for nothing.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import OutputError
from .manifest import Manifest

__all__ = ["Ledger"]


class _Kept(NamedTuple):
    """What has to be known of a finished result, in as few bytes as will do: there may be millions."""

    name: str
    size: int
    sources: bytes

    @classmethod
    def of(cls, row: dict[str, Any]) -> "_Kept":
        sources = [(s["path"], s["bytes"], s["modified_ns"]) for s in row["sources"]]
        return cls(_name(row), row["output"]["bytes"], _digest(sources))


def _digest(sources: list[tuple[str, int, int]]) -> bytes:
    return hashlib.blake2b(repr(sources).encode(errors="surrogateescape"), digest_size=16).digest()


class Ledger:
    """The results in a folder, by the method (a digest of all that decides pixels) that made them.

    force: what another method made may be done anew. Raises OutputError, before anything is written, where the folder
    holds only what another method made.
    """

    def __init__(self, folder: Path, method: str, *, force: bool) -> None:
        self.folder, self.method, self.force = folder, method, force
        self.manifest = Manifest(folder / "manifest.jsonl")
        mine: dict[str, _Kept] = {}
        others: dict[str, str] = {}  # names of what other methods made
        self._run: dict[str, Any] = {}  # the last one of this method
        for row in self.manifest.rows():
            if row.get("status") == "ok" and _whole(row):
                key = row["key"]
                if row.get("method") == method:
                    mine[key] = _Kept.of(row)
                    others.pop(key, None)
                else:
                    others[key] = _name(row)
                    mine.pop(key, None)
            elif row.get("event") == "run" and row.get("method") == method:
                self._run = row
        # made by another method, and still there
        stale = {key for key, name in others.items() if (folder / name).exists()}
        if stale and not mine and len(stale) == len(others) and not force:
            raise OutputError(
                f"{folder}: holds {len(stale)} result(s) made with other options ({min(stale)} ...); choose another "
                "folder, or `force` to redo them"
            )
        self._mine = mine

    def finished(self, key: str, sources: Iterable[Path], output: Path) -> bool:
        """Whether this very result was made before: same method, sources unchanged since, and the file is there."""
        if self.force or not self.owns(key, output):
            return False
        try:
            found = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in sources]
        except OSError:
            return False
        return self._mine[key].sources == _digest(found)

    def owns(self, key: str, output: Path) -> bool:
        """Whether `output` is what this method made for `key`, not what somebody put or changed there since."""
        kept = self._mine.get(key)
        if kept is None or kept.name != output.name or not output.is_file():
            return False
        return kept.size == output.stat().st_size

    def run(self, **description: Any) -> None:
        """A run begins."""
        self.manifest.append("run", method=self.method, **description)

    def ranges(self, count: int) -> tuple[Any, ...] | None:
        """The ranges that an earlier run of this method read so many sources with; a resumed one goes on alike."""
        found = self._run.get("ranges")
        if self.force or not (isinstance(found, list) and len(found) == count):
            return None
        return tuple(tuple(r) if isinstance(r, list) else r for r in found)

    def done(self, key: str, record: dict[str, Any]) -> None:
        """A result is finished, and is about to appear under its name."""
        self.manifest.append("pair", key=key, status="ok", method=self.method, **record)

    def failed(self, key: str, reason: str) -> None:
        """A result could not be made."""
        self.manifest.append("pair", key=key, status="failed", method=self.method, error=reason)


def _whole(row: dict[str, Any]) -> bool:
    """Whether a line has all that a finished result's has; what somebody wrote by hand counts for nothing."""
    sources = row.get("sources")
    files: list[Any] = [row.get("output"), *sources] if isinstance(sources, list) else [None]
    needed = {"path", "bytes", "modified_ns"}
    known = all(isinstance(f, dict) and needed <= f.keys() and isinstance(f["path"], str) for f in files)
    return known and isinstance(row.get("key"), str)


def _name(row: dict[str, Any]) -> str:
    return Path(row["output"]["path"]).name
