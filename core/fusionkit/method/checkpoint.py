"""The state of a series on the disk, so that one that was stopped goes on at its next frame."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import torch

from ..errors import FusionkitError
from ..storage.atomic import atomic_write

EVERY = 60.0  # seconds after which a state is written: a few planes take one or two


class Checkpoint:
    """A file with the state between two frames. path: the file. method: a hash of all that decides the result."""

    def __init__(self, path: Path, method: str) -> None:
        self.path, self.method = path, method
        self._saved = time.monotonic()

    def load(self) -> tuple[int, int, Any] | None:
        """Pass and frame to go on with, and the state before it; None where there is none of this method."""
        try:
            found = torch.load(self.path, weights_only=True)
            return (found["turn"], found["frame"], found["state"]) if found["method"] == self.method else None
        except Exception:  # no file, half a file, another's
            return None

    def save(self, turn: int, frame: int, state: Any, *, now: bool = False) -> None:
        """Write the state before a frame, if the last one was written a minute ago, or now."""
        if not now and time.monotonic() - self._saved < EVERY:
            return
        with suppress(FusionkitError), atomic_write(self.path) as temporary:  # a full disk stops no series
            torch.save({"method": self.method, "turn": turn, "frame": frame, "state": state}, temporary)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextmanager
def between_frames() -> Iterator[list[int]]:
    """Put Ctrl-C and SIGTERM off until the block ends, since a frame that is half in a state is lost.

    Yields a list that holds the signals that came, for what is to be done before they act.
    """
    import signal

    came: list[int] = []
    if current_thread() is not main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signalled in came:
            signal.raise_signal(signalled)
