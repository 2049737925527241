"""The order of methods, and the table of means in LaTeX, Markdown and CSV."""

import csv
import io
import math
import shutil
import subprocess

import numpy as np
import pytest
import torch

from fusionkit.contracts import Metric
from fusionkit.images.accept import as_picture
from fusionkit.scenes import multi_focus
from fusionkit.scoring.evaluation import Evaluation, kind_of
from fusionkit.scoring.metrics import load_metrics
from fusionkit.scoring.table import RENDERINGS, latex, markdown, spreadsheet, table_of


def metric(definition="a number of the result", **facts):
    def measure(self, fused, sources):
        return torch.zeros(len(fused))

    return type("Made", (Metric,), {"definition": definition, "__call__": measure, **facts})()


def make(values, metrics, **more):
    return Evaluation(["p", "q"], metrics, {m: {k: list(v) for k, v in t.items()} for m, t in values.items()}, **more)


@pytest.fixture
def evaluation():
    """Two methods and a baseline, of which `hot` is best where it is nearest to 1; `rims` is for exposures."""
    metrics = {
        "SSIM": metric("x² of S_1 & S_2, 50 %"),
        "audit.hot": metric(ideal=1.0, scenes=("heat",)),
        "audit.rims": metric(higher_is_better=False, scenes=("exposure",)),
    }
    values = {
        "a_1": {"SSIM": (0.5, 0.7), "audit.hot": (1.7, 1.74), "audit.rims": (0.0, 0.0)},
        "b|2": {"SSIM": (0.4, 0.6), "audit.hot": (0.9, 0.92), "audit.rims": (1.0, 1.0)},
        "average": {"SSIM": (0.2, 0.4), "audit.hot": (-0.5, 0.1), "audit.rims": (2.0, 2.0)},
    }
    return make(values, metrics, baselines={"average"}, scene="heat")


class TestOrder:
    def test_nearest_to_the_ideal_is_best(self, evaluation):
        assert evaluation.places("audit.hot") == {"b|2": 1, "a_1": 2}
        assert evaluation.mean_ranks() == {"a_1": 1.5, "b|2": 1.5, "average": 3.0}

    def test_metrics_of_other_scenes_are_neither_ranked_nor_shown(self, evaluation):
        assert evaluation.ranked() == ["SSIM", "audit.hot"]
        assert evaluation.places("audit.rims") == {}
        table = table_of(evaluation)
        assert [column.name for column in table.columns] == ["SSIM", "hot"]
        assert "Not in the table, since made for other kinds of scene: rims." in table.notes
        record = evaluation.record()["metrics"]
        assert [m["ranked"] for m in record.values()] == [True, True, False]
        assert [m["better"] for m in record.values()] == ["↑", "→1", "↓"]

    def test_what_prints_equal_shares_its_place_and_nobody_is_best_of_equals(self):
        values = {"a": {"m": (0.50001, 0.5)}, "b": {"m": (0.5, 0.5)}, "c": {"m": (0.4, 0.4)}}
        assert make(values, {"m": metric()}).places("m") == {"a": 1, "b": 1, "c": 2}
        del values["c"]
        assert make(values, {"m": metric()}).places("m") == {}

    def test_methods_are_compared_with_those_of_their_input_alone(self):
        values = {"a": {"m": (3, 3)}, "b": {"m": (2, 2)}, "a, noisy": {"m": (1, 1.5)}, "b, noisy": {"m": (1.6, 1.2)}}
        found = make(values, {"m": metric()}, inputs={"a, noisy": "noise", "b, noisy": "noise"})
        assert found.mean_ranks() == {"a": 1.0, "b": 2.0, "a, noisy": 2.0, "b, noisy": 1.0}
        assert found.places("m") == {"a": 1, "b": 2, "b, noisy": 1, "a, noisy": 2}
        assert set(found.tests("a")) == {"b"}
        assert [title for title, _ in table_of(found).groups] == ["sources as they are", "sources with noise"]

    def test_without_a_ranked_metric_there_is_no_rank(self):
        found = make({"a": {"m": (math.nan, math.nan)}}, {"m": metric()})
        assert math.isnan(found.mean_ranks()["a"])
        assert table_of(found).groups[0][1][0].rank == "-"

    def test_the_kind_of_scene_is_asked_where_a_metric_is_made_for_some(self):
        pictures = [as_picture(image.astype(np.float32), "") for image in multi_focus((96, 128))]
        read = lambda: pictures  # noqa: E731
        assert kind_of([read] * 9, load_metrics(["audit"], None)) == "focus"
        assert kind_of([], load_metrics(["SSIM"], None)) == ""


