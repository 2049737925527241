"""Encoding segments, and joining them into the result."""

import heapq
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..images.picture import Array
from ..storage.atomic import atomic_write
from .plan import PARTS, Video
from .streams import av

__all__ = ["Writer", "join"]

TICKS = 90_000  # time base of what is written


class Writer:
    """Encodes frames into a segment's file."""

    def __init__(self, path: Path, video: Video) -> None:
        self.path, self.video = path, video
        self.container: Any = None
        self.stream: Any = None

    def __enter__(self) -> "Writer":
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


def join(video: Video) -> None:
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
