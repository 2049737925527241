"""What visitors brought and what was made of it: in memory and one temporary folder, gone when they leave."""

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contracts import Sources
from ..errors import InputError
from ..images.picture import Picture
from ..method.pipeline import FusedPicture

__all__ = ["Limits", "Result", "Session", "Sessions"]


@dataclass(frozen=True)
class Limits:
    """bytes: of one file. pixels: of one picture. files: of a session. sessions: at once. idle: seconds until a session
    that nobody asks for is gone. waiting: jobs in the queue. results: of a session, the oldest goes.
    """

    bytes: int = 200_000_000
    pixels: int = 40_000_000
    files: int = 8
    sessions: int = 12
    idle: float = 1800.0
    waiting: int = 32
    results: int = 8


@dataclass
class Result:
    """One fusion of a session. status: waiting, running, done, failed or cancelled."""

    number: str
    choices: dict[str, Any]
    status: str = "waiting"
    reason: str = ""
    fused: FusedPicture | None = None
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)  # what was encoded for the page, by what it shows
    changed: threading.Condition = field(default_factory=threading.Condition)

    def become(self, status: str, reason: str = "") -> None:
        """Change the status, and tell who waits for it."""
        with self.changed:
            if self.status != "cancelled":
                self.status, self.reason = status, reason
            self.changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("done", "failed", "cancelled")


@dataclass
class Session:
    """Files, the pictures read from them, and results."""

    number: str
    folder: Path
    files: dict[int, Path] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    sources: Sources | None = None
    results: dict[str, Result] = field(default_factory=dict)
    encoded: dict[int, bytes] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, result: Result, most: int) -> None:
        """Keep a result; of more than `most`, the oldest that is over goes."""
        with self.lock:
            self.results[result.number] = result
            for number in [n for n, r in self.results.items() if r.over][: max(0, len(self.results) - most)]:
                del self.results[number]

    def close(self) -> None:
        """Forget everything."""
        for result in list(self.results.values()):
            result.become("cancelled")
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All sessions of a server, in one folder."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self) -> Session:
        """A new session; the one that was idle longest makes room."""
        self.sweep()
        with self._lock:
            while len(self._known) >= self.limits.sessions:
                oldest = min(self._known.values(), key=lambda session: session.used)
                self._known.pop(oldest.number).close()
            number = secrets.token_urlsafe(16)
            folder = self.folder / number
            folder.mkdir(mode=0o700)
            self._known[number] = session = Session(number, folder)
        return session

    def get(self, number: str) -> Session:
        """A session by its number. Raises InputError where there is none."""
        with self._lock:
            session = self._known.get(number)
        if session is None:
            raise InputError("this session is over; drop the files again")
        session.used = time.monotonic()
        return session

    def drop(self, number: str) -> None:
        """Forget a session."""
        with self._lock:
            session = self._known.pop(number, None)
        if session is not None:
            session.close()

    def sweep(self) -> None:
        """Forget those that were idle for too long."""
        limit = time.monotonic() - self.limits.idle
        with self._lock:
            idle = [n for n, session in self._known.items() if session.used < limit]
            closed = [self._known.pop(n) for n in idle]
        for session in closed:
            session.close()

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            closed = list(self._known.values())
            self._known.clear()
        for session in closed:
            session.close()
