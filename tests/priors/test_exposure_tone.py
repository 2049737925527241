"""The tone of fused exposures: how bright the whole is, and what stays as it is."""

import pytest
import torch
import torch.nn.functional as F
from skimage.data import camera

from fusionkit.contracts import Sources
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import gaussian_blur
from fusionkit.scenes import multi_exposure
from fusionkit_priors.decision import Decision, Exposed, mixed
from fusionkit_priors.em_tv import EMTV
from fusionkit_priors.exposure import Exposure, well_exposed
from harness import correct, make, make_sources

PRIORS = [make(EMTV, evidence="exposure"), make(Exposure)]
NETWORK = Decision(Exposed, "exposure-rendered", "")


def bracket(*gains):
    """Exposures of a photograph, (1, 1, 256, 256) each."""
    linear = (torch.from_numpy(camera()).float() / 255)[None, None, ::2, ::2] ** 2.2
    return [(linear * gain).clamp(0, 1) ** (1 / 2.2) for gain in gains]


class Halves:
    """Decides for half of either source."""

    def weights(self, lumas):
        return [torch.full_like(y, 0.5) for y in lumas]


@pytest.fixture
def wide_bracket():
    """Dark ground beneath a sky six stops brighter, both with texture: under-exposed, over-exposed, and the ground."""
    texture = (torch.from_numpy(camera()).float() / 255)[None, None, 256:, 256:]
    ground = (torch.arange(256) >= 120).float().view(1, 1, -1, 1).expand_as(texture)
    linear = (0.2 + texture) * (0.02 * ground + 0.9 * (1 - ground))
    return *((linear * gain).clamp(0, 1) ** (1 / 2.2) for gain in (0.5, 6.0)), ground > 0


def odds(y):
    return float(torch.logit(gaussian_blur(y, 8.0), 0.01).mean())


@pytest.mark.parametrize("prior", PRIORS)
def test_a_dark_mixture_goes_halfway_to_middle_grey(prior):
    under, over = bracket(0.03, 1.0)
    mixture = mixed(NETWORK.weights([under, over]), [under, over])
    fused = correct(prior, over, make_sources(under, over))
    assert odds(mixture) < -0.6
    assert odds(fused) == pytest.approx(odds(mixture) / 2, abs=0.12)


def test_no_tone_is_brighter_than_the_brightest_source():
    under, over = bracket(0.06, 0.5)
    mixture = mixed(NETWORK.weights([under, over]), [under, over])
    fused = correct(PRIORS[0], over, make_sources(under, over))
    assert odds(mixture) + 0.02 < odds(fused) < odds(over) < -0.5
    assert bool((fused <= over).all())


def test_coarse_contrast_falls_to_that_of_photographs_and_texture_stays(wide_bracket):
    under, over, ground = wide_bracket
    mixture = mixed(NETWORK.weights([under, over]), [under, over])
    toned, contrast = well_exposed(NETWORK, [under, over], lambda value: value)
    assert 0.3 < float(contrast) < 0.9
    spread, before = (float(torch.logit(gaussian_blur(y, 8.0), 0.01).std()) for y in (toned, mixture))
    assert spread < 0.85 * before
    assert spread == pytest.approx(contrast * before, rel=0.15)
    inside = F.max_pool2d((~ground).float(), 61, 1, 30) == 0  # away from the border
    fine, own = (((y - gaussian_blur(y, 3.0)) / gaussian_blur(y, 3.0))[inside] for y in (toned, mixture))
    assert float((fine * own).sum() / (own * own).sum()) == pytest.approx(1, abs=0.06)


def test_a_border_between_light_and_dark_gets_no_rim():
    """Neither does the sky brighten towards the dark ground, nor the ground darken towards the sky."""
    sky = (torch.arange(256) < 120).float().view(1, 1, -1, 1).expand(1, 1, 256, 256)
    frames = [low + (high - low) * gaussian_blur(sky, 1.5) for low, high in ((0.02, 0.7), (0.1, 1.0))]
    toned, contrast = well_exposed(Halves(), frames, lambda value: value)
    assert float(contrast) < 0.8
    prior = make(EMTV, evidence="exposure")
    prior.decisions["exposure"] = Halves()
    for fused in (toned, correct(prior, frames[1], make_sources(*frames))):
        falls = -gradient(fused)[1].mean(-1)
        assert float(falls.clamp_min(0).sum()) > 0.3
        assert float(falls.clamp_max(0).sum()) > -0.045


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("size", [(100, 200), (33, 50), (300, 500), (8, 8), (1, 3)])
def test_three_uniform_frames_give_grey(prior, size):
    frames = [torch.full((1, 1, *size), level / 255) for level in (0, 128, 255)]
    fused = correct(prior, frames[1], make_sources(*frames)) * 255
    torch.testing.assert_close(fused, torch.full_like(fused, 128.0), atol=0.49, rtol=0)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_plain_sky_has_no_lines(prior):
    """Whose network would leave some along the border; a little grain changes nothing."""
    rows = torch.linspace(0, 1, 300).view(1, 1, -1, 1).expand(1, 1, 300, 400)
    for span in (0.0, 0.25):
        frames = [((0.5 + span * (rows - 0.5)) * gain).clamp(0, 1) for gain in (0.3, 1.0, 1.8)]
        frames = [(y + 0.004 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))) for y in frames]
        fused = gaussian_blur(correct(prior, frames[1], make_sources(*frames)), 2.0) * 255
        along, down = fused.diff(dim=-1), fused.mean(-1).diff(dim=-1)
        assert float(along.abs().amax()) < 0.6
        assert -0.1 < float(down.amin()) <= float(down.amax()) < 0.6


def test_the_tone_does_not_depend_on_resolution():
    images = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in multi_exposure((200, 260))]
    small = Sources.of(images).luma
    large = [F.interpolate(y, scale_factor=4.0, mode="bicubic").clamp(0, 1) for y in small]
    (a, contrast), (b, same) = (well_exposed(Halves(), lumas, lambda value: value) for lumas in (small, large))
    torch.testing.assert_close(same, contrast, rtol=0.03, atol=0)
    off = (F.avg_pool2d(b, 4) - a).abs()
    assert float(off.mean()) < 0.005


def test_in_a_video_the_tone_follows_slowly():
    """A frame that is much brighter does not change the tone of the next at once."""
    prior, dark, lit = make(Exposure), make_sources(*bracket(0.03, 1.0)), make_sources(*bracket(0.3, 8.0))
    state = prior.correct(dark.luma[1], dark, prior.start(dark), 0.0)[1]
    after = prior.correct(lit.luma[1], lit, prior.follow(lit, state), 0.0)[1]
    alone = prior.correct(lit.luma[1], lit, prior.start(lit), 0.0)[1]
    torch.testing.assert_close(after, state.lerp(alone, 0.2))
    assert float((after - alone).abs().amax()) > 0.2
