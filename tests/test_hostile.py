"""What must not hang, run, or bring a traceback: odd files, pipes, two processes in one folder, signals; seeded fuzzing.

`FUSIONKIT_FUZZ=5000 pytest tests/test_hostile.py` tries more cases than the tests usually do.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import Job, plan_folders
from fusionkit.batch.run import LOCK, fuse_files, fuse_folders
from fusionkit.errors import FusionkitError, ImageReadError, InputError, OptionError, OutputError, WeightsError
from fusionkit.memory import free_memory
from fusionkit.method.config import PipelineConfig, make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import load_preset
from fusionkit.reading import read_image
from fusionkit.storage.atomic import atomic_write
from fusionkit.storage.manifest import Manifest
from fusionkit.weights.checkpoint import read_checkpoint
from fusionkit.weights.files import open_weights, read_tensors, save_weights
from harness import run_cli

CASES = int(os.environ.get("FUSIONKIT_FUZZ", "150"))
FAST = ("--prior", "average", "--backbone", "identity")


@pytest.fixture
def folders(tmp_path, pair_files):
    for folder, source in zip(("ir", "vi"), pair_files, strict=True):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / folder / name).write_bytes(source.read_bytes())
    return tmp_path / "ir", tmp_path / "vi"


def fuse(folders, out, **options):
    pipeline = Pipeline(prior="average", backbone="identity", device="cpu")
    plan = plan_folders(folders, out, ".png")
    return fuse_folders(pipeline, plan.jobs, out, FileOptions(**options))


class TestImages:
    def test_postscript_by_another_name_starts_nothing(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\n")
        with pytest.raises(ImageReadError, match="known format"):
            read_image(path)

    def test_a_tiff_whose_pages_link_in_a_circle(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8), photometric="minisblack")
        data = bytearray(path.read_bytes())
        first = struct.unpack("<I", data[4:8])[0]
        count = struct.unpack("<H", data[first : first + 2])[0]
        data[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack("<I", first)
        path.write_bytes(data)
        with contextlib.suppress(ImageReadError):  # tifffile may notice it, and then it is one page
            read_image(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_is_no_image_checkpoint_or_preset(self, tmp_path):
        path = tmp_path / "pipe.png"
        os.mkfifo(path)
        with pytest.raises(ImageReadError, match="pipe"):
            read_image(path)
        with pytest.raises(WeightsError, match="pipe"):
            read_checkpoint(path)
        with pytest.raises(OutputError, match="pipe"):
            Manifest(path).append("run")
        with pytest.raises(OptionError, match="device"):
            load_preset("/dev/zero")

    def test_images_that_cannot_fit_are_refused_before_they_are_read(self, tmp_path, monkeypatch):
        for name in ("a.png", "b.png"):
            Image.new("L", (3000, 2000)).save(tmp_path / name)
        sources = (tmp_path / "a.png", tmp_path / "b.png")
        job, pipeline = Job("x", sources, tmp_path / "x.png"), Pipeline(prior="average", backbone="identity")
        monkeypatch.setattr("fusionkit.batch.run.free_memory", lambda: 100_000_000)
        monkeypatch.setattr("fusionkit.reading.ranges.read_image", lambda *_: pytest.fail("was read"))
        with pytest.raises(
            OutputError, match=r"2 images of up to 6 megapixels need 0\.2 GB at the very least, 0\.1 GB"
        ):
            fuse_files(pipeline, job, FileOptions())
        assert (free_memory() or 1) > 0

    def test_links_in_a_circle_are_one_line_and_no_image(self, tmp_path):
        for name, target in (("a.png", "b.png"), ("b.png", "a.png")):
            (tmp_path / name).symlink_to(tmp_path / target)
        with pytest.raises(ImageReadError, match=r"a\.png: cannot be opened") as error:
            read_image(tmp_path / "a.png")
        one_line(error.value)
        with pytest.raises(InputError, match="2 files left out: 2 broken link"):
            plan_folders([tmp_path], tmp_path / "out")

    def test_numbers_without_bound_are_refused(self):
        for options in ({"prior": "laplacian", "prior_options": {"levels": 10**9}}, {"sampler": {"steps": 10**12}}):
            with pytest.raises(OptionError, match=r"expected a whole number >= \d and <= "):
                Pipeline(**options)

    def test_mutated_files_are_read_or_refused_in_one_line(self, tmp_path):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        seeds = {}
        for suffix in ("png", "jpg", "webp", "bmp", "gif", "ppm"):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "jpeg" if suffix == "jpg" else suffix)
            seeds[suffix] = stream.getvalue()
        tifffile.imwrite(tmp_path / "seed.tif", image)
        seeds["tif"] = (tmp_path / "seed.tif").read_bytes()
        for case in range(CASES):
            suffix = list(seeds)[case % len(seeds)]
            path = tmp_path / f"x.{suffix}"
            path.write_bytes(mutated(seeds[suffix], rng))
            try:
                picture = read_image(path, max_pixels=1_000_000)
            except ImageReadError as error:
                one_line(error)
            else:
                assert np.isfinite(picture.pixels).all(), case


def one_line(error: Exception) -> None:
    assert len(str(error).splitlines()) == 1, error


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, or the end cut off, or a piece moved."""
    changed = bytearray(data)
    for place in rng.integers(0, len(changed), rng.integers(1, 8)):
        changed[place] = rng.integers(256)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(changed[: rng.integers(1, len(changed))])
    if kind == 1:
        start, stop = sorted(rng.integers(0, len(changed), 2))
        return bytes(changed[:start] + changed[stop:] + changed[start:stop])
    return bytes(changed)


