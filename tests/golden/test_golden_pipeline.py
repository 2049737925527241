"""The preset rffusion-released against the released program: its PNG files, and its sampler without an autoencoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_data import FOLDER, Golden, cases, deviation, ncsnpp, vq_model
from PIL import Image

import fusionkit
from fusionkit.contracts import Sources
from fusionkit.errors import OptionError
from fusionkit.method.choice import merge_choices
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import load_preset
from fusionkit.method.sampler import Sampler
from fusionkit.numerics.luma import luma
from fusionkit.weights import save_weights
from fusionkit_backbones.rf import RectifiedFlow, RFOptions
from fusionkit_plugins.color.gray import Gray
from fusionkit_plugins.identity import IdentityDecoder
from fusionkit_reproductions.em_tv_paper import EMTVPaper

PRESET = "rffusion-released"
BOUND = 1e-5
PAIRS = [p for p in cases("pipeline/s*_N1.json") if p.values[0] is None or "final_u8" in p.values[0].arrays]
SAMPLER = cases("pipeline/sampler_noae_*.json")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory):
    """A function: golden -> options for weights written as `fusionkit weights import` writes them."""
    folder = tmp_path_factory.mktemp("weights")

    def write(golden: Golden) -> dict[str, dict[str, str]]:
        network = ncsnpp(golden.config, golden.path.with_name("ncsnpp.weights.npz"))
        autoencoder = vq_model(golden.config, FOLDER / "vqmodel" / Path(golden.info["vq_weights"]).name)
        for name, module, more in (("rf", network, {"domain": "any", "decoder": "identity"}), ("vq", autoencoder, {})):
            info = {"architecture": module.config.model_dump(), **more}
            save_weights(folder / f"{name}.safetensors", module.state_dict(), info)
        return {
            "backbone_options": {"weights": str(folder / "rf.safetensors")},
            "decoder_options": {"weights": str(folder / "vq.safetensors")},
            "working_size": golden.config["sampling"]["size"],
        }

    return write


@pytest.mark.parametrize("golden", PAIRS)
def test_png(golden: Golden, weights, check, tmp_path: Path) -> None:
    for name in ("ir", "vi"):
        Image.fromarray(golden.arrays[f"{name}_png"]).save(tmp_path / f"{name}.png")
    fused = fusionkit.fuse(tmp_path / "ir.png", tmp_path / "vi.png", preset=PRESET, device="cpu", **weights(golden))
    difference = np.abs(fused.astype(int) - golden.arrays["final_u8"].astype(int))
    check("rffusion-released PNG, grey levels", float(difference.max()), 1)
    check("rffusion-released PNG, share of pixels that differ", float((difference > 0).mean()), 1e-3)


@pytest.mark.parametrize("golden", PAIRS)
def test_every_stage(golden: Golden, weights, check) -> None:
    config = make_config(merge_choices(load_preset(PRESET), weights(golden)))
    pipeline = Pipeline(config, device="cpu")
    seen = {}
    network, decode = pipeline.backbone.network, pipeline.decoder.decode
    network.register_forward_hook(lambda module, inputs, out: seen.update(model=(inputs, out)))
    pipeline.decoder.decode = lambda z, size: seen.setdefault("decoded", []).append(decode(z, size)) or decode(z, size)
    images = [torch.from_numpy(np.atleast_3d(golden.arrays[f"{n}_png"])).permute(2, 0, 1)[None] for n in ("ir", "vi")]
    pipeline.fuse_tensors([i.float() / 255 for i in images], callback=lambda step: seen.update(step=step))
    (x, t), out = seen["model"]
    estimate, start = seen["decoded"]
    group = "rffusion-released "
    check(f"{group}start", deviation(x, golden["x_start_latent"]), BOUND)
    check(f"{group}label", deviation(t, golden["model_t"]), 1e-6)
    check(f"{group}network", deviation(out, golden["model_out"]), BOUND)
    check(f"{group}estimate", deviation(2 * estimate - 1, golden["pred_decoded"]), BOUND)
    check(f"{group}decoded start", deviation(2 * start - 1, golden["x_decoded"]), BOUND)
    check(f"{group}EM", deviation(2 * seen["step"].corrected - 1, golden["em_F"]), BOUND)


@pytest.mark.parametrize("golden", SAMPLER)
def test_sampler_without_autoencoder(golden: Golden, check) -> None:
    """The released update runs any number of steps on pixels."""
    changed = {"steps": golden.config["sample_N"], "detail": "keep"}  # without an autoencoder, nothing is lost
    config = make_config(merge_choices(load_preset(PRESET), {"sampler": changed, "prior_options": {"carry": False}}))
    network = ncsnpp(golden.config, golden.path.with_name(golden.info["weights"]))
    options = {k: v for k, v in config.backbone.options.items() if k in ("output", "time")}
    backbone = RectifiedFlow(RFOptions(**options), network)
    backbone.domain = "any"
    prior = EMTVPaper(EMTVPaper.Options(**config.prior.options))
    decoder = IdentityDecoder(IdentityDecoder.Options(signal="signed"))
    labels = []
    network.register_forward_hook(lambda module, inputs, out: labels.append((inputs[1], out)))
    sampler = Sampler(backbone, prior, decoder, Gray(Gray.Options()), config.sampler)
    infrared, visible, z = ((golden[k] + 1) / 2 for k in ("infrared", "visible", "z"))
    fused = sampler(Sources((infrared.expand_as(z), z), (infrared, visible))).image
    check("released sampler, out", deviation(2 * fused - 1, luma(golden["out"])), BOUND)
    for step, (label, out) in enumerate(labels):
        check("released sampler, label", deviation(label, golden[f"step{step}_model_t"]), 1e-6)
        if f"step{step}_model_out" in golden:
            check("released sampler, network", deviation(out, golden[f"step{step}_model_out"]), BOUND)


def test_more_steps_with_an_autoencoder_are_refused(weights) -> None:
    """There it decodes what is an image already: TypeError or a clash of sizes (sample_N_gt1_errors.json)."""
    path = FOLDER / "pipeline" / "sample_N_gt1_errors.json"
    if not path.exists() or PAIRS[0].values[0] is None:
        pytest.skip(f"no {path}")
    assert {case["error"].partition(":")[0] for case in json.loads(path.read_text())["cases"]} <= {
        "TypeError",
        "RuntimeError",
    }
    choices = {"sampler": {"steps": 2}, **weights(PAIRS[0].values[0])}
    with pytest.raises(OptionError, match="steps=1"):
        Pipeline(make_config(merge_choices(load_preset(PRESET), choices)))
    choices["sampler"] |= {"solver": "euler", "gain": 1.0}
    Pipeline(make_config(merge_choices(load_preset(PRESET), choices)))
