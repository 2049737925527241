"""The program as a user meets it: quick, and one line with exit code 2 when something is wrong."""

import json
import shutil
import subprocess
import sys

import pytest

from fusionkit.images.sheet import GAP, LINE
from fusionkit.scenes import SCENES
from harness import load_image, run_cli

FAST = ("--prior", "laplacian", "--backbone", "identity")


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",), ("plugins", "list")])
def test_help_and_listing_import_no_torch(arguments):
    code = (
        "import sys, atexit\n"
        "heavy = lambda: sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'scipy', 'numpy', 'PIL'})\n"
        "atexit.register(lambda: print('HEAVY', heavy()))\n"
        "from fusionkit.cli.app import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "HEAVY []" in result.stdout


def test_import_fusionkit_is_light_and_complete():
    code = (
        "import sys, fusionkit; assert 'torch' not in sys.modules; [getattr(fusionkit, n) for n in fusionkit.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_run_writes_a_colour_image_of_the_same_size_and_a_manifest(pair_files, tmp_path):
    out = tmp_path / "fused.png"
    result = run_cli("run", *FAST, *pair_files, "-o", out)
    assert result.returncode == 0, result.stderr
    image = load_image(out)
    assert (image.mode, image.size) == ("RGB", (128, 96))
    row = json.loads((tmp_path / "fused.manifest.jsonl").read_text())
    assert row["plugins"]["prior"]["name"] == "laplacian"
    assert row["plugins"]["prior"]["options"]["levels"] == 0
    again = tmp_path / "again.png"
    assert run_cli("run", *FAST, *pair_files, "-o", again, "--no-manifest").returncode == 0
    assert again.read_bytes() == out.read_bytes()
    assert not (tmp_path / "again.manifest.jsonl").exists()


def test_the_default_method_runs_with_what_is_shipped(pair_files, tmp_path):
    out = tmp_path / "fused.png"
    result = run_cli("run", "--prior", "em_tv", "--backbone", "rf", *pair_files, "-o", out)
    assert result.returncode == 0, result.stderr
    row = json.loads((tmp_path / "fused.manifest.jsonl").read_text())
    assert row["plugins"]["backbone"]["sha256"]
    assert row["plugins"]["decoder"]["name"] == "identity"
    assert {"estimate", "restore", "prior"} <= row["seconds"].keys()


def test_three_sources(pair_files, tmp_path):
    for prior in ("em_tv", "laplacian"):
        out = tmp_path / f"{prior}.png"
        result = run_cli(
            "run", "--prior", prior, "--backbone", "identity", pair_files[0], pair_files[1], pair_files[0], "-o", out
        )
        assert result.returncode == 0, result.stderr
        assert load_image(out).size == (128, 96)


def wrong(*arguments, out=None):
    result = run_cli(*arguments)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    if out is not None:
        assert not out.exists()
    return result.stderr


def test_errors_are_one_line_exit_2_and_leave_nothing(pair_files, tmp_path):
    ir, vis = pair_files
    out = tmp_path / "o" / "fused.png"
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish, long enough to look at")
    cases = {
        ("--prior", "em_tvv", ir, vis): "no prior 'em_tvv'; did you mean 'em_tv'?",
        ("--backbone", "rff", ir, vis): "no backbone 'rff'; did you mean 'rf'?",
        ("--prior-opt", "litt=1", ir, vis): "no option 'litt'; did you mean 'lit'?",
        ("--prior-opt", "lam", ir, vis): "expected KEY=VALUE",
        ("--solver", "eular", ir, vis): "--solver eular: expected euler, heun, rk45 or additive",
        ("--strength", "2", ir, vis): "--strength 2: expected a number >= 0 and <= 1",
        ("--inject", "velocity", "--prior", "max", ir, vis): "needs a prior with an energy",
        ("--reference", "5", ir, vis): "there are only 2 sources",
        ("--device", "abacus", ir, vis): "device 'abacus': expected auto, cpu, cuda, cuda:N or mps",
        ("--range", "9", ir, vis): "--range 9: expected BLACK,WHITE, as in 0,4095, auto or full",
        ("--range", "0,inf", ir, vis): "both finite",
        ("--seed", "99999999999999999999", ir, vis): "--seed 99999999999999999999: expected a whole number",
        ("--prior-opt", "a=1", "--prior-opt", "a.b=2", ir, vis): "was given a value of its own",
        ("--prior", "laplacian", "--prior-opt", "selectivity=inf", ir, vis): "finite number",
        ("--color-opt", "chroma_from=7", ir, vis): "there are only 2 sources",
        ("--backbone-opt", "weights=a.pth", ir, vis): "only .safetensors files",
        (
            "--eta",
            "0.5",
            "--strength",
            "0.1",
            ir,
            vis,
        ): "--eta 0.5 is read only with --steps above 1; here --steps is 1",
        ("--set", "stretsh=minmax", ir, vis): "stretsh: no such choice; did you mean stretch?",
        ("--set", "detail=drop", ir, vis): "--set detail=drop is read only with --strength above 0",
        ("--jobs", "two", ir, vis): "--jobs two: expected a whole number",
        ("--range", "0,4095", ir, vis): "--range has no effect: no source has more than 8 bits",
        ("--jobs", "2", ir, vis): "--jobs 2 has no effect on a single result; it is read with --pairs or --group",
        ("--range-scope", "pair", ir, vis): "--range-scope pair has no effect on a single result",
        ("--ext", ".jpg", ir, vis): "--ext .jpg has no effect on a single result",
        ("--crf", "20", ir, vis): "--crf 20 has no effect on a single result; it is read with video",
        ("--quality", "80", ir, vis): "--quality 80 has no effect on .png files",
        ("--save-transform", "t.json", ir, vis): "nothing is aligned; add --align affine",
        ("--no-manifest", "--pairs", ir, vis): "--no-manifest has no effect on results of --pairs or --group",
        ("--range", "0,4095", "a.mp4", "b.mp4"): "--range 0,4095 has no effect on results of video",
        ("--depth", "8", "a.mp4", "b.mp4"): "--depth 8 has no effect on results of video",
        ("--seed", "3", ir, vis): "--seed 3 has no effect: nothing random is drawn",
        ("--align", "affine", "--transform", "t.json", ir, vis): "--align affine has no effect beside --transform",
        ("--depth", "12", ir, vis): "--depth 12: expected 8, 16 or float",
        ("--tile", "3", ir, vis): "--tile 3: must be 0 or at least 256",
        ("--preset", tmp_path / "none.toml", ir, vis): "not found",
        ("--decoder", "vq", "--backbone", "rf", "--decoder-opt", "weights=no", ir, vis): "weights 'no' not found",
        ("--decoder", "vq", ir, vis): "works on pixels",
        (ir,): "fusing needs two or more images of one scene; got one",
        (ir, ir): "fusing needs two different images; all are ",
        (
            ir,
            tmp_path / "bad.png",
        ): "bad.png: not an image in a known format, or its header is damaged; export it as PNG",
        (ir, tmp_path / "none.png"): "none.png: cannot be opened: No such file",
        ("--pairs", ir, vis): "not a folder",
        ("--task", "", ir, vis): "--task '': is empty",
        ("--review=", ir, vis): "--review=: is empty",
        ("--preset", "/", ir, vis): "/: cannot be read: Is a directory",
        ("--quiet", "--verbose", ir, vis): "--verbose has no effect with --quiet",
        ("--prior-opt", "lit=0.5", "--prior-opt", "lit=0.7", ir, vis): "--prior-opt lit: given twice",
    }
    for arguments, reason in cases.items():
        text = wrong("run", *arguments, "-o", out, out=out.parent)
        assert reason in text, (arguments, text)
        assert len(text.strip().splitlines()) == 1, text


def test_an_existing_result_needs_force(pair_files, tmp_path):
    out = tmp_path / "fused.png"
    out.write_bytes(b"precious")
    assert "--force" in wrong("run", *FAST, *pair_files, "-o", out)
    assert out.read_bytes() == b"precious"
    assert run_cli("run", *FAST, *pair_files, "-o", out, "--force").returncode == 0


@pytest.mark.parametrize("output", [".", "", "/", "blocked/x.png", "n" * 300 + ".png"])
def test_outputs_that_cannot_be(pair_files, tmp_path, output):
    (tmp_path / "blocked").write_text("a file")
    result = run_cli("run", *FAST, *pair_files, "-o", output, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert ".tmp" not in result.stderr


def test_folders_exit_1_when_a_pair_failed(pair_files, tmp_path):
    for name, source in (("ir", pair_files[0]), ("vi", pair_files[1])):
        (tmp_path / name).mkdir()
        for stem in ("a", "b"):
            shutil.copy(source, tmp_path / name / f"{stem}.png")
    (tmp_path / "vi" / "b.png").write_bytes(b"")
    shutil.copy(pair_files[0], tmp_path / "ir" / "alone.png")
    command = ("run", *FAST, "--pairs", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    result = run_cli(*command)
    assert result.returncode == 1
    assert "1 fused, 0 finished before, 1 failed" in result.stdout
    assert "failed: b: " in result.stderr
    assert "without a partner" in result.stderr
    assert "alone.png" in result.stderr
    shutil.copy(pair_files[1], tmp_path / "vi" / "b.png")
    result = run_cli(*command)
    assert result.returncode == 0
    assert "1 fused, 1 finished before, 0 failed" in result.stdout


def test_a_preset_is_a_toml_file_and_options_override_it(pair_files, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'prior = "laplacian"\nbackbone = "identity"\nreference = 1\n[prior_options]\nlevels = 2\nbase = 1.0\n'
    )
    out = tmp_path / "fused.png"
    result = run_cli("run", "--preset", preset, "--prior-opt", "base=0", *pair_files, "-o", out)
    assert result.returncode == 0, result.stderr
    row = json.loads((tmp_path / "fused.manifest.jsonl").read_text())
    options = row["plugins"]["prior"]["options"]
    assert (row["reference"], options["levels"], options["base"]) == (1, 2, 0.0)
    preset.write_text("prior = [")
    assert "not valid TOML" in wrong("run", "--preset", preset, *pair_files, "-o", tmp_path / "x.png")


def test_demo_writes_one_comparison_a_scene(tmp_path):
    out = tmp_path / "demo"
    result = run_cli("demo", "-o", out)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(out / f"{task}.png") for task in SCENES]
    for task, scene in SCENES.items():
        sheet, fused = load_image(out / f"{task}.png"), load_image(out / task / "fused.png")
        assert sheet.width == (4 if scene.degraded else 3) * (fused.width + GAP) + GAP
        assert sheet.height == 2 * (fused.height + LINE + 2 * GAP) + GAP
    night = out / "noisy-night"
    assert load_image(night / "infrared.png").width * 2 == load_image(night / "fused.png").width
    assert "--force" in wrong("demo", "-o", out)


def test_demo_restores_nothing_by_a_backbone_that_cannot(tmp_path):
    result = run_cli("demo", "-o", tmp_path / "demo", "--backbone", "identity", "--prior", "laplacian")
    assert result.returncode == 0, result.stderr
    sheet, fused = (load_image(tmp_path / "demo" / name) for name in ("noisy-night.png", "noisy-night/fused.png"))
    assert sheet.width == 3 * (fused.width + GAP) + GAP


def test_the_help_of_demo_tells_every_scene():
    said = " ".join(run_cli("demo", "--help").stdout.replace("│", " ").split())
    for scene in SCENES.values():
        assert scene.shows in said


def test_unknown_commands_and_plugins():
    assert "did you mean 'laplacian'?" in wrong("plugins", "show", "laplacean")
    assert "no kind" in wrong("plugins", "list", "--kind", "colour")
    assert run_cli("plugins", "check").returncode == 0


def test_a_note_that_every_pair_shares_is_not_repeated_for_each(pair_files, tmp_path):
    import shutil

    for folder, file in zip(("ir", "vis"), pair_files, strict=True):
        (tmp_path / folder).mkdir()
        for i in range(6):
            shutil.copy(file, tmp_path / folder / f"{i}.png")
    done = run_cli("run", "--pairs", tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("treated as") == 4
    assert "the same for 3 more: treated as" in done.stderr