class TestWeights:
    def checkpoint(self, path):
        torch.save({"a": torch.arange(64.0), "b": torch.ones(3)}, path)
        return path.read_bytes()

    def test_a_flipped_bit_in_an_archive_is_noticed(self, tmp_path):
        path = tmp_path / "c.pth"
        data = bytearray(self.checkpoint(path))
        with zipfile.ZipFile(path) as archive:
            member = next(m for m in archive.infolist() if m.filename.endswith("data/0"))
        start = data.find(struct.pack("<f", 63.0), member.header_offset)
        data[start] ^= 1
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="damaged"):
            read_checkpoint(path)

    def test_a_deflated_archive_is_read_right(self, tmp_path):
        self.checkpoint(tmp_path / "c.pth")
        with (
            zipfile.ZipFile(tmp_path / "c.pth") as old,
            zipfile.ZipFile(tmp_path / "d.pth", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for member in old.infolist():
                new.writestr(member.filename, old.read(member))
        with contextlib.suppress(WeightsError):  # refusing it is as good
            assert torch.equal(read_checkpoint(tmp_path / "d.pth")["a"], torch.arange(64.0))

    def test_mutated_checkpoints_are_read_or_refused(self, tmp_path):
        rng = np.random.default_rng(0)
        data = self.checkpoint(tmp_path / "c.pth")
        torch.save({"a": torch.arange(64.0)}, tmp_path / "l.pth", _use_new_zipfile_serialization=False)
        legacy = (tmp_path / "l.pth").read_bytes()
        for case in range(CASES // 3):
            (tmp_path / "x.pth").write_bytes(mutated(legacy if case % 2 else data, rng))
            try:
                read_checkpoint(tmp_path / "x.pth")
            except WeightsError as error:
                one_line(error)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_call_that_only_takes_memory_is_refused(self, tmp_path, legacy):
        class Big:
            def __reduce__(self):
                return (bytearray, (10**10,))

        path = tmp_path / "big.pth"
        torch.save({"a": torch.ones(2), "b": Big()}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(WeightsError, match=r"asks for builtins\.bytearray"):
            read_checkpoint(path)

    def test_a_hash_of_null_does_not_switch_the_check_off(self, tmp_path):
        save_weights(tmp_path / "w.safetensors", {"a": torch.ones(2)}, {"kind": "x y"})
        info = json.loads((tmp_path / "w.json").read_text())
        (tmp_path / "w.json").write_text(json.dumps({**info, "sha256": None}))
        with pytest.raises(WeightsError, match="sha256"):
            read_tensors(open_weights(tmp_path / "w.safetensors"))


class TestPresets:
    def test_mutated_presets_are_taken_or_refused(self, tmp_path):
        rng = np.random.default_rng(0)
        text = (
            b'prior = "em_tv"\nseed = 3\ntile = 256\n[prior_options]\nlit = 0.3\n[sampler]\nstrength = 0.1\nsteps = 2\n'
        )
        for _ in range(CASES):
            (tmp_path / "x.toml").write_bytes(mutated(text, rng))
            try:
                assert isinstance(make_config(load_preset(tmp_path / "x.toml")), PipelineConfig)
            except FusionkitError as error:
                one_line(error)

    def test_tables_three_thousand_deep(self, tmp_path):
        (tmp_path / "x.toml").write_text("a = " + "[" * 3000 + "]" * 3000)
        with pytest.raises(OptionError, match=r"deep|valid TOML"):
            load_preset(tmp_path / "x.toml")

    def test_a_working_size_has_a_limit(self):
        with pytest.raises(OptionError, match="pixels"):
            Pipeline(working_size="100000x100000")


class TestFolders:
    @pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
    def test_a_name_that_is_no_utf_8(self, folders, tmp_path):
        for folder in folders:
            os.rename(os.fsencode(folder / "a.png"), os.fsencode(folder) + b"/\xff\xfe.png")
        for expected in ("done", "skipped"):
            assert {o.status for o in fuse(folders, tmp_path / "out")} == {expected}

    def test_names_as_long_as_a_file_system_allows(self, folders, tmp_path):
        long = "n" * 250 + ".png"
        for folder in folders:
            (folder / "a.png").rename(folder / long)
        assert {o.status for o in fuse(folders, tmp_path / "out")} == {"done"}
        assert (tmp_path / "out" / long).is_file()

    def test_a_second_process_is_told_to_wait(self, folders, tmp_path):
        first = fuse(folders, tmp_path / "out")
        next(first)
        with pytest.raises(OutputError, match="another run"):
            next(fuse(folders, tmp_path / "out"))
        assert {o.status for o in first} == {"done"}
        assert {o.status for o in fuse(folders, tmp_path / "out")} == {"skipped"}
        assert not (tmp_path / "out" / LOCK).exists()

    def test_what_a_killed_process_left_is_removed_and_nothing_else(self, folders, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        for name in (".a.0123abcd.tmp.png", ".mine.tmp.png", "b.0123abcd.tmp.png"):
            (out / name).write_bytes(b"")
        list(fuse(folders, out))
        assert {p.name for p in out.iterdir() if "tmp" in p.name} == {".mine.tmp.png", "b.0123abcd.tmp.png"}

    @pytest.mark.parametrize(
        "row", [{"key": 3}, {"sources": 5}, {"output": "x"}, {"output": {"path": 1}}, {"sources": [1]}]
    )
    def test_a_manifest_that_somebody_changed_counts_for_nothing(self, folders, tmp_path, row):
        list(fuse(folders, tmp_path / "out"))
        path = tmp_path / "out" / "manifest.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**line, **row}) + "\n" for line in lines))
        statuses = {o.status for o in fuse(folders, tmp_path / "out", force=True)}
        assert statuses == {"done"}

    def test_an_image_that_a_metric_cannot_take_costs_only_its_own_pair(self, folders, tmp_path):
        for folder in folders:
            Image.new("L", (1, 40), 90).save(folder / "narrow.png")
        command = ("--pairs", *folders, "--dialect", "cddfuse", "-o", tmp_path / "r.json")
        shutil.copytree(folders[1], tmp_path / "fused")
        done = run_cli("evaluate", "--fused", f"mine={tmp_path / 'fused'}", *command)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "r.json").read_text())["pairs"][:2] == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are other ones there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_word_and_leaves_nothing_half_written(number, folders, tmp_path):
    for folder in folders:
        for i in range(400):
            (folder / f"{i}.png").write_bytes((folder / "a.png").read_bytes())
    code = "from fusionkit.cli.app import main; main()"
    command = [sys.executable, "-c", code, "run", *FAST, "--pairs", *map(str, folders), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped" in text
    assert "Traceback" not in text
    assert not [p for p in (tmp_path / "out").iterdir() if ".tmp" in p.name]


def test_a_temporary_name_fits_beside_a_long_one(tmp_path):
    with atomic_write(tmp_path / ("ü" * 120 + ".png")) as temporary:
        Path(temporary).write_bytes(b"x")
    assert [p.stem for p in tmp_path.iterdir()] == ["ü" * 120]


class TestEveryPath:
    """One layer reads what users name: regular files of bounded size, whatever the option."""

    @pytest.fixture
    def pipe(self, tmp_path):
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes here")

        def make(name):
            os.mkfifo(tmp_path / name)
            return tmp_path / name

        return make

    def test_pipes_do_not_hang(self, pipe, tmp_path, pair_files):
        from fusionkit.ablation.grid import load_grid
        from fusionkit.reading import header_size
        from fusionkit.weights.importing import read_config

        assert header_size(pipe("a.png")) is None
        with pytest.raises(OptionError, match="a pipe or a device"):
            load_grid(pipe("g.toml"))
        with pytest.raises(OptionError, match="a pipe or a device"):
            read_config(pipe("c.yaml"))
        (tmp_path / "w.json").write_text("{}")
        with pytest.raises(WeightsError, match="a pipe or a device"):
            open_weights(pipe("w.safetensors"))
        done = run_cli("run", *FAST, pair_files[0], tmp_path / "a.png", "-o", tmp_path / "z.png")
        assert done.returncode == 2
        assert "a pipe or a device" in done.stderr

    def test_settings_that_multiply_themselves_are_refused(self, tmp_path):
        from fusionkit.ablation.grid import load_grid
        from fusionkit.storage.places import expand
        from fusionkit.weights.importing import read_config

        laughs = "a: &a [1, 1]\n" + "".join(
            f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefghijk", "bcdefghijkl", strict=True)
        )
        (tmp_path / "c.yaml").write_text(laughs)
        with pytest.raises(OptionError, match="repeats parts of itself"):
            read_config(tmp_path / "c.yaml")
        axes = "".join(f'"prior.em_tv.x{i}" = [1, 2, 3, 4, 5, 6]\n' for i in range(9))
        (tmp_path / "g.toml").write_text(f"[grid]\n{axes}")
        with pytest.raises(OptionError, match="10077696 combinations"):
            load_grid(tmp_path / "g.toml")
        with pytest.raises(OptionError, match="counts to more"):
            expand("shard-{0..99999999999}.tar")

    def test_a_checkpoint_cannot_claim_more_than_its_file_holds(self, tmp_path):
        from fusionkit.weights.checkpoint import state_dict

        torch.save({"w": torch.zeros(1).expand(5_000_000_000)}, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match="repeats fewer values"):
            state_dict(read_checkpoint(tmp_path / "a.pth"))
        torch.save({"w": torch.sparse_coo_tensor([[0], [0]], [1.0], (9, 9), check_invariants=True)}, tmp_path / "b.pth")
        with pytest.raises(WeightsError, match="_rebuild_sparse_tensor"):
            read_checkpoint(tmp_path / "b.pth")

    def test_a_table_is_read_line_by_line_within_bounds(self, tmp_path):
        from fusionkit.reading.matching import match_table

        (tmp_path / "t.csv").write_text("ir,vis\n" + "a" * 200_000 + ".png,b.png\n")
        with pytest.raises(FusionkitError, match="a line of more than"):
            match_table(tmp_path / "t.csv")

    def test_a_nul_byte_in_a_name_is_one_line(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(b"ir,vis\na\0.png,b.png\n")
        run = subprocess.run(
            [sys.executable, "-m", "fusionkit", "run", *FAST, "--pairs", tmp_path / "t.csv", "-o", tmp_path / "o"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 2
        assert "NUL byte" in run.stderr
        assert "Traceback" not in run.stderr

    def test_a_sparse_member_is_not_unpacked(self, tmp_path):
        if sys.platform != "linux" or shutil.which("tar") is None:
            pytest.skip("needs GNU tar")
        (tmp_path / "x.ir.png").touch()
        os.truncate(tmp_path / "x.ir.png", 2**40)
        subprocess.run(["tar", "-S", "-cf", "s.tar", "x.ir.png"], cwd=tmp_path, check=True)
        done = run_cli("run", *FAST, "--shards", tmp_path / "s.tar", "-o", tmp_path / "o")
        assert done.returncode == 1
        assert "sparse member" in done.stdout + done.stderr

    @pytest.mark.parametrize("size", ["150000000x1", "1x150000000", "99999999x9"])
    def test_sizes_have_one_bound(self, size, pair_files, tmp_path):
        done = run_cli("run", *FAST, "--set", f"working_size={size}", *pair_files, "-o", tmp_path / "z.png")
        assert done.returncode == 2
        assert "pixels" in done.stderr
