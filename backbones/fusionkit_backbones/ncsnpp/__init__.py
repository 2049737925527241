"""NCSN++ written anew: clean, typed, any image size, loads published weights strictly."""

from .config import NCSNppConfig
from .network import NCSNpp

__all__ = ["NCSNpp", "NCSNppConfig"]
