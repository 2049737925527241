"""Places of GeoTIFF and OpenEXR, and sources onto the reference's grid."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from skimage.data import camera

from fusionkit.errors import ImageReadError, SizeMismatch
from fusionkit.images.onto import onto, place_of
from fusionkit.images.picture import Picture
from fusionkit.images.place import Place, geo_place
from fusionkit.reading import read_image
from harness import run_cli

FAST = ("--prior", "average", "--backbone", "identity", "--align", "none")
IMAGE = camera()[..., None]


def picture(values=IMAGE, scale=1.0, corner=(0.0, 0.0), space="a plane", **more):
    """A picture whose upper left pixel's corner lies at `corner`, and whose pixels measure `scale`."""
    x, y = (c + scale / 2 for c in corner)
    place = Place(space, np.array([[scale, 0, x], [0, scale, y]], float))
    return Picture(values, "8", (0.0, 255.0), name=f"{scale:g}", place=place, **more)


def geotiff(path, values, scale=0.1, corner=(500000.0, 5000000.0), code=32632, point=False):
    """corner: of the first pixel (or its centre, with `point`)."""
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1, 3072, 0, 1, code)
    tags = [
        (33550, "d", 3, (scale, scale, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, *corner, 0.0), True),
        (34735, "H", len(keys), keys, True),
    ]
    tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack", extratags=tags)


class TestOnto:
    def test_one_grid_stays_as_it_is(self):
        pictures = [picture(), picture(), replace(picture(), place=None)]
        same, placed = onto(pictures, 0)
        assert all(a is b for a, b in zip(same, pictures, strict=True))
        assert placed == []

    def test_a_part_of_the_grid_is_cut_out_and_put_back_exactly(self):
        part = picture(IMAGE[40:300, 20:400], corner=(20, 40))
        (cut, _), _ = onto([picture(), part], 1)
        assert np.array_equal(cut.values, part.values)
        assert cut.valid is None
        (whole, _), (placed,) = onto([part, picture()], 1)
        expected = np.zeros((512, 512), bool)
        expected[40:300, 20:400] = True
        assert np.array_equal(whole.valid, expected)
        assert np.array_equal(whole.values[expected], IMAGE[expected])
        assert "62.3% of 1 of source 2 lie outside" in placed.note

    @pytest.mark.parametrize(("scale", "least"), [(2.0, 26), (3.0, 24)])
    def test_coarser_and_finer(self, scale, least):
        """A finer source is low-passed; a coarser one is as near to the truth as its pixels allow (PSNR in dB)."""
        fine = IMAGE[:510, :510]
        n = int(510 / scale)
        means = fine.reshape(n, int(scale), n, int(scale)).mean((1, 3))[..., None].round().astype(np.uint8)
        coarse = picture(means, scale)
        (up, _), _ = onto([coarse, picture(fine)], 1)
        (down, _), _ = onto([picture(fine), coarse], 1)
        for moved, right, db in ((up, fine, least), (down, means, 34)):
            error = np.square(moved.values.astype(float) - right).mean()
            assert 10 * np.log10(255**2 / error) > db
            assert moved.valid is None

    def test_a_turned_grid(self):
        c, s = np.cos(0.3), np.sin(0.3)
        turned = Place("a plane", np.array([[c, -s, 200.0], [s, c, 60.0]]))
        (moved, _), _ = onto([picture(), replace(picture(IMAGE[:100, :80]), place=turned)], 1)
        y, x = np.mgrid[:100, :80]
        column, row = c * x - s * y + 199.5, s * x + c * y + 59.5
        at = IMAGE[row.round().astype(int), column.round().astype(int), 0].astype(float)
        assert np.corrcoef(at.ravel(), moved.values.ravel().astype(float))[0, 1] > 0.98

    def test_gaps_stay_gaps_and_leave_no_rim(self):
        valid = np.ones((256, 256), bool)
        valid[:, :100] = False
        values = np.full((256, 256, 1), 200, np.uint8)
        values[:, :100] = 0
        (moved, _), _ = onto([picture(values, 2.0, valid=valid), picture()], 1)
        assert np.array_equal(moved.valid, np.repeat(np.repeat(valid, 2, 0), 2, 1))
        assert (moved.values[moved.valid] == 200).all()

    def test_other_spaces_are_said_and_places_without_overlap_refused(self):
        (same, _), (placed,) = onto([picture(space="EPSG:4326"), picture(space="EPSG:32632")], 1)
        assert np.array_equal(same.values, IMAGE)
        assert "lies in EPSG:4326, 1 of source 2 in EPSG:32632" in placed.note
        with pytest.raises(SizeMismatch, match="has no data where"):
            onto([picture(corner=(1000, 0)), picture()], 1)


