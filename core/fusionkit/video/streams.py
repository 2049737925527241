"""Frames of a video and their times, through PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageReadError
from ..extras import install
from ..images.picture import Array
from .options import address

BACK = 1.0  # seconds that decoding begins earlier, so that a rounded key frame is not missed


def av() -> Any:
    """PyAV. Raises ImageReadError where it is not installed."""
    try:
        import av as module
    except ModuleNotFoundError:
        raise ImageReadError(f"video needs PyAV: {install('video')}") from None
    return module


@dataclass(frozen=True)
class Frame:
    """time: seconds from the stream's first frame. values: (H, W, 1 or 3), uint8 or uint16.

    damaged: the decoder says that parts of it are made up.
    """

    time: float
    values: Array
    damaged: bool = False

    def grey(self) -> "Frame":
        """The frame with one channel, if its three are equal: codecs store grey as colour."""
        first, *others = (self.values[..., c] for c in range(self.values.shape[2]))
        few = (slice(None, None, 16),) * 2  # tell most coloured frames
        grey = all(np.array_equal(first[part], other[part]) for part in (few, ...) for other in others)
        return replace(self, values=self.values[..., :1]) if grey else self


@dataclass(frozen=True)
class Stream:
    """A video stream, opened for each reading. live: it is not seekable and of unknown length.

    length: seconds that its file states; 0: none.
    """

    source: str
    width: int
    height: int
    rate: float
    deep: bool
    live: bool
    length: float = 0.0

    @classmethod
    def of(cls, source: Path | str, live: bool) -> "Stream":
        """Describe the first video stream of a source. Raises ImageReadError."""
        with _opened(source) as (container, stream):
            if stream.codec_context is None:
                raise ImageReadError(f"{address(source)}: this FFmpeg does not have its codec; convert it first")
            context, rate = stream.codec_context, stream.average_rate or stream.guessed_rate or Fraction(25)
            deep = context.format is not None and context.format.components[0].bits > 8
            length = ((container.duration or 0) - max(0, container.start_time or 0)) / av().time_base
            if stream.duration is not None:  # without a longer sound
                length = float(stream.duration * stream.time_base)
            return cls(address(source), context.width, context.height, float(rate), deep, live, length)

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Frames from the time `start` on, in order."""
        with _opened(self.source) as (container, stream):
            stream.thread_type = "AUTO"
            first = float((stream.start_time or 0) * stream.time_base)
            if start > BACK:
                try:
                    container.seek(int((start - BACK + first) / stream.time_base), stream=stream)
                except av().FFmpegError:
                    container.seek(0)  # a sequence of images
            time = 0.0
            try:
                for number, frame in enumerate(container.decode(stream)):
                    time = number / self.rate if frame.time is None else frame.time - first
                    if time >= start - 1e-6:
                        yield Frame(time, self._values(frame), bool(getattr(frame, "is_corrupt", False)))
            except av().FFmpegError as error:
                raise ImageReadError(f"{self.source}: damaged after {time:.2f} s: {error.strerror}") from None

    def _values(self, frame: Any) -> Array:
        grey = len(frame.format.components) == 1
        values: Array = frame.to_ndarray(format=pixel_format(self.deep, grey))
        turned = getattr(frame, "rotation", 0) or 0
        if turned % 90 == 0 and turned:
            values = np.ascontiguousarray(np.rot90(values, turned // 90))
        return values if values.ndim == 3 else values[:, :, None]


def pixel_format(deep: bool, grey: bool) -> str:
    """FFmpeg's name of the samples of uint16 or uint8 arrays."""
    return ("gray16le" if grey else "rgb48le") if deep else ("gray" if grey else "rgb24")


@contextmanager
def _opened(source: Path | str) -> Iterator[tuple[Any, Any]]:
    """Open a source; yields its container and its first video stream."""
    text = address(source)
    how = {"format": "v4l2"} if text.startswith("/dev/video") else {}
    try:
        container = av().open(text, **how)
    except (av().FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageReadError(f"{text}: cannot be opened as video: {reason}") from None
    with container:
        if not container.streams.video:
            raise ImageReadError(f"{source}: holds no video")
        yield container, container.streams.video[0]
