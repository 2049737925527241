"""Presets, and the choices that the released RFfusion needs beside its plug-ins."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch

import fusionkit
from fusionkit.errors import OptionError
from fusionkit.method.choice import Choice, merge_choices
from fusionkit.method.config import PipelineConfig, make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import choose, load_preset, load_task, preset_names, task_names, task_text
from fusionkit.registry.loading import get_registry
from fusionkit.scene import SCENE_KINDS
from harness import run_cli

BASE = {"prior": "em_tv", "prior_options": {"lit": 0.3}, "sampler": {"steps": 2}, "seed": 1}
PLAIN = {"prior": "average", "backbone": "identity"}


class TestMerging:
    def test_tables_are_merged_key_by_key(self):
        merged = merge_choices(BASE, {"prior_options": {"screen": 0.1}, "sampler": {"strength": 0.5}, "seed": 2})
        assert merged["prior"].options == {"lit": 0.3, "screen": 0.1}
        assert merged["sampler"] == {"steps": 2, "strength": 0.5}
        assert merged["seed"] == 2
        assert BASE["prior_options"] == {"lit": 0.3}

    def test_a_plugin_that_is_replaced_takes_its_options_with_it(self):
        merged = merge_choices(BASE, {"prior": "laplacian", "prior_options": {"window": 3}})
        assert merged["prior"].options == {"window": 3}
        assert merge_choices(BASE, {"prior": "em_tv"})["prior"].options == {"lit": 0.3}
        silent = {"prior_options": {"lit": 0.3}}  # the default prior's
        assert merge_choices(silent, {"prior": "em_tv"})["prior"].options == {"lit": 0.3}
        assert merge_choices(silent, {"prior": "max"})["prior"].options == {}

    def test_a_table_that_is_none_is_an_error(self):
        with pytest.raises(OptionError, match="sampler must be a table"):
            merge_choices({"sampler": 3}, {"sampler": {"steps": 2}})

    def test_a_preset_on_the_command_line_and_in_python(self, pair_files, tmp_path):
        preset = tmp_path / "mine.toml"
        preset.write_text('prior = "max"\nbackbone = "identity"\n')
        assert run_cli("run", "--preset", preset, *pair_files, "-o", tmp_path / "a.png").returncode == 0
        expected = fusionkit.fuse(*pair_files, prior="max", backbone="identity")
        np.testing.assert_array_equal(fusionkit.fuse(*pair_files, preset=str(preset)), expected)
        np.testing.assert_array_equal(fusionkit.read_image(tmp_path / "a.png").pixels, (expected / np.float32(255)))
        other = fusionkit.fuse(*pair_files, preset=str(preset), prior="average")
        assert (other != expected).any()

    @pytest.mark.parametrize("name", preset_names())
    def test_every_shipped_preset_is_valid(self, name):
        config = make_config(load_preset(name))
        assert str(config.prior) in get_registry().names("prior")

    @pytest.mark.parametrize(
        ("task", "evidence"), [("ivif", "heat"), ("mef", "exposure"), ("mff", "focus"), ("medical", "contrast")]
    )
    def test_a_task_chooses_and_options_override(self, task, evidence, scene):
        assert choose(task, None, {}).prior == Choice(name="imagefusionkit:em_tv", options={"evidence": evidence})
        assert choose(task, None, {"prior": "focus"}).prior.options == {}
        fused = fusionkit.fuse(*scene, task=task, backbone="identity", device="cpu")
        assert fused.shape == scene[1].shape

    def test_every_kind_of_scene_has_its_task(self, monkeypatch):
        night = replace(
            SCENE_KINDS["heat"], name="night", title="two cameras at night", task="nvf", about="By contrast"
        )
        monkeypatch.setitem(SCENE_KINDS, "night", night)
        assert task_names() == ["ivif", "medical", "mef", "mff", "nvf"]
        assert load_task("nvf") == {"prior": "imagefusionkit:em_tv", "prior_options": {"evidence": "night"}}
        assert task_text("nvf").startswith("# Two cameras at night. By contrast.\n")
        for task in ("ivif", "mef", "mff", "medical"):
            assert tomllib.loads(task_text(task))["prior_options"] == load_task(task)["prior_options"]

    def test_an_unknown_task_lists_the_known(self, pair_files, tmp_path):
        done = run_cli("run", "--task", "video", *pair_files, "-o", tmp_path / "a.png")
        assert done.returncode == 2
        assert "tasks: ivif, medical, mef, mff" in done.stderr

    def test_an_unknown_preset_lists_the_shipped_ones(self):
        with pytest.raises(OptionError, match=r"preset 'nope': not found; shipped: .*rffusion-released"):
            load_preset("nope")


class TestWorkingSize:
    def test_the_method_sees_that_size_and_the_result_has_the_sources_own(self, scene):
        seen = []
        config = make_config({**PLAIN, "prior": "em_tv", "working_size": [40, 56]})
        pipeline = Pipeline(config, device="cpu")
        fused = pipeline.fuse_tensors(scene, callback=lambda step: seen.append(step.corrected.shape[-2:]))
        assert seen == [(40, 56)]
        assert fused.shape[-2:] == scene[0].shape[-2:]

    def test_at_the_sources_own_size_nothing_changes(self, scene):
        results = [
            Pipeline(make_config({**PLAIN, "working_size": size}), device="cpu").fuse_tensors(scene)
            for size in (None, [96, 128])
        ]
        assert torch.equal(*results)

    def test_the_command_line_refuses_what_is_no_size(self, pair_files, tmp_path):
        for text in ("96", "96by128", "0x4", "x"):
            done = run_cli("run", *pair_files, "-o", tmp_path / "a.png", "--stage", f"working_size:size={text}")
            assert done.returncode == 2
            assert "stage working_size: size" in done.stderr


def test_truncated_levels_are_whole_and_never_above(scene):
    exact, cut = (
        Pipeline(make_config({**PLAIN, "levels": levels}), device="cpu").fuse_tensors(scene)
        for levels in ("all", "truncated")
    )
    assert torch.equal((cut * 255).round() / 255, cut)
    assert float((exact - cut).min()) > -1e-6
    assert float((exact - cut).max()) < 1 / 255


def test_rounded_luma_needs_a_colour_space_of_that_luma():
    with pytest.raises(OptionError, match="color lab has another"):
        Pipeline(make_config({**PLAIN, "luma": "rounded", "color": "lab"}), device="cpu")


def test_the_released_forms_are_off_by_default():
    config = PipelineConfig()
    assert (config.luma, config.levels, config.stretch, config.working_size) == ("exact", "all", "none", None)
    assert config.sampler.solver == "euler"


class TestRestoring:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("auto", ["auto"]),
            ("noise:level=12", ["noise:level=12"]),
            (["1=noise:level=8", "2=noise:level=20,correlation=0.5"],) * 2,
            ({"name": "noise", "source": 2, "level": 12.0}, ["2=noise:level=12"]),
            ([{"name": "noise", "options": {"level": 1 / 3}}], ["noise:level=0.3333333333333333"]),
            (Choice(name="imagefusionkit:noise"), ["imagefusionkit:noise"]),
            ("1=imagefusionkit:noise:level=8", ["1=imagefusionkit:noise:level=8"]),
        ],
    )
    def test_words_tables_and_choices_mean_the_same_and_are_taken_back(self, given, words):
        config = PipelineConfig(restore=given)
        assert config.model_dump(mode="json")["restore"] == words
        assert PipelineConfig(restore=words).model_dump(mode="json")["restore"] == words

    def test_lists_among_the_options_stay_whole(self):
        for text in ("jpeg:table=[1, 2],quality=5", "1=jpeg:table=[1, 2],quality=5"):
            (one,) = PipelineConfig(restore=text).restore
            assert one.degradation.options == {"table": [1, 2], "quality": "5"}
            assert str(one) == text

    def test_a_preset_and_the_command_line(self, pair_files, tmp_path):
        preset = tmp_path / "p.toml"
        preset.write_text('prior = "average"\nrestore = ["1=noise:level=8"]\n')
        found = []
        for name, given in {
            "a": (),
            "b": ("--restore", "1=noise:level=8", "--restore", "2=noise:level=4,correlation=0.5"),
            "c": ("--set", "restore=1=noise:level=8,2=noise:level=4,correlation=0.5"),
            "d": ("--set", "restore=none"),
        }.items():
            done = run_cli("run", "--preset", preset, *given, *pair_files, "-o", tmp_path / f"{name}.png")
            assert done.returncode == 0, done.stderr
            found.append(json.loads((tmp_path / f"{name}.manifest.jsonl").read_text()))
        both = ["1=noise:level=8", "2=noise:level=4,correlation=0.5"]
        assert [row["restore"] for row in found] == [["1=noise:level=8"], both, both, ["none"]]
        assert [row["degradation"] for row in found[1]["restored"]] == ["noise", "noise"]
        assert found[3]["restored"] == []
