"""Files that appear whole or not at all."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputError

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp(\.\w+){0,2}")


@dataclass(frozen=True)
class Staged:
    """A file written whole under a temporary name, on its way to `path`."""

    temporary: Path
    path: Path

    def commit(self, *, replace: bool = True) -> None:
        """Rename it to `path`; replace: a file of that name may go, else OutputError, also if it has just appeared."""
        try:
            if replace or not self._linked():
                self.temporary.replace(self.path)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _linked(self) -> bool:
        """Give it its name if no file has it; False on file systems without links."""
        try:
            os.link(self.temporary, self.path)
        except FileExistsError:
            self.discard()
            raise OutputError(f"{self.path}: exists already; `force` overwrites it") from None
        except OSError:
            return False
        self.discard()
        return True

    def discard(self) -> None:
        """Remove the temporary file."""
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def check_place(output: Path, sources: Iterable[Path] = (), *, replaceable: bool = False) -> None:
    """Refuse, before any work, an output that is a folder, one of the sources, or there already."""
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder; name a file, such as {output / 'fused.png'}")
        if output.exists() and not replaceable:
            raise OutputError(f"{output}: exists already; `force` overwrites it")
        if os.path.realpath(output) in map(os.path.realpath, sources):
            raise OutputError(f"{output}: is one of the sources; choose another name")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from None


def remove_strays(folder: Path) -> None:
    """Remove temporary files of a killed process; no other process may be writing into the folder."""
    for path in folder.glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def stage(path: Path) -> Iterator[Staged]:
    """Yield a temporary name beside `path` (same suffix), flushed to the disk when the block ends.

    A block that fails leaves nothing.
    """
    short = path.stem.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")  # 255 bytes are the limit
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    staged = Staged(path.with_name(f".{short}.{secrets.token_hex(4)}.tmp{ending}"), path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        with staged.temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
    except OSError as error:
        staged.discard()
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        staged.discard()
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends, and is removed when it fails.

    The temporary file is flushed to disk before the rename, so that a crash leaves the old file or the new one.
    """
    with stage(path) as staged:
        yield staged.temporary
    staged.commit()


def write_text(path: Path, text: str) -> None:
    """Write a file of text as `atomic_write` does."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
