"""The VQ autoencoder against latent diffusion's, as the published RFfusion has it."""

import json

import pytest
import torch
from golden_data import FOLDER, Golden, cases, deviation, vq_model

from fusionkit_reproductions.vq.config import VQConfig
from fusionkit_reproductions.vq.decoder import VQDecoder, VQOptions
from fusionkit_reproductions.vq.network import VQModel

BOUND = 1e-5


@pytest.mark.parametrize("golden", cases("vqmodel/vq_*.json"))
def test_encode_and_decode(golden: Golden, check) -> None:
    model = vq_model(golden.config, golden.path.with_suffix(".weights.npz"))
    for case in sorted({name.partition("_")[0] for name in golden.arrays}):

        def expect(name: str, ours: torch.Tensor, case: str = case) -> None:
            check(f"vq {name}, of the largest value", deviation(ours, golden[f"{case}_{name}"]), BOUND)

        prequant = model.encode_to_prequant(golden[f"{case}_x"])
        quant, loss, indices = model.quantize(prequant)
        assert torch.equal(indices.int(), golden[f"{case}_indices"].int())
        expect("prequant", prequant)
        expect("quant", quant)
        expect("emb_loss", loss)
        expect("decode_quant", model.decode(golden[f"{case}_quant"]))
        expect("decode_prequant", model.decode(golden[f"{case}_prequant"]))


@pytest.mark.parametrize("golden", cases("vqmodel/vq_*.json"))
def test_first_stage_as_a_decoder(golden: Golden, check) -> None:
    model = vq_model(golden.config, golden.path.with_suffix(".weights.npz"))
    decoder = VQDecoder(VQOptions(quantize="encode", scale=4.0), model)
    for case in sorted({name.partition("_")[0] for name in golden.arrays}):
        image = (golden[f"{case}_x"] + 1) / 2
        size = (image.shape[-2], image.shape[-1])
        latent, v = golden[f"{case}_first_stage_latent"], golden[f"{case}_v"]
        group = "vq first stage, of the largest value"
        check(group, deviation(decoder.encode(image), latent), BOUND)
        check(group, deviation(2 * decoder.decode(latent, size) - 1, golden[f"{case}_first_stage_decoded"]), BOUND)
        check(group, deviation(2 * decoder.decode(v, size) - 1, golden[f"{case}_v_decoded"]), BOUND)


def test_full_parameters() -> None:
    path = FOLDER / "vqmodel" / "full_parameters.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    published = json.loads(path.read_text())
    with torch.device("meta"):
        model = VQModel(VQConfig.from_published(published["config"]))
    ours = [[name, list(p.shape)] for name, p in model.named_parameters()]
    assert ours == [[name, shape] for name, shape in published["parameters"] if not name.startswith("loss.")]
