"""`align=handheld` and stages that look at a whole series."""

import numpy as np
import pytest
from skimage import data

from fusionkit.contracts import Stage
from fusionkit.errors import NoEffect, NotAligned, OptionError
from fusionkit.images.accept import as_picture
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.series import fuse_series

PHOTO = data.coffee()


def shifted(shifts, size=(240, 320)):
    """Cuts of one photograph."""
    rows, columns = 80, 140
    cut = [PHOTO[rows + y : rows + y + size[0], columns + x : columns + x + size[1]] for y, x in shifts]
    return [as_picture(np.ascontiguousarray(values), f"frame {i + 1}") for i, values in enumerate(cut)]


def method(**choices):
    return Pipeline(**{"prior": "average", "backbone": "identity", "restore": "none", "device": "cpu", **choices})


SHIFTS = [(0, 0), (6, -9), (12, 5), (-8, 14), (-3, -12), (5, 7)]


@pytest.mark.parametrize("count", [3, 6], ids=["at once", "frame by frame"])
def test_frames_lie_on_the_reference(count):
    pictures = shifted(SHIFTS[:count])
    fused = method(align="handheld", crop="common").fuse_pictures(pictures, reference=0)
    rows, columns = fused.facts.cut
    assert fused.picture.size == (columns.stop - columns.start, rows.stop - rows.start)
    assert fused.picture.size[0] > 280
    wanted = pictures[0].pixels[rows, columns]
    apart = method(align="none").fuse_pictures(pictures, reference=0).picture.pixels[rows, columns]
    assert np.abs(fused.picture.pixels - wanted).mean() < 0.15 * np.abs(apart - wanted).mean()
    found = {row["source"]: np.array(row["matrix"]) for row in fused.facts.found["aligned"]}
    assert sorted(found) == list(range(2, count + 1))
    for number, matrix in found.items():
        y, x = SHIFTS[number - 1]
        np.testing.assert_allclose(matrix[:2, 2], [-x, -y], atol=0.3)
    assert sum("aligned to frame 1" in note for note in fused.notes) == 1


def test_frames_that_lie_there_keep_their_bytes():
    pictures = shifted([(0, 0)] * 5)
    fused = method(align="handheld").fuse_pictures(pictures).picture.values
    assert np.array_equal(fused, method(align="none").fuse_pictures(pictures).picture.values)


def test_a_frame_without_a_match_is_refused_or_kept():
    pictures = shifted(SHIFTS[:5])
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    pictures[3] = as_picture(noise, "frame 4")
    with pytest.raises(NotAligned, match="frame 4: not aligned"):
        method(align="handheld").fuse_pictures(pictures, reference=0)
    fused = method(align="handheld", align_or_keep=True).fuse_pictures(pictures, reference=0)
    assert any("frame 4: not aligned" in note and "as it lies" in note for note in fused.notes)


def test_a_stated_field_of_view_is_refused():
    with pytest.raises((NoEffect, OptionError), match="`fov` has no effect"):
        method(align="handheld", fov=0.7)


class Looks(Stage):
    """Keeps the mean of each frame as the stages before leave it, and takes the mean of all from the frame."""

    by_frame = True
    less = 0.0

    def of_series(self, sources, frames):
        self.means = [float(one.luma[0].mean()) for one in sources]
        stages = [Looks() for _ in sources]
        for stage, mean in zip(stages, self.means, strict=True):
            stage.less = mean - min(self.means)
        return stages

    def before(self, sources):
        return sources.with_images([(sources.images[0] - self.less).clamp(0, 1), *sources.images[1:]])


def test_a_stage_may_look_at_all_frames_first():
    values = [np.full((40, 50, 3), level, np.uint8) for level in (60, 70, 80, 90, 100)]
    stage = Looks()
    pipeline = method(align="none", stages=[stage])
    fused = fuse_series(pipeline, [as_picture(v, f"{i}") for i, v in enumerate(values)])
    assert stage.means == pytest.approx([level / 255 for level in (60, 70, 80, 90, 100)], abs=1e-6)
    np.testing.assert_allclose(fused.picture.pixels, 60 / 255, atol=1e-5)
