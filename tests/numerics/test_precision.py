"""bfloat16 against float32."""

import pytest
import torch

from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.precision import channels_last
from fusionkit.scenes import noisy_night
from fusionkit_backbones.unet import UNet, UNetConfig


def tensors(images):
    return [torch.from_numpy(i).float().movedim(-1, 0)[None] for i in images]


class TestPrecision:
    def test_cleaning_in_bfloat16_moves_no_pixel_by_more_than_three_levels(self):
        pair = tensors(noisy_night((120, 160)))
        whole, half = (
            Pipeline(device="cpu", look="faithful", sampler={"precision": p}).fuse_tensors(pair)
            for p in ("float32", "bfloat16")
        )
        difference = (whole - half).abs() * 255
        assert float(difference.max()) < 3
        assert 0 < float(difference.mean()) < 0.2

    def test_auto_samples_in_float32(self):
        pair = tensors(noisy_night((64, 96)))
        sampler = {"strength": 0.1, "restore": "none"}
        auto, whole = (
            Pipeline(device="cpu", sampler={**sampler, "precision": p}).fuse_tensors(pair) for p in ("auto", "float32")
        )
        assert torch.equal(auto, whole)

    @pytest.mark.parametrize("size", [(16, 24), (40, 40)])
    def test_the_layout_changes_no_result(self, size, generator):
        network = UNet(UNetConfig(widths=(8, 12))).eval()
        x, s = torch.rand(2, 1, *size, generator=generator), torch.tensor([0.1, 0.2])
        with torch.no_grad():
            before = network(x, s)
            torch.testing.assert_close(channels_last(network)(x, s), before, rtol=1e-5, atol=1e-5)
