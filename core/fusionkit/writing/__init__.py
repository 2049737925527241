"""From pictures to files: writers, and what of a picture a format holds."""

from .write import check_output, depth_in, extension_of, store_image, writable_extensions, write_image

__all__ = ["check_output", "depth_in", "extension_of", "store_image", "writable_extensions", "write_image"]
