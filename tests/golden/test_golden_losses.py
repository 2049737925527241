"""Losses of both training stages, with their gradients, in the released form; the average of weights."""

import json

import pytest
import torch
from golden_data import FOLDER, Golden, cases, deviation
from torch import nn

from fusionkit.numerics.luma import luma
from fusionkit.training.loop import averaged
from fusionkit_reproductions.fusion_loss import FusionLoss, saliency_weights, ssim
from fusionkit_reproductions.vq.losses import frequency_loss

BOUND = 1e-4
NAMES = {"total": "total", "max": "intensity", "ssim": "ssim", "color": "color", "text": "gradient", "mask": "saliency"}


@pytest.mark.parametrize("golden", cases("losses/fusion_*.json"))
def test_stage_two(golden: Golden, check) -> None:
    visible, infrared = golden["visible"], golden["infrared"]
    weights = {NAMES[k]: v for k, v in golden.config["weights"].items() if k in NAMES}
    for published, name in NAMES.items():
        fused = golden["fused"].requires_grad_()
        value = getattr(FusionLoss(form="released", **weights)(fused, visible, infrared), name)
        (gradient,) = torch.autograd.grad(value, fused)
        check(f"stage II {name}", deviation(value.detach(), golden[f"loss_{published}"]), BOUND)
        check(f"stage II gradient of {name}", deviation(gradient, golden[f"grad_{published}"]), BOUND)
    weight = saliency_weights(infrared, visible, "released")
    check("stage II saliency weights", deviation(1 - weight[:, 0], golden["mask_w1"]), BOUND)
    fused = golden["fused"]
    check("stage II SSIM", deviation(1 - ssim(visible, fused, "released"), golden["ssim_vis"]), BOUND)
    check("stage II SSIM", deviation(1 - ssim(luma(infrared), luma(fused), "released"), golden["ssim_ir"]), BOUND)


@pytest.mark.parametrize("golden", cases("losses/stage1_*.json"))
def test_stage_one(golden: Golden, check) -> None:
    rec = golden["base"] + torch.nn.functional.conv2d(golden["feat"], golden["last_layer"], padding=1)
    rec.requires_grad_()
    value = frequency_loss(golden["inputs"], rec, "released")
    check("stage I frequency", deviation(value.detach(), golden["fre_loss"].reshape(())), BOUND)
    (gradient,) = torch.autograd.grad(value, rec)
    check("stage I gradient of frequency", deviation(gradient, golden["fre_grad_rec"]), BOUND)


def test_average_of_weights(check) -> None:
    path = FOLDER / "losses" / "schedule_ema.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    sequence = json.loads(path.read_text())["ema"]["sequence"]
    names = ("a", "b")
    module = nn.ParameterDict(
        {name: nn.Parameter(torch.zeros(len(p))) for name, p in zip(names, sequence[0]["shadow"], strict=True)}
    )
    average = averaged(module, 0.999)
    average.update_parameters(module)
    for name, shadow in zip(names, sequence[0]["shadow"], strict=True):
        average.module[name].data.copy_(torch.tensor(shadow))
    for row in sequence[1:]:
        for name, value in zip(names, (row["params"][0], row["params"][2]), strict=True):
            module[name].data.copy_(torch.tensor(value))
        average.update_parameters(module)
        for name, shadow in zip(names, row["shadow"], strict=True):
            check("average of weights", deviation(average.module[name].detach(), torch.tensor(shadow)), 1e-6)
