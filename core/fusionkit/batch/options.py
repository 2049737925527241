"""How files are read and written. Imports nothing heavy: the command line is made from it."""

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from ..options import Options

__all__ = ["FileOptions"]

Range = tuple[float, float] | Literal["auto", "full"]
NEUTRAL = frozenset({"max_pixels", "save_transform", "force"})  # options that decide no byte of a result


class FileOptions(Options):
    """How files are read and written."""

    depth: Literal["8", "16", "float"] | None = Field(
        None, description="depth of the result; by default the reference's"
    )
    range: tuple[Range, ...] = Field(
        ("auto",),
        description="stored values that mean black and white in 16-bit and float sources: BLACK,WHITE as in 0,4095; "
        "full: those of the type; auto: likewise, unless the data fill less than an eighth of it; one, or one a source",
    )
    range_scope: Literal["folder", "pair"] = Field(
        "folder", description="what auto looks at: all files of a folder, so that nothing flickers, or each by itself"
    )
    save_transform: str = Field(
        "", description="file for what `align` found, to be given to `transform` later; of one set of images"
    )
    strip: bool = Field(
        False, description="leave out what files say beside pixels and colours, such as EXIF, GPS and XMP"
    )
    quality: int | None = Field(
        None, ge=1, le=100, description="quality of JPEG, by default 95, and of WebP, by default lossless"
    )
    png_level: int = Field(1, ge=0, le=9, description="PNG compression")
    max_pixels: int = Field(150_000_000, ge=1, le=10**11, description="larger images are refused")
    force: bool = Field(False, description="overwrite, and redo what is finished")

    @field_validator("range", mode="before")
    @classmethod
    def _spans(cls, value: Any) -> Any:
        numbers = not isinstance(value, str) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
        alone = isinstance(value, str) or numbers
        return tuple(_span(item) for item in ([value] if alone else value)) or ("auto",)

    def record(self) -> dict[str, Any]:
        """All options that decide bytes of a result: for the manifest, and for the digest of the method."""
        return self.model_dump(mode="json", exclude=set(NEUTRAL))

    def span(self, index: int) -> Range:
        """Range of source `index`."""
        return self.range[min(index, len(self.range) - 1)]


def _span(item: Any) -> Range:
    if item in ("auto", "full"):
        return item
    try:
        low, high = (float(part) for part in (item.split(",") if isinstance(item, str) else item))
    except (TypeError, ValueError):
        raise ValueError(f"{item!r}: expected auto, full or BLACK,WHITE, as in 0,4095") from None
    if not (high > low and math.isfinite(high - low)):
        raise ValueError(f"{item!r}: white must be above black, and both finite")
    return low, high
