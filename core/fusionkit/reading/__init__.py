"""From files to pictures: readers, ranges of stored values, and files that belong together."""

from .read import MAX_PIXELS, count_pictures, header_size, read_image, read_measured, readable_extensions

__all__ = [
    "MAX_PIXELS",
    "count_pictures",
    "header_size",
    "read_image",
    "read_measured",
    "readable_extensions",
]
