"""The plan of a video: its streams, and the beginnings of its shots and segments."""

from collections.abc import Callable, Sequence
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

CUT, THUMBNAIL = 0.2, 16  # mean change of a thumbnail of this side that begins a new shot
PARTS = ".nut"  # container of segments, which keeps times and codecs
SEEN = ".seen"  # of a file beside a segment, a byte for each frame that the segment has come to


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
    """The job of fusing streams; reference: index of its stream. frames: how many it has; 0: not known."""

    streams: tuple[Stream, ...]
    reference: int
    output: Path
    options: VideoOptions
    codec: str
    segments: tuple[Segment, ...]
    frames: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the streams in messages: of their files, with the folders where files have one name."""
        paths = [Path(stream.source) for stream in self.streams]
        short = [path.name for path in paths]
        return short if len(set(short)) == len(short) else [f"{path.parent.name}/{path.name}" for path in paths]

    def seen(self) -> int:
        """How many frames of the reference the segments have come to, in whichever processes."""
        return sum(path.stat().st_size for path in self.folder.glob(f"*{SEEN}"))

    @property
    def within(self) -> float:
        """Seconds that frames of one moment may lie apart."""
        return self.options.match_within or 0.5 / min(stream.rate for stream in self.streams) + 1e-3

    def cut_short(self, last: float) -> str:
        """A note where the reference's file states more than a second beyond the time of its last frame."""
        name, stated = self.names[self.reference], self.streams[self.reference].length
        return (
            f"{name} ends at {last:.1f} s of the {stated:.1f} s that it states: cut short?" if stated > last + 1 else ""
        )

    @property
    def folder(self) -> Path:
        """Folder of finished segments."""
        return self.output.with_name(f".{self.output.name}.parts")


def plan_video(
    pipeline: Pipeline,
    sources: Sequence[Path],
    output: Path,
    options: VideoOptions,
    force: bool,
    report: Callable[[int], None] = lambda frames: None,
) -> Video:
    """Open the streams, choose the reference, and read it once to find its shots.

    Frames of several sizes are fused once, so that what refuses them does so here. report: called with the number of
    frames that were read.
    """
    if len(sources) < 2:
        raise InputError("fusing needs two or more videos of one scene; got one")
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
    pictures = [picture_of(frame, name) for frame, name in zip(firsts, video.names, strict=True) if frame]
    if len({picture.size for picture in pictures}) > 1:
        pipeline.fuse_pictures(pictures, reference=reference)
    shots, last, frames = _survey(streams[reference], report)
    count = max(1, ceil(last / options.segment))
    edges = [*(number * options.segment for number in range(count)), last + 1.0]
    segments = tuple(
        Segment(i, a, b, tuple(t for t in shots if t < b), video.folder / f"{i:05d}{PARTS}")
        for i, (a, b) in enumerate(pairwise(edges))
    )
    return replace(video, segments=segments, frames=frames)


def _survey(stream: Stream, report: Callable[[int], None]) -> tuple[list[float], float, int]:
    """Times of the first frame of each shot, and of the last frame; the number of frames."""
    shots, before, last, count = [0.0], None, 0.0, 0
    for count, frame in enumerate(stream.frames(), 1):
        report(count)
        small = frame.values[:: max(1, stream.height // THUMBNAIL), :: max(1, stream.width // THUMBNAIL)]
        small = small.astype(np.float32) / np.iinfo(small.dtype).max
        if before is not None and float(np.abs(small - before).mean()) > CUT:
            shots.append(frame.time)
        before, last = small, frame.time
    if before is None:
        raise InputError(f"{stream.source}: has no frames")
    return shots, last, count


def picture_of(frame: Frame, name: str) -> Picture:
    """A frame as a picture, in the full range of its type."""
    depth: Depth = "8" if frame.values.dtype == np.uint8 else "16"
    return Picture(frame.values, depth, (0.0, 255.0 if depth == "8" else 65535.0), name=name)
