"""Results know themselves, and stay arrays, tensors and images."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fusionkit
from fusionkit import Fused, Pipeline, read_image, write_image
from fusionkit.errors import InputError, OutputError
from fusionkit.images.metadata import Metadata
from fusionkit.method.result import FusedArray, FusedImage, FusedTensor
from harness import run_cli

PLAIN = {"prior": "average", "backbone": "identity", "device": "cpu"}


@pytest.fixture
def arrays(pair_files):
    return [np.asarray(read_image(path)) for path in pair_files]


@pytest.fixture
def fused(pair_files):
    return fusionkit.fuse(*pair_files, **PLAIN)


def known(result):
    return result.notes, result.reference, result.evaluations


class TestArrays:
    def test_is_an_array_that_knows_itself(self, fused):
        assert isinstance(fused, Fused)
        assert isinstance(fused, np.ndarray)
        assert type(fused.image) is np.ndarray
        assert np.shares_memory(fused.image, fused)
        assert fused.reference == 1
        assert isinstance(fused.notes, tuple)
        assert fused.seconds
        assert Image.fromarray(fused).size == (128, 96)
        assert fused._repr_png_().startswith(b"\x89PNG")

    def test_notes_say_what_was_decided(self, arrays):
        small = arrays[0][::2, ::2]
        assert any("resized" in note for note in fusionkit.fuse(small, arrays[1], resize="reference", **PLAIN).notes)

    def test_views_copies_and_pickles_keep_what_is_known(self, fused):
        for same in (fused[:10], fused[..., 0], fused.copy(), copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
            assert isinstance(same, FusedArray)
            assert known(same) == known(fused)
        assert np.array_equal(pickle.loads(pickle.dumps(fused)), fused)

    def test_what_is_computed_is_a_plain_array(self, fused):
        for plain in (fused / 255, fused + fused, fused == fused, np.concatenate([fused, fused])):
            assert type(plain) is np.ndarray
        assert isinstance(fused.mean(), np.floating)
        assert isinstance(fused.max(), np.uint8)

    def test_saves_what_the_command_writes(self, pair_files, fused, tmp_path):
        for name in ("a.png", "a.jpg", "a.tif", "a.webp"):
            method = ("--prior", "average", "--backbone", "identity")
            assert run_cli("run", *pair_files, *method, "-o", tmp_path / f"cli-{name}").returncode == 0
            assert fused.save(tmp_path / name) == []
            assert (tmp_path / name).read_bytes() == (tmp_path / f"cli-{name}").read_bytes()

    @pytest.mark.parametrize(("dtype", "top"), [(np.uint16, 9000), (np.float32, 311.5)])
    def test_depth_span_and_metadata_of_the_reference_are_kept(self, tmp_path, dtype, top):
        values = np.linspace(top / 2, top, 48 * 64).reshape(48, 64).astype(dtype)
        picture = replace(read_image(self.tif(tmp_path / "raw.tif", values)), metadata=Metadata(xmp=b"<x:xmpmeta/>"))
        write_image(tmp_path / "kept.tif", picture)
        with pytest.warns(fusionkit.FusionWarning, match="black is .* white is"):
            result = fusionkit.fuse(tmp_path / "kept.tif", tmp_path / "kept.tif", **PLAIN)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, values, rtol=1e-4)
        result.save(tmp_path / "out.tif")
        again = read_image(tmp_path / "out.tif")
        assert np.array_equal(np.asarray(again), result)
        assert again.metadata.xmp == b"<x:xmpmeta/>"
        assert np.array_equal(fusionkit.fuse(result, result, **PLAIN), result)
        result[:24].save(tmp_path / "half.tif")
        assert np.array_equal(np.asarray(read_image(tmp_path / "half.tif")), result[:24])
        result.save(tmp_path / "eight.png", depth=8)
        assert np.ptp(np.asarray(read_image(tmp_path / "eight.png"))) == 255  # over the span, as the command does
        if dtype == np.float32:
            with pytest.raises(OutputError, match=r"\.png cannot hold 32-bit float images; write \.tif"):
                result.save(tmp_path / "out.png")

    @staticmethod
    def tif(path, values):
        import tifffile

        tifffile.imwrite(path, values)
        return path

    def test_floats_are_written_to_formats_without_floats(self, arrays, tmp_path):
        result = fusionkit.fuse(*(a / 255 for a in arrays), **PLAIN)
        assert result.dtype == np.float64
        assert result.save(tmp_path / "a.png") == [".png holds no floats: written at 8 bits; .tif keeps them"]
        assert read_image(tmp_path / "a.png").depth == "8"
        assert result.save(tmp_path / "a.tif") == []
        np.testing.assert_allclose(np.asarray(read_image(tmp_path / "a.tif")), result, atol=1e-7)

    def test_alpha_of_the_reference_stays(self, arrays, tmp_path):
        cover = np.full((96, 128, 1), 200, np.uint8)
        result = fusionkit.fuse(arrays[0], np.dstack([arrays[1], cover]), **PLAIN)
        assert result.shape == (96, 128, 4)
        assert (result[..., 3] == 200).all()
        assert "alpha kept from source 2" in result.notes
        result.save(tmp_path / "a.png")
        assert np.allclose(read_image(tmp_path / "a.png").alpha, 200 / 255)
        other = fusionkit.fuse(tmp_path / "a.png", arrays[1], reference=1, **PLAIN)
        assert other.picture.alpha is not None
        assert other[:50].save(tmp_path / "b.png") == ["alpha of the whole does not fit a part of it: left out"]


class TestTensors:
    def test_is_a_tensor_that_knows_itself(self, scene):
        result = fusionkit.fuse(*scene, **PLAIN)
        assert isinstance(result, Fused)
        assert isinstance(result, torch.Tensor)
        assert type(result.image) is torch.Tensor
        assert result.image.data_ptr() == result.data_ptr()
        assert result.reference == 1
        assert type(result * 2) is torch.Tensor
        assert type(result[0]) is torch.Tensor
        assert torch.equal(result, result.image)
        assert np.asarray(result).shape == tuple(result.shape)
        assert repr(result) == "<FusedTensor (1, 3, 96, 128) torch.float32, like source 2, 1 note>"
        assert repr(result[0, 0, 0, :2]).startswith("tensor([")

    def test_copies_and_pickles_keep_what_is_known(self, scene):
        result = fusionkit.fuse(*scene, **PLAIN)
        for same in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
            assert isinstance(same, FusedTensor)
            assert torch.equal(same, result)
            assert known(same) == known(result)

    def test_height_and_width_alone_are_grey(self, scene):
        grey = scene[0][0, 0]
        result = fusionkit.fuse(grey, 1 - grey, **PLAIN)
        assert result.shape == grey.shape
        assert torch.allclose(result, torch.full_like(grey, 0.5))

    def test_one_image_is_saved_a_batch_refused(self, scene, tmp_path):
        result = fusionkit.fuse(*scene, **PLAIN)
        result.save(tmp_path / "a.png")
        assert np.array_equal(read_image(tmp_path / "a.png").pixels.shape, (96, 128, 3))
        pair = fusionkit.fuse(*(x.repeat(2, 1, 1, 1) for x in scene), **PLAIN)
        with pytest.raises(InputError, match=r"a batch of 2 images; give one of them, such as image\[0\]"):
            pair.save(tmp_path / "b.png")


class TestImages:
    def test_is_a_pil_image_that_knows_itself(self, pair_files, tmp_path):
        images = [Image.open(path) for path in pair_files]
        images[1].info["icc_profile"] = b"profile"
        result = fusionkit.fuse(*images, **PLAIN)
        assert isinstance(result, Fused)
        assert isinstance(result, FusedImage)
        assert type(result.image) is Image.Image
        assert result.reference == 1
        assert result.info["icc_profile"] == b"profile"
        assert known(pickle.loads(pickle.dumps(result))) == known(result)
        assert known(copy.deepcopy(result)) == known(result)
        result.save(tmp_path / "a.png")
        assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(result))

    def test_alpha_and_sixteen_bits(self, arrays):
        clear = Image.fromarray(arrays[1]).convert("RGBA")
        assert fusionkit.fuse(Image.fromarray(arrays[0]), clear, **PLAIN).mode == "RGBA"
        wide = Image.fromarray(arrays[0].astype(np.uint16) * 257)
        assert fusionkit.fuse(wide, wide, **PLAIN).mode == "I;16"


def test_what_a_pipeline_returns_is_fused(scene, pair_files, tmp_path):
    pipeline = Pipeline(**PLAIN)
    result = pipeline.run(scene)
    assert isinstance(result, FusedTensor)
    assert pipeline.run(scene, reference=-2).reference == 0
    pictures = pipeline.fuse_pictures([read_image(path) for path in pair_files])
    assert isinstance(pictures, Fused)
    assert pictures.image is pictures.picture
    assert pictures.notes == pictures.picture.notes
    pictures.save(tmp_path / "a.png", depth=16)
    assert read_image(tmp_path / "a.png").depth == "16"
    assert np.array_equal(np.asarray(pictures.picture), pipeline.fuse(*pair_files))
