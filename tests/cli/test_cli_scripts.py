"""`run` in scripts: where results go, what is said to whom; `tasks`, `plugins list`, `doctor`."""

import json

import numpy as np
import pytest

from fusionkit.writing import write_image
from harness import load_image, run_cli

FAST = ("--prior", "average", "--backbone", "identity", "--align", "none")


@pytest.fixture
def shots(tmp_path):
    """Three pairs in one folder, and a bracket of three that is one file short."""
    folder = tmp_path / "shots"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write_image(folder / f"{name}_ir.png", rng.random((20, 30, 1)).astype(np.float32), "8")
        write_image(folder / f"{name}_vis.jpg", rng.random((20, 30, 3)).astype(np.float32), "8")
    return folder


def test_without_a_name_the_result_lies_beside_the_reference(pair_files, tmp_path):
    ir, vis = tmp_path / "one" / "ir.png", tmp_path / "two" / "vis.png"
    for source, target in zip(pair_files, (ir, vis), strict=True):
        target.parent.mkdir()
        target.write_bytes(source.read_bytes())
    names = []
    for _ in range(2):
        done = run_cli("run", *FAST, vis, ir)  # the one with colour is the reference
        assert done.returncode == 0, done.stderr
        names.append(done.stdout.partition(" (")[0])
    assert names == [str(tmp_path / "two" / "vis-fused.png"), str(tmp_path / "two" / "vis-fused-2.png")]
    assert sorted(p.name for p in ir.parent.iterdir()) == ["ir.png"]


def test_for_programs_each_result_is_a_line_of_json(shots, tmp_path):
    (shots / "b_ir.png").write_bytes(b"broken")
    out = tmp_path / "out"
    done = run_cli("run", *FAST, "--json", "--pairs", shots / "*_ir.png", shots / "*_vis.jpg", "-o", out)
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["key"], row["status"]) for row in rows] == [("a", "fused"), ("b", "failed"), ("c", "fused")]
    assert rows[0]["output"] == str(out / "a.png")
    assert rows[0]["record"]["output"]["size"] == [30, 20]
    assert "b_ir.png" in rows[1]["reason"]
    assert "note:" not in done.stderr
    one = run_cli("run", *FAST, "--json", shots / "a_ir.png", shots / "a_vis.jpg", "-o", tmp_path / "x.png")
    assert json.loads(one.stdout)["status"] == "fused"


