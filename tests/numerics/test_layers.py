"""Layers by whatever algorithm against PyTorch's own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from fusionkit.numerics.layers import Convolution, attention, fastest_format, winograd
from fusionkit.numerics.private import has_winograd
from fusionkit_backbones.ncsnpp import NCSNpp
from fusionkit_backbones.rf_training import NETWORKS

needs_nnpack = pytest.mark.skipif(not has_winograd(), reason="this PyTorch or processor has no NNPACK")


@pytest.fixture
def taken(monkeypatch):
    """How often Winograd's algorithm was taken where it might be."""
    calls, inner = [], torch._nnpack_spatial_convolution
    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", lambda *a: (calls.append(1), inner(*a))[1])
    with winograd():
        yield calls


class TestConvolution:
    @needs_nnpack
    @pytest.mark.parametrize("shape", [(1, 32, 32), (2, 33, 61), (3, 16, 64), (1, 200, 7)])
    def test_winograd_gives_what_the_definition_does(self, shape, generator, taken):
        batch, *size = shape
        conv = Convolution(48, 64, 3, padding=1)
        x = torch.randn(batch, 48, *size, generator=generator)
        with torch.no_grad():
            found = conv(fastest_format(x))
            wanted = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
        assert taken
        assert (found - wanted).abs().max() < 3e-5 * wanted.abs().max()

    @needs_nnpack
    def test_a_cut_of_an_image_and_no_bias(self, generator, taken):
        conv = Convolution(48, 48, 3, padding=1, bias=False)
        x = torch.randn(1, 48, 50, 60, generator=generator)[..., 3:45, 5:41]
        with torch.no_grad():
            torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, padding=1), rtol=0, atol=1e-4)
        assert taken

    @pytest.mark.parametrize(
        "conv",
        [
            Convolution(48, 48, 3, stride=2, padding=1),
            Convolution(48, 48, 3),
            Convolution(48, 48, 1),
            Convolution(48, 48, 3, padding=2, dilation=2),
            Convolution(48, 48, 3, padding=1, groups=2),
            Convolution(48, 48, 3, padding=1, padding_mode="reflect"),
            Convolution(8, 48, 3, padding=1),
        ],
    )
    def test_other_kinds_go_the_usual_way(self, conv, generator, taken):
        plain = torch.nn.Conv2d.forward
        x = torch.randn(1, conv.in_channels, 40, 40, generator=generator)
        with torch.no_grad():
            assert torch.equal(conv(x), plain(conv, x))
        assert not taken

    def test_it_has_to_be_allowed(self, generator, monkeypatch):
        monkeypatch.setattr(torch, "_nnpack_spatial_convolution", None)
        conv = Convolution(48, 48, 3, padding=1)
        x = torch.randn(1, 48, 40, 40, generator=generator)
        with torch.no_grad():
            assert torch.equal(conv(x), torch.nn.Conv2d.forward(conv, x))

    def test_gradients_go_the_usual_way(self, generator, taken):
        conv = Convolution(48, 48, 3, padding=1)
        x = torch.randn(1, 48, 40, 40, generator=generator, requires_grad=True)
        conv(fastest_format(x)).sum().backward()
        assert x.grad.abs().sum() > 0
        assert not taken

    def test_bfloat16_goes_the_usual_way(self, generator, taken):
        conv = Convolution(48, 48, 3, padding=1)
        x = torch.randn(1, 48, 40, 40, generator=generator)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert fastest_format(x).is_contiguous(memory_format=torch.channels_last)
            assert conv(fastest_format(x)).dtype == torch.bfloat16
        assert not taken

    @needs_nnpack
    def test_several_threads_at_once(self, generator):
        conv = Convolution(64, 64, 3, padding=1)
        images = [torch.randn(1, 64, 32 + 8 * i, 48, generator=generator) for i in range(6)]

        def run(x):
            with torch.no_grad(), winograd():
                return conv(x)

        alone = [run(x) for x in images]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                for found, wanted in zip(pool.map(run, images), alone, strict=True):
                    assert torch.equal(found, wanted)


class TestLayout:
    @pytest.mark.parametrize(("size", "most"), [((16, 24), 1e-5), ((40, 40), 1e-5), ((72, 80), 1e-4)])
    def test_it_changes_no_result(self, size, most, generator):
        """The last is large enough for Winograd's algorithm."""
        network = NCSNpp(NETWORKS["pixel"].model_copy(update={"nf": 48, "ch_mult": (1, 2)})).eval()
        x, s = torch.rand(2, 1, *size, generator=generator), torch.tensor([0.1, 0.2])
        with torch.no_grad():
            assert fastest_format(torch.rand(1, 4, 8, 8)).is_contiguous(memory_format=torch.channels_last)
            with winograd():
                found = network(x, s)
            torch.testing.assert_close(found, network(x, s), rtol=most, atol=most)

    @needs_nnpack
    def test_it_is_what_the_algorithm_wants(self):
        x = torch.rand(1, 4, 8, 8)
        with winograd():
            assert fastest_format(x).is_contiguous(memory_format=torch.channels_last)  # gradients may be asked for
            with torch.no_grad():
                assert fastest_format(x).is_contiguous()


class TestAttention:
    @pytest.mark.parametrize("count", [7, 700, 1024])
    def test_it_is_the_softmax_of_the_scores(self, count, generator):
        q, k, v = torch.randn(3, 2, count, 16, generator=generator)
        wanted = torch.softmax(q.double() @ k.double().mT / 4, -1) @ v.double()
        with torch.no_grad():
            torch.testing.assert_close(attention(q, k, v).double(), wanted, rtol=1e-4, atol=1e-5)
            half = attention(*(x.bfloat16() for x in (q, k, v)))
        assert half.dtype == torch.bfloat16
        assert (half - wanted).abs().max() < 0.03 * wanted.abs().max()
