"""NCSN++, typed, for images of any size; loads published weights strictly."""

from .config import NCSNppConfig
from .network import NCSNpp

__all__ = ["NCSNpp", "NCSNppConfig"]
