"""Arrays and tensors."""

import numpy as np
import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.images import Picture
from fusionkit.images.convert import StoredImages, to_tensor
from fusionkit.method import pipeline as module
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics import strips
from fusionkit.scenes import SCENES
from harness import noisy_street


def pictures(scene="infrared-visible", size=(200, 160)):
    images = noisy_street(size) if scene == "noisy-night" else SCENES[scene].make(size)
    return [Picture((255 * x + 0.5).astype(np.uint8), "8", (0.0, 255.0), name=str(i)) for i, x in enumerate(images)]


def test_stored_pictures_are_the_tensors_that_they_stand_for():
    given = pictures()
    images = StoredImages(given, torch.device("cpu"))
    assert len(images) == len(given)
    for image, picture in zip(images, given, strict=True):
        assert torch.equal(image, to_tensor(picture.pixels))
    assert torch.equal(images.rows(1, slice(10, 30)), images[1][..., 10:30, :])
    stored, plain = Sources.of(images), Sources.of(list(images))
    assert stored.scenes == plain.scenes
    assert [bool(c) for c in stored.colored] == [bool(c) for c in plain.colored]
    assert all(torch.equal(a, b) for a, b in zip(stored.luma, plain.luma, strict=True))


@pytest.mark.parametrize("scene", ["infrared-visible", "noisy-night", "multi-exposure", "multi-focus"])
@pytest.mark.parametrize("look", ["auto", "faithful"])
def test_a_large_picture_is_fused_as_a_small_one_is(monkeypatch, scene, look):
    given = pictures(scene)
    pipeline = Pipeline(look=look, device="cpu", tile=1024)  # networks see the whole image in either
    whole = pipeline.fuse_pictures(given)
    monkeypatch.setattr(module, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(strips, "PIXELS", 160 * 24)
    striped = pipeline.fuse_pictures(given)
    np.testing.assert_allclose(striped.picture.pixels, whole.picture.pixels, atol=5e-4)
    assert striped.picture.notes == whole.picture.notes
    assert striped.found == whole.found
