"""Writer of Radiance HDR. Needs imagecodecs."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from fusionkit.contracts import Stored, Writer

__all__ = ["HdrWriter"]


class HdrWriter(Writer):
    """RGB of 8 bits with a common exponent (RGBE), run-length encoded: a hundredth of the largest channel is kept."""

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file; grey becomes three equal channels."""
        values = np.ascontiguousarray(np.broadcast_to(stored.values, (*stored.values.shape[:2], 3)), np.float32)
        path.write_bytes(import_module("imagecodecs").rgbe_encode(values.clip(0), header=True))
        return [f"{path.suffix} holds no values below 0: they became 0"] if values.min() < 0 else []
