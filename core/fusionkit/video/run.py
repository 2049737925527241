"""Fusing video: frames of one moment, shot by shot, in segments that are resumed and shared between processes.

What a shot is fused by (range, noise, alignment, kind of scene) is found at its first frame and kept; what follows the
pictures (the look's curve, what counts as hot) is averaged over the frames before, so that nothing flickers. A segment
begins with a few frames before its own, so that results do not depend on where segments begin or who makes them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..engines.engine import KILLED, Engine, SerialEngine
from ..errors import FusionkitError, InputError, OutputError
from ..images.picture import Array, Depth, from_unit, own_span
from ..method.pipeline import Pipeline
from ..method.shot import Shot
from ..storage.atomic import atomic_write, remove_strays
from .plan import Segment, Video, picture_of
from .streams import Frame
from .write import Writer, join

__all__ = ["SegmentOutcome", "fuse_video", "lost_segment"]

WARM = 12  # frames before a segment that settle what is averaged


@dataclass(frozen=True)
class SegmentOutcome:
    """What became of a segment: "fused", "skipped" (was there already) or "failed"."""

    segment: Segment
    status: str
    reason: str = ""
    frames: int = 0
    alone: int = 0
    notes: tuple[str, ...] = ()


def fuse_video(
    pipeline: Pipeline, video: Video, engine: Engine | None = None, *, force: bool = False
) -> Iterator[SegmentOutcome]:
    """Fuse segment after segment, those of an earlier run left out, and join them in the end."""
    folder = video.folder
    _prepare(video, _digest(pipeline, video), force=force)
    failed = False
    for outcome in (engine or SerialEngine()).map(partial(_attempt, pipeline, video), video.segments):
        failed |= outcome.status == "failed"
        yield outcome
    if not failed:
        join(video)
        shutil.rmtree(folder, ignore_errors=True)


def lost_segment(segment: Segment) -> SegmentOutcome:
    """What becomes of a segment whose process is killed each time."""
    return SegmentOutcome(segment, "failed", KILLED)


def _digest(pipeline: Pipeline, video: Video) -> str:
    """A hash of all that decides the frames."""
    files = [Path(stream.source) for stream in video.streams]
    status = [[file.stat().st_size, file.stat().st_mtime_ns] if file.exists() else str(file) for file in files]
    text = [pipeline.method(), status, video.options.model_dump(mode="json"), video.codec]
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()


def _prepare(video: Video, digest: str, *, force: bool) -> None:
    """The folder of segments: kept where they are of this very method and these sources, else empty."""
    folder, mark = video.folder, video.folder / "digest"
    try:
        if force or not mark.exists() or mark.read_text() != digest:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(digest)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    remove_strays(folder)


def _attempt(pipeline: Pipeline, video: Video, segment: Segment) -> SegmentOutcome:
    """One segment; whatever goes wrong is in the outcome."""
    if segment.path.exists():
        return SegmentOutcome(segment, "skipped")
    try:
        return _fuse(pipeline, video, segment)
    except FusionkitError as error:
        return SegmentOutcome(segment, "failed", str(error))
    except Exception as error:
        return SegmentOutcome(segment, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _fuse(pipeline: Pipeline, video: Video, segment: Segment) -> SegmentOutcome:
    begin = max([t for t in segment.shots if t <= segment.start], default=0.0)
    warm = max(begin, segment.start - WARM / video.streams[video.reference].rate)
    shot, count, alone = Shot(), 0, 0
    notes: dict[str, None] = {}
    if begin < warm:  # what the whole shot is fused by is found where it begins
        frames = next((f for f in _moments(video, begin) if None not in f), None)
        if frames is not None:
            _fused(pipeline, video, frames, shot)
            shot.settle()
    cuts = {t for t in segment.shots if t > begin}
    with atomic_write(segment.path) as temporary, Writer(temporary, video) as writer:
        try:
            for frames in _moments(video, warm):
                main = frames[video.reference]
                assert main is not None
                if main.time >= segment.stop:
                    break
                if main.time in cuts:
                    shot = Shot()
                if None in frames:
                    alone += main.time >= segment.start
                    continue
                values = _fused(pipeline, video, frames, shot, notes)
                if main.time >= segment.start:
                    writer.write(main.time, values)
                    count += 1
        except KeyboardInterrupt:
            if not any(stream.live for stream in video.streams):
                raise  # a live stream ends like this, and is kept
        if not count:
            raise InputError(f"no frames of one moment within {video.within:.3f} s; say more by `match_within`")
    return SegmentOutcome(segment, "fused", "", count, alone, tuple(notes))


def _moments(video: Video, start: float) -> Iterator[tuple[Frame | None, ...]]:
    """For each frame of the reference, the nearest of every other stream, None where none is near enough."""
    others = {
        i: _Nearest(stream.frames(max(0.0, start - 2 * video.within)))
        for i, stream in enumerate(video.streams)
        if i != video.reference
    }
    for main in video.streams[video.reference].frames(start):
        found = [main if i == video.reference else others[i].at(main.time) for i in range(len(video.streams))]
        yield tuple(f if f is not None and abs(f.time - main.time) <= video.within else None for f in found)


class _Nearest:
    """The frame of a stream that is nearest to times that grow; two are held."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._now: Frame | None = next(frames, None)
        self._next: Frame | None = next(frames, None)

    def at(self, time: float) -> Frame | None:
        while self._now and self._next and abs(self._next.time - time) <= abs(self._now.time - time):
            self._now, self._next = self._next, next(self._frames, None)
        return self._now


def _fused(
    pipeline: Pipeline,
    video: Video,
    frames: Sequence[Frame | None],
    shot: Shot,
    notes: dict[str, None] | None = None,
) -> Array:
    """The fused frame, in values as the reference stores them."""
    pictures = []
    for i, frame in enumerate(frames):
        assert frame is not None
        name = f"stream {i + 1}"
        picture = picture_of(frame, name)
        if picture.depth == "16":
            span = shot.memory.once(f"span {i}", partial(own_span, frame.values, picture.span))
            picture = replace(picture, span=span)
        pictures.append(picture)
    found = pipeline.fuse_pictures(pictures, reference=video.reference, shot=shot).picture
    if notes is not None:
        notes.update(dict.fromkeys(found.notes))
    depth: Depth = "16" if video.codec == "ffv1" and found.depth == "16" else "8"
    return from_unit(found.pixels, depth, found.span if depth == "16" else (0.0, 255.0))
