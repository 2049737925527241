"""From files to pictures: who reads a file, which stored values are black and white, which files belong together."""

from .read import MAX_PIXELS, count_pictures, header_pixels, read_image, readable_extensions

__all__ = ["MAX_PIXELS", "count_pictures", "header_pixels", "read_image", "readable_extensions"]
