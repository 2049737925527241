"""Networks that are brought: what they are given, what becomes of what they give, and what is refused."""

import pickle
import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import fusionkit
from fusionkit.errors import FusionkitError, InputError, OptionError, PluginError, WeightsError
from fusionkit_priors.network import NetworkPrior, NetworkPriorOptions
from harness import make_sources, run_cli

onnx = pytest.importorskip("onnx", reason="making networks needs onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="running them needs the extra onnx")

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "networks.py"))
DenseFuse, GradientResidual, export = (EXAMPLE[name] for name in ("DenseFuse", "GradientResidual", "export"))


class Half(nn.Module):
    """A quarter of the first input and three of the second: tells which is which."""

    def forward(self, a, b):
        return 0.25 * a + 0.75 * b


class Stacked(nn.Module):
    """The mean over channels."""

    def forward(self, x):
        return x.mean(1, keepdim=True)


class Shown(nn.Module):
    """Grey heat added to colours."""

    def forward(self, heat, shown):
        return 0.5 * heat + 0.5 * shown


class Down(nn.Module):
    """Halves and doubles: takes even sizes only."""

    def forward(self, x):
        return nn.functional.interpolate(nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2), scale_factor=2.0)


def exported(folder: Path, net: nn.Module, card: str, **how) -> str:
    """The network as folder/net.onnx with its card beside it."""
    export(net, folder / "net.onnx", card, **how)
    return str(folder / "net.onnx")


def prior(file: str, **options) -> NetworkPrior:
    return NetworkPrior(NetworkPriorOptions(file=file, **options))


def fused(file: str, *lumas: torch.Tensor) -> torch.Tensor:
    return prior(file).correct(lumas[0], make_sources(*lumas), None, 0.0)[0]


@pytest.fixture
def pair(generator):
    return [torch.rand(2, 1, 40, 56, generator=generator) for _ in range(2)]


