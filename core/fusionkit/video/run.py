"""Fusing video: frames of one moment, shot by shot, in segments that are resumed and shared between processes.

Range, noise, alignment and kind of scene are fixed on a shot's first frame; the tone's curve and the level of heat are
running averages, so that nothing flickers. A segment warms up on a few earlier frames, so that results do not depend on
where segments begin or which process makes them.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..contracts import ShotMemory
from ..engines.engine import Engine, SerialEngine
from ..errors import Caution, InputError, OutputError
from ..images.picture import Array, Depth, from_unit, own_span
from ..method.pipeline import Pipeline
from ..storage.atomic import remove_strays, stage
from ..storage.manifest import Ledger, Manifest, digest
from ..storage.outcome import Outcome, Stopped, attempt
from .plan import SEEN, Segment, Video, picture_of
from .streams import Frame
from .write import Writer, join

WARM = 12  # frames before a segment that settle the running averages
WIDE, STEADY = 1.75, 0.75  # usual steps that a gap is longer than; share of usual ones from which a rate is steady
NAMED = 3  # times that a note on gaps names


def fuse_video(
    pipeline: Pipeline, video: Video, engine: Engine | None = None, *, force: bool = False, manifest: bool = False
) -> Iterator[Outcome]:
    """Fuse segment after segment, skipping those of an earlier run, and join them in the end.

    A note that segments share is in the first one's outcome. manifest: record the run in NAME.manifest.jsonl beside
    the result.
    """
    began, ledger, said, total = time.monotonic(), _opened(pipeline, video, force=force), set[str](), Counter[str]()
    work = partial(attempt, partial(_fuse, pipeline, video, ledger))
    outcomes = map(ledger.settle, (engine or SerialEngine()).map(work, video.segments))
    for number, outcome in enumerate(outcomes, 1):
        total.update(outcome.counts)
        total[outcome.status] += 1
        notes = [note for note in outcome.notes if note not in said]
        said.update(notes)
        if total["alone"] and number == len(video.segments):
            notes.append(f"{total['alone']} frames had no partner within {video.within:.3f} s and were left out")
        yield replace(outcome, notes=tuple(notes))
    if total["failed"]:
        return
    join(video)
    shutil.rmtree(video.folder, ignore_errors=True)
    if manifest:
        sources = [stream.source for stream in video.streams]
        described = {"sources": sources, "frames": total["frames"], "seconds": round(time.monotonic() - began, 3)}
        place = video.output.with_name(f"{video.output.stem}.manifest.jsonl")
        Manifest(place).append("video", **described, **pipeline.describe())


def _opened(pipeline: Pipeline, video: Video, *, force: bool) -> Ledger:
    """The journal of the segments; segments of another method or other sources are removed, or all with `force`."""
    files = [Path(stream.source) for stream in video.streams]
    states = [[file.stat().st_size, file.stat().st_mtime_ns] if file.exists() else str(file) for file in files]
    method = digest(pipeline.method(), states, video.options.model_dump(mode="json"), video.codec)
    folder = video.folder
    ledger = Ledger(folder / "manifest.jsonl", method)
    try:
        if force or any(row.get("method") != method for row in ledger.rows()):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    remove_strays(folder)
    return ledger


def _fuse(pipeline: Pipeline, video: Video, ledger: Ledger, segment: Segment) -> Outcome:
    """Fuse a segment, unless it is finished."""
    if ledger.finished(segment.key, (), segment.path):
        return Outcome(segment.key, "skipped")
    begin = max([t for t in segment.shots if t <= segment.start], default=0.0)
    warm = max(begin, segment.start - WARM / video.streams[video.reference].rate)
    shot, count, alone, last = ShotMemory(), 0, 0, 0.0
    notes: dict[str, None] = {}
    logs = [list[tuple[float, bool]]() for _ in video.streams]
    if begin < warm and (frames := next((f for f in _moments(video, begin) if None not in f), None)):
        _fused(pipeline, video, frames, shot, {})  # fixes the values of the whole shot on its first frame
        shot.settle()
    cuts = {t for t in segment.shots if t > begin}
    seen = segment.path.with_suffix(SEEN)
    with stage(segment.path) as staged, Writer(staged.temporary, video) as writer, seen.open("wb", 0) as tally:
        try:
            for frames in _moments(video, warm, logs):
                main = frames[video.reference]
                assert main is not None
                if main.time >= segment.stop:
                    break
                if main.time in cuts:
                    shot = ShotMemory()
                own, last = main.time >= segment.start, main.time
                if None in frames:
                    alone += own
                else:
                    values = _fused(pipeline, video, frames, shot, notes)
                    if own:
                        writer.write(main.time, values)
                        count += 1
                tally.write(b"." * own)
        except (KeyboardInterrupt, Stopped):
            if not any(stream.live for stream in video.streams):
                raise  # Ctrl-C ends a live stream, whose frames are kept
        if not count:
            raise InputError(f"no frames of one moment within {video.within:.3f} s; say more by `match_within`")
    if segment.number == len(video.segments) - 1 and (short := video.cut_short(last)):
        notes[Caution(short)] = None
    notes |= {Caution(text): None for i, log in enumerate(logs) for text in _lost(video.names[i], log, segment)}
    counts, size = {"frames": count, "alone": alone}, staged.temporary.stat().st_size
    record = {"sources": [], "output": {"path": str(segment.path), "bytes": size}, **counts}
    told, output = tuple(notes), str(video.output)
    return Outcome(segment.key, notes=told, output=output, staged=staged, record=record, counts=counts)


def _moments(
    video: Video, start: float, logs: Sequence[list[tuple[float, bool]]] | None = None
) -> Iterator[tuple[Frame | None, ...]]:
    """For each frame of the reference, the nearest frame of every other stream; None where it is not near enough.

    logs: a list a stream, which takes time and damage of its frames; none of live streams, which have no end.
    """

    def read(i: int, start: float) -> Iterator[Frame]:
        for frame in video.streams[i].frames(start):
            if logs is not None and not video.streams[i].live:
                logs[i].append((frame.time, frame.damaged))
            yield frame

    early = max(0.0, start - 2 * video.within)
    others = {i: _Nearest(read(i, early)) for i in range(len(video.streams)) if i != video.reference}
    for main in read(video.reference, start):
        found = [main if i == video.reference else others[i].at(main.time) for i in range(len(video.streams))]
        yield tuple(f if f is not None and abs(f.time - main.time) <= video.within else None for f in found)


def _lost(name: str, log: Sequence[tuple[float, bool]], segment: Segment) -> Iterator[str]:
    """Notes on frames that are missing from a steady rate, and on damaged ones, in a segment's part of a stream."""
    times = np.array([at for at, _ in log])
    steps = np.diff(times) / max(np.median(np.diff(times)) if len(times) > 1 else 1, 1e-9)
    gaps = times[:-1][steps > WIDE] if (np.abs(steps - 1) < 0.25).sum() > STEADY * len(steps) else ()
    for what, found in (("frames are missing after", gaps), ("damaged frames at", [at for at, bad in log if bad])):
        own = [f"{at:.2f}" for at in found if segment.start <= at < segment.stop]
        if own:
            more = f" and at {len(own) - NAMED} more" if len(own) > NAMED else ""
            yield f"{name}: {what} {', '.join(own[:NAMED])} s{more}"


