"""One range for all files of a folder: what their values have in common, and nothing that none of them has."""

import numpy as np
import pytest
import tifffile

from fusionkit.reading import read_image
from fusionkit.reading.ranges import Reading, source_ranges


@pytest.mark.parametrize(
    ("dtype", "ends", "expected"),
    [
        (np.float32, ((11, 38.5), (11.5, 39)), (11, 39)),  # temperatures: no value is 0
        (np.float32, ((-20, 5), (-3, 14)), (-20, 14)),
        (np.float32, ((0, 0.8), (0, 6)), (0, 6)),  # light, one picture of which stays below 1
        (np.int32, ((280, 310), (290, 330)), (280, 330)),
        (np.uint16, ((7000, 7400), (7200, 7900)), (7000, 7900)),  # a little of their type
        (np.uint16, ((2, 4000), (0, 60000)), (0, 65535)),
    ],
)
def test_a_folder_has_the_range_of_its_values(dtype, ends, expected, tmp_path):
    paths = [tmp_path / f"{i}.tif" for i in range(len(ends))]
    for path, (low, high) in zip(paths, ends, strict=True):
        tifffile.imwrite(path, np.linspace(low, high, 24 * 32).reshape(24, 32).astype(dtype))
    (span,) = source_ranges([[path] for path in paths], Reading())
    assert span == pytest.approx(expected)
    assert read_image(paths[1], span).span == span
