"""The demo's scenes: reproducible, in range, and really a task each."""

import numpy as np
import pytest
from scipy.ndimage import laplace

from fusionkit.method.degrade import made_pictures
from fusionkit.scenes import SCENES, Layer, infrared_visible, multi_exposure, multi_focus, through_lens


@pytest.mark.parametrize("task", SCENES)
def test_scenes_are_reproducible_and_in_range(task):
    scene = SCENES[task]
    images = scene.make((120, 160), seed=1)
    assert len(images) == len(scene.roles) == 2
    for image, again, other in zip(images, scene.make((120, 160), seed=1), scene.make((120, 160), seed=2), strict=True):
        assert image.shape[:2] == (120, 160)
        assert 0 <= image.min() < image.max() <= 1
        assert np.array_equal(image, again)
        assert not np.array_equal(image, other)


@pytest.mark.parametrize("task", SCENES)
def test_pictures_are_the_scenes_as_their_cameras_take_them(task):
    scene = SCENES[task]
    pictures, again = (made_pictures(task, (120, 160), seed=1) for _ in range(2))
    for picture, same, image, role in zip(pictures, again, scene.make((120, 160), seed=1), scene.roles, strict=True):
        assert picture.name == role
        assert np.array_equal(picture.pixels, same.pixels)
        assert 0 <= picture.pixels.min() < picture.pixels.max() <= 1
        assert np.array_equal(picture.pixels, image.astype("float32")) != bool(scene.degraded)


def test_the_infrared_camera_of_the_night_has_half_the_pixels_and_stripes():
    ir, vis = (picture.pixels for picture in made_pictures("noisy-night", (120, 160)))
    assert ir.shape == (60, 80, 1)
    assert vis.shape == (120, 160, 3)
    assert vis.mean() < 0.15
    sky = ir[2:18, 28:60, 0] * 255  # columns differ by their offsets, rows by noise and the sky's light
    across, along = np.diff(sky.mean(0)).std(), np.diff(sky.mean(1)).std()
    assert across > 5
    assert along < 3


def test_each_pair_holds_what_its_task_is_about():
    ir, vis = infrared_visible((240, 320))
    assert ir.shape[2] == 1
    assert vis.shape[2] == 3
    hot = ir[..., 0] > 0.7
    assert 0.01 < hot.mean() < 0.1
    assert vis[hot].mean() < 0.45, "hot objects must not be bright in the visible image as well"
    under, over = multi_exposure((240, 320))
    assert under.mean() < 0.25 < 0.5 < over.mean()
    assert (over > 0.99).mean() > 0.1
    near, far = multi_focus((240, 320))
    sharp = [np.abs(laplace(x.mean(2))) for x in (near, far)]
    wall, pot = (slice(0, 60), slice(0, 120)), (slice(140, 180), slice(40, 130))
    assert sharp[1][wall].mean() > 1.5 * sharp[0][wall].mean()
    assert sharp[0][pot].mean() > 1.5 * sharp[1][pot].mean()


def test_a_thin_lens_spreads_points_over_discs_and_hides_what_is_behind():
    size = (48, 64)
    light, one = np.zeros((*size, 1)), np.ones(size)
    light[24, 32] = 1.0
    spread = through_lens([Layer(light, one, one)], 0.0, 5.0)
    assert spread.sum() == pytest.approx(1.0)
    assert np.count_nonzero(spread > 0.49 * spread.max()) == pytest.approx(np.pi * 25, rel=0.05)
    half = (np.arange(64) < 32) * one
    layers = [Layer(one[..., None], one, one), Layer(0.25 * one[..., None], half, 0 * one)]
    assert np.array_equal(through_lens(layers, 0.5, 0.0)[0, :, 0], np.where(half[0] > 0, 0.25, 1.0))
    behind = through_lens(layers, 1.0, 8.0)[24, :, 0]
    assert behind[[2, 60]] == pytest.approx([0.25, 1.0])
    assert behind[31:33].mean() == pytest.approx(0.625, abs=0.01), "an edge out of focus lets half through"
