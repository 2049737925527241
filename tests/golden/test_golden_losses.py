"""The losses of both training stages, with their gradients, in the released form; the average of weights."""

import json

import numpy as np
import pytest
import torch
from golden_data import FOLDER, Golden, cases, deviation
from torch import nn

from fusionkit.numerics.luma import luma
from fusionkit.training.loop import averaged
from fusionkit_reproductions.fusion_loss import FusionLoss, saliency_weights, ssim
from fusionkit_reproductions.vq.losses import PatchDiscriminator, VQLoss, discriminator_loss, frequency_loss
from fusionkit_reproductions.vq.lpips import LPIPS

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


def perceptual(golden: Golden) -> LPIPS | None:
    """LPIPS with weights drawn by the rule in the JSON: the published ones are too large to ship."""
    rule = golden.info.get("lpips_weights")
    if rule is None:
        return None
    module, random = LPIPS(), np.random.RandomState(rule["seed"])
    for name, parameter in module.named_parameters():
        draw = random.standard_normal(tuple(parameter.shape))
        if name.startswith("lin"):
            draw = np.abs(draw) / parameter.shape[1]
        else:
            draw *= np.sqrt(2 / np.prod(parameter.shape[1:])) if parameter.ndim == 4 else 0.05
        parameter.copy_(torch.from_numpy(draw.astype(np.float32)))
    for stated, (name, parameter) in zip(rule["tensors"], module.named_parameters(), strict=True):
        assert stated["name"] == name
        assert float(parameter.double().sum()) == pytest.approx(stated["sum"], abs=1e-3)
    return module


@pytest.mark.parametrize("golden", cases("losses/stage1_*.json"))
def test_stage_one(golden: Golden, check) -> None:
    c = golden.config
    discriminator = PatchDiscriminator(c["disc_ndf"], c["disc_num_layers"])
    state = {k.removeprefix("disc."): golden[k] for k in golden.arrays if k.startswith("disc.")}
    batches = {k: v for k, v in discriminator.state_dict().items() if k.endswith("num_batches_tracked")}
    discriminator.load_state_dict({**state, **batches})

    def expect(name: str, ours: torch.Tensor) -> None:
        check(f"stage I {name}", deviation(ours.detach().reshape(golden[name].shape), golden[name]), BOUND)

    discriminator.train()
    last_layer = golden["last_layer"].requires_grad_()
    rec = golden["base"] + torch.nn.functional.conv2d(golden["feat"], last_layer, padding=1)
    rec.retain_grad()
    lpips = perceptual(golden)
    loss = VQLoss(
        discriminator,
        lpips,
        "released",
        c["perceptual_weight"],
        c["disc_weight"],
        c["codebook_weight"],
        adversarial_start=c["disc_start"],
    )
    terms = loss(golden["inputs"], rec, golden["codebook_loss"], last_layer, c["global_step"])
    expect("g_total", terms.total)
    expect("g_log_nll_loss", terms.nll)
    expect("g_log_p_loss", terms.perceptual)
    expect("g_log_g_loss", terms.adversarial)
    expect("g_log_d_weight", terms.weight)
    expect("g_log_fre_loss", terms.frequency)
    terms.total.backward()
    expect("g_grad_rec", rec.grad)
    expect("g_grad_last", last_layer.grad)
    running = [v.flatten() for k, v in discriminator.state_dict().items() if k.endswith(("_mean", "_var"))]
    expect("g_bn_state_after", torch.cat(running))

    discriminator.zero_grad()
    real, fake = discriminator(golden["inputs"]), discriminator(rec.detach())
    factor = float(c["global_step"] >= c["disc_start"])
    total = factor * discriminator_loss(real, fake)
    expect("d_total", total)
    expect("d_log_logits_real", real.mean())
    expect("d_log_logits_fake", fake.mean())
    total.backward()
    for name, parameter in discriminator.named_parameters():
        if f"d_grad_{name}" in golden:
            expect(f"d_grad_{name}", parameter.grad)

    again = rec.detach().requires_grad_()
    value = frequency_loss(golden["inputs"], again, "released")
    expect("fre_loss", value)
    expect("fre_grad_rec", torch.autograd.grad(value, again)[0])
    if lpips is not None:
        distance = lpips(golden["inputs"], again)
        expect("lpips", distance)
        expect("lpips_grad_rec_of_sum", torch.autograd.grad(distance.sum(), again)[0])


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
