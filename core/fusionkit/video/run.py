"""Fusing video: frames of one moment, shot by shot, in segments that are resumed and shared between processes.

What a shot is fused by (range, noise, alignment, kind of scene) is found at its first frame and kept; what follows the
pictures (the look's curve, what counts as hot) is averaged over the frames before, so that nothing flickers. A segment
begins with a few frames before its own, so that results do not depend on where segments begin or who makes them.
"""

import hashlib
import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Shot
from ..engines.engine import Engine, SerialEngine
from ..errors import FusionkitError, InputError, OutputError
from ..images.picture import Array, Depth, Picture, from_unit, own_span
from ..method.pipeline import Pipeline
from ..storage.atomic import atomic_write, remove_strays
from .options import VideoOptions, is_video
from .streams import Frame, Stream, av

__all__ = ["Segment", "SegmentOutcome", "Video", "fuse_video", "lost_segment", "plan_video"]

WARM = 12  # frames before a segment that settle what is averaged
CUT, THUMBNAIL = 0.2, 16  # mean change of small pictures of that side from which on a frame begins a new shot
TICKS = 90_000  # time base of what is written
PARTS = ".nut"  # of the container that segments wait in: it keeps times and codecs as they are


@dataclass(frozen=True)
class Segment:
    """Frames of the reference from `start` to before `stop`, seconds; shots: times before it at which one begins."""

    number: int
    start: float
    stop: float
    shots: tuple[float, ...]
    path: Path


@dataclass(frozen=True)
class SegmentOutcome:
    """What became of a segment: "fused", "skipped" (was there already) or "failed"."""

    segment: Segment
    status: str
    reason: str = ""
    frames: int = 0
    alone: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Video:
    """A job: streams, which of them is the reference, where the result goes, what it is written as."""

    streams: tuple[Stream, ...]
    reference: int
    output: Path
    options: VideoOptions
    codec: str
    segments: tuple[Segment, ...]
    frames: int

    @property
    def within(self) -> float:
        """Seconds that frames of one moment may lie apart."""
        return self.options.match_within or 0.5 / min(stream.rate for stream in self.streams) + 1e-3

    @property
    def folder(self) -> Path:
        """Where segments wait."""
        return self.output.with_name(f".{self.output.name}.parts")


def plan_video(pipeline: Pipeline, sources: Sequence[Path], output: Path, options: VideoOptions, force: bool) -> Video:
    """What is to be done. Reads the reference's times once, to find its shots."""
    if len(sources) < 2:
        raise InputError("one video is nothing to fuse; give two or more of one scene")
    if output.exists() and not force:
        raise OutputError(f"{output}: exists already; `force` overwrites it")
    if output.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise OutputError(f"{output}: video is written as .mp4, .mov or .mkv")
    if not all(is_video(source) for source in sources):
        raise InputError("pictures and video cannot be fused together; give one kind")
    streams = tuple(Stream.of(source, live=not Path(source).exists() and "%" not in str(source)) for source in sources)
    firsts = [next(stream.frames(), None) for stream in streams] if not any(s.live for s in streams) else []
    colored = [_picture(frame, "").has_color if frame else True for frame in firsts] or [s.deep for s in streams]
    reference = pipeline.reference(colored)
    deep = streams[reference].deep
    codec = options.codec if options.codec != "auto" else "ffv1" if deep else "h264"
    if codec == "ffv1" and output.suffix.lower() != ".mkv":
        raise OutputError(f"{output}: ffv1, which 16 bits need, goes into .mkv; or choose `codec=h264` for 8 bits")
    video = Video(streams, reference, output, options, codec, (), 0)
    if any(stream.live for stream in streams):
        return replace(video, segments=(Segment(0, 0.0, float("inf"), (0.0,), video.folder / f"00000{PARTS}"),))
    shots, last, count = _survey(streams[reference])
    edges = [*np.arange(0.0, last, options.segment)[: max(1, int(np.ceil(last / options.segment)))], last + 1.0]
    segments = tuple(
        Segment(i, float(a), float(b), tuple(t for t in shots if t < b), video.folder / f"{i:05d}{PARTS}")
        for i, (a, b) in enumerate(pairwise(edges))
    )
    return replace(video, segments=segments, frames=count)


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
        _join(video)
        shutil.rmtree(folder, ignore_errors=True)


def lost_segment(segment: Segment) -> SegmentOutcome:
    """What becomes of a segment whose process is killed each time."""
    return SegmentOutcome(
        segment, "failed", "its process was killed each time, perhaps for memory; fewer `jobs` need less"
    )


