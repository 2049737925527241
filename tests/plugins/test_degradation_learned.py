"""Darkness: the grid of tones, the path to the clean picture, what the flow is asked, the trainer."""

import math

import pytest
import torch
from torch import Tensor

from fusionkit.flow.restoring import side_by_side
from fusionkit.numerics.luma import luma
from fusionkit.numerics.noise import estimate_noise
from fusionkit.numerics.window import box_mean
from fusionkit.training.options import TrainOptions
from fusionkit.weights.network import Network
from fusionkit_plugins.color.ycbcr import from_ycbcr, to_ycbcr
from fusionkit_plugins.degradations.affine_grid import AffineGrid, AffineGridConfig, Tones, thumbnail
from fusionkit_plugins.degradations.grain import cleaned
from fusionkit_plugins.degradations.learned import Darkness
from fusionkit_plugins.degradations.learned_training import DarknessTrainer, DarknessTrainerOptions
from fusionkit_plugins.degradations.rendering import darkened

skimage_data = pytest.importorskip("skimage.data")

TINY = AffineGridConfig(widths=(8, 8, 8, 8), blocks=1, depth=4)


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * torch.log10((x - y).square().mean()))


@pytest.fixture(scope="module")
def photo() -> Tensor:
    pixels = torch.from_numpy(skimage_data.astronaut()).permute(2, 0, 1)[None].float() / 255
    return pixels[..., 100:356, 60:444].contiguous()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained() -> Darkness:
    """A degradation whose network was not trained, but answers something."""
    torch.manual_seed(0)
    network = AffineGrid(TINY)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    degradation = object.__new__(Darkness)
    degradation.options = Darkness.Options()
    degradation.network = Network(network, AffineGrid, AffineGridConfig, kind="", otherwise="")
    return degradation


def ends(n: int) -> Tensor:
    return 2 * (torch.arange(n) + 0.5) / n - 1


class TestTones:
    def test_without_corrections_a_picture_keeps_its_values(self, photo):
        zero = torch.zeros(1, 1, 1, 1)
        tones = Tones(zero, zero, torch.zeros(1, 12, 4, 2, 2))
        toned = tones(photo, ends(photo.shape[-2]), ends(photo.shape[-1]))
        assert torch.allclose(toned, photo, atol=1e-3)

    def test_light_multiplies_the_dark_and_keeps_white(self):
        tones = Tones(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), math.log(8)), torch.zeros(1, 12, 4, 2, 2))
        dark = torch.full((1, 3, 4, 4), 0.002)
        assert torch.allclose(tones.whole(dark) / dark, torch.tensor(8.0), rtol=0.01)
        assert torch.allclose(tones.whole(torch.ones(1, 3, 4, 4)), torch.ones(1), atol=1e-3)

    def test_an_affine_map_is_applied_to_the_channels(self, photo):
        zero, grid = torch.zeros(1, 1, 1, 1), torch.zeros(1, 12, 4, 2, 2)
        grid[:, 1], grid[:, 7] = 0.5, 0.1  # red: half of green more; green: 0.1 more
        toned = Tones(zero, zero, grid)(photo, ends(photo.shape[-2]), ends(photo.shape[-1]))
        wanted = photo + torch.cat([0.5 * photo[:, 1:2], torch.full_like(photo[:, :1], 0.1), 0 * photo[:, :1]], 1)
        assert torch.allclose(toned, wanted, atol=1e-3)

    def test_cells_lie_where_the_picture_is_and_as_bright(self):
        zero, grid = torch.zeros(1, 1, 1, 1), torch.zeros(1, 12, 2, 2, 2)
        grid[:, 3, 1, 0, 1] = 1.0  # bright pixels, above, right
        picture = torch.zeros(1, 3, 8, 8)
        picture[..., :, 1::2] = 0.95
        red = (Tones(zero, zero, grid)(picture, ends(8), ends(8)) - picture)[0, 0]
        assert red[0, 7] > 0.9
        assert red[0, 6].abs() < 1e-3  # dark
        assert red[7, 7].abs() < 1e-3  # below
        assert red[0, 1].abs() < 1e-3  # left


