"""Weights: where they lie, how they are read, written and checked, how published checkpoints are taken in."""

from .checkpoint import CheckpointImporter, Imported
from .files import WeightsFile, differences, load_network, load_weights, open_weights, save_weights
from .store import find_weights

__all__ = [
    "CheckpointImporter",
    "Imported",
    "WeightsFile",
    "differences",
    "find_weights",
    "load_network",
    "load_weights",
    "open_weights",
    "save_weights",
]
