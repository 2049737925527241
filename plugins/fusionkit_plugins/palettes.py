"""Palettes of thermal cameras: colours for what is hot, and what tells that a picture was coloured by one."""

from functools import cache

import numpy as np

from fusionkit.images.picture import Array

# colours of equal steps from cold to hot, 0 to 255; between them they are interpolated. `iron` is cameras' usual one:
# black, violet, red, orange, yellow, white, brighter throughout
PALETTES = {
    "iron": (
        *((0, 0, 10), (32, 0, 120), (110, 0, 155), (180, 15, 125)),
        *((225, 70, 35), (245, 130, 5), (255, 200, 30), (255, 255, 235)),
    ),
}


@cache
def colours_of(name: str, count: int = 256, first: float = 0.0) -> Array:
    """Colours of a palette, (count, 3) float32 in [0, 1]; first: from this share of it on."""
    points = np.array(PALETTES[name], np.float32) / 255
    at, places = np.linspace(first, 1, count), np.linspace(0, 1, len(points))
    return np.stack([np.interp(at, places, channel) for channel in points.T], 1).astype(np.float32)