class TestDarkness:
    def test_strips_change_nothing(self, photo, monkeypatch):
        degradation = untrained()
        whole = degradation.clean(photo)
        monkeypatch.setattr("fusionkit_plugins.degradations.learned.PIXELS", 5 * photo.shape[-1])
        assert torch.allclose(degradation.clean(photo), whole, atol=1e-6)
        assert not torch.allclose(whole, photo, atol=0.01)

    def test_every_size_and_grey_keep_their_shape(self):
        for shape in ((1, 1, 37, 90), (1, 3, 5, 300), (1, 3, 1, 1)):
            y = torch.rand(shape, generator=seeded())
            before = y.clone()
            x = untrained().clean(y)
            assert x.shape == y.shape
            assert bool(x.isfinite().all())
            assert torch.equal(y, before)

    def test_small_copies_show_the_whole_picture(self):
        y = torch.rand(1, 3, 400, 1000, generator=seeded())
        small = thumbnail(y)
        assert small.shape == (1, 3, 64, 160)
        assert torch.allclose(small.mean(), y.mean(), atol=1e-3)

    def test_strength_is_the_way_that_is_gone(self, photo):
        darkness = untrained()
        for strength in (0.0, 0.25, 1.0):
            darkness.options = Darkness.Options(strength=strength)
            assert torch.allclose(darkness.undone(photo), torch.lerp(photo, darkness.clean(photo), strength), atol=1e-6)

    def test_a_night_with_lights_goes_half_the_way(self, photo):
        darkness, dark = untrained(), 0.1 * photo
        lit = dark.clone()
        lit[..., : dark.shape[-2] // 8, : dark.shape[-1] // 4] = 0.9
        assert torch.allclose(darkness.undone(dark), darkness.clean(dark))
        assert torch.allclose(darkness.undone(lit), torch.lerp(lit, darkness.clean(lit), 0.5))

    def test_luma_is_cleaned_by_the_flow_and_colour_by_itself(self, photo, monkeypatch):
        degradation, asked = untrained(), []
        noisy = (photo + 0.08 * torch.randn(photo.shape, generator=seeded())).clamp(0, 1)
        monkeypatch.setattr(degradation, "clean", lambda y: noisy)

        def clean(asks):
            asked.extend((x.shape[-2:], s) for x, s in asks)
            return [x for x, _ in asks]

        [x] = side_by_side([degradation.undo(photo, 0.0)], clean)
        assert [size for size, _ in asked] == [photo.shape[-2:]]
        assert 0.02 < asked[0][1] < 0.12
        light, color = to_ycbcr(x)
        assert psnr(light, luma(noisy)) > 25  # a flow that keeps what it is asked
        assert psnr(color, to_ycbcr(photo)[1]) > psnr(to_ycbcr(noisy)[1], to_ycbcr(photo)[1]) + 6

    def test_blocks_of_flat_colour_go_and_edges_of_colour_stay(self):
        """JPEG keeps the mean of chroma in blocks of 16 pixels; a gain makes their steps visible."""
        steps = torch.randint(-3, 4, (2, 8, 8), generator=seeded()).float().kron(torch.ones(16, 16)) / 255
        color = steps + 0.3 * (torch.arange(128) >= 64).float() - 0.15
        y = from_ycbcr(torch.full((1, 1, 128, 128), 0.5), color[None])
        [x] = side_by_side([cleaned(y, 4.0)], lambda asks: [x for x, _ in asks])
        left, right = to_ycbcr(x)[1].split([62, 66], -1)  # chroma is interpolated from half the size
        right = right[..., 4:]
        assert float(left.std()) < 0.65 * float(steps.std())
        assert float(right.std()) < 0.65 * float(steps.std())
        assert abs(float(right.mean() - left.mean()) - 0.3) < 0.01

    def test_a_picture_without_noise_is_not_cleaned(self, monkeypatch):
        degradation, smooth = untrained(), torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64)
        monkeypatch.setattr(degradation, "clean", lambda y: smooth)
        [x] = side_by_side([degradation.undo(smooth, 0.0)], lambda asks: pytest.fail("asked"))
        assert torch.allclose(x, smooth, atol=1e-5)

    def test_grain_that_jpeg_has_left_is_cleaned(self):
        """Its spectrum falls, so that it is no white noise; textured photographs have flatter places."""
        noise = box_mean(torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0)), 1)
        plane = 0.3 + 18 / 255 * noise
        assert estimate_noise(plane)[0].level == 0
        asked, level = next(cleaned(plane, 1.0))
        assert torch.equal(asked, plane)
        assert 2 / 255 < level < 6 / 255  # of 6, of which the local mean takes half
        camera = torch.from_numpy(skimage_data.camera())[None, None].float() / 255
        assert list(cleaned(camera, 1.0)) == []


