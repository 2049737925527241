"""Weights: published checkpoints are taken in without running their code, and what is stored can be trusted."""

import argparse
import collections
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.contracts import Options
from fusionkit.errors import OptionError, WeightsError
from fusionkit.options import opens
from fusionkit.registry.loading import get_registry
from fusionkit.weights import differences, open_weights
from fusionkit.weights.checkpoint import read_checkpoint
from fusionkit.weights.importing import import_weights, read_config, verify_weights
from fusionkit.weights.store import find_weights, get_weights, list_weights, remove_weights, user_folder
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_backbones.rf import RectifiedFlow, RFOptions
from fusionkit_reproductions.vq.config import DDConfig, VQConfig
from fusionkit_reproductions.vq.decoder import VQDecoder, VQOptions
from fusionkit_reproductions.vq.network import VQModel
from harness import run_cli

NETWORK = NCSNppConfig(
    image_size=16, nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,), num_scales=20, centered=True
)
AUTOENCODER = VQConfig(embed_dim=3, n_embed=16, ddconfig=DDConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1))
RF_YAML = """
model: {name: ncsnpp, nf: 8, ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: [8], num_scales: 20,
        normalization: GroupNorm, nonlinearity: swish, conv_size: 3, ema_rate: 0.999}
data: {image_size: 16, centered: true, num_channels: 3, random_flip: true}
sampling: {sample_N: 1}
"""
VQ_YAML = """
model:
  target: ldm.models.autoencoder.VQModel
  params:
    embed_dim: 3
    n_embed: 16
    monitor: val/rec_loss
    ddconfig: {double_z: false, z_channels: 3, resolution: 256, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1],
               num_res_blocks: 1, attn_resolutions: [], dropout: 0.0, padding_mode: zeros}
    lossconfig: {target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, Path]:
    paths = {"rf": tmp_path / "rf.yaml", "vq": tmp_path / "vq.yaml"}
    paths["rf"].write_text(RF_YAML)
    paths["vq"].write_text(VQ_YAML)
    return paths


@pytest.fixture
def flow() -> tuple[NCSNpp, dict]:
    """A network and its checkpoint as the published rectified flow writes it; the average differs from the last step."""
    torch.manual_seed(1)
    network = NCSNpp(NETWORK)
    state = {f"module.{k}": v.clone() for k, v in network.state_dict().items()}
    state["module.sigmas"] = state["module.sigmas"].double()
    average = [p.detach() + torch.randn_like(p) for p in network.parameters() if p.requires_grad]
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 2e-4}]}
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": average}
    return network, {"optimizer": optimizer, "model": state, "ema": ema, "step": 12}


@pytest.fixture
def autoencoder() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return VQModel(AUTOENCODER).state_dict()


def save(content: object, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class TestRectifiedFlow:
    def test_the_average_is_taken_with_what_is_not_trained(self, flow, configs, tmp_path):
        network, content = flow
        path, imported = import_weights(save(content, tmp_path / "a.pth"), "mine", config=configs["rf"])
        backbone = RectifiedFlow(RFOptions(weights="mine"))
        own = dict(backbone.network.module.named_parameters())
        trained = [name for name, p in network.named_parameters() if p.requires_grad]
        for name, expected in zip(trained, content["ema"]["shadow_params"], strict=True):
            assert torch.equal(own[name].detach(), expected), name
        assert torch.equal(own["all_modules.0.W"], content["model"]["module.all_modules.0.W"])
        assert backbone.network.module.config == NETWORK
        assert any("EMA" in note for note in imported.notes)

    def test_the_json_records_source_and_hash(self, flow, configs, tmp_path):
        path, _ = import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])
        info = open_weights(path).info
        assert info["kind"] == "backbone rf"
        assert info["source"]["file"] == "a.pth"
        assert len(info["source"]["sha256"]) == len(info["sha256"]) == 64

    def test_pixel_space_weights_run_without_an_autoencoder_unless_one_is_named(self, flow, configs, tmp_path):
        import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])
        backbone = RectifiedFlow(RFOptions(weights="mine"))
        assert (backbone.domain, backbone.decoder, dict(backbone.decoder_options)) == (
            "any",
            "identity",
            {"signal": "signed"},
        )
        assert not RectifiedFlow(RFOptions(weights="mine", centered=False)).network.module.config.centered

    def test_without_an_average_the_last_step_is_taken(self, flow, configs, tmp_path):
        del flow[1]["ema"]
        _, imported = import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])
        assert torch.equal(imported.tensors["all_modules.1.weight"], flow[1]["model"]["module.all_modules.1.weight"])
        assert any("no averaged weights" in note for note in imported.notes)

    def test_names_without_module_prefix(self, flow, configs, tmp_path):
        flow[1]["model"] = {k.removeprefix("module."): v for k, v in flow[1]["model"].items()}
        import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])
        verify_weights(get_weights("mine"))

    def test_another_architecture_is_refused_by_count_or_by_name(self, flow, configs, tmp_path):
        checkpoint = save(flow[1], tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=r"a\.pth: its averaged weights are \d+ tensors.*`config`"):
            import_weights(checkpoint, "mine")
        configs["rf"].write_text(RF_YAML.replace("nf: 8", "nf: 12"))
        with pytest.raises(WeightsError, match=r"all_modules\.1\.weight is \(32, 16\), expected \(48, 24\)"):
            import_weights(checkpoint, "mine", config=configs["rf"])
        configs["rf"].write_text(RF_YAML.replace("swish", "elu"))
        with pytest.raises(WeightsError, match="nonlinearity='elu' is not supported"):
            import_weights(checkpoint, "mine", config=configs["rf"])
        with pytest.raises(WeightsError, match="no ch_mult, image_size, nf"):
            import_weights(checkpoint, "mine", config=configs["vq"])


class TestAutoencoder:
    def test_what_lightning_leaves_beside_the_tensors_is_inert(self, autoencoder, configs, tmp_path, monkeypatch):
        module = types.ModuleType("pytorch_lightning")
        module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
        module.AttributeDict = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning"})
        module.Stages = type("Stages", (list,), {"__module__": "pytorch_lightning"})
        monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
        content = {
            "state_dict": {**autoencoder, "loss.discriminator.main.0.bias": torch.zeros(3)},
            "callbacks": {module.ModelCheckpoint: {"best": torch.tensor(1.0), "self": module.ModelCheckpoint()}},
            "hyper_parameters": module.AttributeDict(a=argparse.Namespace(b=1)),
            "stages": module.Stages([1, 2]),
            "epoch": np.int64(3),
            "array": np.arange(3.0),
            "path": pathlib.PurePosixPath("/x"),
            "seen": collections.defaultdict(list, {"a": [1]}),
        }
        for legacy in (False, True):
            checkpoint = save(content, tmp_path / "a.ckpt", legacy)
            monkeypatch.delitem(sys.modules, "pytorch_lightning", raising=False)
            _, imported = import_weights(checkpoint, f"mine{int(legacy)}", config=configs["vq"])
            monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
            assert set(imported.tensors) == set(autoencoder)
            assert "left out: 1 tensors of the training loss" in imported.notes

    def test_the_model_of_stage_two_and_its_average(self, autoencoder, configs, tmp_path):
        average = {f"model_ema.{k.replace('.', '')}": v + 1 for k, v in autoencoder.items()}
        content = {"model": {**autoencoder, **average, "model_ema.decay": torch.tensor(0.99)}}
        _, imported = import_weights(save(content, tmp_path / "a.pth"), "mine", config=configs["vq"])
        name = "encoder.conv_in.weight"
        assert torch.equal(imported.tensors[name], autoencoder[name] + 1)

    def test_it_decodes_as_the_model_does(self, autoencoder, configs, tmp_path):
        import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
        model = VQModel(AUTOENCODER).eval()
        model.load_state_dict(autoencoder)
        z = torch.randn(1, 3, 4, 6)
        with torch.no_grad():
            ours = VQDecoder(VQOptions(weights="mine", quantize="none")).decode(z, (8, 12))
            torch.testing.assert_close(ours, (model.decode(z) + 1) / 2, rtol=0, atol=1e-6)

    def test_every_missing_and_unexpected_tensor_is_named(self, autoencoder, configs, tmp_path, home):
        names = list(autoencoder)[2:5]
        content = {k: v for k, v in autoencoder.items() if k not in names} | {"stray.weight": torch.zeros(1)}
        with pytest.raises(WeightsError) as caught:
            import_weights(save({"state_dict": content}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
        assert all(f"missing {name}" in str(caught.value) for name in names)
        assert "unexpected stray.weight" in str(caught.value)
        assert not home.exists()

    def test_nan_is_refused(self, autoencoder, configs, tmp_path):
        autoencoder["quant_conv.bias"] = torch.full((3,), torch.nan)
        with pytest.raises(WeightsError, match=r"NaN or infinite values in quant_conv\.bias"):
            import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])


class Payload:
    """Pickles as a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class TestHostileFiles:
    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (os.system, r"(posix|nt)\.system"),
            (exec, r"builtins\.exec"),
            (getattr, r"builtins\.getattr"),
            (__import__, r"builtins\.__import__"),
            (subprocess.Popen, r"(commands|subprocess)\.Popen"),
        ],
    )
    def test_code_is_refused_and_not_run(self, autoencoder, tmp_path, home, function, name, legacy):
        trace = tmp_path / "ran"
        content = {"state_dict": autoencoder, "x": Payload(function, f"touch {trace}")}
        with pytest.raises(WeightsError, match=f"asks for {name}, which can run code"):
            import_weights(save(content, tmp_path / "a.ckpt", legacy), "mine")
        assert not trace.exists()
        assert not home.exists()

    def test_a_function_under_a_harmless_name_does_nothing(self, autoencoder, configs, tmp_path, site):
        site.add("innocent", "def run(path):\n    open(path, 'w').close()\n")
        import innocent

        trace = tmp_path / "ran"
        content = {"state_dict": autoencoder, "x": Payload(innocent.run, str(trace))}
        import_weights(save(content, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
        assert not trace.exists()

    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_a_truncated_file(self, autoencoder, tmp_path, legacy, share):
        path = save({"state_dict": autoencoder}, tmp_path / "a.ckpt", legacy)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(WeightsError, match=r"^\S+a\.ckpt: (damaged, cut short|no checkpoint)"):
            read_checkpoint(path)

    def test_other_files_are_named_as_such(self, tmp_path):
        page = tmp_path / "page.pth"
        page.write_text("<html>404</html>")
        with pytest.raises(WeightsError, match="no checkpoint that can be read"):
            read_checkpoint(page)
        with pytest.raises(WeightsError, match="cannot be read: No such file"):
            read_checkpoint(tmp_path / "none.pth")
        with pytest.raises(WeightsError, match="holds no weights that an installed plug-in knows"):
            import_weights(save([1, 2], tmp_path / "list.pth"), "mine")


class TestOddFiles:
    """What is neither hostile nor weights ends in one line, too."""

    @pytest.mark.parametrize("ema", ["tuple", "bare list"])
    def test_averages_come_in_several_shapes(self, flow, configs, tmp_path, ema):
        shadow = flow[1]["ema"]["shadow_params"]
        flow[1]["ema"] = {"shadow_params": tuple(shadow)} if ema == "tuple" else shadow
        _, imported = import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])
        assert torch.equal(imported.tensors["all_modules.1.weight"], shadow[0])

    @pytest.mark.parametrize("ema", [{"shadow_params": [1, 2]}, {"a": torch.zeros(1)}, 3])
    def test_an_average_that_is_none_is_not_passed_over(self, flow, configs, tmp_path, ema):
        flow[1]["ema"] = ema
        with pytest.raises(WeightsError, match=r"a\.pth: its entry `ema` is not a list of averaged tensors"):
            import_weights(save(flow[1], tmp_path / "a.pth"), "mine", config=configs["rf"])

    @pytest.mark.parametrize("kind", ["sparse", "quantized", "meta", "whole", "complex"])
    def test_tensors_that_are_no_weights(self, autoencoder, configs, tmp_path, kind):
        odd = {
            "sparse": lambda: torch.zeros(3).to_sparse(),
            "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
            "meta": lambda: torch.zeros(3, device="meta"),
            "whole": lambda: torch.zeros(3, dtype=torch.int8),
            "complex": lambda: torch.zeros(3, dtype=torch.complex64),
        }[kind]
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            autoencoder["quant_conv.bias"] = odd()
            checkpoint = save({"state_dict": autoencoder}, tmp_path / "a.ckpt")
        with pytest.raises(WeightsError, match=r"a\.ckpt: "):
            import_weights(checkpoint, "mine", config=configs["vq"])

    def test_two_names_for_one_memory(self, autoencoder, configs, tmp_path):
        autoencoder["quant_conv.bias"] = autoencoder["post_quant_conv.bias"]
        import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
        verify_weights(get_weights("mine"))

    @pytest.mark.parametrize("value", [b"", range(3), object()])
    def test_harmless_builtins_do_not_accuse_the_file(self, autoencoder, configs, tmp_path, value):
        checkpoint = save({"state_dict": autoencoder, "x": value}, tmp_path / "a.ckpt")
        import_weights(checkpoint, "mine", config=configs["vq"])

    @pytest.mark.parametrize(("old", "new"), [("ch: 32", "ch: 48"), ("[1, 1]", "[0, 1]"), ("ch: 32", "ch: many")])
    def test_configurations_that_cannot_be_built(self, autoencoder, configs, tmp_path, old, new):
        configs["vq"].write_text(VQ_YAML.replace(old, new))
        with pytest.raises(WeightsError, match=r"a\.ckpt: (the configuration|not weights)"):
            import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])

    @pytest.mark.parametrize(
        "change",
        [
            {"latent": 5},
            {"latent": {"mean": "x"}},
            {"latent": {"mean": [1.0, 2.0]}},
            {"quantize": "bogus"},
            {"architecture": {"ddconfig": {"ch": 48}}},
        ],
    )
    def test_a_json_that_was_edited_wrongly(self, autoencoder, configs, tmp_path, change):
        path, _ = import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
        described = path.with_suffix(".json")
        described.write_text(json.dumps({**json.loads(described.read_text()), **change}))
        with pytest.raises(WeightsError, match="mine"):
            verify_weights(get_weights("mine"))

    def test_a_plugin_in_a_module_of_its_own_and_a_broken_importer_harm_nobody(
        self, site, monkeypatch, autoencoder, configs, tmp_path
    ):

        code = """
import fusionkit
@fusionkit.hookimpl
def fusionkit_priors():
    yield fusionkit.PriorRecord(name="lone", summary="x", target="lone_module:Lone")
@fusionkit.hookimpl
def fusionkit_decoders():
    yield fusionkit.DecoderRecord(name="odd", summary="x", target="lone_module:Odd", importer="lone_module:None_")
"""
        site.add("lone-module", code)
        monkeypatch.delenv("FUSIONKIT_PLUGINS", raising=False)
        get_registry.cache_clear()
        try:
            assert {"rf-luma", "vq-small"} <= {s.name for s in list_weights() if not isinstance(s, WeightsError)}
            import_weights(save({"state_dict": autoencoder}, tmp_path / "a.ckpt"), "mine", config=configs["vq"])
            with pytest.raises(WeightsError, match="lone_module:None_"):
                import_weights(save([1], tmp_path / "b.ckpt"), "other")
        finally:
            get_registry.cache_clear()

    def test_what_a_file_would_tell_the_terminal_is_shown(self, autoencoder, tmp_path, configs):
        content = {**autoencoder, "x\x1b[31m": torch.zeros(1)}
        checkpoint = save({"state_dict": content}, tmp_path / "a.ckpt")
        done = run_cli("weights", "import", checkpoint, "--as", "mine", "--config", configs["vq"])
        assert done.returncode == 2
        assert "\x1b" not in done.stderr
        assert "x\\x1b[31m" in done.stderr