def _survey(stream: Stream) -> tuple[list[float], float, int]:
    """Times at which shots begin, time of the last frame, number of frames; one frame in memory."""
    shots, before, last, count = [0.0], None, 0.0, 0
    for frame in stream.frames():
        small = frame.values[:: max(1, stream.height // THUMBNAIL), :: max(1, stream.width // THUMBNAIL)]
        small = small.astype(np.float32) / np.iinfo(small.dtype).max
        if before is not None and float(np.abs(small - before).mean()) > CUT:
            shots.append(frame.time)
        before, last, count = small, frame.time, count + 1
    if not count:
        raise InputError(f"{stream.source}: has no frames")
    return shots, last, count


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
            shot.averaged.clear()
    cuts = {t for t in segment.shots if t > begin}
    with atomic_write(segment.path) as temporary, _Writer(temporary, video) as writer:
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


def _picture(frame: Frame, name: str, span: tuple[float, float] | None = None) -> Picture:
    depth: Depth = "8" if frame.values.dtype == np.uint8 else "16"
    return Picture(frame.values, depth, span or (0.0, 255.0 if depth == "8" else 65535.0), name=name)


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
        picture = _picture(frame, name)
        if picture.depth == "16":
            span = shot.once(f"span {i}", partial(own_span, frame.values, picture.span))
            picture = replace(picture, span=span)
        pictures.append(picture)
    found = pipeline.fuse_pictures(pictures, reference=video.reference, shot=shot).picture
    if notes is not None:
        notes.update(dict.fromkeys(found.notes))
    depth: Depth = "16" if video.codec == "ffv1" and found.depth == "16" else "8"
    return from_unit(found.pixels, depth, found.span if depth == "16" else (0.0, 255.0))


class _Writer:
    """Encodes frames into a segment's file."""

    def __init__(self, path: Path, video: Video) -> None:
        self.path, self.video = path, video
        self.container: Any = None
        self.stream: Any = None

    def __enter__(self) -> "_Writer":
        self.container = av().open(str(self.path), "w", format=PARTS[1:])
        return self

    def __exit__(self, *failure: object) -> None:
        if self.stream is not None and failure[0] is None:
            for packet in self.stream.encode():
                self.container.mux(packet)
        self.container.close()

    def write(self, time: float, values: Array) -> None:
        """One frame."""
        deep, grey = values.dtype == np.uint16, values.shape[2] == 1
        given = ("gray16le" if grey else "rgb48le") if deep else ("gray" if grey else "rgb24")
        frame = av().VideoFrame.from_ndarray(np.ascontiguousarray(values[:, :, 0] if grey else values), format=given)
        if self.stream is None:
            self._begin(values, given)
        form = self.stream.pix_fmt
        if form != given:
            frame = frame.reformat(format=form, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def _begin(self, values: Array, given: str) -> None:
        rate = Fraction(self.video.streams[self.video.reference].rate).limit_denominator(1001)
        height, width = values.shape[:2]
        if self.video.codec == "ffv1":
            stream = self.container.add_stream("ffv1", rate=rate)
            stream.pix_fmt = given if given in ("gray", "gray16le") else "gbrp16le" if given == "rgb48le" else "bgr0"
        else:
            crf = str(self.video.options.crf)
            stream = self.container.add_stream(
                "libx264", rate=rate, options={"crf": crf, "preset": "veryfast", "bf": "0"}
            )
            stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
            context.color_range = 1
        stream.width, stream.height = width, height
        stream.codec_context.time_base = Fraction(1, TICKS)
        self.stream = stream


def _join(video: Video) -> None:
    """The segments, packet by packet, beside the reference's sound and under its metadata."""
    main = video.streams[video.reference]
    with atomic_write(video.output) as temporary, av().open(str(temporary), "w") as out:
        sound = None if main.live else _sound(main.source)
        with av().open(str(video.segments[0].path)) as first:
            stream = out.add_stream_from_template(first.streams.video[0])
        heard = None
        if sound is not None:
            with suppress(av().FFmpegError, ValueError, IndexError):  # none, or one that this container cannot hold
                heard = out.add_stream_from_template(sound.streams.audio[0])
            out.metadata.update({k: v for k, v in sound.metadata.items() if k not in ("encoder", "major_brand")})
        queues = [_packets((segment.path for segment in video.segments), stream)]
        if heard is not None:
            queues.append(_packets([sound], heard))
        for _, _, packet in heapq.merge(*queues, key=lambda item: item[:2]):
            out.mux(packet)
        if sound is not None:
            sound.close()


def _sound(source: str) -> Any:
    """The reference, opened, where it has sound or metadata."""
    try:
        return av().open(source)
    except (av().FFmpegError, OSError):
        return None


def _packets(files: Any, stream: Any) -> Iterator[tuple[float, int, Any]]:
    """Packets for a stream of the result, by time."""
    for number, file in enumerate(files):
        container = av().open(str(file)) if isinstance(file, Path) else file
        inner = (container.streams.video if stream.type == "video" else container.streams.audio)[0]
        for packet in container.demux(inner):
            if packet.dts is not None:
                time = float(packet.dts * packet.time_base)
                packet.stream = stream
                yield time, number, packet
        if isinstance(file, Path):
            container.close()
