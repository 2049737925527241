"""The prior ddfm: many steps, and the sampling that it asks for."""

import pytest

from fusionkit.errors import OptionError
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline


class TestDDFM:
    def test_a_priors_sampling_is_used_where_the_user_chose_none(self):
        choices = {"prior": "ddfm", "backbone": "identity"}
        sampling = Pipeline(make_config(choices), device="cpu").sampler.options
        assert (sampling.steps, sampling.strength, sampling.eta) == (100, 1.0, 1.0)
        pipeline = Pipeline(make_config({**choices, "sampler": {"steps": 3}}), device="cpu")
        assert (pipeline.sampler.options.steps, pipeline.sampler.options.strength) == (3, 1.0)
        assert pipeline.method()["sampler"]["steps"] == 3
        assert Pipeline(make_config({"backbone": "identity"}), device="cpu").sampler.options.steps == 1

    @pytest.mark.parametrize("solver", ["heun", "rk45"])
    def test_another_solver_does_without_the_priors_fresh_noise(self, solver):
        choices = {"prior": "ddfm", "backbone": "identity", "sampler": {"solver": solver}}
        assert Pipeline(make_config(choices), device="cpu").sampler.options.eta == 0

    def test_options_that_contradict_the_priors_are_one_line(self):
        choices = {"prior": "ddfm", "backbone": "identity", "sampler": {"solver": "heun", "eta": 0.5}}
        with pytest.raises(OptionError, match=r"`eta=0.5` is read only with `solver` euler"):
            Pipeline(**choices, device="cpu")

    def test_ddfm_runs_from_noise_and_ends_near_the_sources(self, scene):
        choices = {"prior": "ddfm", "sampler": {"steps": 4}, "decoder": "identity", "backbone": "identity"}
        fused = Pipeline(make_config(choices), device="cpu").fuse_tensors(scene)
        assert fused.shape == scene[1].shape
