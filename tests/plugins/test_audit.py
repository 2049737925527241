"""The audit on pictures whose answer is known."""

import math
from inspect import isabstract, isclass

import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.scoring.maps import overlay
from fusionkit_plugins.metrics import audit, colour
from harness import make


def field(seed=0, size=(96, 128)):
    """Smooth structure of some contrast, (1, 1, H, W)."""
    from fusionkit.numerics.window import gaussian_blur

    noise = gaussian_blur(torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed)), 2.0)
    return (0.5 + 0.1 * noise / noise.std()).clamp(0.05, 0.95)


def hot_scene():
    """A warm disc on a flat ground in the infrared image; structure in the visible one."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    disc = (((y - 40) ** 2 + (x - 60) ** 2) <= 64)[None, None]
    infrared = torch.where(disc, 0.9, 0.2)
    return Sources.of([infrared, field()]), disc


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_kept_is_the_share_of_an_edge_that_only_one_source_has(share, expected):
    sources, _ = hot_scene()
    flat = Sources.of([sources.luma[0], torch.full_like(sources.luma[0], 0.4)])
    fused = 0.2 + share * (sources.luma[0] - 0.2)
    assert float(make(audit.KeptOthers)(fused, flat)) == pytest.approx(expected, abs=0.02)
    assert float(make(audit.KeptReference)(flat.luma[1], Sources.of(flat.luma[::-1], reference=1))) < 0.02


@pytest.mark.parametrize(("contrast", "polarity"), [(0.7, 1.0), (0.35, 1.0), (-0.3, 0.0)])
def test_hot_objects_contrast_and_polarity(contrast, polarity):
    sources, disc = hot_scene()
    fused = torch.where(disc, 0.4 + contrast, 0.4).clamp(0, 1)
    shown = (min(1.0, 0.4 + contrast) - 0.4) / 0.7
    assert float(make(audit.Hot)(fused, sources)) == pytest.approx(shown, abs=0.02)
    assert float(make(audit.Polarity)(fused, sources)) == polarity


def test_without_hot_objects_there_is_no_number():
    sources = Sources.of([torch.full((1, 1, 64, 64), 0.3), field(size=(64, 64))])
    for metric in (audit.Hot, audit.Polarity):
        assert math.isnan(float(make(metric)(sources.luma[1], sources)))


def test_outside_and_halo_count_what_no_source_has():
    sources, _ = hot_scene()
    fused = sources.luma[1].clone()
    assert float(make(audit.Outside)(fused, sources)) == 0
    fused[..., :12, :] = 1.0  # an eighth of the rows, whiter than anything near
    assert float(make(audit.Outside)(fused, sources)) == pytest.approx(12.5, abs=0.1)
    assert float(make(audit.Halo)(fused, sources)) == pytest.approx(12.5, abs=0.1)
    assert float(make(audit.Halo)(torch.stack(sources.luma).amax(0), sources)) == 0


def test_noise_is_relative_to_the_noisiest_source(generator):
    calm = torch.linspace(0.4, 0.6, 128).expand(1, 1, 128, 128)
    grain = torch.randn(calm.shape, generator=generator) * 0.02
    sources = Sources.of([calm, calm + grain])
    assert float(make(audit.NoiseGain)(calm + grain, sources)) == pytest.approx(1, abs=0.01)
    assert float(make(audit.NoiseGain)(calm + grain / 2, sources)) == pytest.approx(0.5, abs=0.05)


def test_drift_and_crushed_leave_hot_objects_out():
    sources, disc = hot_scene()
    fused = torch.where(disc, 1.0, sources.luma[1] + 10 / 255)
    assert float(make(audit.Drift)(fused, sources)) == pytest.approx(10, abs=0.6)
    black = torch.where(disc, 0.0, sources.luma[1])
    assert float(make(audit.Crushed)(black, sources)) == pytest.approx(100 * float(disc.float().mean()), abs=0.01)
    assert float(make(audit.Crushed)(sources.luma[1], sources)) == 0


def test_hue_and_chroma_of_colours_turned_and_paled():
    color = torch.tensor([0.8, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 32, 32).contiguous()
    sources = Sources.of([color.mean(1, keepdim=True), color])
    grey = (color * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert float(make(colour.Hue)(color, sources)) == pytest.approx(0, abs=0.1)
    assert float(make(colour.Chroma)(grey + 0.5 * (color - grey), sources)) == pytest.approx(0.5, abs=0.02)
    assert float(make(colour.Chroma)(grey, sources)) == 0
    assert math.isnan(float(make(colour.Hue)(grey, sources)))
    swapped = color[:, [1, 0, 2]]
    assert float(make(colour.Hue)(swapped, sources)) > 60


def test_rescued_is_texture_where_another_source_is_clipped():
    good = field(2)
    sources = Sources.of([good, torch.ones_like(good)])
    assert float(make(audit.Rescued)(good, sources)) == pytest.approx(1, abs=1e-6)
    assert float(make(audit.Rescued)(torch.ones_like(good), sources)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(float(make(audit.Rescued)(good, Sources.of([good, good]))))


def test_rims_are_brightness_that_runs_backwards():
    """A wall that grows lighter towards a window; in the result a shadow lies along the window's left side."""
    x = torch.arange(160.0).expand(1, 1, 120, 160)
    scene = torch.where(x < 100, 0.2 + 0.001 * x, 0.9 - 0.001 * (x - 100))
    sources = Sources.of([0.5 * scene, scene.clamp_max(0.95)])
    rim = 0.12 * ((x > 60) & (x < 100)) * (x - 60) / 40
    assert float(make(audit.Rims)(0.8 * scene, sources)) == 0
    assert 15 < float(make(audit.Rims)(scene - rim, sources)) < 30
    assert float(make(audit.Rims).map(scene - rim, sources)[..., :40].amax()) == 0


