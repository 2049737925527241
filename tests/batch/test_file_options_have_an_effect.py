"""Every option of how files are read and written changes what a run leaves, or is refused."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import tifffile

from fusionkit import scenes
from fusionkit.batch.options import FileOptions, For, refuse_ignored
from fusionkit.batch.plan import Job, plan_folders
from fusionkit.batch.run import fuse_files, fuse_folders
from fusionkit.errors import FusionkitError, NoEffect
from fusionkit.method.pipeline import Pipeline
from fusionkit.registry.loading import load_registry
from fusionkit.writing import written_with

# values of text, tuples and limits, which no type tells
VALUES: dict[str, list[Any]] = {
    "depth": ["8", "float"],  # the sources have 16 bits
    "range": [((0, 30_000),)],
    "bands": [((3, 2, 1),)],
    "save_transform": ["moves.csv"],
    "save_depth": ["depth.png"],
    "times": [(0.01, 0.04)],
    "save_aligned": ["."],
    "max_pixels": [10],
}
# what is given beside an option
BESIDE: dict[str, dict[str, Any]] = {"quality": {"depth": "8"}}
METHOD: dict[str, dict[str, Any]] = {
    **{key: {"align": "translation"} for key in ("save_transform", "save_aligned")},
    "save_depth": {"prior": {"name": "em_tv", "options": {"evidence": "focus"}}},
    "times": {"prior": {"name": "em_tv", "options": {"evidence": "exposure"}}},
}
STAMPED = [(306, "s", 20, "2026:01:02 03:04:05", True)]  # DateTime, which `strip` leaves out


def values(name: str) -> list[Any]:
    info = FileOptions.model_fields[name]
    kinds = [info.annotation, *get_args(info.annotation)]
    literals = [v for kind in kinds if get_origin(kind) is Literal for v in get_args(kind)]
    if name in VALUES or literals:
        return VALUES.get(name) or [v for v in literals if v != info.default]
    if bool in kinds:
        return [not info.default]
    assert int in kinds, f"{name}: give values of it in VALUES"
    return [(info.default or 80) + 5]


def write_sources(folder: Path, name: str) -> None:
    """Two pairs of 16 bits, not registered, in folders a and b; pictures of four bands where `bands` is looked at.

    A focus stack and a bracket, where their options are: c holds a third frame.
    """
    if name in ("save_depth", "times"):
        frames = (*scenes.multi_focus((160, 208), seed=0), scenes.multi_focus((160, 208), seed=0)[0])
        if name == "times":
            frames = (*scenes.multi_exposure((160, 208), seed=0),)
        for place, image in zip("abc", frames, strict=False):
            (folder / place).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / place / "0.tif", (image * 65535).round().astype("uint16"))
        return
    for seed in (0, 1):
        thermal, shown = scenes.infrared_visible((160, 208), seed=seed)
        bands = np.concatenate([shown, shown[..., :1] / 2], axis=2)
        for place, image in (("a", np.roll(thermal, (3, 5), (0, 1))), ("b", bands if name == "bands" else shown)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            stored = (image * (3000 + 2000 * seed)).astype("uint16")
            layout = {"photometric": "minisblack", "planarconfig": "contig"} if stored.shape[2] == 4 else {}
            tifffile.imwrite(folder / place / f"{seed}.tif", stored.squeeze(), extratags=STAMPED, **layout)


def left(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, bytes] | str:
    """The files that a run leaves, by name, or that it was refused."""
    marks = [mark for mark in FileOptions.model_fields[name].metadata if isinstance(mark, For)]
    modes = next((mark.modes for mark in marks if mark.modes), ("single",))
    formats = written_with(name) if any(mark.written for mark in marks) else ()
    suffix = next(iter(formats or [mark.formats[0] for mark in marks if mark.formats]), ".tif")
    write_sources(folder, name)
    monkeypatch.chdir(folder)
    out = folder / "out"
    try:
        options = FileOptions(**BESIDE.get(name, {}), **given)
        refuse_ignored(options, modes[0], suffix, ("single", "folders", "shards", "video"))
        choices = {"prior": "average", "backbone": "identity", "look": "faithful", "align": "none"}
        pipeline = Pipeline(**{**choices, **METHOD.get(name, {})}, device="cpu")
        if "single" in modes:
            out.mkdir()
            if name == "force":
                (out / f"0{suffix}").touch()
            sources = tuple(sorted(Path(".").glob("[abc]/0.tif")))
            fuse_files(pipeline, Job("0", sources, out / f"0{suffix}"), options)
        else:
            plan = plan_folders((Path("a"), Path("b")), out, suffix)
            failed = [o.reason for o in fuse_folders(pipeline, plan.jobs, out, options) if o.status == "failed"]
            assert not failed
    except FusionkitError:
        return "refused"
    others = [*out.glob("*"), *(p for p in folder.iterdir() if p.is_file())]
    return {p.name: p.read_bytes() for p in others if "manifest" not in p.name}


@pytest.mark.parametrize("name", FileOptions.model_fields)
def test_an_option_of_files_changes_what_a_run_leaves_or_is_refused(name, tmp_path, monkeypatch):
    base = left(tmp_path / "base", name, monkeypatch)
    assert base != "refused" or name in ("force", "bands")
    for i, value in enumerate(values(name)):
        changed = left(tmp_path / str(i), name, monkeypatch, **{name: value})
        assert changed != base, f"{name}={value!r} is accepted, and changes nothing"
        assert changed != "refused" or name == "max_pixels", f"{name}={value!r} is refused"


WRITER = """
import fusionkit
from fusionkit.contracts import Options, Writer

class FileOptions(Options):
    quality: int | None = None

class Mine(Writer):
    Options = FileOptions
    def write(self, path, stored):
        return ()

@fusionkit.hookimpl
def fusionkit_writers():
    yield fusionkit.WriterRecord(name="mine", summary="mine", target="fk_mine:Mine", extensions=(".mine",), depths=("8",))
"""


def test_quality_is_for_all_formats_whose_writers_have_such_an_option(site, monkeypatch):
    options = FileOptions(quality=50)
    with pytest.raises(NoEffect, match=r"no effect on .mine files; it is read for .jpg, .jpeg, .webp$"):
        refuse_ignored(options, "single", ".mine", ("single",))
    site.add("fk-mine", WRITER)
    registry = load_registry(restriction="imagefusionkit,fk-mine")
    monkeypatch.setattr("fusionkit.writing.get_registry", lambda: registry)
    refuse_ignored(options, "single", ".mine", ("single",))
