"""Images as pixels, and files of images that keep depth, colour and size."""

from .picture import Depth, Picture

__all__ = ["Depth", "Picture"]
