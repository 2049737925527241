"""The live page in a real browser. Skipped where playwright or Chromium is missing."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from browser import TOKEN, expect, needs_chromium, opened, served

pytest.importorskip("uvicorn", reason="the page needs the extra serve")
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import infrared_visible
from fusionkit.server.app import make_app
from fusionkit.writing import write_image

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(make_app(TOKEN, frozenset({"127.0.0.1"}), device="cpu")) as place:
        yield place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(2):
        for name, image in zip(("ir", "vis"), infrared_visible((90, 120), seed=seed), strict=True):
            (folder / name).mkdir(exist_ok=True)
            write_image(folder / name / f"{seed}.png", image.astype(np.float32), "8")
    return folder


@pytest.fixture
def page(address) -> Iterator[Any]:
    """The page; `page.problems` are errors, and requests that leave this machine."""
    with opened(address, address, "blob:") as page:
        page.wait_for_selector("body[data-ready]")
        yield page


def drop(page, *files):
    page.set_input_files("#files", [str(file) for file in files])
    page.wait_for_selector(".method[data-done]")


def shown(page, selector):
    """Mean of the red channel of a canvas."""
    return page.evaluate(
        """s => { const c = document.querySelector(s), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let t = 0; for (let i = 0; i < d.length; i += 4) t += d[i]; return t * 4 / d.length; }""",
        selector,
    )


def test_two_files_become_a_picture_that_can_be_inspected(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    assert "infrared and visible" in page.inner_text("#status")
    assert page.locator("#sources .panel").count() == 2
    page.hover(".method .picture")
    assert page.locator("#values tr").count() == 3
    whole = shown(page, ".method .picture")
    page.fill("#split", "100")
    page.dispatch_event("#split", "input")
    assert shown(page, ".method .picture") == pytest.approx(shown(page, "#sources .panel .picture"), abs=2)
    page.fill("#split", "0")
    page.dispatch_event("#split", "input")
    assert shown(page, ".method .picture") == pytest.approx(whole, abs=1e-6)
    with page.expect_response(lambda response: response.url.endswith("trusted")):
        page.select_option(".method .shown", "trusted")
    page.wait_for_timeout(300)
    assert shown(page, ".method .picture") != pytest.approx(whole, abs=0.5)
    assert page.problems == []


def test_methods_stand_side_by_side_up_to_four_with_metrics(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    for _ in range(3):
        page.click("#add")
    assert page.is_disabled("#add")
    expect(page.locator(".method[data-done]")).to_have_count(4, timeout=20_000)
    for number in (1, 2):
        page.click(f".method:nth-child({number}) .metrics summary")
        page.wait_for_selector(f".method:nth-child({number}) .metrics tr")
    assert page.locator(".method td.best").count() > 3
    page.click(".method:nth-child(4) .remove")
    assert page.locator(".method").count() == 3
    assert page.problems == []


def test_options_come_from_the_models_and_a_wrong_one_is_explained(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.select_option(".method .choice", "prior:laplacian")
    expect(page.locator(".method .said")).to_have_text(re.compile(r" s$"))
    page.click(".method .options summary")
    field = page.locator(".method .fields label", has_text="selectivity").locator("input")
    field.fill("2")
    field.dispatch_event("change")
    page.click(".method .copy[data-what=command]")
    page.wait_for_selector(".method .recipe:not([hidden])")
    recipe = page.inner_text(".method .recipe")
    assert "--prior laplacian" in recipe
    assert "selectivity=2" in recipe
    field.fill("-1")
    field.dispatch_event("change")
    expect(page.locator(".method .instead")).to_contain_text("selectivity")


def test_a_folder_of_pairs_is_matched_by_name(page, folder):
    page.set_input_files("#folder", str(folder))
    page.wait_for_selector(".method[data-done]")
    assert page.locator("#pair option").all_inner_texts() == ["0", "1"]
    page.select_option("#pair", "1")
    expect(page.locator("#sources .about").first).to_contain_text("120×90")
    assert page.problems == []


def test_keys_zoom_and_move_all_pictures_and_the_wheel_scrolls(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.focus(".method .picture")
    page.keyboard.press("+")
    assert page.inner_text("#zoom") == "1.5×"
    before = shown(page, "#sources .panel .picture")
    page.keyboard.press("ArrowRight")
    assert shown(page, "#sources .panel .picture") != before
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == "fit"
    page.hover(".method .picture")
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") > 50
    assert page.inner_text("#zoom") == "fit"


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_nothing_is_wider_than_the_window_and_everything_has_a_name(page, folder, width):
    page.set_viewport_size({"width": width, "height": 900})
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.click(".method .options summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, a')].filter((e) => e.offsetParent &&
        !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_what_cannot_be_read_is_said(page, folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.set_input_files("#files", [str(tmp_path / "bad.png"), str(folder / "vis/0.png")])
    expect(page.locator("#status")).to_contain_text("bad.png: ")
    (tmp_path / "notes.npy").write_bytes(b"no picture")
    page.set_input_files("#files", [str(tmp_path / "notes.npy"), str(folder / "vis/0.png")])
    expect(page.locator("#status")).to_contain_text(
        "notes.npy: no picture of a kind that is read here. 0.png is here; two files"
    )
    page.set_input_files("#files", [str(folder / "ir/0.png")])  # some pick one at a time
    page.wait_for_selector(".method[data-done]")


def test_a_slow_method_is_cancelled_at_once(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.select_option(".method .choice", "prior:ddfm")
    page.click(".method .cancel")
    expect(page.locator(".method .said")).to_have_text("cancelled")
    expect(page.locator(".method .picture")).to_be_hidden()  # what was there is of other choices
    assert page.locator(".method .instead button").all_inner_texts() == ["Fuse again"]
    page.select_option(".method .choice", "prior:max")
    expect(page.locator(".method .said")).to_have_text(re.compile(r" s$"))


def test_what_is_cancelled_before_the_queue_knows_it_is_cancelled_too(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    held, submitted = [], lambda route: held.append(route) if route.request.method == "POST" else route.continue_()
    page.route(re.compile("/results$"), submitted)
    page.select_option(".method .choice", "prior:ddfm")
    page.click(".method .cancel")
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.locator(".method .said")).to_have_text("cancelled")


def test_a_picture_keeps_its_shape_and_a_failure_leaves_no_old_one(page, folder, tmp_path):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    box = page.locator(".method .picture").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(120 / 90, rel=0.02)
    image = infrared_visible((50, 70))[1].astype(np.float32)
    write_image(tmp_path / "other.png", image, "8")
    page.set_input_files("#files", [str(tmp_path / "other.png"), str(folder / "vis/0.png")])
    expect(page.locator(".method .instead")).to_contain_text("other.png is 70x50 but 0.png is 120x90")
    expect(page.locator(".method .picture")).to_be_hidden()
    assert page.locator(".method .instead button").all_inner_texts() == ["Resize to 0.png", "Align with 0.png"]
    box = page.locator(".method .instead button").first.bounding_box()
    assert box["y"] + box["height"] < 900
    page.click(".method .instead button")
    page.wait_for_selector(".method[data-done]")
    assert page.locator(".method .asked label", has_text="resize").locator("select").input_value() == "reference"
    assert shown(page, ".method .picture") > 0
    assert page.problems == []


def test_a_sample_of_poor_cameras_comes_out_restored(page):
    page.locator("#samples button", has_text="poor cameras").click()
    page.wait_for_selector(".method[data-done]", timeout=60_000)
    expect(page.locator(".method")).to_contain_text("visible.png: darkness, restored")
    assert page.locator(".method .asked label", has_text="resize").locator("select").input_value() == "reference"


def test_a_sample_is_there_to_try_and_a_reload_keeps_files_and_choices(page):
    page.locator("#samples button", has_text="two exposures").click()
    page.wait_for_selector(".method[data-done]")
    page.locator(".method .asked label", has_text="look").locator("select").select_option("vivid")
    page.click("#add")
    expect(page.locator(".method[data-done]")).to_have_count(2)
    page.reload()
    expect(page.locator(".method[data-done]")).to_have_count(2)
    assert page.locator(".method .asked label", has_text="look").locator("select").first.input_value() == "vivid"
    with page.expect_download() as download:
        page.locator(".method .download").first.click()
    assert download.value.suggested_filename == "under-exposed+over-exposed-fused.png"
    assert page.problems == []


def test_what_is_being_done_is_seen_from_anywhere_and_can_be_cancelled_there(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.select_option(".method .choice", "prior:ddfm")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#going")).to_have_text(
        re.compile(r"ddfm: Fusing: (\d+ %, about \d+ s left|it takes longer than estimated)")
    )
    expect(page.locator("#jobs")).to_be_in_viewport()
    page.click("#stop")
    expect(page.locator(".method .said")).to_have_text("cancelled")
    expect(page.locator("#jobs")).to_be_hidden()


def test_what_cannot_be_read_leaves_what_is_there(page, folder, tmp_path):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.set_input_files("#files", [str(tmp_path / "bad.png"), str(folder / "vis/0.png")])
    expect(page.locator("#status.failed")).to_contain_text("bad.png: ")
    assert "/" not in page.inner_text("#status").partition(":")[0]
    page.select_option(".method .choice", "prior:max")
    expect(page.locator(".method .said")).to_have_text(re.compile(r" s$"))


@pytest.fixture
def held(monkeypatch):
    """Fusions of pictures that are no smaller than their files wait for this event; every job has a preview."""
    go_on, real = threading.Event(), Pipeline.fuse_pictures

    def slow(self, pictures, *args, **how):
        assert pictures[0].size[0] < 800 or go_on.wait(60)
        return real(self, pictures, *args, **how)

    monkeypatch.setattr(Pipeline, "fuse_pictures", slow)
    monkeypatch.setattr("fusionkit.server.work.SOON", 0)
    yield go_on
    go_on.set()


def test_a_preview_is_seen_before_the_full_size_and_may_be_downloaded(page, tmp_path, held):
    for name, image in zip(("ir", "vis"), infrared_visible((500, 800)), strict=True):
        write_image(tmp_path / f"{name}.png", image.astype(np.float32), "8")
    page.set_input_files("#files", [str(tmp_path / "ir.png"), str(tmp_path / "vis.png")])
    expect(page.locator(".method .said")).to_contain_text("Preview at 1/2 size; full size: ")
    width = "document.querySelector('.method .picture').width"
    assert page.evaluate(width) == 400
    assert shown(page, ".method .picture") > 0
    with page.expect_download(timeout=60_000) as download:
        page.click(".method .download")
        expect(page.locator(".method .said")).to_contain_text("; download: ")
        held.set()
    assert download.value.suggested_filename == "ir+vis-fused.png"
    page.wait_for_selector(".method[data-done]")
    assert page.evaluate(width) == 800
    assert page.problems == []


def test_choosing_something_else_meanwhile_is_what_counts(page, folder):
    drop(page, folder / "ir/0.png", folder / "vis/0.png")
    page.select_option(".method .choice", "prior:ddfm")
    expect(page.locator("#going")).to_contain_text("ddfm: Fusing: ")
    page.select_option(".method .choice", "prior:max")
    expect(page.locator(".method .said")).to_have_text(re.compile(r" s$"))
    assert page.problems == []


def test_files_of_one_folder_become_scenes_that_are_all_fused(page, tmp_path):
    for seed in range(3):
        for kind, image in zip("TV", infrared_visible((64, 80), seed=seed), strict=True):
            write_image(tmp_path / f"D_{seed}_{kind}.png", image.astype(np.float32), "8")
    (tmp_path / "D_2_T.png").write_bytes(b"no picture")
    drop(page, *sorted(tmp_path.iterdir()))
    assert page.locator("#pair option").all_inner_texts() == ["0", "1", "2"]
    assert page.input_value("#patterns") == "D_*_T.png D_*_V.png"
    names = []
    page.on("download", lambda download: names.append(download.suggested_filename))
    page.click("#all")
    expect(page.locator("#review summary")).to_have_text("Fused: 1 failed, 2 done")
    assert names == ["0-fused.png", "1-fused.png"]
    assert "D_2_T.png" in page.inner_text("#review tbody tr:first-child")
    page.click("#matched")
    page.fill("#patterns", "*_0_T.png *_0_V.png")
    page.press("#patterns", "Enter")
    expect(page.locator("#matched")).to_have_text("One scene of 2 files, 4 files left out")
    page.fill("#group", "2")
    page.press("#group", "Enter")
    expect(page.locator("#pair option")).to_have_count(3)
    page.locator("#next").click()
    expect(page.locator("#sources .name").first).to_have_text("D_1_T.png")


def test_sources_are_compared_as_they_were_fused(page, tmp_path):
    infrared, visible = infrared_visible((240, 320))
    write_image(tmp_path / "ir.png", infrared[::2, ::2].astype(np.float32), "8")
    write_image(tmp_path / "vis.png", visible.astype(np.float32), "8")
    page.set_input_files("#files", [str(tmp_path / "ir.png"), str(tmp_path / "vis.png")])
    page.locator(".method .instead button", has_text="Resize").click()
    page.wait_for_selector(".method[data-done]")
    page.select_option(".method .shown", "blink")
    means = set()
    for name in ("ir.png", "vis.png"):
        expect(page.locator(".method .which")).to_have_text(name)
        means.add(round(shown(page, ".method .picture")))
    assert len(means) == 2
    page.select_option(".method .shown", "squares")
    expect(page.locator(".method .which")).to_have_text("vis.png and ir.png in turn")
    assert min(means) < shown(page, ".method .picture") < max(means)
    assert page.problems == []
