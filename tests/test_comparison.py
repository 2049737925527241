"""One scene by many methods."""

import json
import re

import numpy as np
import pytest
from skimage import data

from fusionkit.ablation import Study, load_grid, load_pairs
from fusionkit.comparison import compare, scene_of, sheet_of, suitable
from fusionkit.images import Picture
from fusionkit.method.config import SamplerOptions, configuration
from fusionkit.reading import read_image
from fusionkit.scenes import infrared_visible, multi_exposure, multi_focus
from fusionkit.writing import write_image
from fusionkit_plugins.stages.records import STAGES
from harness import run_cli

SIZE = (96, 128)
MOVE = [[1, 0, 6], [0, 1, -4], [0, 0, 1]]
# an option of alignment with those that it needs beside it
ALIGNMENT = {
    "align": {"align": "affine"},
    "transform": {"transform": ""},
    "rest": {"transform": "", "rest": True},
    "fov": {"align": "affine", "fov": 1.02},
    "align_or_keep": {"align": "affine", "align_or_keep": True},
    "crop": {"align": "affine", "crop": "common"},
}


def pictures(scene, size=SIZE):
    images = (image.astype(np.float32) for image in scene(size))
    return [Picture(image, "8", (0.0, 255.0), name=f"{i}.png") for i, image in enumerate(images)]


