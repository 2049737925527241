"""Evidence of heat: a compact object, and no step."""

import torch

from fusionkit.numerics.thermal import ThermalSaliency, hidden_share


def test_a_step_is_no_heat_and_an_object_is():
    """A cold sky over a warm ground with a hot disc."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    disc, sky = ((y - 60) ** 2 + (x - 40) ** 2 <= 64)[None, None], (y < 40)[None, None]
    infrared = torch.where(disc, 0.95, torch.where(sky, 0.05, 0.4))
    evidence = ThermalSaliency.of(infrared).evidence(infrared, slice(0, infrared.shape[-2]))
    assert float(evidence[disc].mean()) > 0.9
    assert float(evidence[sky].mean()) < 0.02
    assert float(evidence[~(disc | sky)].mean()) < 0.15


def test_a_warm_wall_is_no_object_and_a_band_across_it_is(generator):
    """Cold windows in it do not make it one."""
    wall = torch.full((1, 1, 192, 256), 0.42) + 0.003 * torch.randn(1, 1, 192, 256, generator=generator)
    wall[..., 84:98, :] += 0.13
    for left in (30, 110, 190):
        wall[..., 20:60, left : left + 36] = wall[..., 120:160, left : left + 36] = 0.3
    objects = ThermalSaliency.of(wall).objects()
    assert float(objects[..., 86:96, :].mean()) > 0.8
    assert float(objects[..., 66:78, :].mean()) < 0.2


def test_what_is_hot_and_as_grey_as_its_surround_is_hidden():
    infrared = torch.full((2, 1, 96, 128), 0.1)
    infrared[..., 30:60, 40:52] = 0.8
    result = torch.full((2, 1, 96, 128), 0.5)
    result[1, :, 28:62, 38:54] = 0.3
    hidden = hidden_share(result, infrared)
    assert float(hidden[0]) > 0.95
    assert float(hidden[1]) < 0.15
    assert float(hidden_share(result, torch.full_like(infrared, 0.4)).amax()) == 0
