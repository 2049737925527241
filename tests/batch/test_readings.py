"""Temperatures beside the fused picture: read back in their own unit, at the pixels of the result."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from fusionkit import read_image
from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import job_of
from fusionkit.batch.run import fuse_files
from fusionkit.errors import NoEffect, OutputError
from fusionkit.method.pipeline import Pipeline
from harness import load_image

HEIGHT, WIDTH = 120, 160
KELVIN = 0.05  # largest error of a temperature that is read back


def celsius(x, y):
    """Smooth ground and a hot spot, at pixels of the reference."""
    spot = 300 * np.exp(-((x - 90) ** 2 + (y - 50) ** 2) / 400)
    return (15 + 10 * np.sin(x / 40) + 5 * np.cos(y / 33) + spot).astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    """A colour picture, and temperatures with a gap and a dead pixel, which a range would clip."""
    shown = data.camera()[100 : 100 + HEIGHT, 80 : 80 + WIDTH]
    Image.fromarray(np.dstack([shown, shown // 2, shown // 3])).save(tmp_path / "vis.png")
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = celsius(x, y)
    values[3, 5] = -150
    values[100:110, 20:30] = np.nan
    tifffile.imwrite(tmp_path / "ir.tif", values)
    return values


def fused(folder, name="out.tif", sources=("ir.tif", "vis.png"), files=None, **method):
    pipeline = Pipeline(prior="average", backbone="identity", **{"align": "none", **method})
    options = FileOptions(**{"readings": True, **(files or {})})
    return fuse_files(pipeline, job_of([folder / source for source in sources], folder / name), options)


@pytest.mark.parametrize("name", ["out.tif", "out.png"])
def test_temperatures_are_read_back(name, scene, tmp_path):
    fused(tmp_path, name)
    found = read_image(f"{tmp_path / name}#2")
    assert "readings of ir.tif" in found.name
    values = np.asarray(found)
    assert np.array_equal(np.isnan(values), np.isnan(scene))
    assert np.nanmax(np.abs(values - scene)) < 1e-4  # the dead pixel, too, which the range of the fusion leaves out


@pytest.mark.parametrize("name", ["out.tif", "out.png"])
def test_the_picture_is_what_it_is_without_them(name, scene, tmp_path):
    fused(tmp_path, name)
    fused(tmp_path, f"plain-{name}", files={"readings": False})
    with_readings, plain = read_image(tmp_path / name), read_image(tmp_path / f"plain-{name}")
    assert np.array_equal(with_readings.values, plain.values)
    assert with_readings.name == name
    assert np.array_equal(np.asarray(load_image(tmp_path / name)), plain.values)  # other programs see the picture


def test_counts_of_16_bits_stay_counts(scene, tmp_path):
    counts = np.rint(np.nan_to_num(scene, nan=20) * 100 + 27315).clip(1).astype(np.uint16)
    tifffile.imwrite(tmp_path / "ir.tif", counts)
    fused(tmp_path, files={"range": "29000,31000"})
    assert np.array_equal(np.asarray(read_image(f"{tmp_path}/out.tif#2")), counts)


def test_they_lie_where_a_transform_says(scene, tmp_path):
    y, x = np.mgrid[: HEIGHT // 2 + 20, : WIDTH // 2 + 20].astype(float)
    tifffile.imwrite(tmp_path / "ir.tif", celsius(2 * x - 12, 2 * y - 7))
    (tmp_path / "t.json").write_text(json.dumps([[0.5, 0, 6], [0, 0.5, 3.5]]))
    fused(tmp_path, transform=str(tmp_path / "t.json"))
    values = np.asarray(read_image(f"{tmp_path}/out.tif#2"))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    error = np.abs(values - celsius(x, y))
    far = np.hypot(x - 90, y - 50) > 60
    assert np.nanmax(error[far]) < KELVIN
    assert np.nanmax(error) < 2  # between pixels of the spot, whose curvature a line cuts
    assert np.nanmax(values) <= celsius(90, 50)  # none is hotter than any that was measured
    assert np.isfinite(values).all()


def test_outside_of_the_source_there_are_none_and_cut_results_have_cut_readings(scene, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps([[1, 0, 20], [0, 1, 0]]))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    tifffile.imwrite(tmp_path / "ir.tif", celsius(x, y))
    fused(tmp_path, transform=str(tmp_path / "t.json"))
    values = np.asarray(read_image(f"{tmp_path}/out.tif#2"))
    assert np.isnan(values[5:-5, -19:]).all()
    assert np.nanmax(np.abs(values[5:-5, :130] - celsius(x + 20, y)[5:-5, :130])) < KELVIN
    fused(tmp_path, "cut.tif", transform=str(tmp_path / "t.json"), crop="common")
    cut = read_image(f"{tmp_path}/cut.tif#2")
    assert cut.size == read_image(tmp_path / "cut.tif").size != (WIDTH, HEIGHT)
    assert np.isfinite(np.asarray(cut)).all()


def test_a_smaller_source_is_stretched(scene, tmp_path):
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2]
    tifffile.imwrite(tmp_path / "ir.tif", celsius(2 * x + 0.5, 2 * y + 0.5))
    fused(tmp_path, resize="reference")
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = np.asarray(read_image(f"{tmp_path}/out.tif#2"))
    far = (np.hypot(x - 90, y - 50) > 60) & (np.minimum(x, y) > 1) & (x < WIDTH - 2) & (y < HEIGHT - 2)
    assert np.abs(values - celsius(x, y))[far].max() < KELVIN


def test_pages_lie_on_the_map(tmp_path):
    place = [
        (33550, "d", 3, (2.0, 2.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
        (34735, "H", 12, (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32632), True),
    ]
    coarse = [(33550, "d", 3, (4.0, 4.0, 0.0), True), *place[1:]]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    tifffile.imwrite(tmp_path / "ir.tif", celsius(2 * x + 0.5, 2 * y + 0.5)[:60, :80], extratags=coarse, metadata=None)
    tifffile.imwrite(tmp_path / "vis.tif", np.dstack([x, y, x]).astype(np.uint8), extratags=place, metadata=None)
    fused(tmp_path, sources=("ir.tif", "vis.tif"))
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert [page.tags[33922].value for page in file.pages] == [place[1][3]] * 2
        assert file.pages[1].dtype == np.float32
    values = np.asarray(read_image(f"{tmp_path}/out.tif#2"))
    far = (np.hypot(x - 90, y - 50) > 60) & (np.minimum(x, y) > 1) & (x < WIDTH - 2) & (y < HEIGHT - 2)
    assert np.abs(values - celsius(x, y))[far].max() < KELVIN


def test_several_sources_have_a_page_each(scene, tmp_path):
    tifffile.imwrite(tmp_path / "more.tif", np.flipud(scene))
    fused(tmp_path, "out.png", ("ir.tif", "more.tif", "vis.png"))
    for number, expected in ((2, scene), (3, np.flipud(scene))):
        assert np.nanmax(np.abs(np.asarray(read_image(f"{tmp_path}/out.png#{number}")) - expected)) < 1e-4


def test_formats_and_sources_without_them_are_refused(scene, tmp_path):
    with pytest.raises(OutputError, match=r"\.jpg holds no readings beside a picture; write \.png or \.tif"):
        fused(tmp_path, "out.jpg")
    shutil.copy(tmp_path / "vis.png", tmp_path / "again.png")
    with pytest.raises(NoEffect, match="no source is grey and of more than 8 bits"):
        fused(tmp_path, sources=("vis.png", "again.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"ir.tif", "vis.png", "again.png"}


def test_readings_do_not_follow_a_field_and_say_so(scene, tmp_path, monkeypatch):
    from fusionkit_plugins.stages import align

    within = np.full((1, 2, 8, 8), 3.0, np.float32)

    def found(reference, luma, over):
        import torch

        from fusionkit_plugins.alignment.field import Field

        shifts = torch.from_numpy(within)
        return Field(shifts, torch.zeros(1, 1, 8, 8), gain=9.0, left=0.5, sure=True)

    monkeypatch.setattr(align, "find_parallax", found)
    with pytest.raises(OutputError, match="use `align=affine`"):
        fused(tmp_path, stages=[{"name": "align", "options": {"model": "dense", "transform": identity(tmp_path)}}])


def identity(folder):
    place = folder / "identity.csv"
    place.write_text("1,0,0\n0,1,0\n")
    return str(place)
