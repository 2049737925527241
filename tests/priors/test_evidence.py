"""The prior em_tv by evidence: pictures whose right answer is known."""

from dataclasses import replace

import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.numerics.window import gaussian_blur
from fusionkit.scenes import infrared_visible, multi_exposure, multi_focus
from fusionkit_plugins.metrics.audit import KeptOthers, KeptReference, Rims
from fusionkit_priors.displaced import copies
from fusionkit_priors.em_tv import EMTV, EMTVOptions
from harness import correct, make, make_sources, psnr, random_sources


def tensors(images):
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in images]


def disc(size=(96, 128), center=(60, 40), radius=8):
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return (((y - center[0]) ** 2 + (x - center[1]) ** 2) <= radius**2)[None, None].float()


def street(person_in_visible=0.15):
    """A cold sky over a warm ground with a hot man; a bright sky over a grey ground with the man dark."""
    man, sky = disc(), (torch.arange(96) < 40).float().view(1, 1, 96, 1).expand(1, 1, 96, 128)
    infrared = (0.05 * sky + 0.4 * (1 - sky)) * (1 - man) + 0.95 * man
    visible = (0.8 * sky + 0.45 * (1 - sky)) * (1 - man) + person_in_visible * man
    return infrared, visible, man.bool(), sky.bool()


@pytest.mark.parametrize("in_visible", [0.15, 0.45, 0.6])
def test_a_hot_man_is_bright_whatever_he_is_in_the_visible_image(in_visible):
    infrared, visible, man, _ = street(in_visible)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float(fused[man].mean()) > 0.8


def test_a_dark_coat_before_bright_ground_in_the_infrared_image_has_no_veil():
    coat, face = disc(center=(66, 40), radius=8), disc(center=(52, 40), radius=5)
    infrared = (0.55 + 0.08 * coat).maximum(0.95 * face)
    visible = 0.3 * (1 - coat) + 0.04 * coat
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float(fused[(coat * (1 - face)).bool()].mean()) < 0.25  # 0.63 in the infrared image
    assert float(fused[face.bool()].mean()) > 0.8


def test_a_cold_sky_stays_as_bright_as_it_is(generator):
    infrared, visible, man, sky = street()
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float((fused - visible)[sky].abs().mean()) < 0.01
    assert float((fused - visible)[~(man | sky)].abs().mean()) < 0.05


