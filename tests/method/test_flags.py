"""Fields of configurations that stages state: the built-in ones, and another package's on the command line."""

import json

import pytest

from fusionkit.errors import NoEffect
from fusionkit.method.config import PipelineConfig, configuration
from fusionkit.method.flags import stages_of
from fusionkit.options import opens
from harness import run_cli

OTHER = """
import fusionkit
from fusionkit.registry.records import StageFlag

@fusionkit.hookimpl
def fusionkit_stages():
    flag = StageFlag(name="punch", help="raise the contrast", values={"none": None, "strong": {"gain": 1.3}})
    taken = StageFlag(name="resize", help="another's", values={"no": None, "yes": {}})
    yield fusionkit.StageRecord(
        name="punch", summary="contrast", target="fusionkit_plugins.stages.levels:Vivid", flags=(flag, taken)
    )
"""


def names(**choices):
    return [str(stage) for stage in stages_of(PipelineConfig(**choices), None)]


def test_fields_add_stages_in_the_records_order_and_own_stages_inside():
    every = {"look": "vivid", "working_size": "32x40", "resize": "reference", "transform": "t.json", "luma": "rounded"}
    order = ["resize", "align", "rounded_luma", "working_size", "vivid", "stretch"]
    assert names(**every, stages=["stretch"]) == order
    assert names(look="faithful") == []
    options = [stage.options for stage in stages_of(PipelineConfig(look="hot", align="rigid"), None)]
    assert options == [{"model": "rigid"}, {"hot": 1.5}]


def test_two_fields_of_one_stage_exclude_each_other():
    with pytest.raises(NoEffect, match="`align=rigid` has no effect beside `transform`"):
        names(align="rigid", transform="t.json")
    assert names(align="none", transform="t.json", look="faithful") == ["align"]


def test_a_field_that_names_a_file_says_so():
    assert opens(configuration().model_fields["transform"]) == "file"


def test_another_packages_stage_gets_an_option_and_built_in_ones_stay(site, pair_files, tmp_path):
    site.add("other-stage", OTHER)
    env = {"PYTHONPATH": str(site.site), "FUSIONKIT_PLUGINS": "imagefusionkit,other-stage"}
    method = ("--prior", "average", "--backbone", "identity", "--resize", "reference")
    out = tmp_path / "fused.png"
    done = run_cli("run", *method, "--punch", "strong", *pair_files, "-o", out, env=env)
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "fused.manifest.jsonl").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["resize", "punch"]
    assert stages[1]["options"]["gain"] == 1.3
    done = run_cli("run", *method, "--punch", "weak", *pair_files, "-o", out, env=env)
    assert "--punch weak: expected none or strong" in done.stderr
