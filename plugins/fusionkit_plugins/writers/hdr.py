"""Writer of Radiance HDR. Needs imagecodecs."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from fusionkit.contracts import Stored, Writer


class HdrWriter(Writer):
    """RGB of 8 bits with a common exponent (RGBE), run-length encoded: a hundredth of the largest channel is kept."""

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file; grey becomes three equal channels."""
        values = np.ascontiguousarray(np.broadcast_to(stored.values, (*stored.values.shape[:2], 3)), np.float32)
        path.write_bytes(import_module("imagecodecs").rgbe_encode(np.nan_to_num(values).clip(0), header=True))
        lacks = {"values below 0": (values < 0).any(), "places without data": np.isnan(values).any()}
        return [f"{path.suffix} holds no {what}: they became 0" for what, found in lacks.items() if found]