def test_structure_that_only_the_infrared_has_is_seen_in_the_dark():
    visible = torch.full((1, 1, 96, 128), 0.03)
    stripes = (torch.arange(128) // 8 % 2).float().view(1, 1, 1, 128).expand(1, 1, 96, 128)
    infrared = 0.1 + 0.2 * stripes
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    kept = float(fused[stripes > 0].mean() - fused[stripes == 0].mean()) / 0.2
    assert kept > 0.6


def half_dark(size=(192, 256)):
    """A visible image with texture on the left and darkness on the right, where a mask is 1."""
    wave = 0.5 + 0.15 * torch.sin(torch.arange(size[1]) / 3).view(1, 1, 1, -1).expand(1, 1, *size)
    dark = (torch.arange(size[1]) >= size[1] // 2).view(1, 1, 1, -1).expand(1, 1, *size)
    return torch.where(dark, torch.tensor(0.03), wave), dark


@pytest.mark.parametrize("restored", [True, False], ids=["noise known", "noise not known"])
def test_an_infrared_image_of_noise_says_nothing_in_the_dark(restored, generator):
    visible, dark = half_dark()
    noise = 0.03 * torch.randn(visible.shape, generator=generator)
    stripes = 0.02 * torch.randn(1, 1, 1, visible.shape[-1], generator=generator)
    infrared = (0.3 + noise + stripes).clamp(0, 1)
    sources = make_sources(infrared, visible)
    if restored:
        sources = replace(sources, noise=(torch.full((1, 1, 1, 1), 0.03), torch.zeros(1, 1, 1, 1)))
    fused = correct(make(EMTV, evidence="heat"), visible, sources)
    off = (fused - visible)[dark]
    assert float(off.std()) < 0.006  # 1.5 of 9 levels
    assert float(off.abs().mean()) < 0.006


def test_a_flat_veil_in_the_infrared_image_does_not_brighten_the_dark():
    visible, dark = half_dark()
    infrared = torch.full_like(visible, 0.45)
    infrared[..., 60:100, 150:200] += 0.3 * disc((40, 50), (20, 25), 10)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    far = dark.clone()
    far[..., 30:130, 120:230] = False
    torch.testing.assert_close(fused[far], visible[far], atol=0.01, rtol=0)


def blocks(generator, size=(192, 256)):
    """Soft blocks of random brightness."""
    few = torch.rand(1, 1, 16, 22, generator=generator).repeat_interleave(12, -1).repeat_interleave(12, -2)
    return gaussian_blur(few[..., : size[0], : size[1]], 1.0)


def test_a_good_infrared_image_lifts_the_dark_as_bright_as_it_is(generator):
    """Its flat parts too, where it has no structure of its own."""
    infrared, visible = 0.05 + 0.15 * blocks(generator), torch.full((1, 1, 192, 256), 0.03)
    infrared[..., 56:136, 78:178] = 0.12
    infrared += 0.003 * torch.randn(infrared.shape, generator=generator)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    flat = (..., slice(80, 112), slice(108, 148))
    assert float(fused[flat].mean()) == pytest.approx(0.1, abs=0.02)
    assert float(torch.stack([fused.flatten(), infrared.flatten()]).corrcoef()[0, 1]) > 0.95


def test_a_lit_window_has_no_dark_halo(generator):
    """Light that falls off from a window into the dark, on a wall that is bright in the infrared image."""
    x = torch.arange(256).float()
    visible = (0.02 + 0.93 * torch.exp(-(x - 20).clamp_min(0) / 18)).view(1, 1, 1, -1).expand(1, 1, 192, -1)
    infrared = torch.full((1, 1, 192, 256), 0.4)
    infrared[..., 96:, :] = 0.2 + 0.3 * blocks(generator)[..., 96:, :]
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    profile = fused[..., 20:60, :].mean((0, 1, 2))
    assert float(profile.diff().amax()) < 0.002  # it falls, and never rises again
    assert float(profile[-1]) > 0.15  # the wall is seen


def on_snow(in_visible, in_infrared):
    """A man on snow; the man and the ring around him as masks."""
    man, near = disc(radius=9), disc(radius=15)
    infrared, visible = 0.22 * (1 - man) + in_infrared * man, 0.93 * (1 - man) + in_visible * man
    return infrared, visible, man.bool(), (near - man).bool()


@pytest.mark.parametrize(("in_visible", "in_infrared"), [(0.15, 0.97), (0.8, 0.97), (0.93, 0.7), (0.97, 0.6)])
def test_a_man_on_snow_is_darker_than_it_where_one_source_allows_that(in_visible, in_infrared):
    infrared, visible, man, ring = on_snow(in_visible, in_infrared)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float(fused[ring].mean() - fused[man].mean()) > 0.1
    assert float(fused[man].std()) < 0.06  # he is whole
    assert float(fused[ring].mean()) > 0.9  # and throws no shadow


def test_a_man_as_white_as_the_snow_in_both_sources_has_an_outline():
    infrared, visible, man, ring = on_snow(0.92, 0.92)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float(fused[man].mean() - fused[ring].mean()) > 0.06


def test_a_warm_band_on_a_bright_wall_is_seen(generator):
    """A thermal bridge, a tenth of the range above a wall."""
    rows = torch.arange(192).view(1, 1, -1, 1).expand(1, 1, 192, 256)
    band = ((rows - 90).abs() < 7).float()
    visible = 0.86 + 0.02 * torch.randn(1, 1, 192, 256, generator=generator)
    infrared = gaussian_blur(0.42 + 0.12 * band, 1.5) + 0.004 * torch.randn(band.shape, generator=generator)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    wall = (rows - 90).abs() > 16
    assert float((fused[wall].mean() - fused[band > 0].mean()).abs()) > 0.08


def test_a_black_sky_of_the_infrared_image_leaves_a_white_one_as_it_is(generator):
    """Neither specks between leaves nor a fringe along trees that lie 3 pixels off."""
    tree = (gaussian_blur(torch.rand(1, 1, 160, 200, generator=generator), 2.5) > 0.5).float()
    tree[..., :60, :] = 0
    infrared, visible = gaussian_blur(0.03 + 0.5 * tree.roll((2, 3), (-2, -1)), 0.7), 0.97 - 0.85 * tree
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    sky = tree == 0
    assert float((fused - visible)[sky].abs().mean()) < 0.02
    torch.testing.assert_close(fused[..., 5:55, :], visible[..., 5:55, :], atol=0.02, rtol=0)


def test_structure_of_a_poor_infrared_image_appears_in_the_dark(generator):
    """Of one that is noise over more than two thirds."""
    structured = (torch.arange(256) >= 190).float().view(1, 1, 1, 256)
    clean, visible = 0.3 + 0.5 * structured * (blocks(generator) - 0.3), torch.full((1, 1, 192, 256), 0.01)
    infrared = clean + 0.02 * torch.randn(clean.shape, generator=generator)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))

    def detail(y, columns):
        return (y - gaussian_blur(y, 12.0))[..., columns].flatten()

    there, elsewhere = slice(205, None), slice(150)
    wanted, found = detail(clean.clamp_min(0.3), there), detail(fused, there)
    assert float((found @ wanted) / (wanted @ wanted)) > 0.35
    assert float(torch.stack([wanted, found]).corrcoef()[0, 1]) > 0.75
    assert float(detail(fused, elsewhere).std()) < 0.004


