"""How video is matched, cut and written. Imports nothing heavy: the command line derives its options from it."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..options import Options, When

SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".mts", ".nut", ".y4m", ".gif"})
LIVE = re.compile(r"[a-z0-9+.-]+:/+")


class VideoOptions(Options):
    """How video is matched, cut and written."""

    match_within: float = Field(
        0.0,
        ge=0,
        description="largest time difference of matching frames, in seconds; 0: half a frame of the slowest stream",
    )
    segment: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="seconds of video per part; parts are written, resumed and given to workers as a whole",
    )
    codec: Literal["auto", "h264", "ffv1"] = Field(
        "auto", description="ffv1: lossless, keeps 16-bit grey, in .mkv; auto: ffv1 for 16 bits, else h264"
    )
    crf: Annotated[int, When("codec", "auto", "h264")] = Field(
        18, ge=0, le=51, description="loss of h264: 0 none, 18 hardly visible, 28 small files"
    )


def address(source: Path | str) -> str:
    """A source as PyAV takes it: an address of the network has two slashes, of which paths keep one."""
    text = str(source)
    return re.sub(r"^([a-z0-9+.-]+):/(?!/)", r"\1://", text)


def is_video(source: Path | str) -> bool:
    """Whether a source is a video file, a sequence (frame_%04d.png), a device or an address of the network."""
    text = str(source)
    return (
        Path(text).suffix.lower() in SUFFIXES
        or re.search(r"%0?\d*d", text) is not None
        or text.startswith("/dev/video")
        or LIVE.match(text) is not None
    )
