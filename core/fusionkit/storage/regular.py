"""Files that can be read to their end: no pipes, no devices, nothing above the allowed size."""

import stat
import tomllib
from pathlib import Path
from typing import Any

from ..errors import FusionkitError, OptionError, one_line

MOST_TEXT = 4_000_000  # bytes of a file of settings


def check_regular(path: Path, error: type[FusionkitError], most: int | None = None) -> None:
    """Raise `error` where `path` exists and is a pipe, a socket or a device, or has more than `most` bytes.

    Missing files, folders and circles of links are left to the caller that opens them.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise error(f"{path}: is a pipe or a device, not a file; copy its contents into a file first")
    if most is not None and status.st_size > most:
        raise error(f"{path}: has {status.st_size} bytes, more than such a file can have ({most})")


def read_text(path: Path, error: type[FusionkitError], most: int = MOST_TEXT) -> str:
    """The text of a regular file of at most `most` bytes. Raises `error`, and FileNotFoundError for the caller."""
    check_regular(path, error, most)
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows begin files with a mark
    except FileNotFoundError:
        raise
    except UnicodeDecodeError:
        raise error(f"{path}: is no text in UTF-8") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL byte in the name
        raise error(f"{path}: cannot be read: {getattr(reason, 'strerror', None) or reason}") from None


def read_toml(path: Path, missing: str, name: str = "") -> dict[str, Any]:
    """The tables of a TOML file. Raises OptionError; missing: what it says of a file that is not there.

    name: what messages call the file, by default its path.
    """
    try:
        return tomllib.loads(read_text(path, OptionError))
    except FileNotFoundError:
        raise OptionError(f"{name or path}: {missing}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{name or path}: not valid TOML: {one_line(error)[:300]}") from None