class TestInputs:
    def test_order_is_the_cards(self, tmp_path, pair):
        heat, shown = pair
        forth = fused(exported(tmp_path, Half(), 'inputs = ["other", "reference"]'), *pair)
        back = fused(exported(tmp_path, Half(), 'inputs = ["reference", "other"]'), *pair)
        torch.testing.assert_close(forth, 0.25 * heat + 0.75 * shown)
        torch.testing.assert_close(back, 0.25 * shown + 0.75 * heat)

    @pytest.mark.parametrize("span", ["[-1, 1]", "[0, 255]"])
    def test_range_is_that_of_the_network_and_results_are_in_0_1(self, tmp_path, pair, span):
        found = fused(exported(tmp_path, Half(), f"range = {span}"), *pair)
        torch.testing.assert_close(found, 0.25 * pair[0] + 0.75 * pair[1], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("kind", [torch.float16, torch.float64])
    def test_numbers_are_of_the_networks_type(self, tmp_path, pair, kind):
        found = fused(exported(tmp_path, Half().to(kind), "", kind=kind), *pair)
        torch.testing.assert_close(found, 0.25 * pair[0] + 0.75 * pair[1], atol=2e-3, rtol=0)

    def test_output_of_another_range(self, tmp_path, pair):
        found = fused(exported(tmp_path, Half(), "output_range = [0, 2]"), *pair)
        torch.testing.assert_close(found, (0.25 * pair[0] + 0.75 * pair[1]) / 2)

    def test_any_number_of_sources_as_channels(self, tmp_path, pair):
        file = exported(tmp_path, Stacked(), 'inputs = ["all"]', channels=(3,))
        with pytest.raises(PluginError, match=r"net\.onnx fails"):  # exported for three
            fused(file, *pair)
        three = [*pair, pair[0].flip(-1)]
        torch.testing.assert_close(fused(file, *three), torch.stack(three).mean(0))

    def test_colours_go_in_and_their_luma_comes_out(self, tmp_path, generator):
        file = exported(tmp_path, Shown(), 'color = ["luma", "rgb"]\noutput = "rgb"', channels=(1, 3))
        heat, shown = torch.rand(1, 1, 32, 48, generator=generator), torch.rand(1, 3, 32, 48, generator=generator)
        result = fusionkit.Pipeline(prior=prior(file), backbone="identity", look="faithful", align="none").fuse_tensors(
            [heat, shown]
        )
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        wanted = 0.5 * heat + 0.5 * (shown * weights).sum(1, keepdim=True)
        assert ((result * weights).sum(1, keepdim=True) - wanted).abs().mean() < 0.02

    def test_sizes_are_padded_to_the_cards_multiple(self, tmp_path, generator):
        x = torch.rand(1, 1, 37, 51, generator=generator)
        file = exported(tmp_path, Down(), "stacked = true\nmultiple = 2", channels=(2,))
        assert fused(file, x, x).shape == x.shape
        Path(file).with_suffix(".toml").write_text("stacked = true")
        with pytest.raises(PluginError, match="can state"):
            fused(file, x, x)

    def test_one_size_only_runs_on_tiles_of_it(self, tmp_path, generator):
        file = exported(tmp_path, Half(), "size = [32, 48]\noverlap = 8", fixed=True)
        for size in ((100, 131), (20, 20), (32, 48)):
            pair = [torch.rand(1, 1, *size, generator=generator) for _ in range(2)]
            torch.testing.assert_close(fused(file, *pair), 0.25 * pair[0] + 0.75 * pair[1])

    def test_large_images_run_on_tiles_without_a_seam(self, tmp_path, generator, monkeypatch):
        torch.manual_seed(1)
        file = exported(tmp_path, GradientResidual(), "overlap = 16")
        pair = [torch.rand(1, 1, 200, 240, generator=generator) for _ in range(2)]
        whole = fused(file, *pair)
        monkeypatch.setattr("fusionkit_priors.network.WHOLE_PIXELS", 1000)
        monkeypatch.setattr("fusionkit_priors.network.TILE", 96)
        inner = (..., slice(4, -4), slice(4, -4))
        assert (fused(file, *pair) - whole)[inner].abs().max() < 0.05


class TestRefused:
    @pytest.mark.parametrize(
        ("card", "words"),
        [
            ("inputs = [", "not valid TOML"),
            ('input = ["other"]', "input"),
            ("range = [1, 0]", "white must be above black"),
            ('inputs = ["all", "other"]', '"all" alone'),
            ('inputs = ["other", "other"]', '"reference" once'),
            ('inputs = ["all"]\nstacked = true', "stacked has no effect"),
            ('inputs = ["reference"]\nstacked = true', "stacked has no effect"),
            ("size = [128, 96]\nmultiple = 32", "multiple has no effect"),
            ("range = [0, inf]", "finite"),
            ('color = ["luma", "rgb", "rgb"]', "one for each input"),
            ("size = [32, 32]\noverlap = 64", "above the overlap"),
        ],
    )
    def test_a_card_that_says_nothing(self, tmp_path, card, words):
        with pytest.raises(OptionError, match=words):
            prior(exported(tmp_path, Half(), card))

    def test_no_file_no_card_no_model(self, tmp_path, pair):
        with pytest.raises(OptionError, match="needs `file`"):
            NetworkPrior(NetworkPriorOptions())
        with pytest.raises(WeightsError, match="does not exist"):
            prior(str(tmp_path / "missing.onnx"))
        file = exported(tmp_path, Half(), "")
        Path(file).with_suffix(".toml").unlink()
        with pytest.raises(OptionError, match=r"net\.toml: missing"):
            prior(file)
        Path(file).write_bytes(b"not a model")
        Path(file).with_suffix(".toml").write_text("")
        with pytest.raises(WeightsError, match="no ONNX model"):
            fused(file, *pair)

    def test_a_card_that_does_not_fit_its_network(self, tmp_path, pair):
        with pytest.raises(PluginError, match=r"2 inputs \(x0, x1\), its card says 1"):
            fused(exported(tmp_path, Half(), "stacked = true"), *pair)
        with pytest.raises(PluginError, match="gives shape"):
            fused(exported(tmp_path, Half(), 'output = "rgb"'), *pair)

    def test_weights_beside_the_file_are_told(self, tmp_path, pair):
        """What torch's exporter writes by default."""
        file = exported(tmp_path, DenseFuse(), "")
        onnx.save(onnx.load(file), file, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
        with pytest.raises(WeightsError, match="export it with external_data=False"):
            fused(file, *pair)

    def test_too_few_sources(self, tmp_path, pair):
        with pytest.raises(InputError, match="takes 2 sources, there are 1"):
            fused(exported(tmp_path, Half(), ""), pair[0])

    def test_a_program_that_could_run_code_needs_to_be_trusted(self, tmp_path, pair):
        place, given = tmp_path / "net.pt2", tuple(torch.rand(1, 1, 32, 48) for _ in range(2))
        sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(Half(), given, dynamic_shapes=(sides, sides)), place)
        place.with_suffix(".toml").write_text("")
        with pytest.raises(OptionError, match="trusted=true"):
            prior(str(place))
        found = prior(str(place), trusted=True).correct(pair[0], make_sources(*pair), None, 0.0)[0]
        torch.testing.assert_close(found, 0.25 * pair[0] + 0.75 * pair[1])
        with pytest.raises(OptionError, match="no effect"):
            prior(exported(tmp_path, Half(), ""), trusted=True)
        taken = run_cli("weights", "import", place, "--as", "mine", "--config", place.with_suffix(".toml"))
        assert taken.returncode == 2
        assert "exported to ONNX" in taken.stderr


class TestUse:
    @pytest.mark.parametrize("net", [DenseFuse, GradientResidual])
    def test_published_architectures_are_priors_like_any(self, tmp_path, pair_files, net):
        torch.manual_seed(0)
        made = net()
        file = exported(tmp_path, made, 'credit = "made here"')
        out = tmp_path / "fused.png"
        options = ("--prior", "network", "--prior-opt", f"file={file}", "--backbone", "identity", "-o", out)
        ran = run_cli("run", *pair_files, *options)
        assert ran.returncode == 0, ran.stderr
        assert fusionkit.read_image(out).size == fusionkit.read_image(pair_files[1]).size
        assert '"credit": "made here"' in out.with_name("fused.manifest.jsonl").read_text()

    def test_onnxruntime_gives_what_torch_does(self, tmp_path, pair):
        torch.manual_seed(0)
        net = DenseFuse().eval()
        found = fused(exported(tmp_path, net, ""), *pair)
        with torch.no_grad():
            torch.testing.assert_close(found, net(*pair).clamp(0, 1), atol=1e-5, rtol=0)

    def test_taken_in_with_its_hash(self, tmp_path, pair, monkeypatch):
        monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path / "home"))
        file = exported(tmp_path, Half(), 'inputs = ["reference", "other"]')
        wanted = fused(file, *pair)
        file = str(Path(file).rename(tmp_path / "net.ONNX"))
        refused = run_cli("weights", "import", file, "--as", "mine")
        assert refused.returncode == 2
        assert "card" in refused.stderr
        taken = run_cli("weights", "import", file, "--as", "mine", "--config", Path(file).with_suffix(".toml"))
        assert taken.returncode == 0, taken.stderr
        assert "use it with file=mine" in taken.stdout
        for place in tmp_path.glob("net.*"):
            place.unlink()
        own = prior("mine")
        assert torch.equal(own.correct(pair[0], make_sources(*pair), None, 0.0)[0], wanted)
        assert len(own.provenance["sha256"]) == 64
        assert run_cli("weights", "verify", "mine").returncode == 0
        (tmp_path / "home" / "weights" / "mine.safetensors").write_bytes(b"damaged")
        with pytest.raises(FusionkitError, match="damaged"):
            prior("mine").prepare()

    def test_it_travels_to_other_processes(self, tmp_path, pair):
        own = prior(exported(tmp_path, Half(), ""))
        before = own.correct(pair[0], make_sources(*pair), None, 0.0)[0]
        again = pickle.loads(pickle.dumps(own))
        assert torch.equal(again.correct(pair[0], make_sources(*pair), None, 0.0)[0], before)
