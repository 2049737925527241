"""bfloat16 against float32."""

import torch

from fusionkit.method.pipeline import Pipeline
from harness import noisy_street


def tensors(images):
    return [torch.from_numpy(i).float().movedim(-1, 0)[None] for i in images]


class TestPrecision:
    def test_cleaning_in_bfloat16_moves_no_pixel_by_more_than_three_levels(self):
        pair = tensors(noisy_street((120, 160)))
        whole, half = (
            Pipeline(device="cpu", look="faithful", sampler={"precision": p}).fuse_tensors(pair)
            for p in ("float32", "bfloat16")
        )
        difference = (whole - half).abs() * 255
        assert float(difference.max()) < 3
        assert 0 < float(difference.mean()) < 0.2

    def test_auto_samples_in_float32(self):
        pair = tensors(noisy_street((64, 96)))
        auto, whole = (
            Pipeline(device="cpu", restore="none", sampler={"strength": 0.1, "precision": p}).fuse_tensors(pair)
            for p in ("auto", "float32")
        )
        assert float((auto - whole).abs().max()) < 1e-4  # bfloat16 is thirty times as far off
