"""Evidence of heat: a compact object, and no step."""

import torch

from fusionkit.numerics.thermal import thermal_saliency


def test_a_step_is_no_heat_and_an_object_is():
    """A cold sky over a warm ground with a hot disc."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    disc, sky = ((y - 60) ** 2 + (x - 40) ** 2 <= 64)[None, None], (y < 40)[None, None]
    infrared = torch.where(disc, 0.95, torch.where(sky, 0.05, 0.4))
    evidence = thermal_saliency(infrared)
    assert float(evidence[disc].mean()) > 0.9
    assert float(evidence[sky].mean()) < 0.02
    assert float(evidence[~(disc | sky)].mean()) < 0.15
