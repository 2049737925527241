"""What is measured of a source is measured where it has data: elsewhere other sources are shown, or it is mirrored."""

import numpy as np
import pytest
import torch

from fusionkit import Pipeline, scenes
from fusionkit.numerics.choice import with_data
from fusionkit.numerics.thermal import ThermalSaliency
from fusionkit.scene import recognise
from fusionkit_plugins.stages.levels import Vivid, VividOptions
from fusionkit_priors.worth import Worth
from harness import make_sources

PLAIN = {"prior": "average", "backbone": "identity", "align": "none"}


def tensors(images):
    return [torch.from_numpy(image.astype("float32")).movedim(2, 0)[None] for image in images]


def steady(_, value):
    return value


@pytest.fixture(scope="module")
def infrared():
    """An infrared image, the same within a larger one of another brightness and noise, and where that has data."""
    heat, _ = tensors(scenes.infrared_visible((240, 320), seed=1))
    generator = torch.Generator().manual_seed(0)
    larger = 0.5 + 0.2 * torch.randn(1, 1, 480, 640, generator=generator)
    valid = torch.zeros(1, 1, 480, 640, dtype=torch.bool)
    larger[..., 120:360, 160:480], valid[..., 120:360, 160:480] = heat, True
    return heat, larger.clamp(0, 1), valid


def test_degradations_of_a_part_with_data_are_those_of_that_part():
    heat, visible = tensors(scenes.infrared_visible((240, 320), seed=1))
    noisy = (heat + 0.04 * torch.randn(heat.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    within = torch.full((1, 1, 720, 960), torch.nan)
    within[..., 240:480, 320:640] = noisy
    alone = Pipeline(**PLAIN).run([noisy, visible]).notes
    found = Pipeline(**PLAIN).run([within, torch.nn.functional.interpolate(visible, (720, 960))]).notes
    own = [note for note in alone if note.startswith(("source 1 has blur", "source 1: noise"))]
    assert len(own) == 2
    assert set(own) <= set(found)


def test_spread_and_noise_are_those_of_the_data(infrared):
    heat, larger, valid = infrared
    alone, all_of_it = ThermalSaliency.of(heat).spread, ThermalSaliency.of(larger).spread
    found = ThermalSaliency.of(larger, valid=valid).spread
    assert abs(float(found / alone) - 1) < 0.1 < abs(float(all_of_it / alone) - 1)
    none = torch.zeros(1, 1, 1, 1)
    alone, all_of_it, found = (Worth.of(y, none, steady, v) for y, v in ((heat, None), (larger, None), (larger, valid)))
    assert float(all_of_it.veil - alone.veil) > 0.05
    assert abs(float(found.veil - alone.veil)) < 0.02


def test_tone_goes_by_the_data(infrared):
    heat, larger, valid = infrared
    stage = Vivid(VividOptions())
    alone, found = stage._ends(heat, "a"), stage._ends(larger, "b", valid)
    assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


def test_a_scene_is_recognised_where_all_have_data():
    under, over = tensors(scenes.multi_exposure((240, 320), seed=0))
    expected = recognise([under[:, :1], over[:, :1]], [True, True])
    assert expected == "exposure"
    rest = torch.rand(1, 1, 240, 320, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 1, 240, 320, dtype=torch.bool)
    valid[..., 120:] = False
    odd = torch.where(valid, over[:, :1], rest)
    assert recognise([under[:, :1], odd], [True, True]) != expected
    assert recognise([under[:, :1], odd], [True, True], valid=[None, valid]) == expected


def test_without_gaps_nothing_changes(infrared):
    heat, _, _ = infrared
    whole = torch.ones_like(heat, dtype=torch.bool)
    assert torch.equal(ThermalSaliency.of(heat, valid=whole).spread, ThermalSaliency.of(heat).spread)
    assert torch.equal(with_data(heat, whole)[0], heat.flatten())
    assert np.array_equal(with_data(heat, torch.zeros_like(whole))[0], heat.flatten())  # nothing to go by
    sources = make_sources(heat, heat)
    assert sources.scenes == (recognise([heat, heat], [False, False]),)