class TestGeoTiff:
    def test_pixels_are_areas_or_points(self, tmp_path):
        geotiff(tmp_path / "a.tif", IMAGE[..., 0])
        geotiff(tmp_path / "b.tif", IMAGE[..., 0], corner=(500000.05, 4999999.95), point=True)
        a, b = (place_of(read_image(tmp_path / name)) for name in ("a.tif", "b.tif"))
        assert a.space == b.space == "EPSG:32632"
        assert np.allclose(a.matrix, [[0.1, 0, 500000.05], [0, -0.1, 4999999.95]])
        assert np.allclose(a.matrix, b.matrix)

    def test_a_transformation(self):
        keys = (1, 1, 0, 1, 3072, 0, 1, 25832)
        matrix = (0.2, 0.1, 0, 10, 0.1, -0.2, 0, 20, 0, 0, 0, 0, 0, 0, 0, 1)
        place = geo_place(((34264, 12, 16, matrix), (34735, 3, 8, keys)))
        assert np.allclose(place.matrix @ (-0.5, -0.5, 1), (10, 20))

    def test_systems_without_a_code_are_the_same_if_described_alike(self):
        def place(doubles):
            keys = (1, 1, 0, 2, 3072, 0, 1, 32767, 3080, 34736, 1, 0)
            geo = ((33550, 12, 3, (1.0, 1.0, 0.0)), (33922, 12, 6, (0.0,) * 6), (34735, 3, 12, keys))
            return geo_place((*geo, (34736, 12, 1, doubles)))

        assert place((9.0,)).space == place((9.0,)).space != place((12.0,)).space

    @pytest.mark.parametrize("value", [(), (1.0,), (0.0, 0.0, 0.0), (float("nan"), 1.0, 0.0), "x"])
    def test_odd_tags_state_no_place(self, value):
        assert geo_place(((33550, 12, 3, value), (33922, 12, 6, (0.0,) * 6))) is None

    def test_a_coarser_smaller_thermal_map_is_put_where_it_lies(self, tmp_path):
        y, x = np.mgrid[:120, :160]
        heat = (x - 80.0) ** 2 + (y - 50.0) ** 2 < 300
        colour = np.dstack([x, y, x]).astype(np.uint8)
        geotiff(tmp_path / "ortho.tif", colour)
        coarse = heat[20:100, 40:140].reshape(40, 2, 50, 2).mean((1, 3))
        geotiff(tmp_path / "thermal.tif", (20 + 15 * coarse).astype(np.float32), 0.2, (500004.0, 4999998.0))
        fast = ("run", *FAST, tmp_path / "thermal.tif", tmp_path / "ortho.tif")
        done = run_cli(*fast, "-o", tmp_path / "out.tif")
        assert done.returncode == 0, done.stderr
        assert "thermal.tif lies on another grid (50x40 pixels of 0.2 x 0.2)" in done.stderr
        row = json.loads((tmp_path / "out.manifest.jsonl").read_text())
        assert row["placed"] == [
            {
                "source": 1,
                "space": "EPSG:32632",
                "resampled": True,
                "step": [0.2, 0.2],
                "valid": pytest.approx(0.4167, abs=1e-3),
            }
        ]
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            fused = tiff.asarray().astype(float)
            assert tuple(tiff.pages[0].tags[33550].value) == (0.1, 0.1, 0)
        lifted = (fused - colour / 2).mean(2)
        assert lifted[heat].mean() > 100
        assert lifted[20:100, 40:140][~heat[20:100, 40:140]].mean() < 15

    def test_other_sizes_without_a_common_place_are_refused_as_ever(self, tmp_path):
        geotiff(tmp_path / "a.tif", IMAGE[:100, :100, 0])
        geotiff(tmp_path / "b.tif", IMAGE[..., 0], code=32633)
        done = run_cli("run", *FAST, tmp_path / "a.tif", tmp_path / "b.tif", "-o", tmp_path / "out.tif")
        assert done.returncode == 2
        assert "a.tif is 100x100 but b.tif is 512x512" in done.stderr
        assert "a.tif lies in EPSG:32632, b.tif in EPSG:32633" in done.stderr


