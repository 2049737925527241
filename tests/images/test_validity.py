"""Where pictures have no data."""

import numpy as np
import pytest
import tifffile

from fusionkit.images.picture import robust_span
from fusionkit.images.validity import mirrored, where_valid
from fusionkit.reading import read_image
from fusionkit.reading.ranges import share_range

RNG = np.random.default_rng(0)


def test_nan_alpha_and_what_the_file_says():
    values = np.zeros((4, 5, 1), np.float32)
    values[0, 0], stated, alpha = np.nan, np.ones((4, 5), bool), np.ones((4, 5))
    stated[1, 1] = alpha[2, 2] = False
    assert np.argwhere(~where_valid(values, stated, alpha)).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert where_valid(np.zeros((4, 5, 1), np.float32), None, None) is None


@pytest.mark.parametrize(("inside", "missing"), [((7000, 8000), True), ((200, 8000), False)])
def test_zeros_at_the_frame_are_none_where_all_else_is_far_from_zero(inside, missing):
    counts = RNG.integers(*inside, (40, 50, 1)).astype(np.uint16)
    counts[:10] = counts[20, 20] = 0
    valid = where_valid(counts, None, None)
    assert (valid is not None) == missing
    if missing:
        assert not valid[:10].any()
        assert valid[10:].all()  # a dead pixel inside is no place without data


def test_a_mask_of_zeros_and_ones_is_data():
    assert where_valid((np.arange(100).reshape(10, 10, 1) > 50).astype(np.uint16), None, None) is None


def test_mirrored_pixels_continue_the_noise_and_leave_no_edge():
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (48, 64))[..., None]
    noisy = ramp + RNG.normal(0, 0.02, ramp.shape).astype(np.float32)
    valid = np.ones((48, 64), bool)
    valid[:, 40:], valid[10:14, 10:14] = False, False
    spoiled = np.where(valid[..., None], noisy, -9999)
    (filled,) = mirrored(valid, spoiled)
    assert (filled[valid] == noisy[valid]).all()
    np.testing.assert_allclose(filled[20:40, 40:50], noisy[20:40, 38:28:-1], atol=0)
    assert np.diff(filled[20:40, 40:60, 0]).std() == pytest.approx(np.diff(noisy[20:40, 20:40, 0]).std(), rel=0.2)
    assert not mirrored(np.zeros((3, 3), bool), np.ones((3, 3, 1)))[0].any()


def test_nodata_sets_no_range_and_is_written_back(tmp_path):
    values = RNG.uniform(15, 25, (30, 40)).astype(np.float32)
    values[:5] = np.nan
    tifffile.imwrite(tmp_path / "t.tif", values)
    picture = read_image(tmp_path / "t.tif")
    assert picture.span[0] >= 15
    assert picture.span[1] <= 25
    assert not picture.valid[:5].any()
    stored = np.asarray(picture)
    assert np.isnan(stored[:5]).all()
    np.testing.assert_allclose(stored[5:], values[5:], atol=1e-5)


def test_a_small_bright_object_is_no_dead_pixel():
    values = RNG.integers(300, 1000, (200, 200, 1)).astype(np.uint16)
    values[50:53, 60:63], values[100, 100] = 3084, 60_000
    assert robust_span(values)[1] == 3084


def _plane(tmp_path, name, values):
    tifffile.imwrite(tmp_path / name, values)
    return read_image(tmp_path / name)


def test_sources_of_one_quantity_share_a_range(tmp_path):
    scene = RNG.integers(300, 900, (64, 64)).astype(np.uint16)
    near, far = scene.copy(), scene.copy()
    near[8:12, 8:12] = 3000
    pictures = [_plane(tmp_path, "near.tif", near), _plane(tmp_path, "far.tif", far)]
    assert pictures[0].span != pictures[1].span
    shared = share_range(pictures, one_quantity=False)
    assert {p.span for p in shared} == {(300.0, 3000.0)}
    assert all("as of all sources" in p.notes[-1] for p in shared)
    other = [pictures[0], _plane(tmp_path, "heat.tif", RNG.integers(7000, 8000, (64, 64)).astype(np.uint16))]
    assert share_range(other, one_quantity=False) is other
    assert len({p.span for p in share_range(other, one_quantity=True)}) == 1


def test_floats_in_a_shared_range_keep_their_values(tmp_path):
    ramp = np.linspace(-40, 20, 64 * 64, dtype=np.float32).reshape(64, 64)
    pictures = [_plane(tmp_path, "a.tif", ramp), _plane(tmp_path, "b.tif", 2 * ramp)]
    for picture, values in zip(share_range(pictures, one_quantity=False), (ramp, 2 * ramp), strict=True):
        assert picture.span == (-80.0, 40.0)
        np.testing.assert_allclose(np.asarray(picture), values, atol=1e-4)
