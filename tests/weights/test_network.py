"""A plug-in's network: found at once, loaded once and strictly, wherever it is used."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from fusionkit.errors import WeightsError
from fusionkit.registry.loading import get_registry
from fusionkit.weights import save_weights
from fusionkit.weights.importing import verify_weights
from fusionkit.weights.network import Network
from fusionkit.weights.store import get_weights
from harness import correct, make_sources, run_cli

SHIPPED = ("rf-luma", "vq-small", "learned-rendered", "focus-rendered", "exposure-rendered")


class BlocksConfig(BaseModel):
    channels: int
    multiple: int = 4
    overlap: int = 3


class Blocks(nn.Module):
    """Says the size that it was given."""

    def __init__(self, config: BlocksConfig) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(config.channels, config.channels, 1)

    def forward(self, x):
        self.given = tuple(x.shape[-2:])
        return self.conv(x)


def slow(config: BlocksConfig) -> Blocks:
    time.sleep(0.05)
    return Blocks(config)


def network(weights, build=Blocks, kind="prior blocks"):
    return Network(str(weights), build, BlocksConfig, kind=kind, otherwise="`prior=average` needs none")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "blocks.safetensors"
    save_weights(path, Blocks(BlocksConfig(channels=2)).state_dict(), {
        "kind": "prior blocks", "architecture": {"channels": 2}
    })  # fmt: skip
    return path


@pytest.fixture
def loads(monkeypatch):
    """Files whose tensors were loaded, in their order."""
    from fusionkit.weights import files

    seen, load = [], files.load_weights
    monkeypatch.setattr(files, "load_weights", lambda module, file: (seen.append(file.path.stem), load(module, file)))
    return seen


class TestNetwork:
    def test_it_is_loaded_once_when_it_is_first_used_frozen_and_in_evaluation_mode(self, saved, loads):
        found = network(saved)
        assert (found._module, loads) == (None, [])
        x = torch.rand(1, 2, 8, 8)
        assert torch.equal(found(x), found(x))
        assert loads == ["blocks"]
        assert not found.module.training
        assert not any(p.requires_grad for p in found.module.parameters())

    def test_sides_are_padded_to_the_multiple_and_cropped(self, saved):
        found = network(saved)
        x = torch.rand(1, 2, 9, 6)
        torch.testing.assert_close(found(x), found.module.conv(x))
        assert (found.module.given, found.multiple, found.overlap) == ((12, 8), 4, 3)

    def test_weights_are_found_and_described_at_once(self, saved, tmp_path):
        with pytest.raises(WeightsError, match=r"not found.*`prior=average` needs none"):
            network(tmp_path / "none.safetensors")
        with pytest.raises(WeightsError, match="of kind 'prior blocks', expected 'prior other'"):
            network(saved, kind="prior other")
        save_weights(saved, {}, {"kind": "prior blocks", "architecture": {"channels": "many"}})
        with pytest.raises(WeightsError, match=r"not the architecture of this plug-in \(channels"):
            network(saved)

    def test_threads_load_it_once(self, saved, loads):
        found = network(saved, slow)
        with ThreadPoolExecutor(4) as pool:
            modules = set(pool.map(lambda _: found.module, range(8)))
        assert (len(modules), loads) == (1, ["blocks"])

    def test_a_pickled_one_is_loaded_where_it_arrives(self, saved):
        found = network(saved)
        x = torch.rand(1, 2, 8, 8)
        expected, size = found(x), saved.stat().st_size
        sent = pickle.dumps(found)
        assert len(sent) < size + 2000
        arrived = pickle.loads(sent)
        assert arrived._module is None
        assert torch.equal(arrived(x), expected)

    def test_loaded_in_inference_mode_its_tensors_can_meet_gradients(self, saved):
        found = network(saved)
        with torch.inference_mode():
            found.prepare()
        x = torch.rand(1, 2, 8, 8, requires_grad=True)
        found(x).sum().backward()
        assert x.grad is not None

    def test_a_network_that_is_given_is_taken_as_it_is(self):
        given = Blocks(BlocksConfig(channels=2))
        found = Network(given, Blocks, BlocksConfig, kind="prior blocks", otherwise="")
        assert found.module is given
        assert (found.architecture, dict(found.provenance)) == (given.config, {})
        assert pickle.loads(pickle.dumps(found))._module is not None


@pytest.mark.parametrize(
    ("kind", "name", "options", "files"),
    [
        ("backbone", "rf", {}, ["rf-luma"]),
        ("decoder", "vq", {}, ["vq-small"]),
        ("prior", "learned", {}, ["learned-rendered"]),
        ("prior", "focus", {"weights": "focus-rendered"}, ["focus-rendered"]),
        ("prior", "exposure", {}, ["exposure-rendered"]),
        ("prior", "em_tv", {}, ["focus-rendered", "exposure-rendered"]),
    ],
)
def test_prepare_loads_every_network_of_a_plugin(kind, name, options, files, loads):
    plugin = get_registry().create(kind, name, options)
    assert loads == []
    plugin.prepare()
    assert loads == files
    plugin.prepare()
    assert loads == files


def test_a_prior_crosses_to_another_process_without_its_tensors(photo):
    sources = make_sources(photo / 2, photo)
    prior = get_registry().create("prior", "exposure")
    expected = correct(prior, photo, sources)
    sent = pickle.dumps(prior)
    assert len(sent) < 10_000
    assert torch.equal(correct(pickle.loads(sent), photo, sources), expected)


class TestVerify:
    """`weights verify` loads what it verifies, whatever plug-in it belongs to."""

    @pytest.fixture
    def copied(self, tmp_path, monkeypatch):
        """Writes shipped weights as `mine` into the user's folder, with another tensor's name or another JSON."""
        monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path))

        def copy(name, renamed=False, **architecture):
            from safetensors.torch import load_file

            file = get_weights(name).file
            tensors = load_file(file.path)
            if renamed:
                first = next(iter(tensors))
                tensors[f"{first}.other"] = tensors.pop(first)
            info = {**file.info, "architecture": {**file.info["architecture"], **architecture}}
            save_weights(tmp_path / "weights" / "mine.safetensors", tensors, info)
            return get_weights("mine")

        (tmp_path / "weights").mkdir()
        return copy

    @pytest.mark.parametrize("name", SHIPPED)
    def test_a_renamed_tensor_is_wrong(self, copied, name):
        assert verify_weights(copied(name)) > 1000
        with pytest.raises(WeightsError, match=r"missing .*; unexpected .*\.other"):
            verify_weights(copied(name, renamed=True))

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("rf-luma", {"nf": 16}),
            ("vq-small", {"n_embed": 7}),
            ("learned-rendered", {"detail": 7}),
            ("focus-rendered", {"widths": (8, 8)}),
            ("exposure-rendered", {"widths": (8, 8)}),
        ],
    )
    def test_another_architecture_is_wrong(self, copied, name, change):
        with pytest.raises(WeightsError, match="not weights of this architecture"):
            verify_weights(copied(name, **change))

    def test_the_command_says_so(self, copied, tmp_path):
        copied("focus-rendered", renamed=True)
        done = run_cli("weights", "verify", "mine", "focus-rendered")
        assert done.returncode == 2
        assert "wrong: " in done.stderr
        assert "ok: focus-rendered" in done.stdout

    def test_weights_of_a_plugin_that_takes_none_are_wrong(self, copied, tmp_path):
        stored = copied("focus-rendered")
        save_weights(stored.file.path, {"a": torch.zeros(2)}, {"kind": "prior average", "architecture": {}})
        with pytest.raises(WeightsError, match="prior average has no option that takes weights"):
            verify_weights(get_weights("mine"))


def test_a_damaged_program_is_told_in_one_line(tmp_path, pair_files):
    (tmp_path / "net.pt2").write_bytes(b"no archive" * 20)
    (tmp_path / "net.toml").write_text("")
    options = ("--prior-opt", f"file={tmp_path / 'net.pt2'}", "--prior-opt", "trusted=true")
    ran = run_cli("run", *pair_files, "-o", tmp_path / "x.png", "--prior", "network", *options)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert "no program of torch.export" in ran.stderr
