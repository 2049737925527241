"""From pictures to files: writers, and what of a picture a format holds."""

from .write import (
    check_output,
    depth_in,
    extension_of,
    holds_volumes,
    store_image,
    store_volume,
    writable_extensions,
    write_image,
)

__all__ = [
    "check_output",
    "depth_in",
    "extension_of",
    "holds_volumes",
    "store_image",
    "store_volume",
    "writable_extensions",
    "write_image",
]
