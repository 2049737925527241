"""Ablations: a grid of methods over the same pairs, scored, compared and taken apart."""

from .grid import Cell, Grid, load_grid
from .study import Case, Study, load_pairs, load_scenes

__all__ = ["Case", "Cell", "Grid", "Study", "load_grid", "load_pairs", "load_scenes"]