class _Nearest:
    """Finds the frame of a stream nearest to each of growing times; holds two frames."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._now: Frame | None = next(frames, None)
        self._next: Frame | None = next(frames, None)

    def at(self, time: float) -> Frame | None:
        while self._now and self._next and abs(self._next.time - time) <= abs(self._now.time - time):
            self._now, self._next = self._next, next(self._frames, None)
        return self._now


def _fused(
    pipeline: Pipeline, video: Video, frames: Sequence[Frame | None], shot: ShotMemory, notes: dict[str, None]
) -> Array:
    """Fuse frames into the reference's stored values; adds to `notes`."""
    pictures = []
    for i, frame in enumerate(frames):
        assert frame is not None
        picture = picture_of(frame if i == video.reference else frame.grey(), video.names[i])
        if picture.depth == "16":
            span = shot.once(f"span {i}", partial(own_span, frame.values, picture.span))
            picture = replace(picture, span=span)
        pictures.append(picture)
    found = pipeline.fuse_pictures(pictures, reference=video.reference, shot=shot).picture
    notes.update(dict.fromkeys(found.notes))
    depth: Depth = "16" if video.codec == "ffv1" and found.depth == "16" else "8"
    return from_unit(found.pixels, depth, found.span if depth == "16" else (0.0, 255.0))
