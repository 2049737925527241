"""The journal of results, one JSON object a line: which results earlier runs finished, and with which method.

A result's row is written just before the result appears under its name; a row whose file is missing does not count.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FusionkitError, OutputError
from .outcome import Outcome
from .places import tag
from .regular import check_regular


def digest(*parts: Any) -> str:
    """A short hash of JSON values that ignores the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_record(path: Path) -> dict[str, Any]:
    """Identity of a file: absolute path, hash, and size and time for a quick comparison."""
    return {"path": str(path.resolve()), "sha256": sha256(path), **(tag(str(path)) or {})}


class Manifest:
    """Appends to and reads back a `.jsonl` file; a last line cut off by a crash is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **fields: Any) -> None:
        """Write one row, in one piece, flushed."""
        row = {"event": event, "time": datetime.now(UTC).isoformat(timespec="seconds"), **fields}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if not line.isascii() and any("\ud800" <= c <= "\udfff" for c in line):
            line = json.dumps(row) + "\n"  # a file name that is no UTF-8
        check_regular(self.path, OutputError)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as stream:
                stream.seek(max(0, stream.seek(0, 2) - 1))
                cut_off = stream.read(1) not in (b"", b"\n")  # a crash left half a row
                stream.write(b"\n" * cut_off + line.encode())
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """All complete rows."""
        check_regular(self.path, OutputError)
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row

    def finished_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and row of each result."""
        for row in self.rows():
            if row.get("status") == "ok" and isinstance(row.get("key"), str):
                yield row["key"], row


class _Kept(NamedTuple):
    """A finished result, in few bytes: there may be millions."""

    name: str
    size: int
    sources: bytes  # hash of their paths, sizes, and times or tags

    @classmethod
    def of(cls, row: dict[str, Any]) -> "_Kept | None":
        """None for a row that lacks something, such as one edited by hand."""
        try:
            output, sources = row["output"], row["sources"] if "sources" in row else [row["source"]]
            states = [[_path(s), s["bytes"], s["tag"] if "tag" in s else s["modified_ns"]] for s in sources]
            return cls(Path(_path(output)).name, output["bytes"], _hashed(states))
        except (KeyError, TypeError):
            return None

    def is_there(self, output: str) -> bool:
        """Whether the result has its name and size."""
        state = tag(output) if Path(output).name == self.name else None
        return state is not None and state["bytes"] == self.size

    def is_current(self, sources: Iterable[str], output: str) -> bool:
        """Whether the sources are unchanged since the row was written, and the result is there."""
        return self.is_there(output) and self.sources == _hashed([[s, *(tag(s) or {}).values()] for s in sources])


def _path(file: dict[str, Any]) -> str:
    return file["path"] if "path" in file else str(file["address"])


def _hashed(states: list[list[Any]]) -> bytes:
    return hashlib.blake2b(repr(states).encode(errors="surrogateescape"), digest_size=16).digest()


def is_current(row: dict[str, Any], method: str, sources: Iterable[str], output: str) -> bool:
    """Whether a row is of this method and these sources (paths or addresses), and its result still there."""
    kept = _Kept.of(row) if row.get("method") == method else None
    return kept is not None and kept.is_current(sources, output)


class Ledger(Manifest):
    """A manifest as one method sees it: results it finished, and files that it made.

    method: digest of all that decides the results. force: nothing counts as finished.
    """

    def __init__(self, path: Path, method: str, *, force: bool = False) -> None:
        super().__init__(path)
        self.method, self.force = method, force

    @cached_property
    def _read(self) -> tuple[dict[str, _Kept], dict[str, str], dict[str, Any]]:
        """Results of this method, names of results of others, the last run of this method."""
        mine: dict[str, _Kept] = {}
        others: dict[str, str] = {}
        run: dict[str, Any] = {}
        for row in self.rows():
            own = row.get("method") == self.method
            if own and row.get("event") == "run":
                run = row
            key, kept = row.get("key"), _Kept.of(row) if row.get("status") == "ok" else None
            if kept is not None and isinstance(key, str):
                mine.pop(key, None)
                others.pop(key, None)
                if own:
                    mine[key] = kept
                else:
                    others[key] = kept.name
        return mine, others, run

    def refuse_others(self) -> None:
        """Raise OutputError where all results in the folder are of other methods, unless `force`."""
        mine, others, _ = self._read
        folder = self.path.parent
        stale = {key for key, name in others.items() if (folder / name).exists()}
        if stale and not mine and len(stale) == len(others) and not self.force:
            raise OutputError(
                f"{folder}: holds {len(stale)} result(s) made with other options ({min(stale)} ...); choose another "
                "folder, or `force` to redo them"
            )

    def finished(self, key: str, sources: Iterable[Path], output: Path) -> bool:
        """Whether this method made `output` from these sources, and nothing was changed since."""
        kept = None if self.force else self._read[0].get(key)
        return kept is not None and kept.is_current((str(path.resolve()) for path in sources), str(output))

    def owns(self, key: str, output: Path) -> bool:
        """Whether this method made `output` for `key`, and nobody changed it since."""
        kept = self._read[0].get(key)
        return kept is not None and kept.is_there(str(output))

    @property
    def ranges(self) -> tuple[Any, ...]:
        """Ranges that an earlier run of this method read its sources with and a resumed one keeps; or none."""
        known = None if self.force else self._read[2].get("ranges")
        return tuple(tuple(r) if isinstance(r, list) else r for r in known) if isinstance(known, list) else ()

    def run(self, **description: Any) -> None:
        """Record the beginning of a run."""
        self.append("run", method=self.method, **description)

    def done(self, outcome: Outcome, **description: Any) -> None:
        """Record a finished result, before it appears."""
        self.append("pair", key=outcome.key, status="ok", method=self.method, **description, **outcome.record)

    def settle(self, outcome: Outcome) -> Outcome:
        """Record an outcome and let its result appear. Raises OutputError where the row cannot be written."""
        staged = outcome.staged
        if outcome.status == "failed":
            self.append("pair", key=outcome.key, status="failed", method=self.method, error=outcome.reason)
        elif outcome.status == "done":
            try:
                self.done(outcome)
            except FusionkitError:
                if staged is not None:
                    staged.discard()
                raise
            try:
                if staged is not None:
                    staged.commit()
            except FusionkitError as error:
                return self.settle(Outcome(outcome.key, "failed", str(error)))
        return outcome
