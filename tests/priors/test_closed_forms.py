"""What every closed-form prior answers."""

import pytest
import torch

from fusionkit.registry.loading import get_registry
from harness import correct, make_sources

CLOSED = ["gradient", "saliency", "guided_filter", "mertens", "focus", "wavelet", "laplacian"]


@pytest.mark.parametrize("name", CLOSED)
def test_an_image_fused_with_itself_is_itself(name, photo):
    fused = correct(get_registry().create("prior", name), photo, make_sources(photo, photo))
    torch.testing.assert_close(fused, photo, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["laplacian", "guided_filter", "mertens", "focus", "wavelet", "gradient"])
def test_three_sources_at_once(name, photo):
    sources = make_sources(photo, photo * 0.5, 1 - photo)
    fused = correct(get_registry().create("prior", name), photo, sources)
    assert fused.shape == photo.shape
    assert bool(fused.isfinite().all())
