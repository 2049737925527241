"""Scenes of this package, recognised."""

import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.numerics.luma import colorful, luma
from fusionkit.scene import recognise
from fusionkit.scenes import SCENES

KINDS = {
    "infrared-visible": "heat",
    "noisy-night": "heat",
    "multi-exposure": "exposure",
    "multi-focus": "focus",
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(SCENES))
def test_the_kind_of_a_scene(name, seed):
    images = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in SCENES[name].make((120, 160), seed=seed)]
    assert recognise([luma(x) for x in images], [bool(colorful(x)) for x in images]) == KINDS[name]
    assert Sources.of(images).scenes == (KINDS[name],)


def test_two_scans_in_the_same_black():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    head = ((x**2 + y**2) < 0.6).float()
    a, b = head * (0.5 + 0.4 * torch.sin(9 * x)), head * (0.6 + 0.3 * torch.cos(7 * y))
    images = [a[None, None], b[None, None]]
    assert recognise(images, [False, False]) == "contrast"


def test_constants_and_one_source_are_no_error():
    flat = torch.full((1, 1, 20, 20), 0.5)
    assert recognise([flat], [False]) == "focus"
    assert recognise([flat, flat], [False, False]) == "heat"
