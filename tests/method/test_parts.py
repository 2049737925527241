"""Plug-ins given as objects: what forgets a part of itself is told what to write."""

import pytest
import torch

from fusionkit import Backbone, Options, Pipeline, Prior
from fusionkit.errors import OptionError, PluginError


class MyOptions(Options):
    weight: float = 0.5


class MyPrior(Prior):
    Options = MyOptions
    reads_x0 = False

    def correct(self, x0, sources, state, sigma):
        return self.options.weight * sources.luma[0], None


def test_without_options_an_object_has_the_defaults():
    assert MyPrior().options == MyOptions()
    assert Pipeline(prior=MyPrior(), backbone="identity", device="cpu").parts["prior"].record()["options"] == {
        "weight": 0.5
    }


def test_options_without_defaults_are_asked_for_in_one_line():
    class Required(Options):
        weight: float

    class Strict(MyPrior):
        Options = Required

    with pytest.raises(OptionError, match=r"^Strict: weight.*field required") as error:
        Strict()
    assert "\n" not in str(error.value)


def test_a_class_is_no_object():
    with pytest.raises(PluginError, match=r"this is the class; give an object of it, MyPrior\(MyPrior\.Options\(\)\)"):
        Pipeline(prior=MyPrior, backbone="identity", device="cpu")


def test_an_object_that_keeps_no_options_is_told_how():
    class Forgets(MyPrior):
        def __init__(self, radius=3):
            self.radius = radius

    with pytest.raises(PluginError, match=r"its __init__ must call super\(\)\.__init__\(options\)"):
        Pipeline(prior=Forgets(), backbone="identity", device="cpu")


def test_an_object_without_a_model_of_options_needs_none():
    class Plain(Prior):
        reads_x0 = False

        def __init__(self, radius=3):
            self.radius = radius

        def correct(self, x0, sources, state, sigma):
            return sources.luma[0], None

    assert Pipeline(prior=Plain(), backbone="identity", device="cpu").prior.radius == 3


def test_a_pipeline_takes_a_task_and_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('prior = "average"\nbackbone = "identity"\nreference = 1\n')
    assert str(Pipeline(task="mff", device="cpu").config.prior) == "em_tv"
    config = Pipeline(preset=tmp_path / "mine.toml", reference=2, device="cpu").config
    assert (str(config.prior), config.reference) == ("average", 2)
    with pytest.raises(OptionError, match="give a configuration, or task, seed, not both"):
        Pipeline(config, task="mff", seed=1)


def test_an_object_that_lacks_what_its_contract_states_is_told_what():
    class Bare(Backbone, torch.nn.Module):
        def __init__(self, net):
            super().__init__()  # begins torch's module, too
            self.net = net

        def velocity(self, x_t, t):
            return x_t

    with pytest.raises(PluginError, match="backbone Bare: Bare lacks domain and channels; state them in the class"):
        Pipeline(backbone=Bare(torch.nn.Conv2d(1, 1, 1)), device="cpu")


@pytest.mark.parametrize("sources", [2, 3])  # three are folded
def test_a_prior_that_returns_no_state_is_told_how(scene, sources):
    class Stateless(MyPrior):
        max_sources = 2

        def correct(self, x0, sources, state, sigma):
            return sources.luma[0]

    pipeline = Pipeline(prior=Stateless(), backbone="identity", device="cpu")
    with pytest.raises(PluginError, match=r"Stateless.correct returned Tensor, expected a pair.*return luma, None"):
        pipeline.fuse(*scene, *scene[: sources - 2])


def test_an_object_without_options_fuses(scene):
    class Plain(Prior):
        def __init__(self):
            self.radius = 3

        def correct(self, x0, sources, state, sigma):
            return sources.luma[0], None

    assert Pipeline(prior=Plain(), backbone="identity", device="cpu").fuse(*scene).shape == scene[1].shape


def test_a_pipeline_and_its_options_say_what_was_chosen():
    pipeline = Pipeline(task="mff", backbone="identity", look="faithful", sampler={"strength": 0.2}, device="cpu")
    shown = repr(pipeline)
    assert shown.startswith("Pipeline(prior='em_tv', backbone='identity', device='cpu', prior_options={'evidence': ")
    assert shown.endswith("sampler=SamplerOptions(strength=0.2), look='faithful')")
    assert repr(pipeline.config.restore[0]) == "Restoring(degradation=Choice('auto'))"
    assert repr(Pipeline(prior=MyPrior(), device="cpu")) == "Pipeline(prior='MyPrior', backbone='rf', device='cpu')"
