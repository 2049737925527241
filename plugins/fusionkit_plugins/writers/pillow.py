"""Writers of the formats that Pillow encodes: JPEG, WebP, BMP."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from fusionkit.contracts import Options, Stored, Writer
from fusionkit.images.metadata import xmp_of_result

from .png import with_alpha


class _PillowWriter(Writer):
    """format: Pillow's name of it."""

    format: ClassVar[str]

    def settings(self) -> dict[str, Any]:
        """Settings of Pillow's encoder."""
        return {}

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file."""
        from PIL import Image

        extra = {
            "icc_profile": stored.icc,
            "exif": stored.metadata.exif,
            "xmp": xmp_of_result(stored.metadata),
            **self.settings(),
        }
        given = {name: value for name, value in extra.items() if value not in (None, b"")}
        Image.fromarray(with_alpha(stored)).save(path, self.format, **given)
        return ()


class JpegOptions(Options):
    """Of results."""

    quality: int | None = Field(None, ge=1, le=100, description="quality; by default 95")


class JpegWriter(_PillowWriter):
    """8 bits without chroma subsampling, with profile, EXIF and XMP."""

    Options = JpegOptions
    format = "JPEG"

    def settings(self) -> dict[str, Any]:
        """Quality."""
        return {"quality": self.options.quality or 95, "subsampling": 0}


class WebpOptions(Options):
    """Of results."""

    quality: int | None = Field(None, ge=1, le=100, description="quality; by default lossless")


class WebpWriter(_PillowWriter):
    """8 bits with alpha, profile, EXIF and XMP."""

    Options = WebpOptions
    format = "WEBP"

    def settings(self) -> dict[str, Any]:
        """Quality, or lossless."""
        return {"lossless": True} if self.options.quality is None else {"quality": self.options.quality}


class BmpWriter(_PillowWriter):
    """8 bits without metadata."""

    format = "BMP"
