"""A choice is a name with options, or an object; batches are batches; defaults mean the built-ins."""

import re
from pathlib import Path

import pytest
import torch

import fusionkit
from fusionkit.contracts import Backbone, Options, Prior
from fusionkit.errors import FusionkitError, OptionError, PluginClash, PluginError
from fusionkit.method.choice import Choice, merge_choices
from fusionkit.method.config import PipelineConfig
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import load_preset
from fusionkit.registry.loading import get_registry, load_registry
from harness import run_cli

CORE = Path(fusionkit.__file__).parent


class MyOptions(Options):
    k: float = 0.5


class MyPrior(Prior):
    """k times the first source and the rest of the last."""

    Options = MyOptions
    reads_x0 = False

    def correct(self, x0, sources, state, sigma):
        return self.options.k * sources.luma[0] + (1 - self.options.k) * sources.luma[-1], None


class TestObjects:
    def test_a_prior_of_a_notebook_works_without_a_package(self, scene):
        prior = MyPrior(MyOptions(k=0.25))
        fused = fusionkit.fuse(*scene, prior=prior, backbone="identity", color="gray", device="cpu")
        expected = prior.correct(None, fusionkit.contracts.Sources.of(scene), None, 0.0)[0]
        torch.testing.assert_close(fused, expected)

    def test_it_is_recorded_with_its_options(self):
        record = Pipeline(prior=MyPrior(MyOptions(k=0.25)), backbone="identity", device="cpu").method()["plugins"][
            "prior"
        ]
        assert record == {"name": "MyPrior", "from": f"{__name__}, an object", "options": {"k": 0.25}}

    def test_what_keeps_no_contract_is_refused(self):
        with pytest.raises(PluginError, match=r"prior int: expected a name or an object.*fusionkit.contracts.Prior"):
            Pipeline(prior=3, device="cpu")

    def test_weights_of_an_object_belong_to_the_method(self):
        class Network(torch.nn.Linear, Prior):
            options = MyOptions()

            def correct(self, x0, sources, state, sigma):
                return x0, None

        methods = [Pipeline(prior=Network(2, 2), backbone="identity", device="cpu").method() for _ in range(2)]
        assert methods[0] != methods[1]

    def test_options_beside_an_object_are_refused(self):
        with pytest.raises(OptionError, match="which has its options already"):
            PipelineConfig(prior=MyPrior(MyOptions()), prior_options={"k": 1})


class TestNames:
    def test_three_spellings_are_one_choice(self, tmp_path):
        nested = tmp_path / "a.toml"
        nested.write_text('prior = {name = "em_tv", lit = 0.3}\n')
        flat = {"prior": "em_tv", "prior_options": {"lit": 0.3}}
        chosen = [
            PipelineConfig(**c).prior for c in (flat, load_preset(nested), {"prior": {"name": "em_tv", "lit": 0.3}})
        ]
        assert chosen == [Choice(name="em_tv", options={"lit": 0.3})] * 3

    def test_nested_and_flat_choices_merge(self):
        merged = merge_choices({"prior": {"name": "em_tv", "lit": 0.3}}, {"prior_options": {"screen": 0.1}})
        assert PipelineConfig(**merged).prior.options == {"lit": 0.3, "screen": 0.1}

    def test_a_wrong_value_answers_in_one_line(self):
        with pytest.raises(OptionError, match=r"^`sampler\.steps=0`: expected a whole number >= 1 and <= 100000$"):
            PipelineConfig(sampler={"steps": 0})
        with pytest.raises(OptionError, match=r"^no option 'sampler\.stepz'; did you mean 'sampler\.steps'\?"):
            PipelineConfig(sampler={"stepz": 0})
        with pytest.raises(OptionError, match="not both"):
            Pipeline(PipelineConfig(), prior="max")

    def test_wrong_arguments_are_one_line(self, scene):
        pipeline = Pipeline(prior="average", backbone="identity", device="cpu")
        for how, text in (({"reference": 5}, "only 2 sources"), ({"names": ["a"]}, "1 names for 2 sources")):
            with pytest.raises(FusionkitError, match=text):
                pipeline.run(scene, **how)
        with pytest.raises(OptionError, match="expected a PipelineConfig or its fields"):
            Pipeline("laplacian")
        with pytest.raises(OptionError, match="expected a name or an object, got None"):
            PipelineConfig(prior=None)

    def test_options_without_a_decoder_change_the_backbones_own(self):
        pipeline = Pipeline(backbone="identity", decoder_options={"signal": "signed"}, device="cpu")
        assert pipeline.decoder.options.signal == "signed"


