"""The networks: resampling against SciPy, published names and order, any size, strict loading."""

import json

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from fusionkit.errors import WeightsError
from fusionkit.flow.path import interpolate
from fusionkit.weights import find_weights, load_weights, save_weights
from fusionkit_backbones.identity import Identity
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.ncsnpp.blocks import GaussianFourierProjection, sinusoidal_embedding
from fusionkit_backbones.ncsnpp.resampling import conv_downsample, downsample, fir_kernel, upsample, upsample_conv
from fusionkit_backbones.rf import RectifiedFlow, RFOptions
from fusionkit_plugins.vq import DDConfig, VQConfig, VQModel
from fusionkit_plugins.vq.decoder import VQConventions, VQDecoder, VQOptions
from fusionkit_plugins.vq.network import VectorQuantizer

TINY = NCSNppConfig(image_size=32, nf=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(16,))
TINY_VQ = VQConfig(embed_dim=3, n_embed=16, ddconfig=DDConfig(ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, norm_groups=4))


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


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1), (1, 2, 1), (1, 2, 5, 3)])
def test_fir_resampling_is_upfirdn(taps, generator):
    x = torch.randn(2, 3, 6, 10, generator=generator)
    p = len(taps) - 2
    up = upfirdn2d(x.numpy(), taps, 4, 2, 1, (p + 1) // 2 + 1, p // 2)
    np.testing.assert_allclose(upsample(x, fir_kernel(taps, 4)).numpy(), up, atol=1e-5)
    down = upfirdn2d(x.numpy(), taps, 1, 1, 2, (p + 1) // 2, p // 2)
    np.testing.assert_allclose(downsample(x, fir_kernel(taps)).numpy(), down, atol=1e-5)


def test_resampling_convolutions_halve_and_double(generator):
    x, weight = torch.randn(1, 3, 8, 12, generator=generator), torch.randn(5, 3, 3, 3, generator=generator)
    assert upsample_conv(x, weight, fir_kernel((1, 3, 3, 1), 4)).shape == (1, 5, 16, 24)
    assert conv_downsample(x, weight, fir_kernel((1, 3, 3, 1))).shape == (1, 5, 4, 6)


def test_embeddings():
    projection = GaussianFourierProjection(4, 16.0)
    t = torch.tensor([0.3, 2.0])
    phase = t[:, None] * projection.W * 2 * torch.pi
    torch.testing.assert_close(projection(t), torch.cat([phase.sin(), phase.cos()], 1))
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


class TestAdapters:
    @pytest.fixture
    def flow(self):
        torch.manual_seed(0)
        return RectifiedFlow(RFOptions(), NCSNpp(TINY.model_copy(update={"init_scale": 1.0})))

    @pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 3), (33, 50)])
    def test_any_size(self, flow, size, generator):
        x = torch.randn(2, 3, *size, generator=generator)
        with torch.no_grad():
            assert flow.velocity(x, torch.tensor([0.2, 0.9])).shape == x.shape

    def test_time_is_turned_round(self, flow, generator):
        x = torch.randn(1, 3, 8, 8, generator=generator)
        with torch.no_grad():
            torch.testing.assert_close(flow.velocity(x, torch.tensor([0.3])), -flow.network(x, torch.tensor([699.3])))
            at_noise = -flow.network(x, torch.tensor([0.999]))
            torch.testing.assert_close(flow.velocity(x, torch.tensor([1.0])), at_noise)

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

    def test_identity_has_no_velocity(self, generator):
        x = torch.randn(1, 3, 4, 4, generator=generator)
        assert float(Identity(Identity.Options()).velocity(x, torch.ones(1)).abs().max()) == 0


class TestWeights:
    @pytest.fixture
    def saved(self, tmp_path):
        torch.manual_seed(0)
        network = NCSNpp(TINY)
        path = tmp_path / "mine.safetensors"
        save_weights(path, network.state_dict(), {"architecture": TINY.model_dump()}, half=True)
        return network, path

    def test_round_trip_at_half_precision(self, saved):
        network, path = saved
        flow = RectifiedFlow(RFOptions(weights=str(path)))
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(flow.network.state_dict()[name].float(), tensor.float(), atol=2e-3, rtol=1e-3)
        assert flow.provenance["sha256"] == json.loads(path.with_suffix(".json").read_text())["sha256"]

    def test_found_in_the_users_folder(self, saved, monkeypatch, tmp_path):
        (tmp_path / "weights").mkdir()
        for suffix in (".safetensors", ".json"):
            saved[1].with_suffix(suffix).rename(tmp_path / "weights" / f"mine{suffix}")
        monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path))
        assert find_weights("mine", "fusionkit_backbones", "").path == tmp_path / "weights" / "mine.safetensors"

    def test_missing_weights_say_which_file_and_what_works_without(self):
        with pytest.raises(WeightsError, match=r"weights 'none-such' not found.*`backbone=identity`"):
            RectifiedFlow(RFOptions(weights="none-such"))

    def test_another_architecture_names_every_difference(self, saved):
        _, path = saved
        other = NCSNpp(TINY.model_copy(update={"nf": 16, "num_res_blocks": 2}))
        with pytest.raises(
            WeightsError, match=r"missing all_modules\.\d+.*all_modules\.1\.weight is \(32, 16\), expected \(64, 32\)"
        ):
            load_weights(other, find_weights(str(path), "fusionkit_backbones", ""))

    def test_damage_is_noticed(self, saved):
        data = bytearray(saved[1].read_bytes())
        data[-1] ^= 1
        saved[1].write_bytes(bytes(data))
        with pytest.raises(WeightsError, match="damaged"):
            RectifiedFlow(RFOptions(weights=str(saved[1])))

    def test_a_missing_description_is_named(self, saved):
        saved[1].with_suffix(".json").unlink()
        with pytest.raises(WeightsError, match=r"mine\.json: missing"):
            RectifiedFlow(RFOptions(weights=str(saved[1])))


class TestShippedWeights:
    """What a user gets without any download."""

    def test_files_are_small_and_described(self):
        for name, package in (("rf-small", "fusionkit_backbones"), ("vq-small", "fusionkit_plugins")):
            file = find_weights(name, package, "")
            assert file.path.stat().st_size < 12e6
            assert file.path.with_suffix(".md").is_file()

    def test_the_autoencoder_reconstructs_a_photograph(self):
        data = pytest.importorskip("skimage.data")
        image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
        decoder = VQDecoder(VQOptions())
        with torch.no_grad():
            error = (decoder.decode(decoder.encode(image), (512, 512)).clamp(0, 1) - image).square().mean()
        assert -10 * float(error.log10()) > 25

    @pytest.mark.parametrize("t", [0.1, 0.3, 0.6])
    def test_the_flow_denoises_better_than_variance_alone_allows(self, t, generator):
        data = pytest.importorskip("skimage.data")
        image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
        decoder, flow = VQDecoder(VQOptions()), RectifiedFlow(RFOptions())
        with torch.no_grad():
            z = decoder.encode(image)
            x = interpolate(z, torch.randn(z.shape, generator=generator), t)
            x0 = x - t * flow.velocity(x, torch.tensor([t]))
            linear = x * (1 - t) / ((1 - t) ** 2 + t**2)
        assert float((x0 - z).square().mean()) < 0.8 * float((linear - z).square().mean())
