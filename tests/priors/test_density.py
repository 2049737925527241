"""Evidence of density: scans whose right fusion is known."""

from itertools import permutations

import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.numerics import strips
from fusionkit.numerics.window import gaussian_blur
from fusionkit_plugins.color.chroma import ChromaOptions
from fusionkit_plugins.color.ycbcr import YCbCr
from fusionkit_priors.density import overlaid, tissue
from fusionkit_priors.em_tv import EMTV
from fusionkit_priors.laplacian import Laplacian
from harness import correct, make, make_sources, random_sources

SIZE = (160, 192)
Y, X = torch.meshgrid(torch.arange(SIZE[0]) - 80.0, torch.arange(SIZE[1]) - 96.0, indexing="ij")
RADIUS = torch.hypot(X, Y)[None, None]
BONE, INSIDE = (RADIUS > 50) & (RADIUS < 66), RADIUS < 50


def texture(seed, deviation=0.08, blur=1.5):
    """Smooth noise, (1, 1, H, W)."""
    noise = gaussian_blur(torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed)), blur)
    return deviation * noise / noise.std()


def head():
    """MR with texture inside and beneath the bone of CT, which is white and flat; CT's soft tissue has little."""
    ct = gaussian_blur(torch.where(BONE, 1.0, torch.where(INSIDE, 0.4, 0.0)), 0.6)
    mr = torch.where(RADIUS < 72, 0.35 + texture(0), 0.0)
    return mr, ct + torch.where(INSIDE, texture(1, 0.01), 0.0)


def fused(*lumas, prior=EMTV, **options):
    return correct(make(prior, **options), lumas[-1], make_sources(*lumas))


def scans(*lumas):
    return fused(*lumas, evidence="contrast")


def kept(result, source, where):
    """Projection of the result's structure on the source's, relative to it."""
    shown, wanted = (y[where] - y[where].mean() for y in (result, source))
    return float(shown @ wanted / (wanted @ wanted))


def test_bone_is_white_and_flat_whatever_lies_beneath():
    mr, ct = head()
    within = (RADIUS > 53) & (RADIUS < 63)
    assert float((scans(mr, ct) - 1)[within].abs().max()) < 0.004  # a level
    assert float(fused(mr, ct, prior=Laplacian)[within].std()) > 0.02  # so there is a texture to keep out


@pytest.mark.parametrize(
    ("where", "least"),
    [(RADIUS < 40, 0.8), ((RADIUS > 43) & (RADIUS < 48), 0.6), ((RADIUS > 68) & (RADIUS < 71), 0.85)],
    ids=["inside", "beside the bone", "scalp"],
)
def test_soft_tissue_is_kept_up_to_the_bone(where, least):
    mr, ct = head()
    assert kept(scans(mr, ct), mr, where) > least


def test_no_rim_along_the_border_of_bone():
    """Beside it nothing is darker than both scans' tissue, and the scalp follows at once."""
    ct = gaussian_blur(torch.where(BONE, 1.0, torch.where(INSIDE, 0.4, 0.0)), 0.8)
    mr = torch.where(RADIUS < 80, 0.5, 0.0)
    across = scans(mr, ct)[0, 0, 80, 96:]
    assert 0.4 < float(across[:50].min()) < float(across[:48].max()) < 0.51
    assert float((across[53:63] - 1).abs().max()) < 0.004
    assert float((across[70:76] - 0.5).abs().max()) < 0.1


def test_what_is_black_in_one_scan_comes_from_the_other():
    mr, ct = head()
    orbit = RADIUS < 15
    ct = torch.where(orbit, 0.0, torch.where(RADIUS < 50, 1.0, ct))  # fat that CT shows black, within bone
    within = RADIUS < 10
    assert float((scans(mr, ct) - mr)[within].abs().max()) < 0.02
    assert kept(scans(mr, ct), mr, within) > 0.85


def test_a_lesion_that_one_scan_shows_bright_is_bright():
    mr, ct = head()
    lesion, within = RADIUS < 14, RADIUS < 9
    dark, bright = torch.where(lesion, 0.05, mr), torch.where(lesion, 0.75, ct)
    assert float(scans(dark, bright)[within].mean()) > 0.6
    swapped = torch.where(lesion, 0.75, mr), torch.where(lesion, 0.05, ct)
    assert float(scans(*swapped)[within].mean()) > 0.6


def test_three_scans_in_any_order():
    mr, ct = head()
    third = torch.where(INSIDE, 0.3 + texture(2, 0.02), 0.0)
    results = [scans(*order) for order in permutations([mr, ct, third])]
    for result in results:
        torch.testing.assert_close(result, results[0], atol=1e-5, rtol=0)
    within = (RADIUS > 53) & (RADIUS < 63)
    assert float((results[0] - 1)[within].abs().max()) < 0.004