def test_quiet_says_errors_alone_and_verbose_says_stages(shots, tmp_path):
    pair = (shots / "a_ir.png", shots / "a_vis.jpg")
    done = run_cli("run", *FAST, "-q", *pair, "-o", tmp_path / "a.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run_cli("run", *FAST, "-v", *pair, "-o", tmp_path / "b.png")
    assert "read 0" in done.stderr
    assert " MB" in done.stderr
    done = run_cli("run", *FAST, "-q", *pair, "-o", tmp_path / "a.png")
    assert done.returncode == 2
    assert "exists already" in done.stderr


def test_a_table_and_brackets(shots, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("ir,vis,name\nshots/a_ir.png,shots/a_vis.jpg,first\nshots/c_ir.png,shots/c_vis.jpg,last\n")
    done = run_cli("run", *FAST, "--pairs", table, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.png")) == ["first", "last"]
    done = run_cli("run", *FAST, "--group", "2", shots / "*_vis.jpg", "-o", tmp_path / "groups")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "groups").glob("*.png")] == ["a_vis.png"]
    assert "without a partner" in done.stderr
    assert "groups of 2" in done.stderr
    done = run_cli("run", *FAST, "--pairs", shots, "-o", tmp_path / "none")
    assert done.returncode == 2
    assert "fusing needs two or more images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ir.png", "vis.png"), "ir.png is no command; `fusionkit run ir.png vis.png` fuses images"),
        (("fuse", "ir.png", "vis.png"), "fuse is no command; `fusionkit run A B` fuses images"),
        (("evalute",), "evalute is no command; did you mean 'evaluate'?"),
        ((".", "."), ". is no command; `fusionkit run . .` fuses images"),
        (("run", "--aling", "affine", "a", "b"), "error: no such option: --aling; did you mean --align?"),
        (("run", "--align"), "error: option '--align' requires an argument; `fusionkit run -h` says what it takes"),
        (("align", "fit"), "error: missing argument 'PAIRS'; `fusionkit align fit -h` says what it takes"),
        (("bench", "--runs", "x"), "error: invalid value for '--runs': Input should be a valid integer"),
        (("judge", "mak"), "error: no such command 'mak'. Did you mean 'make'?"),
        (("compare", ".", "."), ".: is a folder; compare takes the images of one scene"),
        (("plugins", "show", "em-tv"), "no plug-in 'em-tv'; did you mean 'em_tv'? `fusionkit plugins list` names all"),
        (("run", "--prior", "em_tvv", "a", "b"), "no prior 'em_tvv'; did you mean 'em_tv'? `fusionkit plugins list`"),
        (
            ("run", "--preset", "rffusion-released", "a", "b", "-o", "c.png"),
            "--prior released_rffusion comes close to the released RFfusion; they are published as checkpoint_12.pth, "
            "CelebA HQ in the README of github.com/gnobitab/RectifiedFlow",
        ),
    ],
)
def test_a_wrong_turn_names_the_way(arguments, said, tmp_path):
    done = run_cli(*arguments, cwd=tmp_path, env={"FUSIONKIT_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_quality_of_jpeg_and_webp(shots, tmp_path):
    pair = (shots / "a_ir.png", shots / "a_vis.jpg")
    sizes = {}
    for name, options in {"a.jpg": (), "b.jpg": ("--quality", 30), "a.webp": (), "b.webp": ("--quality", 30)}.items():
        assert run_cli("run", *FAST, *options, *pair, "-o", tmp_path / name).returncode == 0
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["b.jpg"] < 0.6 * sizes["a.jpg"]
    assert sizes["b.webp"] < 0.6 * sizes["a.webp"]
    assert run_cli("run", *FAST, "--quality", 0, *pair, "-o", tmp_path / "c.jpg").returncode == 2


def test_one_picture_of_a_file(tmp_path):
    from example_files import nifti

    nifti(tmp_path / "a.nii.gz")
    done = run_cli("run", *FAST, f"{tmp_path / 'a.nii.gz'}#1", f"{tmp_path / 'a.nii.gz'}#2", "-o", tmp_path / "x.tif")
    assert done.returncode == 0, done.stderr
    done = run_cli("run", *FAST, f"{tmp_path / 'a.nii.gz'}#9", f"{tmp_path / 'a.nii.gz'}#2", "-o", tmp_path / "y.tif")
    assert done.returncode == 2
    assert "none of number 9" in done.stderr


def test_a_preset_may_name_its_task(pair_files, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('task = "mff"\nreference = 1\n')
    done = run_cli("run", "--preset", preset, *pair_files, "-o", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "a.manifest.jsonl").read_text())
    assert (row["plugins"]["prior"]["options"]["evidence"], row["reference"]) == ("focus", 1)
    preset.write_text('task = "nothing"\n')
    done = run_cli("run", "--preset", preset, *pair_files, "-o", tmp_path / "b.png")
    assert (done.returncode, "no task 'nothing'" in done.stderr) == (2, True)


def test_tasks_are_listed_and_shown_as_presets(pair_files, tmp_path):
    listed = run_cli("tasks", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["ivif", "medical", "mef", "mff"]
    shown = run_cli("tasks", "show", "mff").stdout
    (tmp_path / "mine.toml").write_text(shown)
    for options in (("--task", "mff"), ("--preset", tmp_path / "mine.toml")):
        assert run_cli("run", *options, *pair_files, "-o", tmp_path / f"{options[0][2:]}.png").returncode == 0
    assert np.array_equal(load_image(tmp_path / "task.png"), load_image(tmp_path / "preset.png"))
    assert run_cli("tasks", "show", "nothing").returncode == 2


def test_plugins_are_listed_by_kind_with_dialects_folded():
    lines = run_cli("plugins", "list").stdout.splitlines()
    assert lines[0].startswith("prior (")
    assert len(lines) < 120
    assert any(line.split()[0] == "cddfuse.*" for line in lines)
    every = run_cli("plugins", "list", "--all", "--kind", "metric").stdout
    assert "cddfuse.VIFF" in every
    rows = json.loads(run_cli("plugins", "list", "--json").stdout)["plugins"]
    assert {"kind", "name", "distribution", "version", "summary", "installed"} <= rows[0].keys()
    assert {row["kind"] for row in rows} >= {"prior", "reader", "metric"}


def test_doctor_and_a_device_that_is_not_there(pair_files, tmp_path):
    done = run_cli("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("torch 2", "devices", "threads", "plug-ins", "weights"):
        assert word in done.stdout
    import torch

    if not torch.backends.cuda.is_built():
        done = run_cli("run", "--device", "cuda", *pair_files, "-o", tmp_path / "a.png")
        assert done.returncode == 2
        assert "is built for CPUs" in done.stderr


def test_shell_completion_is_offered():
    done = run_cli("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert "_FUSIONKIT_COMPLETE" in done.stdout


def test_names_of_degradations_are_completed():
    def completed(words):
        env = {"_FUSIONKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        return run_cli(env=env).stdout.split()

    assert completed("fusionkit run --restore no") == ["none", "noise"]
    assert completed("fusionkit run --restore 2=noi") == ["2=noise"]
    assert "auto" in completed("fusionkit run --restore a")


def test_notes_that_differ_by_name_and_number_alone_are_folded(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("ir", "vis"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        write_image(tmp_path / "ir" / f"shot{i}.png", rng.random((10 + i, 12, 1)).astype(np.float32), "8")
        write_image(tmp_path / "vis" / f"shot{i}.png", rng.random((20, 24, 3)).astype(np.float32), "8")
    folders = (tmp_path / "ir", tmp_path / "vis")
    done = run_cli("run", *FAST, "--resize", "reference", "--pairs", *folders, "-o", tmp_path / "out")
    resized = [line for line in done.stderr.splitlines() if "resized from" in line]
    assert len(resized) == 4
    assert resized[-1] == "note: likewise for 3 more: ir/shot0.png resized from 12x10 to 24x20"


def test_every_note_of_a_single_run_is_printed(tmp_path):
    for i in range(6):
        write_image(tmp_path / f"s{i}.png", np.zeros((20, 24) if i == 5 else (10, 12), np.uint8))
    sources = [tmp_path / f"s{i}.png" for i in range(6)]
    done = run_cli("run", *FAST, "--resize", "reference", *sources, "-o", tmp_path / "o.png")
    assert done.returncode == 0
    assert done.stderr.count("resized from 12x10 to 24x20") == 5
