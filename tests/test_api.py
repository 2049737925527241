"""`fusionkit.fuse` on everything that holds an image."""

import numpy as np
import pytest
import torch
from PIL import Image

import fusionkit
from fusionkit.errors import InputError, OptionError, SizeMismatch
from harness import load_image


def fuse(*images, **choices):
    return fusionkit.fuse(*images, **{"prior": "average", "backbone": "identity", "device": "cpu", **choices})


@pytest.fixture
def arrays(pair_files):
    return tuple(np.asarray(load_image(p)) for p in pair_files)


def test_paths_arrays_tensors_and_pil_give_the_same_pixels(pair_files, arrays):
    expected = fuse(*pair_files)
    assert expected.dtype == np.uint8
    assert expected.shape == (96, 128, 3)
    assert np.array_equal(fuse(*map(str, pair_files)), expected)
    assert np.array_equal(fuse(*arrays), expected)
    pil = fuse(*(load_image(p) for p in pair_files))
    assert isinstance(pil, Image.Image)
    assert np.array_equal(np.asarray(pil), expected)
    tensors = [torch.from_numpy(a.copy() if a.ndim == 3 else a[..., None].copy()).permute(2, 0, 1) for a in arrays]
    tensor = fuse(*tensors)
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    floats = fuse(*(a.astype(np.float32) / 255 for a in arrays))
    assert floats.dtype == np.float32
    assert np.array_equal(np.floor(floats * 255 + 0.5).astype(np.uint8), expected)
    assert np.array_equal(fuse(pair_files[0], arrays[1]), expected)


def test_sixteen_bits_stay_sixteen(arrays):
    wide = [a.astype(np.uint16) * 257 for a in arrays]
    result = fuse(*wide)
    assert result.dtype == np.uint16
    assert np.abs(result.astype(float) / 257 - fuse(*arrays)).max() <= 0.51


def test_grey_arrays_keep_their_shape(arrays):
    assert fuse(arrays[0], arrays[0]).shape == (96, 128)
    assert fuse(arrays[0][..., None], arrays[0][..., None]).shape == (96, 128, 1)


def test_a_batch_is_fused_image_by_image(scene):
    ir, vis = (x.repeat(2, 1, 1, 1) for x in scene)
    ir[1], vis[1] = ir[1].flip(-1), vis[1].flip(-1)
    for prior, backbone in (("em_tv", "rf"), ("laplacian", "identity")):
        together = fuse(ir, vis, prior=prior, backbone=backbone)
        assert together.shape == vis.shape
        for b in range(2):
            torch.testing.assert_close(
                together[b], fuse(ir[b], vis[b], prior=prior, backbone=backbone), atol=1e-5, rtol=0
            )


def test_tensors_of_a_training_loop_are_fused_without_their_gradients(scene):
    plain = [image.clone() for image in scene]
    fused = fuse(*(image.clone().requires_grad_() for image in plain))
    assert torch.equal(fused.image, fuse(*plain).image)
    assert not fused.requires_grad


def test_the_reference_is_the_coloured_source_or_the_last(scene):
    ir, vis = scene
    config = {"prior": "none", "backbone": "identity", "device": "cpu", "sampler": {"strength": 1e-6}}
    torch.testing.assert_close(fusionkit.fuse(ir, vis, **config), vis, atol=1e-4, rtol=0)
    torch.testing.assert_close(fusionkit.fuse(vis, ir, **config), vis, atol=1e-4, rtol=0)
    torch.testing.assert_close(fusionkit.fuse(ir, 1 - ir, **config), 1 - ir, atol=1e-4, rtol=0)
    torch.testing.assert_close(fusionkit.fuse(ir, 1 - ir, reference=1, **config), ir, atol=1e-4, rtol=0)


def test_each_image_of_a_batch_has_its_own_reference(scene):
    """The first pair has colour in the second source, the second pair in none."""
    ir, vis = (x.repeat(2, 1, 1, 1) for x in scene)
    ir = ir.repeat(1, 3, 1, 1)
    vis[1] = vis[1].mean(0, keepdim=True)
    ir[1, 0] += 0.1 * (1 - ir[1, 0])  # colour in the first source of the second pair
    config = {"prior": "em_tv", "backbone": "identity"}
    together = fuse(ir, vis, **config)
    for b in range(2):
        torch.testing.assert_close(together[b], fuse(ir[b], vis[b], **config), atol=1e-5, rtol=0)


def test_a_pipeline_fuses_whatever_fuse_does(pair_files, arrays):
    pipeline = fusionkit.Pipeline(fusionkit.PipelineConfig(prior="average", backbone="identity"), device="cpu")
    assert np.array_equal(pipeline.fuse(*pair_files), fuse(*arrays))
    small = np.asarray(Image.fromarray(arrays[0]).resize((64, 48)))
    assert fuse(small, arrays[1], resize="reference").shape == arrays[1].shape


def test_a_pipeline_is_reused_and_reports_steps(scene):
    pipeline = fusionkit.Pipeline(device="cpu")
    seen = []
    first = pipeline.fuse_tensors(scene, callback=seen.append)
    assert torch.equal(first, pipeline.fuse_tensors(scene))
    assert [s.index for s in seen] == [0]
    assert first.shape == scene[1].shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_the_default_is_no_blurrier_than_its_prior_alone(scene):
    """Detail must come from the sources, not from the autoencoder."""

    def sharpness(image):
        return float(image.mean(1).diff(dim=-1).square().mean())

    with_flow = fuse(*scene, prior="em_tv", backbone="rf")
    alone = fuse(*scene, prior="em_tv", backbone="identity", sampler={"strength": 1e-6})
    assert sharpness(with_flow) > 0.9 * sharpness(alone)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ((), "fusing needs two or more images of one scene; got none"),
        ((3, 4), "source 1 is a int"),
        ((np.zeros((2, 2, 2, 2)),), r"array of shape \(2, 2, 2, 2\)"),
        ((np.zeros((4, 4), np.int32),), "array of int32"),
        ((np.full((4, 4), 3.0),) * 2, r"values from 3 to 3, expected \[0, 1\]"),
        ((np.full((4, 4), np.inf),) * 2, "values from inf"),
        ((torch.zeros(4, 4, 3),), "channels come first"),
        ((torch.zeros(1, 4, 4, dtype=torch.int64),), "tensor of torch.int64"),
    ],
)
def test_wrong_images_are_named(images, reason):
    with pytest.raises(InputError, match=reason):
        fuse(*images)


def test_sizes_must_agree_and_options_must_exist(arrays):
    with pytest.raises(SizeMismatch, match="128x96 but source 2 is 128x95"):
        fuse(arrays[0], arrays[1][:-1])
    with pytest.raises(OptionError, match=r"no option 'prio'; did you mean 'prior'\?"):
        fuse(*arrays, prio=3)