class TestStore:
    def test_the_whole_life_of_weights_on_the_command_line(self, autoencoder, configs, tmp_path, home):
        checkpoint = save({"state_dict": autoencoder}, tmp_path / "a.ckpt")
        done = run_cli("weights", "import", checkpoint, "--as", "mine", "--config", configs["vq"])
        assert (done.returncode, done.stdout.split()[0]) == (0, str(home / "mine.safetensors")), done.stderr
        again = run_cli("weights", "import", checkpoint, "--as", "mine", "--config", configs["vq"])
        assert again.returncode == 2
        assert "--force" in again.stderr
        listed = run_cli("weights", "list").stdout
        assert "imported from a.ckpt" in listed
        assert "rf-luma" in listed
        assert '"n_embed": 16' in run_cli("weights", "show", "mine").stdout
        assert "ok: mine" in run_cli("weights", "verify", "mine").stdout
        with (home / "mine.safetensors").open("r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b"\x55")
        damaged = run_cli("weights", "verify")
        assert damaged.returncode == 2
        assert "damaged" in damaged.stderr
        assert "ok: vq-small" in damaged.stdout
        assert run_cli("weights", "remove", "mine").returncode == 0
        assert list(home.iterdir()) == []

    def test_shipped_weights_are_neither_shadowed_nor_removed(self, autoencoder, configs, tmp_path):
        checkpoint = save({"state_dict": autoencoder}, tmp_path / "a.ckpt")
        with pytest.raises(WeightsError, match="shipped"):
            import_weights(checkpoint, "vq-small", config=configs["vq"])
        with pytest.raises(WeightsError, match="only imported ones"):
            remove_weights("vq-small")

    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x.safetensors", "my.pt", "a.", "a b", "x" * 200])
    def test_names_that_are_no_file_names(self, name, tmp_path):
        with pytest.raises(WeightsError, match="cannot name weights"):
            import_weights(tmp_path / "any", name)

    def test_a_full_disk_leaves_nothing_behind(self, autoencoder, configs, tmp_path, home):
        checkpoint = save({"state_dict": autoencoder}, tmp_path / "a.ckpt")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        try:
            with pytest.raises(Exception, match=r"mine\.safetensors: cannot be written") as caught:
                import_weights(checkpoint, "mine", config=configs["vq"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert "\n" not in str(caught.value)
        assert list(home.iterdir()) == []

    def test_a_broken_neighbour_does_not_hide_the_others(self, home):
        home.mkdir(parents=True)
        (home / "odd.safetensors").write_bytes(b"")
        entries = list(list_weights())
        assert isinstance(entries[0], WeightsError)
        assert {"rf-luma", "vq-small"} <= {e.name for e in entries[1:]}
        with pytest.raises(WeightsError, match=r"odd\.json: missing"):
            get_weights("odd")

    def test_weights_of_a_package_that_neither_trains_nor_imports_are_listed(self, site, monkeypatch):
        code = """
import fusionkit
@fusionkit.hookimpl
def fusionkit_priors():
    yield fusionkit.PriorRecord(name="theirs", summary="x", target="their_nets.prior:Theirs")
"""
        site.add("theirs", code)
        folder = site.site / "their_nets" / "weights"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        for suffix in (".safetensors", ".json"):
            shutil.copy(get_weights("learned-rendered").file.path.with_suffix(suffix), folder / f"theirs{suffix}")
        monkeypatch.delenv("FUSIONKIT_PLUGINS", raising=False)
        get_registry.cache_clear()
        try:
            assert get_weights("theirs").shipped
        finally:
            get_registry.cache_clear()

    def test_a_published_file_given_as_weights_says_how_to_import_it(self):
        with pytest.raises(WeightsError, match=r"fusionkit weights import` converts it"):
            find_weights("model.pth", "fusionkit_backbones", "")

    def test_the_folder_follows_the_platform_unless_told(self, monkeypatch, tmp_path):
        assert user_folder() == tmp_path / "home" / "weights"
        monkeypatch.delenv("FUSIONKIT_HOME")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        if sys.platform == "linux":
            assert user_folder() == tmp_path / "cache" / "fusionkit" / "weights"

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("a.yaml", "a: [", "not valid YAML"),
            ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
            ("a.json", "[1]", "expected tables"),
            ("a.txt", "", r"expected \.yaml"),
        ],
    )
    def test_configurations_that_cannot_be_read(self, tmp_path, name, text, reason):
        (tmp_path / name).write_text(text)
        with pytest.raises(OptionError, match=reason):
            read_config(tmp_path / name)

    def test_differences_are_all_named(self):
        own = {"a": torch.zeros(2), "b": torch.zeros(2)}
        assert differences({"b": torch.zeros(3), "c": torch.zeros(1)}, own) == [
            "missing a",
            "unexpected c",
            "b is (3,), expected (2,)",
        ]


def test_records_with_an_importer_have_an_option_for_weights() -> None:
    from fusionkit.registry.loading import get_registry

    registry = get_registry()
    importing = [p for p in registry.plugins if p.record.importer]
    assert {p.record.name for p in importing} == {"rf", "vq", "network"}
    for plugin in importing:
        options: type[Options] = registry.load(plugin.kind, plugin.record.name).Options
        assert any(opens(info) == "weights" for info in options.model_fields.values())
        json.dumps(options().model_dump())