def test_markings_of_a_road_stay_where_the_infrared_image_is_flat(generator):
    marks = (torch.arange(256) // 16 % 4 == 0).float().view(1, 1, 1, 256).expand(1, 1, 192, 256)
    visible = 0.06 + 0.15 * marks
    infrared = 0.4 + 0.01 * torch.randn(visible.shape, generator=generator)
    infrared[..., 20:60, 20:40] = 0.95  # a man
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    road = (slice(None), slice(None), slice(90, None))
    kept = fused[road][marks[road] > 0].mean() - fused[road][marks[road] == 0].mean()
    assert float(kept) > 0.95 * 0.15
    assert float((fused - visible)[road].abs().mean()) < 0.01


@pytest.mark.parametrize("evidence", ["heat", "exposure", "focus", "contrast"])
def test_no_pixel_leaves_the_range_of_the_sources(evidence, generator):
    sources = random_sources(generator, size=(64, 80), count=3)
    fused = correct(make(EMTV, evidence=evidence), sources.luma[-1], sources)
    every = torch.stack(sources.luma)
    rounding = 1e-6 if evidence == "focus" else 0.0  # of sums of weights in 8 bits
    assert bool((fused >= every.amin(0) - rounding).all())
    assert bool((fused <= every.amax(0) + rounding).all())


@pytest.mark.parametrize("evidence", ["heat", "exposure", "focus", "contrast"])
def test_equal_sources_stay_as_they_are(evidence, photo):
    fused = correct(make(EMTV, evidence=evidence), photo, make_sources(photo, photo))
    torch.testing.assert_close(fused, photo, atol=1e-6, rtol=0)


def test_images_of_a_batch_are_of_a_kind_each():
    exposures, focus = tensors(multi_exposure((96, 128))), tensors(multi_focus((96, 128)))
    prior = make(EMTV)
    both = Sources.of([torch.cat(pair) for pair in zip(exposures, focus, strict=True)])
    fused = correct(prior, both.luma[-1], both)
    for b, pair in enumerate((exposures, focus)):
        alone = Sources.of(pair)
        torch.testing.assert_close(fused[b : b + 1], correct(prior, alone.luma[-1], alone), atol=1e-5, rtol=0)
    assert both.report.notes == [
        "treated as exposures; `task=medical`, `task=mff` or `task=ivif` states another kind",
        "treated as focus settings; `task=medical`, `task=mef` or `task=ivif` states another kind",
    ]


def test_the_sharper_source_is_copied(photo):
    blurred = gaussian_blur(photo, 2.5)
    left = (torch.arange(128) < 64).view(1, 1, 1, 128)
    near, far = torch.where(left, photo, blurred), torch.where(left, blurred, photo)
    fused = correct(make(EMTV, evidence="focus"), far, make_sources(near, far))
    assert psnr(fused, photo) > max(psnr(near, photo), psnr(far, photo)) + 6


def test_grain_of_one_source_is_no_edge(generator):
    visible = torch.linspace(0.3, 0.7, 128).expand(1, 1, 96, 128).contiguous()
    infrared = 0.4 + 0.02 * torch.randn(1, 1, 96, 128, generator=generator)
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float((fused - visible).std()) < 0.01


def test_a_large_pair_comes_out_the_same_strip_by_strip(monkeypatch):
    from fusionkit.numerics import strips
    from fusionkit.scenes import infrared_visible

    sources = Sources.of(tensors(infrared_visible((1301, 151))))
    whole = correct(make(EMTV, evidence="heat"), sources.luma[-1], sources)
    monkeypatch.setattr(strips, "WHOLE", 10_000)
    monkeypatch.setattr(strips, "PIXELS", 151 * 90)
    monkeypatch.setattr(strips, "SOLVED", 151 * 90)
    striped = correct(make(EMTV, evidence="heat"), sources.luma[-1], sources)
    torch.testing.assert_close(striped, whole, atol=2e-4, rtol=0)
    rows = (striped - whole).abs().amax((0, 1, 3))
    assert float(rows.max()) > 0  # so strips were made


@pytest.mark.parametrize("seed", [0, 1])
def test_total_variation_leaves_fewer_rims_than_a_quadratic(seed, monkeypatch):
    """Where edges of two sources cannot be integrated; the edges stay."""
    infrared, visible = (y.mean(1, keepdim=True) for y in tensors(infrared_visible((240, 320), seed)))
    sources, prior = make_sources(infrared, visible), make(EMTV, evidence="heat")

    def audit():
        fused = correct(prior, visible, sources)
        return [float(make(metric)(fused, sources)) for metric in (Rims, KeptOthers, KeptReference)]

    varied, _ = audit(), monkeypatch.setattr("fusionkit_priors.em_tv.STEPS", 0)
    squared = audit()
    assert varied[0] < 0.6 * squared[0]
    assert all(v > 0.97 * s for v, s in zip(varied[1:], squared[1:], strict=True))


def seen_apart(by, generator):
    """Blobs with the same outlines in both images; the infrared one lies `by` pixels to the right."""
    both = gaussian_blur((gaussian_blur(torch.randn(1, 1, 240, 330, generator=generator), 5.0) > 0).float(), 0.7)
    return make_sources(0.1 + 0.5 * both[..., 10 - by : 330 - by], 0.3 + 0.4 * (1 - both[..., 10:330]))


@pytest.mark.parametrize("by", [2, 3, 4])
def test_of_an_edge_and_its_displaced_copy_the_references_stays(by, generator, monkeypatch):
    sources, prior = seen_apart(by, generator), make(EMTV, evidence="heat")

    def audit():
        fused = correct(prior, sources.reference_luma, sources)
        return [float(make(metric)(fused, sources)) for metric in (KeptOthers, KeptReference)]

    (copied, own), _ = audit(), monkeypatch.setattr("fusionkit_priors.em_tv.copies", lambda *_: None)
    doubled, before = audit()
    assert copied < 0.7 * doubled
    assert own > 0.98 * before


def test_registered_sources_have_no_displaced_copies(generator):
    street = [y.mean(1, keepdim=True) for y in tensors(infrared_visible((240, 320)))]
    for sources in (seen_apart(0, generator), make_sources(*street)):
        assert copies(sources, lambda _, find: find()) is None


def test_images_of_one_kind_together_are_what_they_are_alone(monkeypatch):
    """As other devices than a CPU compute them."""
    scenes = [infrared_visible, multi_exposure, infrared_visible, multi_focus, multi_exposure]
    pairs = [[torch.from_numpy(i).float() for i in scene((96, 128), seed=n)] for n, scene in enumerate(scenes)]
    lumas = [torch.stack([(p[i] if p[i].ndim == 2 else p[i].mean(-1)) for p in pairs])[:, None] for i in (0, 1)]
    sources = make_sources(*lumas)
    prior = EMTV(EMTVOptions())
    alone = correct(prior, lumas[1], sources)
    asked = []
    inner = EMTV._explain
    monkeypatch.setattr(
        EMTV, "_explain", lambda self, kind, x0, *rest: (asked.append(len(x0)), inner(self, kind, x0, *rest))[1]
    )
    monkeypatch.setattr("fusionkit_priors.em_tv.one_by_one", lambda device: False)
    together = correct(prior, lumas[1], sources)
    assert sum(asked) == len(pairs)
    assert max(asked) > 1
    assert len(set(sources.scenes)) > 1
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-4)


