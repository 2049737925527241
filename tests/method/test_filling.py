"""Places where a source has no data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

import fusionkit
from fusionkit import Pipeline, Sources
from fusionkit.images.picture import Picture
from fusionkit.method import pipeline as pipeline_module
from fusionkit.method.filling import filled

VISIBLE = data.astronaut()[:192, :256].astype(np.float32) / 255
HEAT = data.camera()[:192, :256].astype(np.float32)[..., None] / 255 * 0.6
GAP = np.zeros((192, 256), bool)
GAP[:, :90] = GAP[100:130, 180:220] = True
PRIORS = ["em_tv", "laplacian", "average"]


def with_gap(values):
    return np.where(GAP[..., None], np.nan, values).astype(np.float32)


@pytest.mark.parametrize("prior", PRIORS)
def test_where_one_source_has_none_the_other_is_shown_without_a_rim(prior):
    whole = np.asarray(fusionkit.fuse(HEAT, VISIBLE, prior=prior))
    part = np.asarray(fusionkit.fuse(with_gap(HEAT), VISIBLE, prior=prior))
    assert np.isfinite(part).all()
    luma = part @ [0.299, 0.587, 0.114]
    seen = VISIBLE @ [0.299, 0.587, 0.114]
    edge, own = np.abs(np.diff(luma))[:, 85:95].mean(), np.abs(np.diff(seen))[:, 85:95].mean()
    assert edge < 1.3 * own + 0.002
    inside = (slice(20, -20), slice(10, 70))
    detail = [np.diff(x[inside]).ravel() for x in (luma, seen)]
    assert np.corrcoef(*detail)[0, 1] > 0.9  # the visible image's structure, and no other
    if prior != "laplacian":  # whose base weighs the whole picture
        assert np.abs(part - whole)[:, 150:170].mean() < 0.02


def test_the_others_speak_where_the_reference_has_none():
    part = np.asarray(fusionkit.fuse(HEAT, with_gap(VISIBLE), prior="laplacian"))
    assert np.isfinite(part).all()
    inside = (slice(20, -20), slice(10, 70))
    luma = (part @ [0.299, 0.587, 0.114])[inside]
    assert np.corrcoef(np.diff(luma).ravel(), np.diff(HEAT[..., 0][inside]).ravel())[0, 1] > 0.9


def test_where_no_source_has_data_the_result_has_none():
    fused = fusionkit.fuse(with_gap(HEAT), with_gap(VISIBLE))
    assert (np.isnan(np.asarray(fused)).all(2) == GAP).all()
    tensor = torch.from_numpy(with_gap(HEAT)).permute(2, 0, 1)[None]
    result = Pipeline(prior="average").run([tensor, tensor])
    assert (result.isnan()[0, 0].numpy() == GAP).all()


def test_nodata_and_alpha_of_the_reference_come_back():
    counts = (VISIBLE * 60_000).astype(np.uint16)
    picture = Picture(counts, "16", (0.0, 65535.0), name="a", valid=~GAP, nodata=7.0)
    fused = Pipeline(prior="average").fuse_pictures([replace(picture, nodata=9.0), picture])
    assert (fused.picture.stored()[GAP] == 7).all()
    alpha = np.where(GAP, 0, 0.5).astype(np.float32)
    other = replace(picture, valid=None)
    see_through = replace(picture, alpha=alpha, nodata=None)
    fused = Pipeline(prior="average", reference=1).fuse_pictures([see_through, other])
    assert (fused.picture.alpha[GAP] == 1).all()  # shown there: the other source
    assert (fused.picture.alpha[~GAP] == 0.5).all()


def test_large_pictures_are_filled_alike(monkeypatch):
    pictures = [
        Picture((x * 255).astype(np.uint8), "8", (0.0, 255.0), name=n, valid=v)
        for x, n, v in ((HEAT, "heat", ~GAP), (VISIBLE, "seen", None))
    ]
    small = Pipeline(prior="average").fuse_pictures(pictures).picture.pixels
    monkeypatch.setattr(pipeline_module, "WHOLE_PIXELS", 1000)
    large = Pipeline(prior="average").fuse_pictures(pictures).picture.pixels
    np.testing.assert_allclose(large, small, atol=1e-5)


def test_a_batch_has_a_mask_for_each_image():
    seen = torch.from_numpy(VISIBLE).permute(2, 0, 1)[None]
    heat = torch.cat([torch.from_numpy(x).permute(2, 0, 1)[None] for x in (HEAT, with_gap(HEAT))])
    both = Pipeline(prior="laplacian").run([heat, torch.cat([seen, seen])]).image
    for b in range(2):
        alone = Pipeline(prior="laplacian").run([heat[b : b + 1], seen]).image
        torch.testing.assert_close(both[b : b + 1], alone, atol=2e-3, rtol=0)


def test_sources_with_data_everywhere_are_left_alone():
    sources = Sources.of([torch.rand(1, 1, 8, 8)] * 2)
    assert filled(sources) is sources
