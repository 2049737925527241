"""The demo's scenes: reproducible, in range, and really a task each."""

import numpy as np
import pytest
from scipy.ndimage import laplace

from fusionkit.scenes import SCENES, infrared_visible, multi_exposure, multi_focus


@pytest.mark.parametrize("task", SCENES)
def test_scenes_are_reproducible_and_in_range(task):
    scene, roles = SCENES[task]
    images = scene((120, 160), seed=1)
    assert len(images) == len(roles) == 2
    for image, again, other in zip(images, scene((120, 160), seed=1), scene((120, 160), seed=2), strict=True):
        assert image.shape[:2] == (120, 160)
        assert 0 <= image.min() < image.max() <= 1
        assert np.array_equal(image, again)
        assert not np.array_equal(image, other)


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
