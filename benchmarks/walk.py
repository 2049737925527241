"""Walk through the page in Chromium as a surveyor, a photographer and an operator do, at three widths of the window.

Pictures are made by code. Writes a screenshot of each step; says what went wrong. Needs playwright and Chromium.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from playwright.sync_api import Page, expect, sync_playwright

from fusionkit.scenes import infrared_visible, multi_exposure, multi_focus
from fusionkit.writing import write_image

WIDTHS = {390: 844, 1280: 900, 2560: 1440}
VIEW = 0.7  # of the thermal camera, in units of the visible one's
SOON = 60_000  # milliseconds that a step may take


def made(folder: Path) -> None:
    """A drone's folder, a folder of brackets, a stack of frames."""
    for number in range(1, 5):
        infrared, visible = infrared_visible((900, 1200), seed=number)
        height, width = (round(VIEW * side) for side in visible.shape[:2])
        top, left = (900 - height) // 2 + 6, (1200 - width) // 2 - 9
        inner = torch.from_numpy(infrared[top : top + height, left : left + width]).float().movedim(-1, 0)[None]
        small = F.interpolate(inner, (512, 640), mode="bilinear", antialias=True)[0].movedim(0, -1).numpy()
        counts = np.clip(27000 + 2500 * small, 0, 65535) / 65535
        write_image(ready(folder / f"drone/DJI_{number:04}_T.tiff"), counts.astype(np.float32), "16")
        write_image(ready(folder / f"drone/DJI_{number:04}_V.jpg"), visible.astype(np.float32), "8")
    for number in range(2):
        for k, image in enumerate(multi_exposure((800, 1200), seed=number)):
            moved = np.roll(image, (2 * k, -3 * k), (0, 1)).astype(np.float32)
            write_image(ready(folder / f"brackets/IMG_{2 * number + k + 1:04}.jpg"), moved, "8")
    near, far = multi_focus((700, 1000))
    for k in range(12):
        ramp = np.clip(np.linspace(-k, 12 - k, 1000), 0, 1)[None, :, None]
        write_image(
            ready(folder / f"stack/STK_{k + 1:02}.jpg"), (near * ramp + far * (1 - ramp)).astype(np.float32), "8"
        )


