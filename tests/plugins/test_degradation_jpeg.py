"""JPEG: what the file tells, in which cells the coefficients lie, and that the flow's estimate is kept inside them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import camera

from fusionkit.errors import OptionError
from fusionkit.flow.restoring import side_by_side
from fusionkit.options import effective, validate_options
from fusionkit.reading import read_image
from fusionkit_plugins.degradations.jpeg import Jpeg, JpegOptions, quality_of, standard_table

ORIENTATIONS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that stores an upright picture so


def luma(image):
    return torch.from_numpy(np.array(image, np.float32) / 255)[None, None]


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.ascontiguousarray(camera()[100:196, 200:328]))


def compressed(image, quality, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, **options)
    return Image.open(stream)


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def kept(asks):
    """A flow that believes what it is given."""
    return [x for x, _ in asks]


def jpeg(**options):
    return Jpeg(validate_options(JpegOptions, options, "jpeg"))


class TestFile:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_table_and_grid_are_those_of_the_upright_picture(self, tmp_path, photo, orientation):
        upright = photo.crop((0, 0, 101, 75))
        stored = upright.transpose(Image.Transpose(ORIENTATIONS[orientation])) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        table = [7 + i // 8 + 3 * (i % 8) for i in range(64)]  # far from symmetric
        stored.save(tmp_path / "a.jpg", exif=exif, qtables=[table])
        picture = read_image(tmp_path / "a.jpg")
        told, y = picture.degraded["jpeg"], torch.from_numpy(picture.pixels).permute(2, 0, 1)[None]
        assert picture.size == (101, 75)
        assert Jpeg.estimate(y, told) is not None
        row, column = told["offset"]
        turned = tuple(np.array(told["table"]).reshape(8, 8).T.ravel().tolist())
        for wrong in ({"table": turned}, {"offset": ((row + 3) % 8, column)}, {"offset": (row, (column + 5) % 8)}):
            assert Jpeg.estimate(y, {**told, **wrong}) is None

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_colour_has_the_luma_table(self, tmp_path, photo, options):
        color = Image.merge("RGB", (photo, photo.rotate(180), photo))
        color.save(tmp_path / "a.jpg", quality=30, **options)
        told = read_image(tmp_path / "a.jpg").degraded["jpeg"]
        assert told == {"table": standard_table(30), "offset": (0, 0)}
        assert all(type(step) is int for step in told["table"])

    def test_other_files_tell_nothing(self, tmp_path, photo):
        photo.save(tmp_path / "a.png")
        photo.convert("CMYK").save(tmp_path / "b.jpg", quality=30)
        photo.convert("RGB").save(tmp_path / "c.jpg", quality=30, keep_rgb=True)
        assert [read_image(tmp_path / name).degraded for name in ("a.png", "b.jpg", "c.jpg")] == [{}, {}, {}]


class TestTable:
    def test_standard_tables_are_those_of_encoders(self, photo):
        for quality in (1, 10, 49, 50, 75, 100):
            assert standard_table(quality) == tuple(compressed(photo, quality).quantization[0])
            assert quality_of(standard_table(quality)) == quality

    def test_tables_of_other_encoders_have_a_quality(self):
        assert quality_of(tuple(step + 1 for step in standard_table(30))) in (28, 29, 30)


class TestEstimate:
    def test_strong_compression_alone_is_undone_unasked(self, photo):
        def estimate(quality):
            return Jpeg.estimate(luma(compressed(photo, quality)), {"table": standard_table(quality)})

        assert estimate(60) == {"table": standard_table(60)}
        assert estimate(61) is None
        assert estimate(95) is None

    def test_nothing_is_found_in_what_was_never_compressed(self, photo):
        assert Jpeg.estimate(luma(photo), {}) is None
        assert Jpeg.estimate(luma(photo), {"table": standard_table(30)}) is None
        assert Jpeg.estimate(torch.full((1, 1, 5, 7), 0.3), {"table": standard_table(30)}) is None


class TestOptions:
    def test_quality_takes_the_place_of_the_files_table(self):
        told = {"table": standard_table(30), "offset": (1, 2)}
        assert effective(JpegOptions, {**told, "quality": 20}) == {"quality": 20, "offset": (1, 2)}
        with pytest.raises(OptionError, match="read only with `quality`"):
            jpeg(**told, quality=20)

    def test_tables_have_64_steps(self):
        with pytest.raises(OptionError, match="expected 64 steps, got 63"):
            jpeg(table=(5,) * 63)

    def test_described_by_quality(self):
        assert jpeg(table=standard_table(30)).describe() == jpeg(quality=30).describe() == "JPEG of quality 30"
        assert Jpeg(Jpeg.Options()).describe() == "JPEG of quality 50"


class TestUndo:
    @pytest.mark.parametrize("size", [(128, 96), (101, 75), (5, 3), (8, 9)])
    def test_forward_is_what_an_encoder_does(self, photo, size):
        part = photo.crop((0, 0, *size))
        y, ours = luma(compressed(part, 30)), jpeg(quality=30).forward(luma(part))
        assert psnr(y, ours.clamp(0, 1)) > 48  # encoders compute in integers, so a few coefficients are rounded away

    def test_a_certain_estimate_is_projected_onto_the_cells(self, photo):
        x, one = luma(photo), jpeg(quality=10)
        y = luma(compressed(photo, 10))
        torch.testing.assert_close(one.prox(x, y, 1e9), x, atol=2e-3, rtol=0)
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        inside = one.prox(noise, y, 1e9)
        assert psnr(inside, x) > psnr(noise, x) + 1  # x is in the cells, which are convex
        torch.testing.assert_close(one.prox(inside, y, 1e9), inside, atol=1e-4, rtol=0)

    def test_an_uncertain_estimate_leaves_y(self, photo):
        y = luma(compressed(photo, 10))
        torch.testing.assert_close(jpeg(quality=10).prox(luma(photo), y, 1e-9).clamp(0, 1), y, atol=3e-3, rtol=0)

    def test_the_grid_may_begin_anywhere(self, photo):
        y = luma(compressed(photo, 20))
        whole = jpeg(quality=20).begin(y)[..., 24:72, 24:104]
        part = jpeg(quality=20, offset=(3, 5)).begin(y[..., 5:, 3:])[..., 19:67, 21:101]
        torch.testing.assert_close(part, whole, atol=0.01, rtol=0)
        wrong = jpeg(quality=20).begin(y[..., 5:, 3:])[..., 19:67, 21:101]
        assert (wrong - whole).abs().max() > 0.05

    def test_strips_make_no_difference(self, photo, monkeypatch):
        y = luma(compressed(photo.crop((0, 0, 123, 91)), 20))
        one = jpeg(quality=20, offset=(3, 5))
        whole = one.begin(y)
        monkeypatch.setattr("fusionkit_plugins.degradations.jpeg.STRIP", 131 * 24)
        torch.testing.assert_close(one.begin(y), whole, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("quality", [10, 30])
    def test_blocks_go_before_the_flow_is_asked(self, photo, quality):
        x, y = luma(photo), luma(compressed(photo, quality))
        assert psnr(jpeg(quality=quality).begin(y), x) > psnr(y, x) + 0.4

    def test_the_flow_is_asked_at_the_level_of_the_errors(self, photo):
        x, y = luma(photo), luma(compressed(photo, 10))
        asked = []

        def clean(asks):
            asked.extend(s for _, s in asks)
            return kept(asks)

        (found,) = side_by_side([jpeg(quality=10, steps=3).undo(y, 0.0)], clean)
        error = float((x - y).square().mean().sqrt())
        assert len(asked) == 3
        assert 0.3 * error < asked[2] < asked[1] < asked[0] < 1.3 * error
        assert psnr(found, x) > psnr(y, x) + 0.3

    def test_what_the_flow_invents_stays_in_the_cells(self, photo):
        y, one = luma(compressed(photo, 30)), jpeg(quality=30, steps=1)
        noisy = torch.rand(y.shape, generator=torch.Generator().manual_seed(0))
        (found,) = side_by_side([one.undo(y, 0.0)], lambda asks: [noisy for _ in asks])
        assert psnr(found, y) > psnr(noisy, y) + 3
        torch.testing.assert_close(one.prox(found, y, 1e9), found, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 17), (8, 8), (16, 9)])
    @pytest.mark.parametrize("noise", [0.0, 0.02])
    def test_small_and_flat_pictures_stay_what_they_are(self, shape, noise):
        y = torch.full((1, 1, *shape), 0.5)
        (found,) = side_by_side([jpeg(quality=10, offset=(2, 7)).undo(y, noise)], kept)
        torch.testing.assert_close(found, y, atol=0.02, rtol=0)
