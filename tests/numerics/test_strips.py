"""Images in strips."""

import pytest
import torch

from fusionkit.numerics import strips as module
from fusionkit.numerics.strips import even_strips, in_strips, strips
from fusionkit.numerics.window import box_mean


@pytest.fixture
def small(monkeypatch):
    """Strips of a few rows, as those of large images have thousands."""
    monkeypatch.setattr(module, "PIXELS", 640)


@pytest.mark.parametrize("height", [1, 7, 96, 101])
@pytest.mark.parametrize("step", [1, 3])
def test_places_cover_an_image_once_and_see_what_lies_around(small, height, step):
    parts = strips(height, 64, reach=5, step=step)
    assert [row for part in parts for row in range(part.place.start, part.place.stop)] == list(range(height))
    for part in parts:
        assert part.place.start % step == 0
        assert part.rows.start == max(0, part.place.start - 5)
        assert part.rows.stop == min(height, part.place.stop + 5)
        rows = list(range(height))[part.rows]
        assert rows[part.inner] == list(range(height))[part.place]


@pytest.mark.parametrize("height", [1, 19, 20, 97])
def test_even_strips_are_of_one_height_of_which_cosine_transforms_are_fast(monkeypatch, height):
    monkeypatch.setattr(module, "WHOLE", 1000)
    monkeypatch.setattr(module, "SOLVED", 640)
    parts = even_strips(height, 64, reach=5)
    assert [row for part in parts for row in range(part.place.start, part.place.stop)] == list(range(height))
    for part in parts:
        assert part.rows.start <= max(0, part.place.start - 5)
        assert part.rows.stop >= min(height, part.place.stop + 5)
        rows = list(range(height))[part.rows]
        assert rows[part.inner] == list(range(height))[part.place]
    assert {len(range(height)[part.rows]) for part in parts} == {min(height, 20)}


def test_an_image_of_ordinary_size_is_one_even_strip():
    assert len(even_strips(1024, 1024, reach=100)) == 1
    assert len(even_strips(3000, 4000, reach=100)) > 4


def test_what_looks_no_further_comes_out_the_same(small, generator):
    x = torch.rand(2, 1, 90, 64, generator=generator)
    seen = []

    def mean(rows):
        seen.append(rows.shape[-2])
        return box_mean(rows, 4)

    torch.testing.assert_close(in_strips(mean, x, reach=4), box_mean(x, 4), atol=1e-6, rtol=0)
    assert max(seen) <= 10 + 8
