"""How files are read and written. Imports nothing heavy: the command line is made from it."""

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from ..options import Options

__all__ = ["FileOptions"]


class FileOptions(Options):
    """How files are read and written."""

    depth: Literal["8", "16", "float"] | None = Field(
        None, description="depth of the result; by default the reference's"
    )
    range: tuple[tuple[float, float], ...] = Field(
        (),
        description="stored values that mean black and white in 16-bit and float sources, as in 0,4095; once, or one a "
        "source",
    )
    png_level: int = Field(1, ge=0, le=9, description="PNG compression")
    max_pixels: int = Field(150_000_000, ge=1, description="larger images are refused")
    force: bool = Field(False, description="overwrite, and redo what is finished")

    @field_validator("range", mode="before")
    @classmethod
    def _spans(cls, value: Any) -> Any:
        return tuple(_span(item) for item in value)

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"depth": self.depth, "ranges": self.range, "png_level": self.png_level}

    def span(self, index: int) -> tuple[float, float] | None:
        """Black and white of source `index`."""
        return self.range[min(index, len(self.range) - 1)] if self.range else None


def _span(item: Any) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in (item.split(",") if isinstance(item, str) else item))
    except (TypeError, ValueError):
        raise ValueError(f"{item!r}: expected BLACK,WHITE, as in 0,4095") from None
    if not (high > low and math.isfinite(high - low)):
        raise ValueError(f"{item!r}: white must be above black, and both finite")
    return low, high
