"""The rectified flow around its network: any size, time, weights."""

import json

import pytest
import torch

from fusionkit.errors import WeightsError
from fusionkit.weights import find_weights, load_weights, save_weights
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.rf import RectifiedFlow, RFOptions

TINY = NCSNppConfig(image_size=32, nf=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(16,))


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

    @pytest.mark.parametrize("t", [0.0, 1.0])
    def test_both_ends_of_the_path_are_numbers(self, t, generator):
        """The shipped network's label is a deviation, of which the logarithm is taken."""
        with torch.no_grad():
            v = RectifiedFlow(RFOptions()).velocity(torch.rand(1, 1, 8, 8, generator=generator), torch.tensor([t]))
        assert bool(v.isfinite().all())


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
            torch.testing.assert_close(
                flow.network.module.state_dict()[name].float(), tensor.float(), atol=2e-3, rtol=1e-3
            )
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
        flow = RectifiedFlow(RFOptions(weights=str(saved[1])))  # reads the description alone
        with pytest.raises(WeightsError, match="damaged"):
            flow.prepare()

    def test_a_missing_description_is_named(self, saved):
        saved[1].with_suffix(".json").unlink()
        with pytest.raises(WeightsError, match=r"mine\.json: missing"):
            RectifiedFlow(RFOptions(weights=str(saved[1])))


class TestShippedWeights:
    """What a user gets without any download."""

    def test_files_are_small_and_described(self):
        for name, package in (("rf-luma", "fusionkit_backbones"), ("vq-small", "fusionkit_reproductions")):
            file = find_weights(name, package, "")
            assert file.path.stat().st_size < 9e6
            assert file.path.with_suffix(".md").is_file()

    @pytest.mark.parametrize(("level", "gain"), [(10, 0.5), (25, 0.6), (50, 1.0)])
    def test_one_evaluation_of_the_flow_beats_total_variation(self, level, gain, generator):
        """On a photograph that it never saw, at the noise's own t, TV at the best of three weights."""
        data = pytest.importorskip("skimage.data")
        from skimage.restoration import denoise_tv_chambolle

        clean = torch.from_numpy(data.camera()).float()[None, None, 100:356, 100:356] / 255
        noisy = clean + level / 255 * torch.randn(clean.shape, generator=generator)
        t = (s := 2 * level / 255) / (1 + s)
        flow = RectifiedFlow(RFOptions())
        with torch.no_grad():
            x = (1 - t) * (2 * noisy - 1)
            restored = (x - t * flow.velocity(x, torch.tensor([t])) + 1) / 2
        tv = [denoise_tv_chambolle(noisy[0, 0].numpy(), weight=w * level / 255) for w in (0.8, 1.2, 1.8)]

        def psnr(image):
            return float(-10 * (torch.as_tensor(image) - clean[0, 0]).square().mean().log10())

        assert psnr(restored[0, 0]) > max(map(psnr, tv)) + gain