class TestComparison:
    @pytest.mark.parametrize(
        ("scene", "kind", "task", "missing"),
        [
            (infrared_visible, "heat", "task ivif", {"focus", "mertens"}),
            (multi_exposure, "exposure", "task mef", {"focus"}),
            (multi_focus, "focus", "task mff", {"mertens"}),
        ],
    )
    def test_what_suits_a_scene_is_found(self, scene, kind, task, missing):
        assert scene_of(pictures(scene)) == kind
        methods = suitable(kind)
        assert next(iter(methods)) == task
        assert {"em_tv", "laplacian", "average"} <= methods.keys()
        assert not missing & methods.keys()

    def test_priors_by_name_take_options(self):
        methods = suitable("heat", "average, em_tv:lit=0.5,screen=0.1,source:number=1")
        assert list(methods) == ["average", "em_tv:lit=0.5,screen=0.1", "source:number=1"]
        entry = next(
            iter(compare(pictures(infrared_visible), {"one": methods["source:number=1"]}, "heat", device="cpu"))
        )
        assert entry.figures["visible kept"] < 0.2

    def test_results_have_figures_and_refusals_a_reason(self):
        pair = pictures(infrared_visible)
        methods = {name: {"prior": name} for name in ("average", "em_tv", "ddfm", "nothing")}
        found = {entry.name: entry for entry in compare(pair, methods, "heat", device="cpu")}
        assert found["average"].figures["visible kept"] == pytest.approx(0.5, abs=0.1)
        assert found["em_tv"].figures["visible kept"] > 0.8
        assert found["ddfm"].reason == "100 steps; only methods of one step are compared"
        assert "nothing" in found["nothing"].reason
        assert found["em_tv"].label.startswith("em_tv: ")
        sheet = sheet_of(pair, list(found.values()), 64, 2)
        assert sheet.shape[1] == 2 * (64 + 4) + 4  # two columns of 64 pixels, gaps of 4
        assert sheet.shape[0] > 2 * 48

    def test_networks_are_loaded_before_the_seconds_are_taken(self, monkeypatch):
        from fusionkit.method.pipeline import Pipeline
        from fusionkit.weights import files

        loaded, while_fusing, load, fuse = [], [], files.load_weights, Pipeline.fuse_pictures

        def fused(*arguments):
            before = len(loaded)
            result = fuse(*arguments)
            while_fusing.append(loaded[before:])
            return result

        monkeypatch.setattr(files, "load_weights", lambda m, file: (loaded.append(file.path.stem), load(m, file)))
        monkeypatch.setattr(Pipeline, "fuse_pictures", fused)
        methods = {name: {"prior": name} for name in ("exposure", "em_tv", "learned")}
        list(compare(pictures(multi_exposure), methods, "exposure", device="cpu"))
        assert {"exposure-rendered", "focus-rendered", "learned-rendered"} <= set(loaded)
        assert while_fusing == [[], [], []]

    def test_the_command_writes_the_sheet_once(self, tmp_path):
        for folder, image in zip(("ir", "vis"), infrared_visible(SIZE), strict=True):
            (tmp_path / folder).mkdir()
            write_image(tmp_path / folder / "1.png", image.astype(np.float32), "8")
        command = ["compare", "ir/1.png", "vis/1.png", "-o", "s.png", "--priors", "average,laplacian,none_such"]
        done = run_cli(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "laplacian: " in done.stdout
        assert "skipped none_such" in done.stderr
        assert read_image(tmp_path / "s.png").size[0] == 3 * (128 + 4) + 4
        again = run_cli(*command, cwd=tmp_path)
        assert (again.returncode, "exists already" in again.stderr) == (2, True)
        assert "s.png: treated as infrared and visible" in done.stdout
        before = (tmp_path / "vis/1.png").read_bytes()
        onto = run_cli("compare", "ir/1.png", "vis/1.png", "-o", "vis/1.png", "--force", cwd=tmp_path)
        assert (onto.returncode, "is one of the sources" in onto.stderr) == (2, True)
        assert (tmp_path / "vis/1.png").read_bytes() == before

    def test_it_takes_the_options_of_the_method_that_run_takes(self):
        from typer.main import get_command

        from fusionkit.cli.app import app

        run, own = (
            {option for parameter in get_command(app).load(name).params for option in parameter.opts}  # type: ignore[attr-defined]
            for name in ("run", "compare")
        )
        method = {
            f"--{name.replace('_', '-')}" for name in (*configuration().model_fields, *SamplerOptions.model_fields)
        }
        left = (run & method) - own
        assert left == {"--prior"}
        assert {"--range", "--bands", "--max-pixels", "--set", "--task", "--backbone-opt"} <= own

    @pytest.mark.parametrize("flag", [flag.name for stage in STAGES if stage.name == "align" for flag in stage.flags])
    def test_every_option_of_alignment_works_in_comparisons_and_ablations(self, flag, tmp_path):
        options = ALIGNMENT[flag]
        if "transform" in options:
            np.savetxt(tmp_path / "matrix.csv", MOVE, delimiter=",")
            options = {**options, "transform": str(tmp_path / "matrix.csv")}
        ir, visible = (p.values for p in pictures(infrared_visible, (96, 128)))
        moved = np.stack([np.roll(ir[..., 0], (-4, 6), (0, 1))], -1)  # as MOVE says
        pair = [Picture(image, "8", (0.0, 255.0), name=name) for image, name in ((moved, "ir"), (visible, "vis"))]
        options = {"restore": "none", **options}
        [entry] = compare(pair, {"average": {"prior": "average"}}, "heat", device="cpu", base=options)
        assert entry.reason == ""
        small = flag == "crop"
        assert (entry.image.shape[0] < 96) == small
        assert np.abs(entry.lying[0][12:60, 12:90] - ir[12:60, 12:90]).mean() < (9 if small else 0.02)
        assert sheet_of(pair, [entry], 128, 2).shape[0] > (2 if small else 3) * entry.image.shape[0] / 2
        for folder, image in zip(("ir", "vis"), (moved, visible), strict=True):
            (tmp_path / folder).mkdir()
            write_image(tmp_path / folder / "1.png", image, "8")
        if small:  # results of a grid are compared with whole sources
            options = {**options, "crop": "reference"}
        base = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
        text = f'[base]\nbackbone = "identity"\n{base}\n[grid]\nprior = ["average"]\n[report]\nmetrics = ["EN"]\n'
        (tmp_path / "grid.toml").write_text(text)
        grid, cases = load_grid(tmp_path / "grid.toml"), load_pairs([tmp_path / "ir", tmp_path / "vis"])
        assert grid.without_effect == []
        study = Study(grid, cases, tmp_path / "out", device="cpu")
        study.check_sizes()
        assert {outcome.status for *_, outcome in study.run()} == {"done"}

    def test_moved_and_resized_sources_are_judged_as_they_lie(self, tmp_path):
        camera = data.camera()
        warm = camera.copy()
        warm[60:90, 100:130] = warm[120:150, 220:250] = warm[180:220, 130:170] = 255  # the other does not have these
        write_image(tmp_path / "a.png", warm[20:276, 40:360], "8")
        write_image(tmp_path / "b.png", camera[11:267, 28:348], "8")
        command = ["compare", "a.png", "b.png", "-o", "s.png", "--priors", "max", "--task", "ivif", "--force"]
        plain = run_cli(*command, cwd=tmp_path)
        assert "--align affine corrects this" in plain.stderr
        moved = run_cli(*command, "--align", "translation", "--backbone", "rf", cwd=tmp_path)
        assert moved.returncode == 0, moved.stderr
        assert "backbone rf was not asked" in moved.stderr
        assert float(re.search(r"IR kept ([\d.]+)", moved.stdout)[1]) > 0.9  # against the source where it lies now
        write_image(tmp_path / "a.png", camera[::4, ::4], "8")
        refused = run_cli(*command, cwd=tmp_path)
        assert (refused.returncode, "--resize reference resizes" in refused.stderr) == (2, True)
        assert run_cli(*command, "--resize", "reference", cwd=tmp_path).returncode == 0
        assert read_image(tmp_path / "s.png").size[0] == 3 * (320 + 4) + 4
        wrong = run_cli(*command, "--look", "odd", cwd=tmp_path)
        assert (wrong.returncode, "--look odd: expected auto, faithful" in wrong.stderr) == (2, True)
