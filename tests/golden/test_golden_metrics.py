"""The dialect `cddfuse` against Evaluator.py, undefined values included."""

import math

import pytest
import torch
from golden_data import Golden, cases

from fusionkit.contracts import Sources
from fusionkit.registry.loading import get_registry

BOUND = 1e-6
NAMES = ("EN", "SD", "SF", "AG", "MI", "MSE", "CC", "PSNR", "SCD", "VIFF", "Qabf")
# the original leaves the range of SSIM to scikit-image; the version it pins takes 2
PUBLISHED = {**{name: name for name in NAMES}, "SSIM": "SSIM_data_range_2"}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("golden", cases("metrics/metrics.json"))
def test_every_case(golden: Golden, name: str, check) -> None:
    metric = get_registry().create("metric", f"cddfuse.{name}")
    for result in golden.info["results"]:
        f, a, b = (golden[f"case{result['case']}_{k}"][None, None].float() / 255 for k in "FAB")
        ours = float(metric(f, Sources((a, b), (a, b))))
        for precision in ("float64", "float32"):
            expected = float(result[precision][PUBLISHED[name]]["value"])
            if math.isfinite(expected):
                check(f"cddfuse.{name} ({precision})", abs(ours - expected) / max(1.0, abs(expected)), BOUND)
            else:
                assert math.isnan(ours) if math.isnan(expected) else ours == expected, result["kind"]


def test_a_batch_is_its_images() -> None:
    images = torch.rand(3, 2, 1, 48, 52, generator=torch.Generator().manual_seed(0))
    f, a, b = images
    for name in PUBLISHED:
        metric = get_registry().create("metric", f"cddfuse.{name}")
        whole = metric(f, Sources((a, b), (a, b)))
        for i in range(2):
            one = slice(i, i + 1)
            torch.testing.assert_close(whole[one], metric(f[one], Sources((a[one], b[one]), (a[one], b[one]))))
