"""Images as pixels, and into files without losing depth, colour, size or the user's trust."""

from .picture import Depth, Picture
from .write import check_output, store_image, write_image

__all__ = ["Depth", "Picture", "check_output", "store_image", "write_image"]