CLASHES = """
import fusionkit

@fusionkit.hookimpl
def fusionkit_priors():
    for name in ("em_tv", "laplacian", "average"):
        yield fusionkit.PriorRecord(name=name, summary="another", target="nowhere:Nothing")
"""


def test_a_default_means_the_built_in_whatever_else_is_installed(site, pair_files, tmp_path):
    """Only a name that the user typed can clash."""
    site.add("other-prior", CLASHES)
    with pytest.raises(PluginClash):
        load_registry(restriction="imagefusionkit,other-prior").find("prior", "em_tv")
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,other-prior"}
    for extra in ([], ["--task", "ivif"], ["--prior", "imagefusionkit:em_tv"]):
        out = tmp_path / f"{len(extra)}{extra[1:]}.png"
        done = run_cli("run", "--backbone", "identity", *extra, *pair_files, "-o", out, env=env)
        assert done.returncode == 0, done.stderr
    done = run_cli("run", "--prior", "em_tv", *pair_files, "-o", tmp_path / "no.png", env=env)
    assert done.returncode == 2
    assert "imagefusionkit:em_tv or other-prior:em_tv" in done.stderr


def test_a_backbones_decoder_is_its_own_distributions():
    registry = get_registry()
    assert registry.find("decoder", "identity", prefer=("nobody", "imagefusionkit")).distribution == "imagefusionkit"


class TestBatches:
    """Image b of a batch is image b alone, though they go through together."""

    SAMPLING = (
        {"strength": 0.3},
        {"strength": 0.5, "steps": 3, "eta": 0.5},
        {"strength": 0.4, "steps": 2, "solver": "heun"},
        {"strength": 0.2, "solver": "rk45", "tolerance": 1e-3},
    )

    @pytest.fixture
    def batch(self, generator):
        """Three pairs, whose reference is the only one with colour: the second, the first, the second source."""
        colour = torch.rand(3, 3, 24, 32, generator=generator)
        grey = torch.rand(3, 1, 24, 32, generator=generator).expand(-1, 3, -1, -1)
        swap = torch.tensor([False, True, False]).view(-1, 1, 1, 1)
        return torch.where(swap, colour, grey), torch.where(swap, grey, colour)

    @pytest.mark.parametrize(
        ("prior", "sampling"), [*(("em_tv", s) for s in SAMPLING), ("laplacian", {}), ("mertens", {})]
    )
    def test_alone_or_together(self, batch, sampling, prior):
        class Shrinks(Backbone):
            """A field that depends on x and t, without a network."""

            domain, channels = "any", None

            def velocity(self, x_t, t):
                return (x_t - 0.4) / (0.2 + t.view(-1, 1, 1, 1))

        seed = {"seed": 3} if sampling else {}
        pipeline = Pipeline(prior=prior, backbone=Shrinks(Options()), sampler=sampling, device="cpu", **seed)
        together = pipeline.fuse_tensors(batch)
        for b in range(3):
            alone = pipeline.fuse_tensors([image[b : b + 1] for image in batch])
            torch.testing.assert_close(together[b : b + 1], alone, atol=1e-5, rtol=0)

    def test_the_network_sees_one_tensor(self, batch):
        class Counts(Backbone):
            domain, channels = "any", None
            shapes = []

            def velocity(self, x_t, t):
                self.shapes.append(x_t.shape[0])
                return torch.zeros_like(x_t)

        result = Pipeline(
            prior="none", backbone=Counts(Options()), reference=2, sampler={"strength": 0.1}, device="cpu"
        ).run(batch)
        assert Counts.shapes == [3]
        assert result.evaluations == 1


class TestFolding:
    def test_a_prior_of_two_sees_colour_with_three_as_with_two(self, scene):
        class Looks(MyPrior):
            max_sources = 2
            channels = []

            def correct(self, x0, sources, state, sigma):
                self.channels.append([image.shape[1] for image in sources.images])
                assert float((sources.to_luma(sources.images[-1]) - sources.luma[-1]).abs().max()) < 1e-5
                return super().correct(x0, sources, state, sigma)

        ir, vis = scene
        Pipeline(prior=Looks(MyOptions()), device="cpu").fuse_tensors([ir, ir, vis])
        assert Looks.channels == [[1, 3], [1, 3]]


def test_the_core_speaks_of_fields_and_the_command_line_of_options():
    """A message of the core is read in notebooks, too."""
    for path in CORE.rglob("*.py"):
        if path.parent.name != "cli":
            found = re.findall(r"""["'`(\s](--[a-z][a-z-]+)""", path.read_text())
            allowed = {"--help"} if path.name in ("records.py", "plugin.py") else set()
            if path.name in ("kinds.py", "pairing.py"):  # which option chooses a kind; commands that the page shows
                allowed = set(found)
            assert set(found) <= allowed, path
