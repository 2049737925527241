"""The degradation stripes: what it draws, finds and removes."""

import numpy as np
import pytest
import torch

from fusionkit.errors import NoEffect, OptionError
from fusionkit.flow.restoring import side_by_side
from fusionkit.writing import write_image
from fusionkit_plugins.degradations.stripes import Stripes, StripesOptions, find_lines

LEVEL = 1 / 255


@pytest.fixture(scope="module")
def camera():
    """A bundled photograph, (1, 1, 384, 448) in [0, 1]."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(data.camera()[64:448, 32:480].astype(np.float32) / 255)[None, None]


def stripes(**options):
    return Stripes(StripesOptions(**options))


def drawn(x, seed=0, **options):
    return stripes(**options).forward(x, torch.Generator().manual_seed(seed))


def nearly(x, kept=0.4):
    """A flow that knows x, but keeps a part of what is wrong."""
    return lambda asked: [x + kept * (z - x) for z, _ in asked]


def wrong(a, b):
    """Root mean square difference in levels, without the mean."""
    difference = (a - b) * 255
    return float((difference - difference.mean()).square().mean().sqrt())


class TestForward:
    def test_constant_columns_have_the_level_and_repeat_with_the_seed(self, camera):
        c = drawn(camera, direction="columns", level=5) - camera
        assert c.std(-2).max() < 1e-5
        assert 4 < float(c[0, 0, 0].std()) * 255 < 6
        assert torch.equal(drawn(camera, direction="columns", level=5) - camera, c)
        assert not torch.equal(drawn(camera, seed=1, direction="columns", level=5) - camera, c)

    def test_drifting_rows_are_correlated_as_stated(self, camera):
        c = (drawn(camera, direction="rows", level=5, drift=40) - camera)[0, 0]
        assert 4 < float(c.std()) * 255 < 6
        assert abs(float((c[:, :-40] * c[:, 40:]).mean() / c.square().mean()) - np.exp(-0.5)) < 0.12
        assert abs(float((c[1:] * c[:-1]).mean() / c.square().mean())) < 0.1


class TestEstimate:
    @pytest.mark.parametrize("direction", ["columns", "rows", "both"])
    @pytest.mark.parametrize("level", [3.0, 8.0])
    def test_direction_and_level_are_found(self, camera, direction, level):
        found = Stripes.estimate(drawn(camera, direction=direction, level=level), {})
        assert found is not None
        assert found["direction"] == direction
        assert found["drift"] == 0
        assert found["level"] == pytest.approx(level, rel=0.3)

    def test_drift_is_found(self, camera):
        found = Stripes.estimate(drawn(camera, direction="columns", level=5, drift=60), {})
        assert found is not None
        assert found["direction"] == "columns"
        assert found["drift"] == pytest.approx(60, rel=0.4)

    def test_nothing_is_found_in_pictures_with_lines_of_their_own(self, camera):
        data = pytest.importorskip("skimage.data")
        page = torch.from_numpy(data.page().astype(np.float32) / 255)[None, None]
        blinds = camera.clone()
        blinds[..., 100:300, 100:260] += 0.1 * torch.sin(torch.arange(160) * 1.3)
        noisy = camera + 5 * LEVEL * torch.randn(camera.shape, generator=torch.Generator().manual_seed(0))
        fence = camera * 0.8 + 0.1 * (torch.arange(camera.shape[-1]) % 7 < 2)
        for picture in (camera, page, blinds, fence, noisy, torch.full_like(camera, 0.5), camera[..., :40, :40]):
            assert Stripes.estimate(picture, {}) is None

    def test_what_is_told_stands(self, camera):
        assert Stripes.estimate(camera, {"direction": "rows"}) == {"direction": "rows"}
        found = Stripes.estimate(drawn(camera, direction="columns", level=5), {"level": 7.0})
        assert found is not None
        assert (found["direction"], found["level"]) == ("columns", 7.0)

    def test_a_found_pattern_makes_options(self, camera):
        found = Stripes.estimate(drawn(camera, direction="both", level=5), {})
        assert stripes(**found).describe().startswith("columns and rows of ")

    def test_lines_have_a_direction(self, camera):
        y = drawn(camera, direction="columns", level=4)[0, 0]
        assert find_lines(y).sure
        assert not find_lines(y.mT).sure


class TestUndo:
    @pytest.mark.parametrize(
        ("options", "most"),
        [
            ({"direction": "columns"}, 0.9),
            ({"direction": "rows"}, 0.9),
            ({"direction": "both"}, 1.3),
            ({"direction": "columns", "drift": 60.0}, 1.8),
        ],
    )
    def test_the_pattern_goes(self, camera, options, most):
        y = drawn(camera, level=5, **options)
        x = side_by_side([stripes(level=5, **options).undo(y, 0.0)], nearly(camera))[0]
        assert x.shape == y.shape
        assert wrong(y, camera) > 4.5
        assert wrong(x, camera) < most

    @pytest.mark.parametrize(
        ("options", "most"),
        [({"direction": "columns"}, 1.8), ({"direction": "rows"}, 2.5), ({"direction": "columns", "drift": 60.0}, 3.0)],
    )
    def test_flat_places_tell_the_offsets_to_a_flow_that_takes_them_for_the_scene(self, camera, options, most):
        y = drawn(camera, level=5, **options)
        x = side_by_side([stripes(level=5, steps=1, **options).undo(y, 0.0)], lambda asked: [z for z, _ in asked])[0]
        assert wrong(x, camera) < most

    def test_noise_and_texture_stay(self, camera):
        noise = 3 * LEVEL * torch.randn(camera.shape, generator=torch.Generator().manual_seed(1))
        y = drawn(camera, direction="columns", level=5) + noise
        x = side_by_side([stripes(direction="columns").undo(y, 3 * LEVEL)], nearly(camera))[0]
        assert wrong(x, camera + noise) < 1
        assert float((y - x).std(-2).max()) < 1e-5

    def test_light_that_the_flow_moves_stays(self, camera):
        """A bright half that the flow's estimate has too dark is no pattern."""
        shift = torch.zeros_like(camera)
        shift[..., :200] = 4 * LEVEL
        x = side_by_side([stripes(direction="columns").undo(camera, 0.0)], lambda asked: [camera - shift])[0]
        assert wrong(x, camera) < 1

    def test_auto_finds_the_lines_and_keeps_what_was_set(self, camera):
        y = drawn(camera, direction="rows", level=5)
        x = side_by_side([stripes(steps=3).undo(y, 0.0)], nearly(camera))[0]
        assert wrong(x, camera) < 1.5
        asked = []
        side_by_side([stripes(steps=3).undo(y, 0.0)], lambda asks: asked.extend(asks) or nearly(camera)(asks))
        assert len(asked) == 3

    def test_clipped_pixels_are_not_read(self):
        """Columns that are dark but for a strip are corrected by what the strip shows."""
        x = torch.zeros(1, 1, 128, 128)
        x[..., :32, :] = 0.4
        y = drawn(x, direction="columns", level=5).clamp(0, 1)
        found = side_by_side([stripes(direction="columns").undo(y, 0.0)], nearly(x))[0]
        assert wrong(found[..., :32, :].diff(dim=-1), x[..., :32, :].diff(dim=-1)) < 1


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        """Pictures of one camera, of which each pixel has an offset."""
        draw = torch.Generator().manual_seed(0)
        pattern = 6 * LEVEL * torch.randn(1, 1, 48, 64, generator=draw)
        self.scenes = [torch.full((1, 1, 48, 64), 0.3 + 0.02 * i) for i in range(12)]
        for i, scene in enumerate(self.scenes):
            write_image(tmp_path / f"{i:02}.png", (scene + pattern)[0, 0].numpy())
        return tmp_path, pattern

    @staticmethod
    def flatten(asked):
        return [0.7 * z.mean() + 0.3 * z for z, _ in asked]

    def test_what_pictures_share_is_removed(self, folder):
        path, pattern = folder
        x = torch.full((1, 1, 48, 64), 0.5)
        camera, asked = stripes(pattern=str(path)), []
        for _ in range(2):
            clean = side_by_side(
                [camera.undo(x + pattern, 0.0)], lambda asks: asked.extend(asks) or self.flatten(asks)
            )[0]
            assert wrong(clean, x) < 1
        assert len(asked) == 12  # found once

    def test_other_sizes_and_unreadable_files_are_refused(self, folder):
        path, _ = folder
        with pytest.raises(OptionError, match=r"00\.png is 64x48, the picture 64x64"):
            side_by_side([stripes(pattern=str(path)).undo(torch.zeros(1, 1, 64, 64), 0.0)], self.flatten)
        (path / "00.png").write_text("no picture")
        with pytest.raises(OptionError, match=r"00\.png") as caught:
            side_by_side([stripes(pattern=str(path)).undo(torch.zeros(1, 1, 48, 64), 0.0)], self.flatten)
        assert "\n" not in str(caught.value)

    def test_too_few_pictures_are_refused(self, tmp_path):
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(OptionError, match="pattern="):
                side_by_side([stripes(pattern=str(path)).undo(torch.zeros(1, 1, 48, 64), 0.0)], self.flatten)

    def test_options_of_lines_are_refused_beside_it(self, tmp_path):
        with pytest.raises(NoEffect, match="drift"):
            stripes(pattern=str(tmp_path), drift=30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": "columns", "level": 5.2}, "columns of 5.2 levels"),
        ({"direction": "rows", "level": 3, "drift": 80}, "rows of 3 levels that drift over 80 pixels"),
        ({"direction": "both"}, "columns and rows of 5 levels"),
        ({"pattern": "flats/night"}, "fixed pattern of night"),
    ],
)
def test_describe(options, words):
    assert stripes(**options).describe() == words
