"""Visitors' files, pictures and results, in memory and one temporary folder, removed when they leave."""

import asyncio
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..contracts import Sources
from ..errors import InputError
from ..images.picture import Array, Picture
from ..method.result import FusedPicture
from ..reading import read_image
from ..reading.ranges import Reading, refuse_unread
from ..scoring.evaluation import as_sources
from ..writing import write_image
from .catalog import labelled
from .choices import spans_of
from .previews import shrunk

LEFT = 60.0  # seconds that a session outlives its page, so that a reload finds it
LARGEST = 8  # files of the largest size that a session can hold, in bytes and in pixels


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    bytes: size of one file. pixels: size of one picture. All files of a session together have `LARGEST` times these.
    files, results: numbers in one session. sessions: open at once. idle: seconds without a request until a session is
    dropped. stalled: seconds that an upload may pause. waiting: jobs in the queue.
    """

    bytes: int = 200_000_000
    pixels: int = 40_000_000
    files: int = 100
    sessions: int = 12
    idle: float = 1800.0
    stalled: float = 60.0
    waiting: int = 32
    results: int = 8


@dataclass
class Result:
    """One fusion of a session, or the preview of one. status: waiting, running, done, failed or cancelled."""

    number: str
    choices: dict[str, Any]
    status: str = "waiting"
    reason: str = ""
    mends: list[dict[str, Any]] = field(default_factory=list)  # what a button says, and the choices that it makes
    factor: int = 1  # by which the sources are smaller than the files
    preview: "Result | None" = None  # the same choices for smaller sources
    of: "Result | None" = None  # what this is the preview of
    wanted: bool = False  # somebody waits for the full size
    cost: int = 0  # pixels of all sources
    estimate: float = 0.0  # seconds that the fusion will take
    began: float = 0.0  # when it began
    fused: FusedPicture | None = None
    seen: list[Array] = field(default_factory=list)  # the sources as they were fused, as `previews.Seen` keeps them
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNGs for the page, by what they show
    lock: threading.Lock = field(default_factory=threading.Lock)

    def become(self, status: str, reason: str = "") -> None:
        """Change the status; a cancelled result stays cancelled."""
        if self.status != "cancelled":
            self.reason, self.status = reason, status

    def forget(self) -> None:
        """Cancel it, and keep no pixels."""
        self.become("cancelled")
        self.fused = None
        self.seen = []
        self.pictures.clear()
        if self.preview is not None:
            self.preview.forget()

    @property
    def done(self) -> FusedPicture:
        """The fused picture. Raises InputError where it is not there yet, or never will be."""
        if self.fused is None:
            raise InputError(f"this result is {self.status}")
        return self.fused

    @property
    def shown(self) -> FusedPicture | None:
        """The fused picture, or until then its preview."""
        return self.fused if self.fused is not None or self.preview is None else self.preview.fused

    @property
    def over(self) -> bool:
        """Whether the status is final."""
        return self.status in ("done", "failed", "cancelled")


@dataclass
class Session:
    """Files, the pictures read from them, and results."""

    number: str
    folder: Path
    limits: Limits
    files: dict[int, Path] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of files, of unfinished ones so far
    pictures: list[Picture] = field(default_factory=list)
    smaller: dict[int, list[Picture]] = field(default_factory=dict)  # copies for previews, by their factor
    results: dict[str, Result] = field(default_factory=dict)
    encoded: dict[tuple[int, int], bytes] = field(default_factory=dict)  # PNGs of sources, by their number and side
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def take(self, index: int, name: str, stream: AsyncIterator[bytes]) -> int:
        """Store a file under its own name, in place of an earlier one of this index; returns its size in bytes.

        Raises InputError, and leaves nothing, where it is too large, stalls, or exceeds the number of files.
        """
        if not 0 <= index < self.limits.files:
            raise InputError(f"at most {self.limits.files} files at once")
        safe = PurePosixPath(name.replace("\\", "/")).name[-120:].lstrip(".") or "image"
        place = self.folder / str(index)
        self.files.pop(index, None)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            await self._store(place / safe, index, stream)
        except BaseException:  # a visitor who went away, too
            shutil.rmtree(place, ignore_errors=True)
            self.sizes.pop(index, None)
            raise
        self.files[index] = place / safe
        return self.sizes[index]

    async def _store(self, path: Path, index: int, stream: AsyncIterator[bytes]) -> None:
        self.sizes[index] = 0
        with path.open("wb") as file:
            while True:
                try:
                    part = await asyncio.wait_for(anext(stream, None), self.limits.stalled)
                except TimeoutError:
                    stalled = f"nothing came for {self.limits.stalled:g} s; send it again"
                    raise InputError(f"{path.name}: {stalled}") from None
                if part is None:
                    return
                self.sizes[index] += len(part)
                if self.sizes[index] > self.limits.bytes:
                    raise InputError(f"{path.name}: larger than {self.limits.bytes / 1e6:.0f} MB")
                if sum(self.sizes.values()) > LARGEST * self.limits.bytes:
                    raise InputError(f"{path.name}: all files together are larger than {self._most('bytes')} MB")
                file.write(part)

    def make(self, index: int, name: str, picture: Picture) -> None:
        """Store a picture as a file, in place of an earlier one of this index."""
        path = self.folder / str(index) / name
        path.parent.mkdir(exist_ok=True)
        write_image(path, picture)
        self.files[index] = path

    def _most(self, what: str) -> str:
        return f"{LARGEST * getattr(self.limits, what) / 1e6:g}"

    def read(self) -> None:
        """Read the files into pictures. Raises InputError."""
        if len(self.files) < 2:
            raise InputError("two files or more make one picture; drop them together")
        pictures = list[Picture]()
        for _, path in sorted(self.files.items()):
            pictures.append(read_image(path, "auto", self.limits.pixels))
            if sum(p.size[0] * p.size[1] for p in pictures) > LARGEST * self.limits.pixels:
                raise InputError(f"all pictures together have more than {self._most('pixels')} megapixels")
        self.pictures = pictures
        self.smaller.clear()
        self.encoded.clear()

    def add(self, result: Result) -> None:
        """Keep a result, and drop the oldest finished ones above the limit."""
        with self.lock:
            self.results[result.number] = result
            over = [number for number, kept in self.results.items() if kept.over]
            for number in over[: max(0, len(self.results) - self.limits.results)]:
                del self.results[number]

    def result(self, number: str) -> Result:
        """Get a result by its number. Raises InputError where there is none."""
        if number not in self.results:
            raise InputError("this result is gone; fuse again")
        return self.results[number]

    def pictures_of(self, result: Result) -> list[Picture]:
        """Get the pictures in the range and size of a result: read anew where the range is not the files' own."""
        spans, paths = spans_of(result.choices), [path for _, path in sorted(self.files.items())]
        if set(spans) != {"auto"}:
            reading = Reading(spans, max_pixels=self.limits.pixels)
            refuse_unread([paths], reading)
            read = reading.all(paths)
            return [picture if result.factor == 1 else shrunk(picture, result.factor) for picture in read]
        if result.factor == 1:
            return self.pictures
        if result.factor not in self.smaller:
            self.smaller[result.factor] = [shrunk(picture, result.factor) for picture in self.pictures]
        return self.smaller[result.factor]

    def sources_of(self, result: Result) -> Sources:
        """Make the sources as a result has them: its reference and range, and the part that it shows."""
        reference, cut = result.done.reference, result.done.cut
        sources = as_sources(self.pictures_of(result), resize=True, reference=reference)
        if cut is None:
            return sources
        return replace(Sources.of([image[(..., *cut)] for image in sources.images]), reference=reference)

    def close(self) -> None:
        """Cancel unfinished results and delete the files."""
        for result in list(self.results.values()):
            result.forget()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All sessions of a server, in one temporary folder."""

    def __init__(self, limits: Limits) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="fusionkit-serve-")
        self.folder, self.limits = Path(self._temporary.name), limits
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def _tidy(self) -> None:
        """Drop the sessions that nobody uses any more."""
        limit = time.monotonic() - self.limits.idle
        for number, session in list(self._known.items()):
            if session.used < limit:
                self.drop(number)

    def leave(self, number: str) -> None:
        """Drop a session after a minute, unless it is asked for again."""
        session = self.get(number)
        for result in list(session.results.values()):
            if not result.over:
                result.become("cancelled")
        session.used = time.monotonic() - self.limits.idle + LEFT
        timer = threading.Timer(LEFT + 1, self._tidy)
        timer.daemon = True
        timer.start()

    def open(self) -> Session:
        """Open a session; above the limit, the one that was idle longest is closed."""
        self._tidy()
        with self._lock:
            while len(self._known) >= self.limits.sessions:
                oldest = min(self._known.values(), key=lambda session: session.used)
                self._known.pop(oldest.number).close()
            number = secrets.token_urlsafe(16)
            folder = self.folder / number
            folder.mkdir(mode=0o700)
            self._known[number] = session = Session(number, folder, self.limits)
        return session

    def get(self, number: str) -> Session:
        """Get a session by its number. Raises InputError where there is none."""
        with self._lock:
            session = self._known.get(number)
        if session is None:
            raise InputError("this session is over; drop the files again")
        session.used = time.monotonic()
        return session

    def told(self, text: str) -> str:
        """A message, in which files have the visitor's names, and options those of the page's fields."""
        return labelled(re.sub(rf"{re.escape(str(self.folder))}/[^/]+/\d+/", "", text))

    def drop(self, number: str) -> None:
        """Close a session, if there is one of this number."""
        with self._lock:
            session = self._known.pop(number, None)
        if session is not None:
            session.close()

    def close(self) -> None:
        """Close all sessions and remove the folder."""
        for number in list(self._known):
            self.drop(number)
        self._temporary.cleanup()
