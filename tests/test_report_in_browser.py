"""The ablation's report in a real browser. Skipped where playwright or Chromium is missing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import needs_chromium, opened
from fusionkit.ablation import Study, load_grid, load_scenes
from fusionkit.ablation.report import write_reports
from fusionkit.reading import read_image

pytestmark = needs_chromium

GRID = """
[base]
backbone = "identity"
[grid]
prior = ["laplacian", "average", "max"]
[report]
metrics = ["EN", "SSIM", "MSE"]
images = 2
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("report")
    (folder / "grid.toml").write_text(GRID)
    cases = load_scenes("infrared-visible", 2, (60, 80))
    study = Study(load_grid(folder / "grid.toml"), cases, folder / "out", device="cpu")
    list(study.run())
    write_reports(study)
    return study


@pytest.fixture(scope="module")
def page(study) -> Iterator[Any]:
    """The report, opened offline; `page.problems` are errors and requests that left the file."""
    with opened((study.output / "report.html").as_uri(), "file:", "data:", offline=True) as page:
        page.wait_for_function("document.getElementById('difference-value').textContent !== ''")
        yield page


def plain(name: str) -> str:
    """A cell as the report calls it: `average` and `max` are baselines, too."""
    return name if name in ("prior=average", "prior=max") else name.replace("prior=", "")


def test_nothing_goes_wrong_and_nothing_is_fetched(page):
    assert page.problems == []


def test_the_table_is_ranked_marked_and_sortable(page, study):
    def shown() -> list[str]:
        return page.locator("#table tbody tr td:first-child").all_inner_texts()

    def names() -> list[str]:
        return [text.removesuffix(" †") for text in shown()]

    evaluation = study.evaluation()
    full = {plain(name): name for name in evaluation.mean_ranks()}
    ranks = {plain(name): rank for name, rank in evaluation.mean_ranks().items()}
    weak = {plain(name) for name in evaluation.no_better_than_a_source()}
    assert {text.removesuffix(" †") for text in shown() if text.endswith(" †")} == weak
    assert sorted(names()) == sorted(ranks)
    assert [ranks[name] for name in names()] == sorted(ranks.values())
    assert page.locator("#table td.best").count() >= 4
    page.get_by_role("button", name=re.compile("MSE")).click()
    means = [evaluation.mean(full[name], "MSE") for name in names()]
    assert means == sorted(means)


def test_the_plot_has_a_point_for_each_cell(page):
    assert page.locator("#pareto circle").count() == 3
    page.select_option("#quality", label="EN")
    assert "EN, higher is better" in page.locator("#pareto").text_content()


def test_zooming_one_image_zooms_all(page):
    view = page.locator("#grid .view").first
    view.scroll_into_view_if_needed()
    view.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -600)
    page.keyboard.up("Control")
    page.locator("#grid img[style*='scale(4']").first.wait_for()
    transforms = page.evaluate("[...document.querySelectorAll('.view img, .view canvas')].map(e => e.style.transform)")
    assert len(transforms) == 2 + 3 + 2 + 3
    assert len(set(transforms)) == 1
    view.dblclick()
    page.locator("#grid img[style*='scale(1)']").first.wait_for()
    page.get_by_role("button", name="zoom in").click()
    page.locator("#grid img[style*='scale(1.5)']").first.wait_for()
    page.get_by_role("button", name="whole").click()
    page.locator("#grid img[style*='scale(1)']").first.wait_for()


def test_the_wheel_scrolls_the_page_over_pictures(page):
    page.evaluate("window.scrollTo(0, 0)")
    view = page.locator("#grid .view").first
    view.scroll_into_view_if_needed()
    view.hover()
    before = page.evaluate("window.scrollY")
    page.mouse.wheel(0, 150 if before < 100 else -150)
    page.wait_for_timeout(400)
    assert page.evaluate("window.scrollY") != before
    assert "scale(1)" in page.evaluate("document.querySelector('#grid img').style.transform")


def test_before_and_after_opens_on_the_two_best(page, study):
    ranks = study.evaluation().mean_ranks()
    best = sorted((s.cell.label for s in study.cells if not s.cell.removed), key=ranks.__getitem__)[:2]
    shown = page.evaluate("['right', 'left'].map(id => document.getElementById(id).selectedOptions[0].textContent)")
    assert shown == [plain(name) for name in best]


def test_the_slider_moves_the_edge_and_the_difference_is_that_of_the_files(page, study):
    page.locator("#slider").fill("20")
    assert "20%" in page.locator("#over").get_attribute("style")
    page.select_option("#left", label="laplacian")
    page.select_option("#right", label="prior=max")
    states = {s.cell.label: s for s in study.cells}
    a, b = (255 * read_image(study.image(states[f"prior={n}"], study.cases[0])).pixels for n in ("laplacian", "max"))
    mean, largest = np.abs(a - b).mean(), round(float(np.abs(a - b).max()))
    expected = f"mean {mean:.3f}, largest {largest} grey levels"
    page.wait_for_function(f"document.getElementById('difference-value').textContent === {json.dumps(expected)}")


def test_another_pair_shows_other_images(page):
    before = page.locator("#grid img").first.get_attribute("src")
    page.select_option("#pair", index=1)
    assert page.locator("#grid img").first.get_attribute("src") != before


def test_it_fits_a_phone(page, tmp_path: Path):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_metrics_can_be_chosen(page):
    page.click("#choose summary")
    heads = page.locator("#table thead th")
    before = heads.count()
    box = page.locator("#choose label", has_text="MSE").locator("input")
    box.uncheck()
    assert heads.count() == before - 1
    assert not any("MSE" in text for text in heads.all_inner_texts())
    box.check()
    assert heads.count() == before
