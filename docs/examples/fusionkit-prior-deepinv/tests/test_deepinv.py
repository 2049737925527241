"""The prior `deepinv`, where deepinv can be imported."""

import pytest
import torch

from fusionkit.testing import PriorContract, make_sources

try:
    from fusionkit_prior_deepinv.implementation import DeepInv, DeepInvOptions
except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch raises the latter
    pytest.skip(f"deepinv cannot be imported here: {error}", allow_module_level=True)


class TestContract(PriorContract):
    name = "deepinv"


def test_noise_that_the_sources_share_is_denoised():
    clean = torch.zeros(1, 1, 32, 32)
    clean[..., 16:] = 0.8
    noisy = (clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    fused, _ = DeepInv(DeepInvOptions(threshold=0.05)).correct(noisy, make_sources(noisy, noisy), None, 0.0)
    assert float((fused - clean).square().mean()) < 0.3 * float((noisy - clean).square().mean())
