"""Degradations of sources."""

import numpy as np
import pytest

from fusionkit.errors import OptionError
from fusionkit.method.degrade import degrade, known, parse_degradation


def test_they_are_the_same_each_time_and_differ_between_pairs_and_sources():
    image = np.full((20, 30, 3), 0.5, np.float32)
    first = degrade(image, "noise:level=25.5", 0, "a")
    np.testing.assert_array_equal(first, degrade(image, "noise:level=25.5", 0, "a"))
    assert first.std() == pytest.approx(0.1, rel=0.1)
    for source, key in ((1, "a"), (0, "b")):
        assert not np.array_equal(first, degrade(image, "noise:level=25.5", source, key))


def test_a_shift_moves_the_first_source_alone():
    image = np.tile(np.linspace(0, 1, 30, dtype=np.float32)[None, :, None], (4, 1, 1))
    np.testing.assert_allclose(degrade(image, "1=shift:pixels=2", 0, "a")[:, 2:], image[:, :-2], atol=1e-6)
    np.testing.assert_array_equal(degrade(image, "1=shift:pixels=2", 1, "a"), image)


@pytest.mark.parametrize(
    "text",
    [
        "noise:level=10",
        "blur:sigma=1.5",
        "blur:kernel=motion,length=7",
        "jpeg:quality=10",
        "blur:sigma=1 + noise:level=5",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range_stay(text, channels):
    image = np.random.default_rng(0).random((21, 17, channels), dtype=np.float32)
    changed = degrade(image, text, 0, "a")
    assert changed.shape == image.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not np.array_equal(changed, image)


def test_several_are_made_in_order_some_in_one_source_alone():
    image = np.random.default_rng(0).random((21, 17, 1), dtype=np.float32)
    steps = parse_degradation("blur:sigma=2 + 2=noise:level=25")
    assert [str(step) for step in steps] == ["blur:sigma=2", "2=noise:level=25"]
    assert parse_degradation("none") == []
    first, second = (degrade(image, "blur:sigma=2 + 2=noise:level=25", source, "a") for source in (0, 1))
    assert first.std() < 0.3 * image.std()
    assert second.std() > 1.1 * first.std()


def test_what_is_undone_when_it_is_known():
    assert known("shift:pixels=2 + 1=noise:level=8") == ["1=noise:level=8"]
    assert known("none") == known("shift:pixels=2") == ["none"]


def test_a_wrong_one_is_refused_in_one_line():
    for text, why in (("fog", "no degradation 'fog'"), ("noise:level=x", "level"), ("shift:pixels=200", "100")):
        with pytest.raises(OptionError, match=why):
            parse_degradation(text)
