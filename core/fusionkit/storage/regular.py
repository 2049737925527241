"""Files that can be read to their end: no pipes, no devices, nothing above the allowed size."""

import stat
from pathlib import Path

from ..errors import FusionkitError

__all__ = ["check_regular"]


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