def test_the_audit_wishes_for_one_where_more_is_a_fault():
    audit = load_metrics(["audit"], None)
    ones = {name for name, one in audit.items() if one.ideal == 1}
    assert ones == {f"audit.{n}" for n in ("hot", "polarity", "kept_others", "kept_reference", "chroma", "rescued")}
    assert audit["audit.hot"].merit(1.72) < audit["audit.hot"].merit(0.9)


class TestRenderings:
    def test_latex_marks_and_escapes(self, evaluation):
        text = latex(table_of(evaluation))
        assert r"a\_1 & 1.50 & \textbf{0.6000} & \underline{1.720} \\" in text
        assert r"{\scriptsize 0.500, 0.700}" in text
        assert r"\textit{average}" in text
        assert r"x$^2$ of S\_1 \& S\_2, 50 \%" in text
        assert r"hot $\to$1" in text
        assert r"\underline{$-$" not in text
        assert "{\\scriptsize $-$0.50, 0.10}" in text
        assert all(text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") for name in ("table*", "tabular"))

    def test_latex_is_set_by_latex(self, evaluation, tmp_path):
        if shutil.which("pdflatex") is None:
            pytest.skip("no pdflatex")
        evaluation.values['[x] ~^\\{}#$%&_<>"'] = evaluation.values["a_1"]
        text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}\n"
        (tmp_path / "t.tex").write_text(text % latex(table_of(evaluation)), encoding="utf-8")
        command = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        if "booktabs.sty' not found" in done.stdout:
            pytest.skip("no booktabs")
        assert done.returncode == 0, done.stdout[-2000:]

    def test_many_metrics_are_set_below_each_other(self):
        names = [f"m{i}" for i in range(13)]
        found = make(
            {"a": dict.fromkeys(names, (1, 2)), "b": dict.fromkeys(names, (2, 3))}, dict.fromkeys(names, metric())
        )
        text = latex(table_of(found))
        assert text.count(r"\begin{tabular}") == 2
        assert all(f" {name} $" in text for name in names)

    def test_markdown_marks_and_escapes(self, evaluation):
        text = markdown(table_of(evaluation))
        assert r"| a\_1 | 1.50 | **0.6000**<br><small>0.500, 0.700</small> | <ins>1.720</ins>" in text
        assert r"| b\|2 |" in text
        assert "| *average* |" in text
        assert "- SSIM: x² of S\\_1 & S\\_2, 50 %" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1

    def test_csv_is_a_row_for_each_method(self, evaluation):
        rows = list(csv.DictReader(io.StringIO(spreadsheet(table_of(evaluation)))))
        assert [row["method"] for row in rows] == ["a_1", "b|2", "average"]
        first = rows[0]
        assert (float(first["SSIM"]), float(first["SSIM low"]), first["SSIM place"]) == (0.6, 0.5, "1")
        assert (first["rank"], first["baseline"], rows[2]["baseline"]) == ("1.50", "no", "yes")

    def test_the_dialect_is_said(self):
        found = make({"a": {"vifb.SSIM": (1, 2)}, "b": {"vifb.SSIM": (2, 3)}}, {"vifb.SSIM": metric()})
        assert all("Dialect vifb: all metrics." in RENDERINGS[kind](table_of(found)) for kind in (".tex", ".md"))
        assert "Dialect vifb: all metrics." in table_of(found).notes[:-1], "the terminal leaves out the last note"
