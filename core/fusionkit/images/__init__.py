"""Images in and out of files, without losing depth, colour, size or the user's trust."""

from .picture import EXTENSIONS, Depth, Picture
from .read import MAX_PIXELS, read_image
from .write import check_output, store_image, write_image

__all__ = ["EXTENSIONS", "MAX_PIXELS", "Depth", "Picture", "check_output", "read_image", "store_image", "write_image"]
