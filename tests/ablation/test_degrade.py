"""Degradations of sources."""

import numpy as np
import pytest

from fusionkit.ablation.degrade import degrade, parse_degradation


def test_they_are_the_same_each_time_and_differ_between_pairs_and_sources():
    image = np.full((20, 30, 3), 0.5, np.float32)
    first = degrade(image, "noise=0.1", 0, "a")
    np.testing.assert_array_equal(first, degrade(image, "noise=0.1", 0, "a"))
    assert first.std() == pytest.approx(0.1, rel=0.1)
    for source, key in ((1, "a"), (0, "b")):
        assert not np.array_equal(first, degrade(image, "noise=0.1", source, key))


def test_a_shift_moves_the_first_source_alone():
    image = np.tile(np.linspace(0, 1, 30, dtype=np.float32)[None, :, None], (4, 1, 1))
    np.testing.assert_allclose(degrade(image, "shift=2", 0, "a")[:, 2:], image[:, :-2], atol=1e-6)
    np.testing.assert_array_equal(degrade(image, "shift=2", 1, "a"), image)


def test_motion_smears_along_rows_alone():
    image = np.zeros((9, 31, 1), np.float32)
    image[4, 15] = 1
    for amount, expected in (
        (5, [0.2, 0.2, 0.2, 0.2, 0.2]),
        (4, [0.125, 0.25, 0.25, 0.25, 0.125]),
        (1, [0, 0, 1, 0, 0]),
    ):
        smeared = degrade(image, f"motion={amount}", 0, "a")
        np.testing.assert_allclose(smeared[4, 13:18, 0], expected, atol=1e-6)
        assert smeared.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", ["blur=1.5", "motion=7", "jpeg=10", "darken=0.5", "blur=1+noise=0.02"])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range_stay(text, channels):
    image = np.random.default_rng(0).random((21, 17, channels), dtype=np.float32)
    changed = degrade(image, text, 0, "a")
    assert changed.shape == image.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not np.array_equal(changed, image)


def test_several_are_made_in_order():
    assert parse_degradation("blur=2+noise=0.1") == [("blur", 2.0), ("noise", 0.1)]
    assert parse_degradation("none") == []
