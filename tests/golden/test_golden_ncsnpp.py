"""The NCSN++ against every variant that the published code builds.

A name that ends in `__patched` is a variant that the published code cannot run as it stands; its JSON says what was
mended to make it run.
"""

import json

import pytest
import torch
from golden_data import FOLDER, Golden, cases, deviation, ncsnpp

from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.ncsnpp.resampling import FIRConv2d, downsample, fir_kernel, upsample

BOUND = 1e-5
OPERATIONS = {
    "up": lambda x, w, taps: upsample(x, fir_kernel(taps, 4.0)),
    "down": lambda x, w, taps: downsample(x, fir_kernel(taps)),
    "upconv": lambda x, w, taps: convolved(x, w, taps, up=True),
    "convdown": lambda x, w, taps: convolved(x, w, taps, up=False),
}
VARIANTS = [p for p in cases("ncsnpp/*.json") if p.values[0] is None or "case0_x" in p.values[0].arrays]


@pytest.mark.parametrize("golden", VARIANTS)
def test_output(golden: Golden, check) -> None:
    network = ncsnpp(golden.config, golden.path.with_suffix(".weights.npz"))
    for case in sorted({name.partition("_")[0] for name in golden.arrays}):
        ours = network(golden[f"{case}_x"], golden[f"{case}_t"])
        check("ncsnpp output, of max |y|", deviation(ours, golden[f"{case}_y"]), BOUND)


def test_celebahq_parameters() -> None:
    path = FOLDER / "ncsnpp" / "celebahq_parameters.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    published = json.loads(path.read_text())
    with torch.device("meta"):
        network = NCSNpp(NCSNppConfig.from_published(published["config"]))
    ours = [[name, list(p.shape)] for name, p in network.named_parameters()]
    assert ours == published["parameters"]
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained[:3] == published["shadow_params_order"]


def convolved(x, w, taps, *, up):
    """The layer with the weight w (out, in, 3, 3) and no bias."""
    layer = FIRConv2d(w.shape[1], w.shape[0], taps, up=up)
    with torch.no_grad():
        layer.weight.copy_(w)
        return layer(x)


@pytest.mark.parametrize("golden", cases("ncsnpp/fir_ops.json"))
def test_resampling(golden: Golden, check) -> None:
    for name in golden.arrays:
        shape, _, operation = name.partition("_")
        operation, _, taps = operation.removesuffix("__patched").rpartition("_")
        if operation not in OPERATIONS:
            continue
        x, w = golden[f"{shape}_x"], golden[f"{shape}_w"]
        ours = OPERATIONS[operation](x, w, [float(tap) for tap in taps])
        check(f"fir {operation}", deviation(ours, golden[name]), BOUND)
