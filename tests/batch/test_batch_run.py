"""Folders: planning, resuming, failing without stopping."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fusionkit.batch import plan as plan_module
from fusionkit.batch.options import NEUTRAL, FileOptions
from fusionkit.batch.plan import Job, job_of, plan_folders, plan_images
from fusionkit.batch.run import fuse_files, fuse_folders, method_digest
from fusionkit.errors import InputError, NoEffect, OptionError, OutputError
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.reading import read_image
from fusionkit.reading.ranges import FILES
from fusionkit.storage.manifest import Manifest, sha256
from fusionkit.writing import write_image
from harness import load_image


def pipeline(**choices):
    return Pipeline(make_config({"prior": "average", "backbone": "identity", **choices}), device="cpu")


@pytest.fixture
def folders(tmp_path, pair_files):
    a, b = tmp_path / "ir", tmp_path / "vi"
    for folder, source in ((a, pair_files[0]), (b, pair_files[1])):
        folder.mkdir()
        for name in ("one.png", "two.PNG", "three.png"):
            shutil.copy(source, folder / name)
    (b / "two.PNG").rename(b / "TWO.png")
    return a, b


def run(folders, out, **choices):
    files = FileOptions(force=choices.pop("force", False))
    matching = plan_folders(folders, out, ".png")
    return {o.key: o for o in fuse_folders(pipeline(**choices), matching.jobs, out, files)}


def rows(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_files_match_by_stem_whatever_extension_and_case(folders, tmp_path):
    a, b = folders
    load_image(a / "one.png").save(a / "one.jpg")
    load_image(a / "one.png").save(a / "alone.tif")
    (a / "notes.txt").write_text("no image")
    (a / ".hidden.png").write_bytes(b"")
    matching = plan_folders(folders, tmp_path / "out", ".png")
    assert [j.key for j in matching.jobs] == ["three", "TWO"]
    assert matching.ambiguous == [(a / "one.jpg", a / "one.png")]
    assert matching.unmatched == [a / "alone.tif"]


def test_every_pair_is_fused_and_recorded(folders, tmp_path):
    out = tmp_path / "out"
    outcomes = run(folders, out)
    assert {o.status for o in outcomes.values()} == {"done"}
    assert sorted(p.name for p in out.iterdir()) == ["TWO.png", "manifest.jsonl", "one.png", "three.png"]
    start, *pairs = rows(out)
    assert start["event"] == "run"
    assert start["plugins"]["prior"] == {"name": "average", "from": start["plugins"]["prior"]["from"], "options": {}}
    assert {"imagefusionkit", "torch", "numpy"} <= start["versions"].keys()
    for row in pairs:
        assert row["status"] == "ok"
        assert row["output"]["sha256"] == sha256(out / f"{row['key']}.png")
        assert [s["sha256"] for s in row["sources"]] == [sha256(folders[0] / "one.png"), sha256(folders[1] / "one.png")]
        assert {"read", "prior", "color", "write"} <= row["seconds"].keys()
        assert row["peak_memory_mb"] > 10


def test_a_second_run_skips_what_is_finished_and_redoes_what_changed(folders, tmp_path):
    out = tmp_path / "out"
    run(folders, out)
    (out / "one.png").unlink()
    os.utime(folders[0] / "two.PNG", (1, 1))
    before = (out / "three.png").stat().st_mtime_ns
    outcomes = run(folders, out)
    assert {k: o.status for k, o in outcomes.items()} == {"one": "done", "TWO": "done", "three": "skipped"}
    assert (out / "three.png").stat().st_mtime_ns == before
    assert {o.status for o in run(folders, out, force=True).values()} == {"done"}


def test_a_manifest_cut_off_by_a_crash_is_read_and_continued(folders, tmp_path):
    out = tmp_path / "out"
    run(folders, out)
    text = (out / "manifest.jsonl").read_text()
    (out / "manifest.jsonl").write_text(text[:-40])
    statuses = {k: o.status for k, o in run(folders, out, force=False).items()}
    assert sorted(statuses.values()) == ["failed", "skipped", "skipped"]  # the cut-off one is not known to be ours
    assert len(list(Manifest(out / "manifest.jsonl").rows())) == 3 + 1 + 1


def test_results_of_other_options_are_never_mixed_or_overwritten(folders, tmp_path):
    out = tmp_path / "out"
    run(folders, out)
    with pytest.raises(OutputError, match=r"3 result\(s\) made with other options.*`force`"):
        run(folders, out, prior="max")
    assert {o.status for o in run(folders, out, prior="max", force=True).values()} == {"done"}


def test_depth_belongs_to_the_method_and_spelt_out_defaults_do_not(folders, tmp_path):
    out = tmp_path / "out"
    run(folders, out, prior="laplacian")
    assert {o.status for o in run(folders, out, prior="laplacian", prior_options={"levels": "0"}).values()} == {
        "skipped"
    }
    jobs = plan_folders(folders, out, ".png").jobs
    with pytest.raises(OutputError, match="other options"):
        list(fuse_folders(pipeline(prior="laplacian"), jobs, out, FileOptions(depth="16")))


def test_the_options_of_every_plugin_belong_to_the_method():
    methods = [
        method_digest(pipeline(backbone="identity", decoder="vq", decoder_options=options), FileOptions())
        for options in ({}, {"quantize": "auto"}, {"quantize": "decode"})
    ]
    assert methods[0] == methods[1] != methods[2]


@pytest.mark.parametrize("name", FileOptions.model_fields)
def test_every_file_option_belongs_to_the_method_or_decides_no_byte(name):
    others = {
        "depth": "16",
        "range": ("full",),
        "bands": ("4,3,2",),
        "range_scope": "pair",
        "times": (1, 2),
        "save_transform": "rig.json",
        "readings": True,
        "save_depth": "depth.png",
        "save_aligned": "aligned",
        "strip": True,
        "quality": 50,
        "png_level": 9,
        "max_pixels": 1000,
        "force": True,
    }
    method, before = pipeline(), FileOptions()
    after = FileOptions(**{name: others[name]})
    assert (method_digest(method, before) == method_digest(method, after)) == (name in NEUTRAL)


def test_strip_redoes_a_folder_that_was_fused_with_its_metadata(tmp_path, pair_files):
    exif = Image.Exif()
    exif[0x013B] = "Ann Artist"
    for name, source in zip(("ir", "vi"), pair_files, strict=True):
        (tmp_path / name).mkdir()
        load_image(source).save(tmp_path / name / "a.jpg", exif=exif)
    out = tmp_path / "out"
    jobs = plan_folders([tmp_path / "ir", tmp_path / "vi"], out, ".jpg").jobs
    assert [o.status for o in fuse_folders(pipeline(), jobs, out, FileOptions())] == ["done"]
    assert load_image(out / "a.jpg").getexif()[0x013B] == "Ann Artist"
    with pytest.raises(OutputError, match="other options"):
        list(fuse_folders(pipeline(), jobs, out, FileOptions(strip=True)))
    assert [o.status for o in fuse_folders(pipeline(), jobs, out, FileOptions(strip=True, force=True))] == ["done"]
    assert 0x013B not in load_image(out / "a.jpg").getexif()
    assert [o.status for o in fuse_folders(pipeline(), jobs, out, FileOptions(strip=True))] == ["skipped"]


def test_a_plugin_that_ends_the_program_fails_its_pair_only(folders, tmp_path, monkeypatch):
    from fusionkit_priors.baselines import Average

    original, calls = Average.correct, []

    def correct(self, *given):
        calls.append(1)
        return sys.exit(0) if len(calls) == 1 else original(self, *given)

    monkeypatch.setattr(Average, "correct", correct)
    assert [o.status for o in run(folders, tmp_path / "out").values()] == ["failed", "done", "done"]


def test_only_our_own_unchanged_results_are_ever_redone(folders, tmp_path):
    out = tmp_path / "out"
    run(folders, out)
    (out / "one.png").write_bytes(b"edited by hand")
    os.utime(folders[0] / "one.png", (1, 1))
    (out / "three.tif").write_bytes(b"foreign")
    assert run(folders, out)["one"].status == "failed"
    assert (out / "one.png").read_bytes() == b"edited by hand"
    jobs = plan_folders(folders, out, ".tif").jobs
    statuses = {o.key: o.status for o in fuse_folders(pipeline(), jobs, out, FileOptions())}
    assert statuses == {"one": "done", "TWO": "done", "three": "failed"}
    assert (out / "three.tif").read_bytes() == b"foreign"


def test_a_plugin_that_raises_or_gives_nan_fails_its_pair_only(folders, tmp_path, monkeypatch):
    from fusionkit_priors.baselines import Average

    original, calls = Average.correct, []

    def correct(self, x0, sources, state, sigma):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory on device")
        luma, state = original(self, x0, sources, state, sigma)
        return (luma * float("nan"), state) if len(calls) == 2 else (luma, state)

    monkeypatch.setattr(Average, "correct", correct)
    outcomes = list(run(folders, tmp_path / "out").values())
    assert [o.status for o in outcomes] == ["failed", "failed", "done"]
    assert "a smaller `tile`" in outcomes[0].reason
    assert "Average.correct returned NaN" in outcomes[1].reason


def test_the_sources_as_output_are_refused(folders):
    with pytest.raises(OutputError, match="folder of sources"):
        plan_folders(folders, folders[1], ".png")


def test_a_foreign_file_in_the_way_fails_its_pair_only(folders, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.png").write_bytes(b"mine")
    outcomes = run(folders, out)
    assert outcomes["one"].status == "failed"
    assert "exists already" in outcomes["one"].reason
    assert (out / "one.png").read_bytes() == b"mine"
    assert outcomes["three"].status == "done"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_fusing_is_not_replaced(folders, tmp_path, monkeypatch, links):
    from fusionkit_priors.baselines import Average

    out, correct = tmp_path / "out.png", Average.correct
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))

    def other_run(self, *args):
        (out.write_bytes(b"of another run") if links else None)
        return correct(self, *args)

    monkeypatch.setattr(Average, "correct", other_run)
    job = Job("x", (folders[0] / "one.png", folders[1] / "one.png"), out)
    if links:
        with pytest.raises(OutputError, match="exists already; `force` overwrites it"):
            fuse_files(pipeline(), job, FileOptions())
        assert out.read_bytes() == b"of another run"
    else:
        fuse_files(pipeline(), job, FileOptions())
        assert load_image(out).size == load_image(folders[1] / "one.png").size
    assert [p.name for p in tmp_path.iterdir() if ".tmp" in p.name] == []


def test_a_broken_pair_is_reported_and_the_rest_go_on(folders, tmp_path):
    (folders[1] / "one.png").write_bytes(b"")
    load_image(folders[1] / "three.png").resize((50, 40)).save(folders[1] / "three.png")
    out = tmp_path / "out"
    outcomes = run(folders, out)
    assert outcomes["one"].status == outcomes["three"].status == "failed"
    assert "empty file" in outcomes["one"].reason
    assert "50x40" in outcomes["three"].reason
    assert outcomes["TWO"].status == "done"
    assert sorted(p.name for p in out.iterdir()) == ["TWO.png", "manifest.jsonl"]
    failed = [r for r in rows(out) if r.get("status") == "failed"]
    assert {r["key"] for r in failed} == {"one", "three"}


def one(tmp_path, sources, output="out.png", **choices):
    files = FileOptions(**choices.pop("files", {}))
    return fuse_files(pipeline(**choices), Job("x", tuple(sources), tmp_path / output), files)


def test_a_result_never_replaces_a_source(tmp_path, pair_files):
    a, b = (Path(shutil.copy(p, tmp_path)) for p in pair_files)
    with pytest.raises(OutputError, match="is one of the sources"):
        fuse_files(pipeline(), Job("x", (a, b), b), FileOptions(force=True))


@pytest.mark.parametrize("option", ["save_transform", "save_depth", "save_aligned"])
def test_what_lies_beside_a_result_replaces_neither_a_source_nor_the_result(option, tmp_path, pair_files):
    sources = [Path(shutil.copy(p, tmp_path)) for p in pair_files]
    before = [path.read_bytes() for path in sources]
    place = tmp_path if option == "save_aligned" else sources[0]
    with pytest.raises(OutputError, match="is one of the sources"):
        one(tmp_path, sources, files={option: str(place), "force": True}, align="affine")
    assert [path.read_bytes() for path in sources] == before
    output = f"{sources[0].stem}.png"
    place = tmp_path / "aligned" if option == "save_aligned" else tmp_path / "aligned" / output
    with pytest.raises(OutputError, match="named for two files"):
        one(tmp_path / "aligned", sources, output, files={option: str(place)}, align="affine")
    assert not (tmp_path / "aligned").exists()


def test_a_photo_of_the_folder_is_no_earlier_result(tmp_path, pair_files):
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(pair_files[0], tmp_path / name)
    assert len(plan_images([tmp_path], tmp_path / "c.png").jobs[0].sources) == 3
    (tmp_path / "c.manifest.jsonl").touch()
    assert len(plan_images([tmp_path], tmp_path / "c.png").jobs[0].sources) == 2


def test_what_failed_beside_a_result_leaves_no_temporary_file(tmp_path, pair_files, monkeypatch):
    monkeypatch.setattr("fusionkit.batch.run.save_aligned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        one(tmp_path, pair_files, files={"save_aligned": str(tmp_path / "aligned")}, align="affine")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("option", ["quality", "png_level"])
def test_an_option_of_another_format_is_refused_where_the_result_has_no_name(option, tmp_path, pair_files):
    sources = [Path(shutil.copy(p, tmp_path)) for p in pair_files]
    depth = {"depth": "float"} if option == "png_level" else {}
    with pytest.raises(NoEffect, match=f"`{option}=5` has no effect on"):
        fuse_files(pipeline(), Job("x", tuple(sources), None), FileOptions(**{option: 5}, **depth))


@pytest.mark.parametrize("given", [{"range": ("full",) * 3}, {"bands": ((1,),) * 3}])
def test_more_ranges_or_bands_than_sources_are_refused(given, tmp_path, pair_files):
    with pytest.raises(OptionError, match="3 of them for 2 sources"):
        one(tmp_path, pair_files, files=given)


def test_without_an_output_the_result_lies_beside_the_reference_and_each_source_is_decoded_once(
    tmp_path, pair_files, monkeypatch
):
    import fusionkit.reading.read as reading

    decoded, original, opened, watched = [], reading._read, [], [True]
    monkeypatch.setattr(reading, "_read", lambda *given: decoded.append(given[1].name) or original(*given))
    sources = [Path(shutil.copy(path, tmp_path)) for path in pair_files]

    def hook(event, given):  # it stays, and looks at nothing afterwards
        if watched and event == "open" and str(given[0]) in map(str, sources):
            opened.append(str(given[0]))

    sys.addaudithook(hook)
    outcome = fuse_files(pipeline(), job_of(sources, None), FileOptions())
    watched.clear()
    assert outcome.output == str(tmp_path / "vis-fused.png")
    assert sorted(decoded) == ["ir.png", "vis.png"]
    assert len(opened) <= 2 * 6  # its header, its kind, three times by Pillow, its hash
    assert fuse_files(pipeline(), job_of(sources, None), FileOptions()).output == str(tmp_path / "vis-fused-2.png")


@pytest.mark.parametrize(
    ("grey", "color", "expected"),
    [
        ("L", "RGB", ("RGB", "8")),
        ("L", "L", ("L", "8")),
        ("RGB", "L", ("RGB", "8")),
        ("I;16", "RGB", ("RGB", "8")),
        ("L", "I;16", ("I;16", "16")),
        ("RGBA", "L", ("RGBA", "8")),
        ("L", "LA", ("LA", "8")),
        ("1", "P", ("RGB", "8")),
    ],
)
def test_size_depth_and_colour_follow_the_reference(tmp_path, pair_files, grey, color, expected):
    paths = []
    for index, mode in enumerate((grey, color)):
        image = load_image(pair_files[1])
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        path = tmp_path / f"{index}.png"
        image.save(path)
        paths.append(path)
    one(tmp_path, paths)
    result = load_image(tmp_path / "out.png")
    assert result.mode == expected[0]
    assert result.size == (128, 96)
    assert read_image(tmp_path / "out.png").depth == expected[1]


def test_sizes_that_differ_are_an_error_that_offers_the_remedy(tmp_path, pair_files):
    small = tmp_path / "small.png"
    load_image(pair_files[0]).resize((64, 48)).save(small)
    with pytest.raises(InputError, match=r"small\.png is 64x48 but vis\.png is 128x96.*`resize=reference`"):
        one(tmp_path, (small, pair_files[1]))
    outcome = one(tmp_path, (small, pair_files[1]), resize="reference")
    assert "resized from 64x48 to 128x96" in " ".join(outcome.notes)
    assert load_image(tmp_path / "out.png").size == (128, 96)


def test_depth_can_be_asked_for(tmp_path, pair_files):
    one(tmp_path, pair_files, "out.tif", files={"depth": "float"})
    assert read_image(tmp_path / "out.tif").depth == "float"
    with pytest.raises(OutputError, match="cannot hold 32-bit float"):
        one(tmp_path, pair_files, "out2.png", files={"depth": "float"})


def test_a_range_is_refused_where_no_source_has_more_than_8_bits(folders, tmp_path):
    options = FileOptions(range="0,4095")
    matching = plan_folders(folders, tmp_path / "out", ".png")
    with pytest.raises(NoEffect, match="`range` has no effect: no source has more than 8 bits"):
        list(fuse_folders(pipeline(), matching.jobs, tmp_path / "out", options))
    assert not list((tmp_path / "out").glob("*"))
    with pytest.raises(NoEffect, match="`range` has no effect"):
        fuse_files(pipeline(), job_of([f / "one.png" for f in folders], tmp_path / "a.png"), options)
    for name in ("one", "three"):  # one deep source of several is enough
        (folders[0] / f"{name}.png").unlink()
        tifffile.imwrite(folders[0] / f"{name}.tif", np.full((96, 128), 2000, np.uint16))
    options = FileOptions(range=["0,4095", "auto"])
    jobs = plan_folders(folders, tmp_path / "out", ".png").jobs
    assert [o.status for o in fuse_folders(pipeline(), jobs, tmp_path / "out", options)] == ["done"] * 3


def test_nothing_is_stretched_unless_asked(tmp_path):
    for name, low, high in (("a", 60, 120), ("b", 80, 140)):
        Image.fromarray(np.linspace(low, high, 64 * 64).reshape(64, 64).astype(np.uint8)).save(tmp_path / f"{name}.png")
    sources = (tmp_path / "a.png", tmp_path / "b.png")
    one(tmp_path, sources)
    assert np.asarray(load_image(tmp_path / "out.png")).max() <= 130
    one(tmp_path, sources, "stretched.png", stretch="minmax")
    stretched = np.asarray(load_image(tmp_path / "stretched.png"))
    assert (stretched.min(), stretched.max()) == (0, 255)


class TestRanges:
    """Thermal counts: one range for a folder."""

    @pytest.fixture
    def thermal(self, tmp_path):
        folders, rng = (tmp_path / "ir", tmp_path / "vi"), np.random.default_rng(0)
        for folder in folders:
            folder.mkdir()
        for i, level in enumerate((29_000, 29_400, 30_000)):
            tifffile.imwrite(folders[0] / f"{i}.tif", rng.integers(level, level + 300, (24, 32)).astype(np.uint16))
            write_image(folders[1] / f"{i}.png", rng.random((24, 32, 3)).astype(np.float32), "8")
        return folders

    def spans(self, folders, out, **files):
        plan = plan_folders(folders, out, ".png")
        outcomes = list(fuse_folders(pipeline(), plan.jobs, out, FileOptions(**files)))
        assert {o.status for o in outcomes} <= {"done", "skipped"}
        return [o.record["ranges"] for o in outcomes if o.status == "done"], outcomes

    def test_one_for_the_folder_or_each_its_own(self, thermal, tmp_path):
        found, outcomes = self.spans(thermal, tmp_path / "a")
        assert found[0] == found[1] == found[2]
        (low, high), visible = found[0]
        assert low < 29_010
        assert high > 30_290
        assert visible is None
        assert "as of the whole folder" in outcomes[0].notes[0]
        own, _ = self.spans(thermal, tmp_path / "b", range_scope="pair")
        assert len({tuple(ir) for ir, _ in own}) == 3

    def test_a_resumed_run_keeps_the_range(self, thermal, tmp_path):
        first, _ = self.spans(thermal, tmp_path / "a")
        tifffile.imwrite(thermal[0] / "3.tif", np.full((24, 32), 31_000, np.uint16) + np.arange(32, dtype=np.uint16))
        write_image(thermal[1] / "3.png", np.zeros((24, 32, 3), np.float32), "8")
        again, outcomes = self.spans(thermal, tmp_path / "a")
        assert again == first[:1]
        assert [o.status for o in outcomes] == ["skipped"] * 3 + ["done"]


def test_a_limit_opens_few_files(tmp_path, monkeypatch):
    image = np.zeros((8, 8), np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(100):
            write_image(tmp_path / name / f"{k:03d}.png", image)
    opened: list[Path] = []
    several_in = plan_module.several_in
    monkeypatch.setattr(plan_module, "several_in", lambda path: opened.append(path) or several_in(path))
    folders, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "out"
    few = plan_folders(folders, out, limit=3)
    assert len(opened) <= 2 * (3 + FILES)
    assert few == plan_folders(folders, out)
