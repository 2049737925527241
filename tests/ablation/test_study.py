"""Ablations: grids, validation, resuming, failures, attribution, reports."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.ablation import Study, load_grid, load_pairs, load_scenes
from fusionkit.ablation.attribution import removals
from fusionkit.ablation.report import write_reports
from fusionkit.errors import OptionError, SizeMismatch
from fusionkit.images.convert import to_tensor
from fusionkit.judging.study import Vote, keep_vote, open_key, open_study, place_of_key
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.scenes import infrared_visible
from fusionkit.weights import save_weights
from fusionkit.writing import write_image
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_reproductions.vq.config import DDConfig, VQConfig
from fusionkit_reproductions.vq.network import VQModel
from harness import run_cli

GRID = """
[base]
backbone = "identity"

[grid]
prior = ["em_tv", "laplacian"]
"prior.em_tv.lit" = [0.2, 0.6]
reference = [0, 1]

[data]
scenes = "infrared-visible"
count = 2
size = [48, 64]

[report]
metrics = ["EN", "SSIM"]
images = 1
"""

CLEAN = """
[base]
backbone = "identity"
restore = "none"

[grid]
prior = ["em_tv", "laplacian"]
degradation = ["none", "noise:level=30"]

[report]
metrics = ["EN", "SSIM"]
images = 1
"""


def random_networks(folder: Path) -> list[Path]:
    """Weights of a small flow and a small autoencoder, random and loud."""
    torch.manual_seed(0)
    network = NCSNpp(NCSNppConfig(image_size=256, nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=()))
    first_stage = VQModel(VQConfig(n_embed=64, ddconfig=DDConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1)))
    paths = []
    for name, module in (("rf", network), ("vq", first_stage)):
        for parameter in module.parameters():
            if parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter.data)
        paths.append(folder / f"{name}.safetensors")
        info = {"architecture": module.config.model_dump(), "domain": "any", "decoder": "identity"}
        save_weights(paths[-1], module.state_dict(), info)
    return paths


def write_grid(path: Path, text: str = GRID) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def make_study(tmp_path: Path, text: str = GRID, output: str = "out") -> Study:
    grid = load_grid(write_grid(tmp_path / "grid.toml", text))
    return Study(grid, load_scenes("infrared-visible", 2, (48, 64)), tmp_path / output, device="cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Study:
    study = make_study(tmp_path_factory.mktemp("ablation"))
    assert all(outcome.status == "done" for _, _, outcome in study.run())
    return study


@pytest.fixture(scope="module")
def reports(done) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in write_reports(done)}


class TestGrid:
    def test_an_option_multiplies_only_the_cells_that_use_its_plugin(self, tmp_path):
        cells = [c for c in load_grid(write_grid(tmp_path / "g.toml")).cells if not c.removed]
        assert [c.label for c in cells] == [
            "prior=em_tv, lit=0.2, reference=0",
            "prior=em_tv, lit=0.6, reference=0",
            "prior=em_tv, lit=0.2, reference=1",
            "prior=em_tv, lit=0.6, reference=1",
            "prior=laplacian, reference=0",
            "prior=laplacian, reference=1",
        ]
        assert cells[1].config.prior.options == {"lit": 0.6}
        assert cells[5].config.reference == 1

    def test_nested_tables_are_the_same_as_dotted_keys(self, tmp_path):
        nested = '[grid.prior.em_tv]\nlit = [0.1, 0.2]\n[grid.sampler]\neta = [0.0, 0.5]\n[base]\nprior = "em_tv"'
        labels = [c.label for c in load_grid(write_grid(tmp_path / "g.toml", nested)).cells if not c.removed]
        assert labels == ["lit=0.1, eta=0", "lit=0.2, eta=0", "lit=0.1, eta=0.5", "lit=0.2, eta=0.5"]

    def test_steps_strength_and_injection_are_the_samplers(self, tmp_path):
        text = '[grid]\nsteps = [1, 3]\nstrength = [0.2]\ninject = ["x0"]\n"sampler.eta" = [0.5]'
        sampler = load_grid(write_grid(tmp_path / "g.toml", text)).cells[1].config.sampler
        assert (sampler.steps, sampler.strength, sampler.inject, sampler.eta) == (3, 0.2, "x0", 0.5)

    def test_tasks_and_presets_can_be_varied(self, tmp_path):
        text = '[grid]\ntask = ["ivif", "mff"]'
        cells = [c for c in load_grid(write_grid(tmp_path / "g.toml", text)).cells if not c.removed]
        assert [c.config.prior.options["evidence"] for c in cells] == ["heat", "focus"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[grid]\nprior = []", "grid.prior is empty"),
            ('[grid]\nprior = ["em_tv"]\n"prior.laplacian.base" = [1]', "prior.laplacian.base .* no cell uses"),
            ('[grid]\n"prior.em_tv" = [1]', "expected prior.NAME.OPTION"),
            ('[grid]\n"prior.nope.lam" = [1]', "nope"),
            ("[grid]\nstep = [1]", "step: no such choice"),
            ('[grid]\ndegradation = ["noise:amount=1"]', "amount"),
            ('[grid]\ndegradation = ["fog"]', "no degradation 'fog'"),
            ('[grid]\nprior = ["em_tv", "em_tv"]', "twice"),
            ("[grdi]\nprior = [1]", "grdi"),
            ("[grid", "not valid TOML"),
            ("[base]\nsteps = 3", "steps"),
        ],
    )
    def test_a_mistake_is_one_line(self, tmp_path, text, message):
        with pytest.raises(OptionError, match=message) as caught:
            load_grid(write_grid(tmp_path / "g.toml", text))
        assert "\n" not in str(caught.value)

    def test_every_cell_is_validated_before_the_first_runs(self, tmp_path):
        text = GRID.replace('"prior.em_tv.lit" = [0.2, 0.6]', '"prior.em_tv.lit" = [0.5, -1.0]')
        with pytest.raises(
            OptionError, match=r"nothing was run: prior=em_tv, lit=-1, reference=0: .*; and 1 more cells"
        ):
            make_study(tmp_path, text)
        assert not (tmp_path / "out").exists()


class TestRun:
    def test_every_cell_is_scored_over_every_pair(self, done):
        evaluation = done.evaluation()
        assert [s.status for s in done.cells] == ["done"] * len(done.cells)
        assert len([m for m in evaluation.values if m not in evaluation.baselines]) == 6
        assert all(len(v) == 2 for table in evaluation.values.values() for v in table.values())

    def test_values_are_those_of_the_file(self, done, tmp_path):
        from fusionkit.scoring.evaluation import evaluate
        from fusionkit.scoring.metrics import load_metrics

        state, case = done.cells[0], done.cases[0]
        folders = [tmp_path / n for n in ("a", "b", "f")]
        for folder, picture in zip(folders, [*case.read(), read_image(done.image(state, case))], strict=True):
            write_image(folder / "x.png", picture.pixels, "8")
        # the pair was scored before its sources were rounded to 8 bits, which metrics do anyway
        scored = evaluate({"m": folders[2]}, folders[:2], load_metrics(["SSIM"], None), baselines=False)
        assert scored.values["m"]["SSIM"][0] == pytest.approx(state.rows()[case.key]["values"]["SSIM"], rel=1e-3)

    def test_a_finished_study_is_not_run_again(self, done, tmp_path):
        again = Study(done.grid, done.cases, done.output, device="cpu")
        assert {s.status for s in again.cells} == {"done"}
        assert list(again.run()) == []

    def test_a_stopped_study_goes_on_where_it_was(self, tmp_path):
        study = make_study(tmp_path)
        for number, _ in enumerate(study.run(), 1):
            if number == 3:  # one cell whole, one pair of the second
                break
        again = make_study(tmp_path)
        ran = [(s.cell.label, c.key) for s, c, _ in again.run()]
        total = len({s.id for s in again.cells}) * 2
        assert len(ran) == total - 3

    def test_a_new_metric_is_measured_on_the_images_that_are_there(self, tmp_path):
        study = make_study(tmp_path)
        list(study.run())
        image = study.image(study.cells[0], study.cases[0])
        before = image.stat().st_mtime_ns
        more = make_study(tmp_path, GRID.replace('"SSIM"]', '"SSIM", "SD"]'))
        assert {s.status for s in more.cells} == {"new"}
        list(more.run())
        assert image.stat().st_mtime_ns == before
        assert "SD" in more.evaluation().metrics

    def test_ids_follow_options_and_data(self, done, tmp_path):
        other = make_study(tmp_path, GRID.replace("reference = [0, 1]", "reference = [0, 2]"))
        assert other.cells[0].id == done.cells[0].id
        assert other.cells[-1].id != done.cells[5].id
        fewer = Study(done.grid, done.cases[:1], tmp_path, device="cpu")
        assert fewer.cells[0].id != done.cells[0].id

    def test_cells_without_effect_are_left_out(self, tmp_path):
        text = GRID.replace("reference = [0, 1]", "strength = [0.0, 0.1]")
        study = make_study(tmp_path, text)
        left_out = study.grid.without_effect
        assert [line.partition(":")[0] for line in left_out] == ["prior=laplacian, strength=0.1"]
        assert "`strength=0.1` has no effect: Laplacian does not look" in left_out[0]
        assert len([s for s in study.cells if not s.cell.removed]) == 5
        with pytest.raises(OptionError, match=r"nothing was run: .*`strength=0.1` has no effect"):
            make_study(
                tmp_path,
                text.replace('["em_tv", "laplacian"]', '["laplacian"]')
                .replace('"prior.em_tv.lit" = [0.2, 0.6]', "")
                .replace("[0.0, 0.1]", "[0.1]"),
            )

    def test_a_failed_cell_is_recorded_and_the_others_go_on(self, tmp_path, monkeypatch):
        from fusionkit_priors.laplacian import Laplacian

        def explode(self, x0, sources, state, sigma):
            raise RuntimeError("out of\nmemory")

        monkeypatch.setattr(Laplacian, "correct", explode)
        study = make_study(tmp_path)
        events = [outcome.status for _, _, outcome in study.run()]
        assert events.count("failed") == 2
        failed = [s for s in study.cells if s.status == "failed"]
        assert {s.cell.label for s in failed} == {"prior=laplacian, reference=0", "prior=laplacian, reference=1"}
        assert failed[0].reason.startswith("RuntimeError: out of memory; a smaller `tile`")
        write_reports(study)
        report = (tmp_path / "out" / "report.html").read_text()
        assert "RuntimeError: out of memory" in report
        assert json.loads((tmp_path / "out" / "results.json").read_text())["failures"]


class TestDegradations:
    def test_scores_are_against_the_clean_sources(self, tmp_path):
        text = GRID.replace("reference = [0, 1]", 'degradation = ["none", "noise:level=50"]')
        study = make_study(tmp_path, text)
        list(study.run())
        evaluation = study.evaluation()
        ssim = [evaluation.mean(f"prior=laplacian, degradation={d}", "SSIM") for d in ("none", "noise:level=50")]
        assert ssim[1] < ssim[0] - 0.1

    def test_a_result_is_compared_with_the_same_methods_fusion_of_the_clean_sources(self, tmp_path):
        study = make_study(tmp_path, CLEAN)
        assert all(outcome.status == "done" for _, _, outcome in study.run())
        assert list(study.metrics) == ["EN", "SSIM", "clean.PSNR", "clean.SSIM"]
        clean, noisy = (
            {s.cell.choices["prior"]: s for s in study.cells if s.cell.degradation == kind and not s.cell.removed}
            for kind in ("none", "noise:level=30")
        )
        for prior, state in noisy.items():
            for number, case in enumerate(study.cases):
                a, b = (read_image(study.image(s, case)).pixels for s in (clean[prior], state))
                levels = [np.round(255 * luma(to_tensor(x)).numpy()) for x in (a, b)]
                mse = np.square(levels[0] - levels[1], dtype=np.float64).mean()
                psnr = 10 * np.log10(255**2 / mse)
                assert study.scores(state)["clean.PSNR"][number] == pytest.approx(psnr, abs=1e-4)
        assert study.scores(clean["em_tv"])["clean.PSNR"] == [pytest.approx(58.92, abs=0.01)] * 2
        assert study.scores(clean["em_tv"])["clean.SSIM"] == pytest.approx([1.0, 1.0])

    def test_a_clean_fusion_that_is_no_cell_is_made_once(self, tmp_path, monkeypatch):
        text = CLEAN.replace('"none", "noise:level=30"', '"noise:level=30", "blur:sigma=2"')
        fused, fuse = [], Pipeline.fuse_pictures
        monkeypatch.setattr(Pipeline, "fuse_pictures", lambda self, p: fused.append(1) or fuse(self, p))
        study = make_study(tmp_path, text + 'attribution = "none"')
        list(study.run())
        assert len({s.id for s in study.cells}) == 4
        assert len(fused) == (4 + 2) * 2
        values = [study.scores(s)["clean.PSNR"] for s in study.cells]
        assert np.isfinite(values).all()
        assert np.max(values) < 50
        again = make_study(tmp_path, text + 'attribution = "none"')
        assert list(again.run()) == []
        assert [again.scores(s)["clean.PSNR"] for s in again.cells] == values

    def test_images_of_an_earlier_grid_are_compared_without_being_fused_again(self, tmp_path):
        list(make_study(tmp_path, CLEAN.replace(', "noise:level=30"', "")).run())
        study = make_study(tmp_path, CLEAN)
        before = {s.id: study.image(s, study.cases[0]).stat().st_mtime_ns for s in study.cells if s.rows()}
        assert {s.status for s in study.cells} == {"new"}
        list(study.run())
        after = {s.id: study.image(s, study.cases[0]).stat().st_mtime_ns for s in study.cells if s.id in before}
        assert before == after
        assert before

    def test_only_grids_that_degrade_have_the_columns_and_baselines_have_no_rank_from_them(self, done, tmp_path):
        assert "clean.PSNR" not in done.metrics
        study = make_study(tmp_path, CLEAN)
        list(study.run())
        record = json.loads(write_reports(study)[1].read_text())
        baseline = record["methods"]["average"]
        assert baseline["summary"]["clean.PSNR"] == {"mean": None, "low": None, "high": None, "defined": 0}
        assert "fusion of the clean sources" in record["metrics"]["clean.SSIM"]["definition"]
        evaluation = study.evaluation()
        ranks = evaluation.mean_ranks()
        for name in study.clean:
            del evaluation.metrics[name]
        assert evaluation.mean_ranks() == ranks
        rows = list(csv.DictReader((study.output / "results.csv").read_text().splitlines()))
        assert all(row["value"] for row in rows if row["metric"] in study.clean)

    def test_cells_with_degraded_sources_are_ranked_among_themselves(self, tmp_path):
        study = make_study(tmp_path, CLEAN)
        list(study.run())
        evaluation = study.evaluation()
        noisy = [m for m in evaluation.values if "noise" in m]
        assert sum(evaluation.mean_ranks()[m] for m in noisy) == 1 + 2
        assert set(evaluation.inputs.values()) == {"noise:level=30"}
        assert evaluation.groups()["noise:level=30"] == noisy
        assert not evaluation.no_better_than_a_source() & set(noisy)
        text = next(p for p in write_reports(study) if p.name == "table.md").read_text()
        assert "**sources with noise:level=30**" in text
        assert "| laplacian" in text.partition("noise:level=30")[2]

    def test_a_smaller_source_is_compared_at_the_size_of_the_reference(self, tmp_path):
        text = CLEAN.replace('"noise:level=30"', '"1=low_resolution:factor=2"')
        with pytest.raises(SizeMismatch, match=r'infrared is 32x24 .* with degradation 1=low_.*resize = "reference"'):
            make_study(tmp_path, text).check_sizes()
        study = make_study(tmp_path, text.replace("[base]", '[base]\nresize = "reference"'))
        study.check_sizes()
        assert all(outcome.status == "done" for _, _, outcome in study.run())
        small = next(s for s in study.cells if s.cell.degradation.startswith("1=low"))
        assert read_image(study.image(small, study.cases[0])).size == (64, 48)
        assert all(20 < value < 50 for value in study.scores(small)["clean.PSNR"])


class TestAttribution:
    def test_parts_are_taken_out_of_the_first_cell(self, done):
        found = list(removals(done))
        assert {r.method for r in found} == {done.cells[0].cell.label}
        assert {r.part for r in found} == {"prior", "colour"}
        assert found == sorted(found, key=lambda r: -r.levels.mean)

    def test_the_difference_is_that_of_the_files(self, done):
        prior = next(r for r in removals(done) if r.part == "prior")
        whole = done.cells[0]
        without = next(s for s in done.cells if s.cell.removed == "prior")
        differences = [
            np.abs(np.subtract(*(np.round(255 * read_image(done.image(s, c)).pixels) for s in (whole, without))))
            for c in done.cases
        ]
        assert prior.levels.mean == pytest.approx(np.mean([d.mean() for d in differences]))
        assert prior.largest == max(d.max() for d in differences)
        ssim = [s.rows()[c.key]["values"]["SSIM"] for s in (without, whole) for c in done.cases]
        assert prior.metrics["SSIM"].mean == pytest.approx(np.mean(ssim[:2]) - np.mean(ssim[2:]))

    def test_the_released_rffusion_owes_nothing_to_its_network(self, tmp_path):
        rf, vq = random_networks(tmp_path)
        text = f"""
        [base]
        preset = "rffusion-released"
        working_size = [64, 256]
        backbone_options = {{weights = "{rf}"}}
        decoder_options = {{weights = "{vq}"}}
        [report]
        metrics = ["EN"]
        """
        study = make_study(tmp_path, text)
        list(study.run())
        parts = {r.part: r for r in removals(study)}
        assert max(r.largest for part, r in parts.items() if part.startswith("network (")) <= 1
        assert parts["network (zeros instead)"].changed < 0.01
        assert parts["prior"].levels.mean > 10


class TestReports:
    def test_csv_has_one_row_a_value(self, done, reports):
        rows = list(csv.DictReader(reports["results.csv"].splitlines()))
        assert len(rows) == len(done.cells) * 2 * 2
        assert {"cell", "id", "prior", "prior.em_tv.lit", "pair", "seconds", "metric", "value"} <= set(rows[0])

    def test_json_holds_cells_attribution_and_definitions(self, done, reports):
        record = json.loads(reports["results.json"])
        assert [c["id"] for c in record["cells"]] == [s.id for s in done.cells]
        assert {r["part"] for r in record["attribution"]} == {"prior", "colour"}
        assert record["metrics"]["EN"]["definition"]
        assert all(c["seconds"] > 0 for c in record["cells"])

    def test_tables_for_papers_are_beside_them(self, done, reports):
        assert {"table.tex", "table.md", "table.csv"} <= set(reports)
        assert "laplacian, reference=1 &" in reports["table.tex"]

    def test_a_finished_grid_scores_and_writes_nothing_again(self, tmp_path, monkeypatch):
        list(make_study(tmp_path).run())
        paths = write_reports(make_study(tmp_path))
        before = {path: path.stat().st_mtime_ns for path in paths}
        with monkeypatch.context() as patch:
            patch.setattr("fusionkit.ablation.study.score_images", None)
            assert {path: path.stat().st_mtime_ns for path in write_reports(make_study(tmp_path))} == before
        again = make_study(tmp_path, GRID.replace("images = 1", "images = 2"))
        assert {path: path.stat().st_mtime_ns for path in write_reports(again)} != before

    def test_html_loads_nothing_and_shows_everything(self, reports):
        page = reports["report.html"]
        assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
        assert "http" not in re.sub(r"http://www.w3.org/2000/svg|http-equiv", "", page)
        images = json.loads(re.search(r'id="images">(.*?)</script>', page, re.S)[1])
        assert len(images) == 1
        labels = [p["label"] for p in images[0]["panels"]]
        assert labels[:2] == ["source 1", "source 2"]
        assert "prior=laplacian, reference=1" in labels

    def test_names_cannot_break_out_of_the_page(self, tmp_path):
        for folder, image in zip(("a", "b"), infrared_visible((48, 64)), strict=True):
            write_image(tmp_path / folder / "<img onerror=alert(1)> &x.png", image.astype(np.float32), "8")
        grid = load_grid(write_grid(tmp_path / "g.toml"))
        study = Study(grid, load_pairs([tmp_path / "a", tmp_path / "b"]), tmp_path / "out", device="cpu")
        list(study.run())
        assert "<img onerror" not in write_reports(study)[2].read_text()


class TestCommand:
    def test_dry_run_lists_and_writes_nothing(self, tmp_path):
        done = run_cli("ablate", write_grid(tmp_path / "g.toml"), "-o", tmp_path / "out", "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "8 cells over 2 pairs; 16 fusions to do" in done.stdout
        assert not (tmp_path / "out").exists()

    def test_a_table_is_no_folder(self, tmp_path):
        done = run_cli("ablate", write_grid(tmp_path / "g.toml"), "-o", tmp_path / "table.tex")
        assert done.returncode == 2
        assert "name a folder; table.tex, .md and .csv" in done.stderr

    def test_run_with_folders_and_limit(self, tmp_path):
        for seed in range(4):
            for folder, image in zip(("ir", "vis"), infrared_visible((48, 64), seed=seed), strict=True):
                write_image(tmp_path / folder / f"{seed}.png", image.astype(np.float32), "8")
        text = '[base]\nprior = "average"\nbackbone = "identity"\n[data]\nlimit = 2\n[report]\nmetrics = ["EN"]'
        grid, out = write_grid(tmp_path / "g.toml", text), tmp_path / "out"
        done = run_cli("ablate", grid, "--pairs", tmp_path / "ir", tmp_path / "vis", "-o", out)
        assert done.returncode == 0, done.stderr
        record = json.loads((out / "results.json").read_text())
        assert record["pairs"] == ["0", "2"]
        assert (out / "report.html").stat().st_size > 10_000

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[base]\nprior = 'average'", "no data"),
            ("[data]\nlimit = 2", "no data"),
            ("[data]\nscenes = 'x'", "scenes 'x'"),
            ("[data]\nscenes = 'infrared-visible'\nlimit = 2", "data.limit has no effect with data.scenes"),
            ("[data]\npairs = ['a', 'b']\ncount = 2", "data.count has no effect with data.pairs"),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_code_2(self, tmp_path, text, message):
        done = run_cli("ablate", write_grid(tmp_path / "g.toml", text), "-o", tmp_path / "out")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_the_report_shows_what_was_lost_and_invented_where_metrics_can_say(tmp_path):
    for metrics, shown in (('["EN"]', 0), ('["audit"]', 2)):
        text = f'[base]\nbackbone = "identity"\n[grid]\nprior = ["em_tv", "average"]\n[report]\nmetrics = {metrics}\nattribution = "none"\n'
        study = Study(
            load_grid(write_grid(tmp_path / "g.toml", text)),
            load_scenes("infrared-visible", 1, (60, 80)),
            tmp_path / str(shown),
            device="cpu",
        )
        list(study.run())
        html = next(p for p in write_reports(study) if p.suffix == ".html").read_text(encoding="utf-8")
        assert html.count("lost blue, invented red") >= shown
        pictures = html.count("data:image/webp;base64,")
        assert pictures == 2 + 2 + shown  # sources, results, maps; each once


def test_many_large_pictures_make_a_small_report(tmp_path, monkeypatch):
    text = '[base]\nbackbone = "identity"\n[grid]\nprior = ["laplacian", "average", "max"]\n[report]\nmetrics = ["EN"]\nattribution = "none"\n'
    study = Study(
        load_grid(write_grid(tmp_path / "g.toml", text)),
        load_scenes("infrared-visible", 3, (120, 160)),
        tmp_path / "out",
        device="cpu",
    )
    list(study.run())
    sizes = {}
    for most in (3_000_000, 60_000):
        monkeypatch.setattr("fusionkit.ablation.report.MOST_BYTES", most)
        html = next(p for p in write_reports(study) if p.suffix == ".html").read_text(encoding="utf-8")
        pictures = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", html)
        sizes[most] = sum(map(len, pictures)) * 3 / 4
        assert len(pictures) == 3 * 5
        assert ("WebP of quality" in html) == (most == 60_000)
    assert sizes[60_000] <= 60_100 < sizes[3_000_000]


def test_sizes_that_no_cell_can_take_are_said_before_the_first_runs(tmp_path):
    for folder, size in (("ir", (20, 30)), ("vis", (24, 36))):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png", np.full((*size, 1), 0.5, np.float32), "8")
    grid = tmp_path / "grid.toml"
    text = '[data]\npairs = ["ir", "vis"]\n[base]\nbackbone = "identity"\n{}[grid]\nprior = ["average", "max"]\n'
    grid.write_text(text.format(""))
    command = ("ablate", grid, "-o", tmp_path / "out", "--pairs", tmp_path / "ir", tmp_path / "vis")
    done = run_cli(*command)
    assert done.returncode == 2, done.stdout
    assert (
        'a.png is 36x24; sources must be registered and of one size; resize = "reference" under [base]' in done.stderr
    )
    assert not list((tmp_path / "out").glob("**/*.png"))
    grid.write_text(text.format('resize = "reference"\n') + '[report]\nmetrics = ["EN", "audit.outside"]\n')
    assert run_cli(*command).returncode == 0, "the report shows maps over the resized sources"


class TestVotes:
    """A study made of an ablation's folder, and what its votes say in the report."""

    @pytest.fixture
    def voted(self, tmp_path) -> tuple[Study, Path]:
        for seed in range(2):
            for name, image in zip(("ir", "vis"), infrared_visible((48, 64), seed), strict=True):
                write_image(tmp_path / name / f"a scene, {seed}.png", image, "8")
        pairs = [tmp_path / "ir", tmp_path / "vis"]
        grid = CLEAN.replace('prior = ["em_tv"', 'prior = ["average"')
        study = Study(load_grid(write_grid(tmp_path / "g.toml", grid)), load_pairs(pairs), tmp_path / "out")
        assert all(outcome.status == "done" for _, _, outcome in study.run())
        write_reports(study)
        place = study.output / "study"
        ran = run_cli("judge", "make", "--methods", study.output, "--pairs", *pairs, "-o", place)
        assert ran.returncode == 0, ran.stderr
        assert "left out" not in ran.stderr, "the journals of the cells are no lost pictures"
        return study, place

    def test_methods_on_the_sources_as_they_are_take_part(self, voted):
        study, place = voted
        key = open_key(place_of_key(place), open_study(place))
        assert key.methods == ("prior=average, degradation=none", "prior=laplacian, degradation=none")
        for number, sides in key.sheets.items():
            if not sides.check:
                (state,) = (s for s in study.cells if s.cell.label == sides.a)
                wanted = read_image(state.folder / f"{sides.scene}.png").pixels
                shown = read_image(place / f"images/{number}-a.png").pixels
                assert wanted.shape != shown.shape or np.array_equal(wanted, shown)

    def test_the_report_has_what_the_votes_say_and_is_written_anew_after_more(self, voted):
        study, place = voted
        written = {path.name: path for path in write_reports(study)}
        (votes,) = json.loads(written["results.json"].read_text())["votes"]
        assert "no votes" in votes["reason"]
        assert "no votes" in written["report.html"].read_text()
        key = open_key(place_of_key(place), open_study(place))
        for number, sides in key.sheets.items():
            better = {"A": "B", "B": "A"}.get(sides.check) or ("A" if "laplacian" in sides.a else "B")
            keep_vote(place, Vote(viewer="v", sheet=number, choice=better))
        write_reports(study)
        (votes,) = json.loads(written["results.json"].read_text())["votes"]
        (row,) = votes["compared"]
        assert (row["first"], row["wins"], row["losses"]) == ("prior=average, degradation=none", 0, 2)
        assert [s["method"] for s in votes["strengths"]] == [*key.methods][::-1]
        text = re.sub(r"\s+", " ", written["report.html"].read_text())
        assert "<td>average, degradation=none</td>" in text
        assert "<td>0</td><td>2</td><td>0</td> <td>0 %<small>0 " in text

    def test_votes_on_one_scene_have_no_interval_over_scenes(self, voted):
        study, place = voted
        key = open_key(place_of_key(place), open_study(place))
        number = next(number for number, sides in key.sheets.items() if not sides.check)
        keep_vote(place, Vote(viewer="v", sheet=number, choice="A"))
        report = next(path for path in write_reports(study) if path.suffix == ".html")
        assert re.search(r"</small></td><td>–</td></tr>", report.read_text())

    def test_a_name_twice_is_refused(self, voted):
        study, place = voted
        ran = run_cli(
            *("judge", "make", "--methods", study.output, "--methods", f"b={study.output}"),
            *("--pairs", place.parent.parent / "ir", place.parent.parent / "vis", "-o", place.parent / "other"),
        )
        assert ran.returncode == 2
        assert "twice" in ran.stderr
