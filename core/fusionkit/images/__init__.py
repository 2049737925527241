"""Images as pixels, and files of images that keep depth, colour and size."""

from .picture import Depth, Picture
from .write import check_output, store_image, write_image

__all__ = ["Depth", "Picture", "check_output", "store_image", "write_image"]