class TestShippedWeights:
    def test_dark_pictures_are_opened_in_their_colours(self, photo):
        dark = (255 * (0.08 * photo)).round() / 255  # a gain of the stored values, 4 levels in 5 lost
        opened = Darkness().clean(dark)
        assert 0.35 < float(luma(opened).mean()) < 0.55  # middle grey is 0.46
        same = opened * (photo.mean() / opened.mean())
        assert psnr(same.clamp(0, 1), photo) > 17
        angle = torch.nn.functional.cosine_similarity(opened + 0.05, photo + 0.05, dim=1)
        assert float(angle.mean()) > 0.98

    def test_a_clean_picture_comes_back(self, photo):
        assert psnr(Darkness().clean(photo), photo) > 38


class TestRendering:
    def test_less_light_is_seen_in_the_values(self, photo):
        generator = seeded(3)
        for _ in range(5):
            dark, wanted, _ = darkened(photo, generator)
            assert float(dark.mean()) < 0.75 * float(wanted.mean())
            assert torch.allclose(255 * dark, (255 * dark).round(), atol=1e-3)  # in 8 bits
            assert 0 <= float(dark.min()) <= float(dark.max()) <= 1

    def test_forward_is_drawn_from_its_generator(self, photo):
        degradation = untrained()
        first, again = (degradation.forward(photo, seeded(1)) for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, degradation.forward(photo, seeded(2)))
        assert degradation.forward(luma(photo), seeded(1)).shape == luma(photo).shape


class TestEstimate:
    def test_dark_pictures_are_found(self, photo):
        assert Darkness.estimate(luma(photo) * 0.15, {}) == {}

    @pytest.mark.parametrize("name", ["camera", "coins", "page", "astronaut", "coffee", "moon"])
    def test_well_exposed_ones_are_not(self, name):
        pixels = torch.from_numpy(getattr(skimage_data, name)()).float() / 255
        y = pixels[None, None] if pixels.ndim == 2 else luma(pixels.permute(2, 0, 1)[None])
        assert Darkness.estimate(y, {}) is None


class TestTrainer:
    def test_learns_from_whole_photographs(self, photo, tmp_path):
        from PIL import Image

        for i, turned in enumerate((photo, photo.flip(-1), photo.flip(-2))):
            Image.fromarray((255 * turned[0].permute(1, 2, 0)).byte().numpy()).save(tmp_path / f"{i}.png")
        torch.manual_seed(0)
        trainer = DarknessTrainer(DarknessTrainerOptions(architecture=TINY, clean=0.5))
        options = TrainOptions(batch=4, crop=32, held_out=1, steps=2)
        trainer.open([tmp_path], options)
        assert len(trainer.data.paths) == 2
        generator = seeded()
        batch = trainer.batch(options, generator)
        assert batch.x.shape == (4, 3, 32, 32)
        optimizer = torch.optim.Adam(trainer.module.parameters(), lr=3e-3)
        losses = []
        for step in range(25):
            loss, figures = trainer.loss(batch, step, seeded(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(figures["difference"])
        assert losses[-1] < 0.9 * losses[0]
        with torch.inference_mode():
            figures = trainer.validate(trainer.module, trainer.held_out)
        assert {"psnr", "before", "clean"} <= set(figures)
