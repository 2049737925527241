"""The prior saliency."""

import torch

from fusionkit_priors.saliency import Saliency
from harness import correct, make, make_sources


def test_saliency_keeps_a_hot_object_bright():
    visible = torch.full((1, 1, 64, 64), 0.2)
    infrared = torch.full((1, 1, 64, 64), 0.1)
    infrared[..., 28:36, 28:36] = 0.9
    visible[..., :8, :8] = 0.3
    fused = correct(make(Saliency), visible, make_sources(infrared, visible))
    assert float(fused[..., 30:34, 30:34].mean()) > 0.7
