"""Weights of networks: finding, reading, writing, loading and verifying them; importing published checkpoints."""

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
