"""Sources as users hold them."""

import numpy as np
import pytest

from fusionkit import read_image, write_image
from fusionkit.errors import ImageReadError
from fusionkit.reading.take import as_source


def test_a_number_behind_a_path_chooses_a_picture(tmp_path):
    write_image(tmp_path / "a.png", np.full((3, 4), 7, np.uint8))
    assert np.array_equal(read_image(f"{tmp_path}/a.png#1"), np.full((3, 4), 7))
    with pytest.raises(ImageReadError, match="holds 1 pictures, none of number 2"):
        read_image(tmp_path / "a.png#2")
    write_image(tmp_path / "a.png#2.png", np.full((3, 4), 9, np.uint8))
    assert read_image(tmp_path / "a.png#2.png").values.max() == 9


def test_sixteen_bits_get_a_range_of_their_own():
    counts = np.linspace(7000, 7500, 400, dtype=np.uint16).reshape(20, 20)
    assert as_source(counts, 1).span == (7000.0, 7500.0)
    assert as_source((counts * 8).clip(0, 65535), 1).span == (56000.0, 60000.0)
    wide = np.linspace(0, 60000, 400, dtype=np.uint16).reshape(20, 20)
    assert as_source(wide, 1).span == (0.0, 65535.0)
