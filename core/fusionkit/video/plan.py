"""The plan of a video: its streams, and the beginnings of its shots and segments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np

from ..errors import InputError, OutputError
from ..images.picture import Depth, Picture
from ..method.pipeline import Pipeline
from ..storage.atomic import check_place
from .options import VideoOptions, is_video
from .streams import Frame, Stream

__all__ = ["PARTS", "Segment", "Video", "picture_of", "plan_video"]

CUT, THUMBNAIL = 0.2, 16  # mean change of a thumbnail of this side that begins a new shot
PARTS = ".nut"  # container of segments, which keeps times and codecs


@dataclass(frozen=True)
class Segment:
    """Frames of the reference from `start` to before `stop`, seconds; shots: beginnings of shots before `stop`."""

    number: int
    start: float
    stop: float
    shots: tuple[float, ...]
    path: Path

    @property
    def key(self) -> str:
        """Name in messages and journals."""
        return f"from {self.start:.1f} s"


@dataclass(frozen=True)
class Video:
    """The job of fusing streams; reference: index of its stream."""

    streams: tuple[Stream, ...]
    reference: int
    output: Path
    options: VideoOptions
    codec: str
    segments: tuple[Segment, ...]

    @property
    def within(self) -> float:
        """Seconds that frames of one moment may lie apart."""
        return self.options.match_within or 0.5 / min(stream.rate for stream in self.streams) + 1e-3

    @property
    def folder(self) -> Path:
        """Folder of finished segments."""
        return self.output.with_name(f".{self.output.name}.parts")


def plan_video(pipeline: Pipeline, sources: Sequence[Path], output: Path, options: VideoOptions, force: bool) -> Video:
    """Open the streams, choose the reference, and read it once to find its shots."""
    if len(sources) < 2:
        raise InputError("one video is nothing to fuse; give two or more of one scene")
    check_place(output, sources, replaceable=force)
    if output.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise OutputError(f"{output}: video is written as .mp4, .mov or .mkv")
    if not all(is_video(source) for source in sources):
        raise InputError("pictures and video cannot be fused together; give one kind")
    streams = tuple(Stream.of(source, live=not Path(source).exists() and "%" not in str(source)) for source in sources)
    firsts = [next(stream.frames(), None) for stream in streams] if not any(s.live for s in streams) else []
    colored = [picture_of(frame, "").has_color if frame else True for frame in firsts] or [s.deep for s in streams]
    reference = pipeline.reference(colored)
    deep = streams[reference].deep
    codec = options.codec if options.codec != "auto" else "ffv1" if deep else "h264"
    if codec == "ffv1" and output.suffix.lower() != ".mkv":
        raise OutputError(f"{output}: ffv1, which 16 bits need, goes into .mkv; or choose `codec=h264` for 8 bits")
    video = Video(streams, reference, output, options, codec, ())
    if any(stream.live for stream in streams):
        return replace(video, segments=(Segment(0, 0.0, float("inf"), (0.0,), video.folder / f"00000{PARTS}"),))
    shots, last = _survey(streams[reference])
    count = max(1, ceil(last / options.segment))
    edges = [*(number * options.segment for number in range(count)), last + 1.0]
    segments = tuple(
        Segment(i, a, b, tuple(t for t in shots if t < b), video.folder / f"{i:05d}{PARTS}")
        for i, (a, b) in enumerate(pairwise(edges))
    )
    return replace(video, segments=segments)


def _survey(stream: Stream) -> tuple[list[float], float]:
    """Times of the first frame of each shot, and of the last frame."""
    shots, before, last = [0.0], None, 0.0
    for frame in stream.frames():
        small = frame.values[:: max(1, stream.height // THUMBNAIL), :: max(1, stream.width // THUMBNAIL)]
        small = small.astype(np.float32) / np.iinfo(small.dtype).max
        if before is not None and float(np.abs(small - before).mean()) > CUT:
            shots.append(frame.time)
        before, last = small, frame.time
    if before is None:
        raise InputError(f"{stream.source}: has no frames")
    return shots, last


def picture_of(frame: Frame, name: str) -> Picture:
    """A frame as a picture, in the full range of its type."""
    depth: Depth = "8" if frame.values.dtype == np.uint8 else "16"
    return Picture(frame.values, depth, (0.0, 255.0 if depth == "8" else 65535.0), name=name)