def test_a_source_says_nothing_where_it_has_no_data(generator):
    """A hot man, bright structure in the dark: beyond what the M-step reaches, the result is the visible image."""
    visible, infrared = 0.5 + 0.05 * torch.randn(2, 1, 1, 192, 320, generator=generator)
    visible, infrared = gaussian_blur(visible, 1.5), gaussian_blur(infrared, 1.5)
    visible[..., :96, :] *= 0.1
    man = disc((192, 320), center=(110, 220), radius=9)
    infrared = torch.maximum(infrared, 0.95 * man)
    valid = torch.zeros(1, 1, 192, 320, dtype=torch.bool)
    valid[..., :160] = True
    sources = make_sources(infrared, visible)
    everywhere = correct(make(EMTV, evidence="heat"), visible, sources)
    fused = correct(make(EMTV, evidence="heat"), visible, replace(sources, valid=(valid, None)))
    assert float((everywhere - visible)[..., 214:].abs().max()) > 0.3
    assert float((fused - visible)[..., 214:].abs().max()) < 1e-3
    assert float((fused - visible)[..., 160:].abs().max()) < 0.05
    half = correct(
        make(EMTV, evidence="heat"), visible[..., :160], make_sources(infrared[..., :160], visible[..., :160])
    )
    assert float((fused[..., :160] - half)[..., :106].abs().max()) < 0.02  # the infrared is measured on its own


def test_what_is_bright_only_where_it_is_hot_is_not_shown_dark():
    """A lamp in its own glare."""
    glare, lamp = disc(center=(48, 64), radius=12), disc(center=(48, 64), radius=7)
    infrared, visible = 0.2 + 0.2 * lamp, 0.1 + 0.9 * glare
    fused = correct(make(EMTV, evidence="heat"), visible, make_sources(infrared, visible))
    assert float(fused[lamp.bool()].amin()) > 0.95
