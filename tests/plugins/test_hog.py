"""The detector hog_people."""

import json

import numpy as np
import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.registry.loading import get_registry
from fusionkit.scoring.detection import consistency_metrics
from fusionkit.writing import write_image
from harness import run_cli


class TestHOG:
    @pytest.fixture(autouse=True)
    def _opencv(self):
        if not hasattr(pytest.importorskip("cv2", exc_type=ImportError), "HOGDescriptor"):
            pytest.skip("OpenCV 5 has no HOG")

    @staticmethod
    def person():
        """A standing figure, drawn: head, trunk, arms, legs on a plain ground, blurred a little."""
        from PIL import Image, ImageDraw, ImageFilter

        picture = Image.new("L", (256, 320), 150)
        draw = ImageDraw.Draw(picture)
        draw.ellipse((112, 60, 144, 96), fill=40)
        draw.rounded_rectangle((100, 98, 156, 180), 14, fill=40)
        draw.polygon([(100, 104), (86, 176), (96, 178), (110, 120)], fill=40)
        draw.polygon([(156, 104), (170, 176), (160, 178), (146, 120)], fill=40)
        draw.polygon([(102, 172), (100, 268), (120, 268), (128, 184)], fill=40)
        draw.polygon([(154, 172), (158, 268), (138, 268), (128, 184)], fill=40)
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)), np.float32)[..., None] / 255

    def test_a_figure_is_found_where_it_stands(self):
        metrics = consistency_metrics("hog_people", get_registry().create("detector", "hog_people", {"threshold": 0.0}))
        x = torch.from_numpy(self.person()).permute(2, 0, 1)[None]
        detector = metrics["hog_people.kept"]._counts.detector
        found = detector(x.expand(1, 3, -1, -1))
        assert len(found) == 1
        left, top, right, bottom = found[0].box
        assert max(left - 100, 156 - right, top - 70, 250 - bottom) < 0
        sources = Sources((x, x), (x, x))
        assert float(metrics["hog_people.F1"](x, sources)) == 1
        flat = torch.full_like(x, 0.5)
        assert float(metrics["hog_people.kept"](flat, sources)) == 0

    def test_the_evaluator_reports_it(self, tmp_path):
        person = self.person()
        for folder, picture in (("a", person), ("b", 1 - person), ("good", person), ("bad", np.full_like(person, 0.5))):
            write_image(tmp_path / folder / "x.png", picture, "8")
        report = tmp_path / "r.json"
        done = run_cli(
            "evaluate",
            "--fused",
            tmp_path / "good",
            "--fused",
            tmp_path / "bad",
            "--pairs",
            tmp_path / "a",
            tmp_path / "b",
            "--metrics",
            "EN",
            "--detector",
            "hog_people",
            "--detector-opt",
            "threshold=0",
            "-o",
            report,
        )
        assert done.returncode == 0, done.stderr
        record = json.loads(report.read_text())
        means = {name: record["methods"][name]["summary"]["hog_people.kept"]["mean"] for name in ("good", "bad")}
        assert means == {"good": 1.0, "bad": 0.0}
        assert "OpenCV" in record["metrics"]["hog_people.F1"]["version"]
