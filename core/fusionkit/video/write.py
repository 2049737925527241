"""Encoding segments and joining them into the result."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..images.picture import Array
from ..storage.atomic import atomic_write
from .plan import PARTS, Video
from .streams import av, pixel_format

TICKS = 90_000  # ticks a second in written files


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
        """Encode one frame."""
        grey = values.shape[2] == 1
        given = pixel_format(values.dtype == np.uint16, grey)
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
            options = {"crf": str(self.video.options.crf), "preset": "veryfast", "bf": "0"}
            stream = self.container.add_stream("libx264", rate=rate, options=options)
            stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
            context.color_range = 1
        stream.width, stream.height = width, height
        stream.codec_context.time_base = Fraction(1, TICKS)
        self.stream = stream


def join(video: Video) -> None:
    """Copy the packets of the segments, and of the reference's sound and metadata, into the result."""
    main, paths = video.streams[video.reference], [str(segment.path) for segment in video.segments]
    with atomic_write(video.output) as temporary, av().open(str(temporary), "w") as out:
        with av().open(paths[0]) as first:
            queues = [_packets(paths, *_stream_like(first.streams.video[0], main.rate, out))]
        with suppress(av().FFmpegError, OSError, ValueError, IndexError):  # no sound, or none that the container holds
            if not main.live:
                with av().open(main.source) as source:
                    kept = {k: v for k, v in source.metadata.items() if k not in ("encoder", "major_brand")}
                    out.metadata.update(kept)
                    queues.append(_packets([main.source], out.add_stream_from_template(source.streams.audio[0])))
        for _, _, packet in heapq.merge(*queues, key=lambda item: item[:2]):
            out.mux(packet)


def _stream_like(coded: Any, rate: float, out: Any) -> tuple[Any, Any]:
    """A stream for a segment's packets, and a filter that they pass, or None.

    The headers of H.264 hold the rate of ticks; the filter writes that of frames, by which players of Matroska go.
    """
    if coded.codec_context.name != "h264" or out.format.name != "matroska":
        return out.add_stream_from_template(coded), None
    true = Fraction(rate).limit_denominator(1001)
    stream = out.add_mux_stream("h264", rate=true, width=coded.width, height=coded.height)
    ticks = 2 * true  # two a frame
    named = f"h264_metadata=tick_rate={ticks.numerator}/{ticks.denominator}"
    return stream, av().bitstream.BitStreamFilterContext(named, coded, stream)


def _packets(files: Sequence[str], stream: Any, filtered: Any = None) -> Iterator[tuple[float, int, Any]]:
    """Packets for a stream of the result, by time, through a filter of their bits."""
    for number, file in enumerate(files):
        with av().open(file) as container:
            inner = (container.streams.video if stream.type == "video" else container.streams.audio)[0]
            for coded in container.demux(inner):
                for packet in [coded] if coded.dts is None or filtered is None else filtered.filter(coded):
                    if packet.dts is not None:
                        time = float(packet.dts * packet.time_base)
                        packet.stream = stream
                        yield time, number, packet
