"""The network ncsnpp: resampling against SciPy, published names and order, every variant."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.ncsnpp.blocks import GaussianFourierProjection, sinusoidal_embedding
from fusionkit_backbones.ncsnpp.resampling import FIRConv2d, downsample, fir_kernel, upsample

TINY = NCSNppConfig(image_size=32, nf=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(16,))


def upfirdn2d(x, taps, gain, up, down, before, after):
    """Zero insertion, padding, convolution, decimation, one axis after the other, by SciPy."""
    taps = np.asarray(taps) / np.sum(taps) * gain**0.5
    for axis in (2, 3):
        n = x.shape[axis]
        spread = np.zeros([*x.shape[:axis], n * up, *x.shape[axis + 1 :]])
        index = [slice(None)] * 4
        index[axis] = slice(None, None, up)
        spread[tuple(index)] = x
        pad = [(0, 0)] * 4
        pad[axis] = (before, after)
        padded = np.pad(spread, pad)
        full = upfirdn(taps, padded, axis=axis)
        index[axis] = slice(len(taps) - 1, padded.shape[axis], down)
        x = full[tuple(index)]
    return x


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1), (1, 2, 1), (1, 2, 5, 3)])
def test_fir_resampling_is_upfirdn(taps, layout, generator):
    x = torch.randn(2, 3, 6, 10, generator=generator).contiguous(memory_format=layout)
    p = len(taps) - 2
    up = upfirdn2d(x.numpy(), taps, 4, 2, 1, (p + 1) // 2 + 1, p // 2)
    np.testing.assert_allclose(upsample(x, fir_kernel(taps, 4)).numpy(), up, atol=1e-5)
    down = upfirdn2d(x.numpy(), taps, 1, 1, 2, (p + 1) // 2, p // 2)
    np.testing.assert_allclose(downsample(x, fir_kernel(taps)).numpy(), down, atol=1e-5)


def test_resampling_convolutions_halve_and_double(generator):
    x = torch.randn(1, 3, 8, 12, generator=generator)
    assert FIRConv2d(3, 5, (1, 3, 3, 1), up=True)(x).shape == (1, 5, 16, 24)
    assert FIRConv2d(3, 5, (1, 3, 3, 1), up=False)(x).shape == (1, 5, 4, 6)


def test_embeddings():
    projection = GaussianFourierProjection(4, 16.0)
    t = torch.tensor([0.3, 2.0])
    phase = t[:, None] * projection.W * 2 * torch.pi
    torch.testing.assert_close(projection(t), torch.cat([phase.sin(), phase.cos()], 1))
    assert torch.equal(projection.W, projection.W.half().float())  # phases of hundreds of radians, stored as float16
    assert sinusoidal_embedding(t, 7).shape == (2, 7)


VARIANTS = [
    {},
    {"resblock_type": "ddpm"},
    {"resblock_type": "ddpm", "fir": False},
    {"fir": False},
    {"progressive": "none"},
    {"progressive": "residual"},
    {"progressive_input": "residual"},
    {"progressive_input": "none"},
    {"progressive_combine": "cat"},
    {"embedding_type": "positional"},
    {"conditional": False},
    {"skip_rescale": False},
    {"centered": True},
    {"attn_resolutions": ()},
    {"scale_by_sigma": False},
    {"normalization": "none"},
    {"attention": False},
    {"patch": 2},
]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
def test_every_variant_runs_at_any_multiple_and_is_conditioned_on_time(change, size, generator):
    torch.manual_seed(0)
    network = NCSNpp(TINY.model_copy(update={"init_scale": 1.0, **change})).eval()
    x = torch.randn(1, 3, *size, generator=generator)
    with torch.no_grad():
        a, b = (network(x, torch.tensor([label])) for label in (3.0, 700.0))
    assert a.shape == x.shape
    assert bool(a.isfinite().all())
    # without conditioning and scaling, nothing may depend on the label
    depends = change != {"conditional": False}
    assert (not torch.allclose(a, b)) or not depends


def test_parameters_have_the_published_names_and_order():
    names = [name for name, _ in NCSNpp(TINY).named_parameters()]
    assert names[:7] == [
        "all_modules.0.W",
        "all_modules.1.weight",
        "all_modules.1.bias",
        "all_modules.2.weight",
        "all_modules.2.bias",
        "all_modules.3.weight",
        "all_modules.3.bias",
    ]
    block = [n.removeprefix("all_modules.4.") for n in names if n.startswith("all_modules.4.")]
    assert block == [
        "GroupNorm_0.weight",
        "GroupNorm_0.bias",
        "Conv_0.weight",
        "Conv_0.bias",
        "Dense_0.weight",
        "Dense_0.bias",
        "GroupNorm_1.weight",
        "GroupNorm_1.bias",
        "Conv_1.weight",
        "Conv_1.bias",
    ]
    assert next(iter(NCSNpp(TINY).state_dict())) == "sigmas"
    assert not dict(NCSNpp(TINY).named_parameters())["all_modules.0.W"].requires_grad
    # counted from the published CelebA-HQ rectified flow
    with torch.device("meta"):
        full = NCSNpp(NCSNppConfig())
    assert sum(p.numel() for p in full.parameters()) == 65_574_549
