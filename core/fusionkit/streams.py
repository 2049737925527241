"""Standard streams: what this program prints, apart from what decoders print.

OpenEXR prints to stdout, from C and through Python, LibRaw to stderr. In `fusionkit` itself Python's streams get
descriptors of their own, so that those of C can be turned elsewhere without a word of ours on stderr lost. Other
programs that read images by this library are left as they are.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TextIO

STDOUT, STDERR = 1, 2
_lock, _inside = Lock(), [0]
_aside: list[int] = []  # descriptors of C's stderr while nothing is silenced, and of nowhere
_printed: list[TextIO] = []  # Python's stdout, and what takes its place


def own_streams() -> None:
    """Give Python's stdout and stderr descriptors of their own, and let C's stdout be stderr. Once a process."""
    if _aside or sys.stdout is None or sys.stderr is None:
        return
    with suppress(OSError, ValueError):  # closed descriptors, streams without any
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            stream.flush()
            own = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
            setattr(sys, name, own)
        os.dup2(STDERR, STDOUT)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        _printed.extend((sys.stdout, os.fdopen(nowhere, "w")))
        _aside.extend((os.dup(STDERR), nowhere))


@contextmanager
def silence() -> Iterator[None]:
    """Let C's streams and Python's stdout write nowhere, in a process of `own_streams`; by several threads at once."""
    _turn(1)
    try:
        yield
    finally:
        _turn(-1)


def _turn(step: int) -> None:
    if not _aside:
        return
    with _lock:
        before, after = _inside[0], _inside[0] + step
        _inside[0] = after
        if bool(before) != bool(after):
            with suppress(TypeError, AttributeError):  # Windows: C's buffers are flushed when they are full
                ctypes.CDLL(None).fflush(None)
            for stream in (STDOUT, STDERR):
                os.dup2(_aside[1 if after else 0], stream)
            sys.stdout = _printed[1 if after else 0]
