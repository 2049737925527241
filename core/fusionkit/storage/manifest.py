"""The record of a run: one JSON object a line, appended after each pair."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .regular import check_regular

__all__ = ["Manifest", "file_record", "sha256"]


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_record(path: Path) -> dict[str, Any]:
    """What identifies a source file: absolute path, hash, and size and time for a quick comparison."""
    status = path.stat()
    return {
        "path": str(path.resolve()),
        "sha256": sha256(path),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
    }


class Manifest:
    """Appends to and reads back a `.jsonl` file; a last line cut off by a crash is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **fields: Any) -> None:
        """Write one line, in one piece, flushed."""
        row = {"event": event, "time": datetime.now(UTC).isoformat(timespec="seconds"), **fields}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if not line.isascii() and any("\ud800" <= c <= "\udfff" for c in line):
            line = json.dumps(row) + "\n"  # a file name that is no UTF-8
        check_regular(self.path, OutputError)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self._ends_with_newline():
                line = "\n" + line
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as stream:
            if stream.seek(0, 2) == 0:
                return True
            stream.seek(-1, 2)
            return stream.read(1) == b"\n"

    def rows(self) -> Iterator[dict[str, Any]]:
        """All complete lines."""
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
