"""Folders before, while and after they are fused: dry runs, the first few, the review, and the same from Python."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence
from skimage import data

import fusionkit
from fusionkit.batch.options import REVIEWED
from fusionkit.errors import FusionkitError, NoEffect, OptionError, OutputError
from fusionkit.reading import header_size
from harness import run_cli

CAMERA = data.camera()
FAST = ("--prior", "average", "--backbone", "identity")


@pytest.fixture
def folders(tmp_path):
    """Pair `0` is fine, pair `1` shifted, pair `2` of two sizes; `alone` has no partner."""
    a, b = tmp_path / "ir", tmp_path / "vis"
    a.mkdir()
    b.mkdir()
    for folder, name, top, left in ((a, 0, 20, 40), (b, 0, 20, 40), (a, 1, 20, 40), (b, 1, 11, 28), (a, 2, 9, 9)):
        Image.fromarray(CAMERA[top : top + 256, left : left + 320]).save(folder / f"{name}.png")
    Image.fromarray(CAMERA[:99, :98]).save(b / "2.png")
    shutil.copy(a / "0.png", a / "alone.png")
    return a, b


def pipeline(**choices):
    return fusionkit.Pipeline(prior="average", backbone="identity", device="cpu", **choices)


class TestCommand:
    def test_a_dry_run_says_what_would_be_done_and_writes_nothing(self, folders, tmp_path):
        out = tmp_path / "out"
        done = run_cli("run", *FAST, "--pairs", *folders, "-o", out, "--dry-run")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == f"0: {folders[0]}/0.png 320x256, {folders[1]}/0.png 320x256 -> {out}/0.png"
        assert lines[2].endswith("2.png 98x99 -> " + f"{out}/2.png (sizes differ)")
        assert lines[-1].startswith(f"{out}: 3 would be fused, 1 files without a partner; ")
        assert lines[-1].endswith("(as the first pair shows); nothing was written")
        assert "without a partner: " in done.stderr
        assert not out.exists()
        stated = run_cli("run", "--task", "mff", "--pairs", *folders, "-o", out, "--dry-run", "--limit", "1", "--json")
        [row] = map(json.loads, stated.stdout.splitlines())
        assert (row["key"], row["status"], row["sizes"]) == ("0", "planned", [[320, 256]] * 2)

    def test_the_first_pairs_are_those_of_the_whole_run(self, tmp_path):
        rng = np.random.default_rng(0)
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            for i in range(3):  # each pair has a range of its own
                values = rng.integers(7000, 7400 + 300 * i, (64, 64)).astype(np.uint16)
                tifffile.imwrite(tmp_path / folder / f"{i}.tif", values)
        command = ("run", *FAST, "--restore", "none", "--pairs", "a", "b", "--ext", "tif")
        assert run_cli(*command, "-o", "few", "--limit", "1", cwd=tmp_path).returncode == 0
        assert run_cli(*command, "-o", "all", cwd=tmp_path).returncode == 0
        assert [p.name for p in (tmp_path / "few").glob("*.tif")] == ["0.tif"]
        assert (tmp_path / "few" / "0.tif").read_bytes() == (tmp_path / "all" / "0.tif").read_bytes()
        assert "2 fused, 1 finished before" in run_cli(*command, "-o", "few", cwd=tmp_path).stdout
        assert (tmp_path / "few" / "2.tif").read_bytes() == (tmp_path / "all" / "2.tif").read_bytes()

    @pytest.mark.parametrize("option", [("--limit", "3"), ("--dry-run",), ("--review", "r.html")])
    def test_single_results_refuse_them_in_one_line(self, pair_files, tmp_path, option):
        done = run_cli("run", *FAST, *pair_files, "-o", tmp_path / "a.png", *option)
        assert done.returncode == 2
        assert "has no effect on a single result; it is read with --pairs or --group" in done.stderr
        assert not (tmp_path / "a.png").exists()


class TestReview:
    def test_failed_pairs_come_first_then_doubtful_ones_also_after_a_resumed_run(self, folders, tmp_path):
        page, place = tmp_path / "review.html", tmp_path / "out"
        method = pipeline()
        for status in ("done", "skipped"):
            with pytest.warns(fusionkit.FusionWarning, match="1 of 3 failed|without a partner"):
                outcomes = method.fuse_folder(*folders, output=place, review=page)
            assert [o.status for o in outcomes] == [status, status, "failed"]
            text = page.read_text()
            assert re.findall(r"<h2 class=\"(\w*)\">(\w+)</h2>", text) == [("failed", "2"), ("doubt", "1"), ("", "0")]
            assert text.count("data:image/jpeg;base64,") == 2 + 3 + 3 + 1
            assert text.count("data:image/webp;base64,") == 1
            assert "ir/1.png looks 15 px off vis/1.png" in text
            assert len(text) < 12_000 * 11

    def test_how_sources_lie_is_seen_and_the_least_sure_come_first(self, folders, tmp_path):
        (folders[0] / "2.png").unlink()
        rng = np.random.default_rng(0)
        noisy = np.clip(CAMERA[20:276, 40:360] + rng.normal(0, 70, (256, 320)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folders[0] / "0.png")
        page = tmp_path / "review.html"
        with pytest.warns(fusionkit.FusionWarning, match="without a partner"):
            pipeline(align="translation").fuse_folder(*folders, output=tmp_path / "out", review=page)
        text = page.read_text()
        assert re.findall(r"<h2 class=\"\">(\w+)</h2>", text) == ["0", "1"]
        shown = dict(re.findall(r'src="data:image/(?:jpeg|webp);base64,([^"]+)" alt="1.png aligned: (\w+)"', text))
        board, blink = (Image.open(io.BytesIO(base64.b64decode(uri))) for uri in shown)
        assert list(shown.values()) == ["checkerboard", "blink"]
        reference, moved = (np.asarray(f.convert("L"), np.float32) for f in ImageSequence.Iterator(blink))
        inner = np.s_[20:-20, 20:-20]  # the source was 9 and 12 pixels off
        assert np.abs(reference - moved)[inner].mean() < 4
        assert np.abs(np.asarray(board.convert("L"), np.float32) - reference)[inner].mean() < 4
        assert "0.png as it lies: blink" in text

    def test_a_page_of_somebody_else_is_kept(self, folders, tmp_path):
        (tmp_path / "mine.html").write_text("<p>mine")
        with pytest.raises(OutputError, match=r"mine\.html: exists already"):
            pipeline().fuse_folder(*folders, output=tmp_path / "out", review=tmp_path / "mine.html")
        with pytest.raises(OutputError, match=r"name it \.html"):
            pipeline().fuse_folder(*folders, output=tmp_path / "out", review=tmp_path / "mine.txt")
        assert (tmp_path / "mine.html").read_text() == "<p>mine"
        assert not (tmp_path / "out").exists()

    def test_names_are_no_markup_and_the_number_of_pairs_is_bounded(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            for i in range(REVIEWED + 1):
                Image.fromarray(CAMERA[:12, :12]).save(tmp_path / folder / f"<b>{i}.png")
        few = pipeline(restore="none", align="none")
        few.fuse_folder(tmp_path / "a", tmp_path / "b", output=tmp_path / "out", review=tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text()
        assert text.count("<section>") == REVIEWED
        assert f"The {REVIEWED} most doubtful are shown" in text
        assert "<b>" not in text


class TestPython:
    def test_files_without_a_partner_are_one_warning(self, folders, tmp_path):
        for i in range(12):
            Image.fromarray(CAMERA[:32, :32]).save(folders[0] / f"alone{i:02}.png")
        with pytest.warns(fusionkit.FusionWarning, match=r"^without a partner: .*alone00.* and \d+ more$"):
            pipeline(align="none").fuse_folder(*folders, output=tmp_path / "out", limit=1)

    def test_progress_is_told_and_options_reach_the_files(self, folders, tmp_path):
        told = []
        with pytest.warns(fusionkit.FusionWarning) as caught:
            outcomes = pipeline().fuse_folder(
                *folders,
                output=tmp_path / "out",
                ext="tif",
                limit=2,
                files={"depth": "16"},
                progress=lambda done, number, outcome: told.append((done, number, outcome.key)),
            )
        assert told == [(1, 2, "0"), (2, 2, "1")]
        assert {w.filename for w in caught} == {__file__}
        assert tifffile.imread(outcomes[0].output).dtype == np.uint16

    def test_what_nothing_reads_is_refused(self, folders, tmp_path):
        with pytest.raises(OptionError, match="did you mean 'depth'"):
            pipeline().fuse_folder(*folders, output=tmp_path / "out", files={"depht": "16"})
        with pytest.raises(NoEffect, match=r"`quality=80` has no effect on \.png files"):
            pipeline().fuse_folder(*folders, output=tmp_path / "out", files={"quality": 80})
        (tmp_path / "empty").mkdir()
        with pytest.raises(FusionkitError, match="no "):
            pipeline().fuse_folder(folders[0], tmp_path / "empty", output=tmp_path / "out")


def test_a_size_from_a_header_is_that_of_the_upright_picture(tmp_path):
    image = Image.fromarray(CAMERA[:20, :30])
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert header_size(tmp_path / "a.jpg") == fusionkit.read_image(tmp_path / "a.jpg").size == (20, 30)