def ready(path: Path) -> Path:
    """The path, in a folder that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def server() -> Iterator[str]:
    """Address of `fusionkit serve`."""
    started = subprocess.Popen(
        [sys.executable, "-m", "fusionkit", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    try:
        yield started.stdout.readline().strip()
    finally:
        started.terminate()
        started.wait()


class Walk:
    """One way through the page: steps with a screenshot each."""

    def __init__(self, page: Page, name: str, out: Path, folder: Path) -> None:
        self.page, self.name, self.out, self.folder, self.steps = page, name, out, folder, 0

    def bring(self, *files: str) -> None:
        """Open files."""
        self.page.set_input_files("#files", [str(self.folder / file) for file in files])

    def bring_folder(self, name: str) -> None:
        """Open a folder."""
        self.page.set_input_files("#folder", str(self.folder / name))

    def done(self, count: int = 1) -> None:
        """Wait until so many results are there."""
        expect(self.page.locator(".method[data-done]")).to_have_count(count, timeout=SOON)

    def field(self, name: str) -> Any:
        """The input of an option."""
        return self.page.locator(".method .fields label", has_text=name).locator("select, input").first

    def show(self, what: str, whole: bool = False) -> None:
        """Take a screenshot; nothing may be wider than the window."""
        self.steps += 1
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width, f"{what}: wider than {width} px"
        self.page.screenshot(path=self.out / f"{self.name}_{width}_{self.steps}_{what}.png", full_page=whole)


def survey(walk: Walk) -> None:
    """One folder of thermal and visible pictures, of another size and field of view."""
    walk.show("empty")
    walk.bring_folder("drone")
    expect(walk.page.locator(".method .instead")).to_be_visible(timeout=SOON)
    walk.show("sizes")
    walk.page.locator(".method .instead button", has_text="Align").click()
    walk.done()
    walk.show("aligned", whole=True)
    for what in ("squares", "blink"):
        walk.page.select_option(".method .shown", what)
        expect(walk.page.locator(".method .which")).not_to_be_empty(timeout=SOON)
        walk.show(what)
    walk.page.click("#next")
    expect(walk.page.locator("#sources .name").first).to_contain_text("DJI_0002", timeout=SOON)
    walk.done()
    with walk.page.expect_download(timeout=SOON) as first:
        walk.page.click("#all")
    assert first.value.suggested_filename.endswith("-fused.jpg") or first.value.suggested_filename.endswith(
        "-fused.png"
    )
    walk.show("fusing_all")
    expect(walk.page.locator("#review tbody tr")).to_have_count(4, timeout=4 * SOON)
    expect(walk.page.locator("#jobs")).to_be_hidden(timeout=SOON)
    walk.show("all_fused")


def photograph(walk: Walk) -> None:
    """Brackets of two in one folder, then a stack of twelve frames."""
    walk.bring_folder("brackets")
    walk.done()
    walk.show("one_scene")
    walk.page.click("#matched")
    walk.page.fill("#group", "2")
    walk.page.press("#group", "Enter")
    expect(walk.page.locator("#pair option")).to_have_count(2, timeout=SOON)
    walk.done()
    walk.field("align").select_option("affine")
    walk.done()
    walk.show("bracket", whole=True)
    walk.bring_folder("stack")
    expect(walk.page.locator("#sources .panel")).to_have_count(12, timeout=SOON)
    walk.done()
    walk.show("stack")


def operate(walk: Walk) -> None:
    """A sample, another method, metrics, a slow method that is cancelled, a wrong file, a reload."""
    walk.page.locator("#samples button").first.click()
    walk.done()
    walk.page.click("#add")
    walk.done(2)
    for number in (1, 2):
        walk.page.locator(".method .metrics summary").nth(number - 1).click()
        expect(walk.page.locator(".method").nth(number - 1).locator(".metrics tr").first).to_be_visible(timeout=SOON)
    walk.page.fill("#split", "50")
    walk.page.dispatch_event("#split", "input")
    walk.page.locator(".method .picture").first.hover()
    walk.show("compared", whole=True)
    walk.page.locator(".method .choice").first.select_option("prior:ddfm")
    expect(walk.page.locator("#going")).to_contain_text("%", timeout=SOON)
    walk.show("progress")
    walk.page.click("#stop")
    expect(walk.page.locator(".method .said").first).to_have_text("cancelled", timeout=SOON)
    walk.show("cancelled")
    (walk.folder / "bad.png").write_bytes(b"no picture")
    walk.page.locator(".method .choice").first.select_option("")
    walk.bring("bad.png", "drone/DJI_0001_V.jpg")
    expect(walk.page.locator("#status.failed")).to_contain_text("bad.png", timeout=SOON)
    walk.show("wrong_file")
    walk.page.reload()
    walk.done(2)
    walk.show("reloaded")


WAYS: tuple[Callable[[Walk], None], ...] = survey, photograph, operate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("walk"), help="folder of the screenshots")
    parser.add_argument("--widths", type=int, nargs="*", default=list(WIDTHS))
    parser.add_argument("--ways", nargs="*", default=[way.__name__ for way in WAYS])
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.out / "pictures"
    if not folder.exists():
        made(folder)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with server() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for width in arguments.widths:
            for way in WAYS:
                if way.__name__ not in arguments.ways:
                    continue
                page = browser.new_page(
                    viewport={"width": width, "height": WIDTHS.get(width, 900)},
                    color_scheme="dark" if arguments.dark else "light",
                )
                problems: list[str] = []
                page.on("pageerror", lambda error, kept=problems: kept.append(str(error)))
                page.goto(address)
                page.wait_for_selector("body[data-ready]")
                began, walk = time.monotonic(), Walk(page, way.__name__, arguments.out, folder)
                try:
                    way(walk)
                except Exception as error:
                    problems.append(" ".join(str(error).split())[:300])
                    page.screenshot(path=arguments.out / f"{way.__name__}_{width}_broken.png")
                said = "; ".join(problems) or f"{walk.steps} steps"
                print(f"{way.__name__} at {width} px, {time.monotonic() - began:.0f} s: {said}", flush=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
