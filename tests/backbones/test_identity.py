"""The backbone identity."""

import torch

from fusionkit_backbones.identity import Identity, IdentityOptions


def test_identity_has_no_velocity(generator):
    x = torch.randn(1, 3, 4, 4, generator=generator)
    assert float(Identity(Identity.Options()).velocity(x, torch.ones(1)).abs().max()) == 0


def test_the_silenced_backbone_estimates_zero():
    x = torch.randn(2, 3, 4, 4)
    t = torch.tensor([0.5, 1.0])
    v = Identity(IdentityOptions(estimate="zeros")).velocity(x, t)
    torch.testing.assert_close(x - t.view(-1, 1, 1, 1) * v, torch.zeros_like(x))