def exr_lines(path, planes, window, sampling):
    """An uncompressed OpenEXR file of float channels (name -> rows), some of them subsampled."""
    names, (_, top, _, bottom) = sorted(planes), window

    def attribute(name, kind, value):
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    channels = b"".join(n.encode() + b"\0" + struct.pack("<iB3xii", 2, 0, *sampling[n]) for n in names) + b"\0"
    box = struct.pack("<4i", *window)
    header = struct.pack("<ii", 20000630, 2) + attribute("channels", "chlist", channels)
    header += attribute("compression", "compression", b"\0") + attribute("dataWindow", "box2i", box)
    header += attribute("displayWindow", "box2i", box) + attribute("lineOrder", "lineOrder", b"\0")
    header += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    lines = []
    for y in range(top, bottom + 1):
        rows = (planes[n][(y - top) // sampling[n][1]] for n in names if y % sampling[n][1] == 0)
        data = b"".join(np.asarray(row, "<f4").tobytes() for row in rows)
        lines.append(struct.pack("<ii", y, len(data)) + data)
    starts = len(header) + 8 * len(lines) + np.cumsum([0, *map(len, lines[:-1])])
    path.write_bytes(header + np.asarray(starts, "<u8").tobytes() + b"".join(lines))


class TestExr:
    OpenEXR = pytest.importorskip("OpenEXR")

    @staticmethod
    def scene():
        y, x = np.mgrid[:96, :128]
        return np.dstack([x / 128, y / 96, 0.5 + 0 * x]).astype(np.float32)

    def write(self, path, values, data, display):
        header = {"compression": self.OpenEXR.ZIP_COMPRESSION, "type": self.OpenEXR.scanlineimage}
        for name, box in (("dataWindow", data), ("displayWindow", display)):
            header[name] = (np.array(box[:2], np.int32), np.array(box[2:], np.int32))
        self.OpenEXR.File(header, {"RGB": np.ascontiguousarray(values)}).write(str(path))

    def test_the_data_window_lies_in_the_display_window(self, tmp_path):
        values, display = self.scene(), (10, 20, 137, 115)
        self.write(tmp_path / "full.exr", values, display, display)
        self.write(tmp_path / "part.exr", values[8:88, 16:112], (26, 28, 121, 107), display)
        pictures = [read_image(tmp_path / f"{n}.exr", (0.0, 1.0)) for n in ("part", "full")]
        (moved, full), (placed,) = onto(pictures, 1)
        assert placed.row["space"] == "an EXR display window of 128x96"
        assert np.array_equal(moved.valid, np.pad(np.ones((80, 96), bool), ((8, 8), (16, 16))))
        assert np.array_equal(moved.values[moved.valid], full.values[moved.valid])
        (cut, _), _ = onto(pictures[::-1], 1)
        assert np.array_equal(cut.values, pictures[0].values)

    def test_damaged_pixels_are_said_to_be(self, tmp_path):
        self.write(tmp_path / "a.exr", self.scene(), (0, 0, 127, 95), (0, 0, 127, 95))
        data = bytearray((tmp_path / "a.exr").read_bytes())
        data[1500:1520] = bytes(20)
        (tmp_path / "a.exr").write_bytes(data)
        with pytest.raises(ImageReadError, match="its pixels cannot be decoded"):
            read_image(tmp_path / "a.exr")

    @pytest.mark.parametrize("step", [1, 2])
    def test_luminance_and_chroma_are_rgb(self, tmp_path, step):
        values = self.scene() + np.float32(0.05)
        luminance = values @ np.array([0.2126, 0.7152, 0.0722], np.float32)
        planes = {"Y": luminance, "RY": values[..., 0] / luminance - 1, "BY": values[..., 2] / luminance - 1}
        planes = {n: p if n == "Y" else p[::step, ::step] for n, p in planes.items()}
        exr_lines(tmp_path / "a.exr", planes, (0, 0, 127, 95), {"Y": (1, 1), "RY": (step, step), "BY": (step, step)})
        error = np.abs(read_image(tmp_path / "a.exr", (0.0, 2.0)).pixels * 2 - values)[:-2, :-2]
        assert error.max() < (1e-3 if step == 1 else 0.03)