def test_noise_is_averaged_where_nothing_exceeds_it(generator):
    flat = [0.4 + 0.03 * torch.randn(1, 1, 64, 64, generator=generator) for _ in range(2)]
    known, none = (torch.full((1, 1, 1, 1), level) for level in (0.03, 0.0))
    assert float(tissue(flat, [known] * 2).std()) < 0.8 * float(tissue(flat, [none] * 2).std())


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (2, 3), (31, 37)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_scans(size, count, generator):
    sources = random_sources(generator, size=size, count=count)
    result = correct(make(EMTV, evidence="contrast"), sources.luma[-1], sources)
    assert result.shape == sources.luma[0].shape
    assert bool(result.isfinite().all())
    assert bool(overlaid(sources.luma[0], sources.luma[-1]).isfinite().all())


COLORS = 160


def color_bar():
    """MR with tissue under the lower three quarters of PET, a bar from black over blue, green, yellow and red to pale red."""
    stops = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0.8, 0.4], [1, 1, 0], [1, 0, 0], [1, 0.8, 0.8]])
    at = torch.linspace(0, len(stops) - 1.001, COLORS)
    bar = torch.lerp(stops[at.long()], stops[at.long() + 1], at.frac()[:, None])
    pet = torch.zeros(1, 3, *SIZE)
    pet[..., 40:120, 16 : 16 + COLORS] = bar.T[None, :, None]
    mr = torch.where((Y > -20) & (Y < 40) & (X.abs() < 84), 0.55 + texture(3), 0.0)
    return mr.expand(1, 3, *SIZE), pet, bar


def in_color(*images):
    """The default prior and colour space."""
    sources, space = Sources.of(images), YCbCr(ChromaOptions())
    luma = correct(make(EMTV), sources.luma[-1], sources)
    return space.merge(luma, [space.split(image)[1] for image in images], sources)


def test_a_color_bar_over_tissue_can_be_read_back():
    """By its chroma: within 2 % of the bar in the mean, 10 % nearly everywhere."""
    mr, pet, bar = color_bar()
    result = in_color(mr, pet).clamp(0, 1)  # as a file holds it
    weights = torch.tensor([0.299, 0.587, 0.114])
    seen = result[0, :, 68:120, 16 : 16 + COLORS].flatten(1).T
    chroma, known = seen - (seen @ weights)[:, None], bar - (bar @ weights)[:, None]
    read = torch.cdist(chroma, known).argmin(1)
    off = (read.view(-1, COLORS) - torch.arange(COLORS)).abs() / COLORS
    assert float(off.mean()) < 0.02
    assert float(off.flatten().quantile(0.95)) < 0.1


def test_structure_of_the_grey_scan_shows_through_the_colour():
    mr, pet, _ = color_bar()
    sulcus = (X.abs() % 24 < 3)[None, None]
    mr = torch.where(sulcus & (mr > 0), 0.1, mr)
    yellow = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)
    result = YCbCr(ChromaOptions()).split(in_color(mr, torch.where(pet > 0, yellow, 0)))[0]
    within = (X.abs() < 70)[None, None] & (Y > -12) & (Y < 36)
    assert float(result[within & ~sulcus].mean() - result[within & sulcus].mean()) > 0.2


def steps(y):
    """Mean step between columns 2 k + 1 and 2 k + 2, and between 2 k and 2 k + 1, of the inner half."""
    step = y.diff(dim=-1).abs()[..., 40:120, 48:144]
    return float(step[..., 1::2].mean()), float(step[..., ::2].mean())


def test_pixels_of_a_coarse_scan_in_colour_draw_no_grid():
    """One that was enlarged by repeating its pixels: luma rises as much within one of them as between two."""
    coarse = 0.5 + 0.3 * torch.sin(RADIUS / 6)
    pet = coarse[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2)
    between, within = steps(pet)
    assert within == 0 < between
    between, within = steps(overlaid(torch.full_like(pet, 0.3), pet))
    assert 0.7 < within / between < 1.5
    lesion = pet.clone()
    lesion[..., 80, 96] += 0.2  # as small as a pixel: so this one was not enlarged, and keeps what it shows
    change = overlaid(torch.full_like(pet, 0.3), lesion) - fused(torch.full_like(pet, 0.3), lesion, prior=Laplacian)
    assert float(change.abs().max()) < 1e-6


def test_scenes_of_a_batch_are_layered_each_on_its_own():
    mr, pet, _ = color_bar()
    grey = torch.stack([y.expand(3, *SIZE) for y in (head()[1][0, 0], head()[0][0, 0])])
    both = [torch.cat([mr, grey[1:]]), torch.cat([pet, grey[:1]])]
    result = in_color(*both)
    for b in range(2):
        alone = in_color(*(image[b : b + 1] for image in both))
        torch.testing.assert_close(result[b : b + 1], alone, atol=1e-5, rtol=0)


def test_a_large_scan_comes_out_the_same_strip_by_strip(monkeypatch):
    mr, pet, _ = color_bar()
    grey, color = scans(*head()), in_color(mr, pet)
    monkeypatch.setattr(strips, "PIXELS", 40 * SIZE[1])
    torch.testing.assert_close(scans(*head()), grey, atol=1e-6, rtol=0)
    torch.testing.assert_close(in_color(mr, pet), color, atol=1e-6, rtol=0)
