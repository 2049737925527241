"""The autoencoder vq: published names, the quantizer, any size, the shipped weights."""

import pytest
import torch

from fusionkit_reproductions.vq import DDConfig, VQConfig, VQModel
from fusionkit_reproductions.vq.decoder import VQConventions, VQDecoder, VQOptions
from fusionkit_reproductions.vq.network import Upsample, VectorQuantizer

TINY_VQ = VQConfig(embed_dim=3, n_embed=16, ddconfig=DDConfig(ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, norm_groups=4))


def test_vq_has_the_published_size_and_names():
    with torch.device("meta"):
        full = VQModel(VQConfig())
    assert sum(p.numel() for p in full.parameters()) == 55_322_782
    keys = full.state_dict().keys()
    for key in (
        "encoder.down.1.block.0.nin_shortcut.weight",
        "encoder.down.0.downsample.conv.weight",
        "encoder.mid.attn_1.proj_out.bias",
        "decoder.up.2.upsample.conv.weight",
        "quantize.embedding.weight",
        "quant_conv.weight",
        "post_quant_conv.bias",
    ):
        assert key in keys


def test_the_quantizer_finds_the_nearest_code_in_chunks(generator):
    quantizer = VectorQuantizer(50, 3, chunk=7)
    torch.nn.init.normal_(quantizer.embedding.weight)
    z = torch.randn(2, 3, 5, 6, generator=generator)
    q, loss, indices = quantizer(z)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = torch.cdist(flat, quantizer.embedding.weight).argmin(1)
    assert torch.equal(indices, nearest)
    torch.testing.assert_close(q.permute(0, 2, 3, 1).reshape(-1, 3), quantizer.embedding.weight[nearest])
    torch.testing.assert_close(loss, 1.25 * (q - z).square().mean())


def test_bfloat16_finds_the_same_codes(generator):
    quantizer = VectorQuantizer(2000, 3)
    torch.nn.init.normal_(quantizer.embedding.weight)
    z = torch.randn(1, 3, 16, 16, generator=generator)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = quantizer.indices(z)
    assert torch.equal(found, quantizer.indices(z))


def test_enlarging_by_summed_taps_is_the_convolution_of_the_enlarged(generator):
    layer, x = Upsample(6), torch.randn(2, 6, 5, 8, generator=generator)
    wanted = layer(x)
    found = layer(x.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


class TestAdapters:
    @pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 3), (33, 50)])
    @pytest.mark.parametrize("quantize", ["none", "encode", "decode"])
    def test_the_decoder_keeps_any_size(self, size, quantize, generator):
        decoder = VQDecoder(VQOptions(quantize=quantize), VQModel(TINY_VQ))
        image = torch.rand(1, 3, *size, generator=generator)
        with torch.no_grad():
            z = decoder.encode(image)
            assert z.shape[-2:] == tuple(-(-s // 4) for s in size)
            assert decoder.decode(z, size).shape == image.shape

    def test_the_latent_is_normalised_by_the_stated_moments(self, generator):
        image = torch.rand(1, 3, 16, 16, generator=generator)
        model = VQModel(TINY_VQ)
        plain = VQDecoder(VQOptions(quantize="none"), model)
        moved = VQDecoder(
            VQOptions(quantize="none"), model, VQConventions(latent={"mean": [1.0, 2.0, 3.0], "std": [2.0] * 3})
        )
        with torch.no_grad():
            shift = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
            torch.testing.assert_close(moved.encode(image), (plain.encode(image) - shift) / 2)
            torch.testing.assert_close(
                moved.decode(moved.encode(image), (16, 16)), plain.decode(plain.encode(image), (16, 16))
            )


class TestShippedWeights:
    def test_the_autoencoder_reconstructs_a_photograph(self):
        data = pytest.importorskip("skimage.data")
        image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
        decoder = VQDecoder(VQOptions())
        with torch.no_grad():
            error = (decoder.decode(decoder.encode(image), (512, 512)).clamp(0, 1) - image).square().mean()
        assert -10 * float(error.log10()) > 25