def test_sharper_is_fidelity_to_the_sharper_source():
    from fusionkit.numerics.window import gaussian_blur

    sharp = field(3)
    blurred = gaussian_blur(sharp, 4.0)
    sources = Sources.of([sharp, blurred])
    assert float(make(audit.Sharper)(sharp, sources)) == math.inf
    assert float(make(audit.Sharper)(blurred, sources)) < 35


def test_solid_is_texture_in_what_a_source_shows_white_and_flat():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    bone = (((y - 48) ** 2 + (x - 64) ** 2) <= 900)[None, None]
    ct, mr = torch.where(bone, 1.0, 0.4), field(4)
    sources = Sources.of([mr, ct])
    assert float(make(audit.Solid)(ct, sources)) == 0
    assert (
        float(make(audit.Solid)(torch.where(bone, 0.8, mr), sources)) < 0.5
    )  # a dimmer bone is as flat, but its border
    textured = torch.where(bone, ct + 0.1 * (mr - 0.95), mr)  # a tenth of the structure, whose deviation is 25 levels
    assert 1 < float(make(audit.Solid)(textured, sources)) < 2.6
    assert float(make(audit.Solid).map(textured, sources)[..., :10, :].amax()) == 0
    assert math.isnan(float(make(audit.Solid)(mr, Sources.of([mr, 0.9 * ct]))))


WITH_MAPS = [c for c in vars(audit).values() if isclass(c) and getattr(c, "shows", "") and not isabstract(c)]


@pytest.mark.parametrize("cls", WITH_MAPS)
def test_maps_are_zero_where_nothing_is_wrong_and_have_the_picture_s_shape(cls):
    sources, _ = hot_scene()
    metric = make(cls)
    fused = sources.luma[1]
    assert metric.map(fused, sources).shape == fused.shape
    if cls.shows == "invented":
        assert float(metric.map(fused, sources).amax()) < 1e-3


def test_the_overlay_is_blue_where_lost_and_red_where_invented():
    sources, disc = hot_scene()
    fused = sources.luma[1].clone()
    fused[..., :8, :] = 1.0
    shown = overlay(fused, sources, {name: make(getattr(audit, name)) for name in ("Hot", "Outside")})
    lost, invented = shown[disc[0, 0].numpy()].mean(0), shown[:8].mean((0, 1))
    assert lost[2] > lost[0] + 0.3
    assert invented[0] > invented[2] + 0.3
