"""Formats beside the common ones: what is read, by which values, and what is left out of a folder."""

import shutil
import struct
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import tifffile
from PIL import Image

from fusionkit.batch.plan import job_of, plan_folders
from fusionkit.contracts import Pictures, Stored
from fusionkit.errors import ImageReadError, InputError
from fusionkit.images.metadata import Metadata
from fusionkit.reading import count_pictures, read_image
from fusionkit.reading.matching import bare_name, match_folders
from fusionkit.reading.read import images_among, open_pictures
from harness import load_image, run_cli

RNG = np.random.default_rng(0)
FAST = ("--prior", "average", "--backbone", "identity")
COLOUR = RNG.integers(0, 256, (24, 40, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (24, 40, 3)).astype(np.uint16)


def stored(path, index=0):
    return open_pictures(path)[index]


def encoded(name, values, **how):
    return bytes(getattr(pytest.importorskip("imagecodecs"), f"{name}_encode")(values, **how))


class TestByContent:
    """A file without extension, or with one that nobody knows, is what its first bytes say."""

    def write(self, path, kind):
        if kind == "jxl":
            path.write_bytes(encoded("jpegxl", COLOUR, lossless=True))
        elif kind == "hdr":
            path.write_bytes(encoded("rgbe", (COLOUR / np.float32(51)).astype(np.float32)))
        elif kind == "heic":
            pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(COLOUR)).save(
                path, format="HEIF", quality=-1, chroma=444
            )
        elif kind == "tiff":
            tifffile.imwrite(path, COLOUR, photometric="rgb")
        elif kind == "pfm":
            path.write_bytes(b"PF\n40 24\n-1.0\n" + COLOUR[::-1].astype("<f4").tobytes())
        else:
            how = {"avif": {"quality": 100, "subsampling": "4:4:4"}, "webp": {"lossless": True}}
            Image.fromarray(COLOUR).save(path, kind, **how.get(kind, {}))

    @pytest.mark.parametrize("name", ["IM0001", "a.xyz", "a.IMA", "b"])
    @pytest.mark.parametrize(
        ("kind", "far"),
        [("avif", 12), ("jpeg2000", 0), ("jxl", 0), ("hdr", 0.02), ("heic", 3), ("pfm", 0), ("webp", 0), ("tiff", 0)],
    )
    def test_its_values_are_read(self, kind, far, name, tmp_path):
        path = tmp_path / name
        self.write(path, kind)
        expected = COLOUR / np.float32(51) if kind == "hdr" else COLOUR.astype(float)
        assert np.abs(stored(path).values.astype(float) - expected).mean() <= far
        assert images_among([path])[0] == [path]

    def test_ten_bits_of_avif_are_not_cut_to_eight(self, tmp_path, monkeypatch):
        import sys

        values = np.tile(np.arange(1024, dtype=np.uint16), (16, 1))[..., None].repeat(3, 2)
        (tmp_path / "a.avif").write_bytes(encoded("avif", values, bitspersample=10, level=100, pixelformat="444"))
        picture = read_image(tmp_path / "a.avif", "full")
        assert (picture.depth, picture.span) == ("16", (0, 1023))
        assert len(np.unique(picture.values)) > 600
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        with pytest.raises(ImageReadError, match=r"10-bit AVIF.*imagecodecs"):
            read_image(tmp_path / "a.avif")

    def test_sixteen_bits_of_jpeg_2000(self, tmp_path):
        (tmp_path / "a.jp2").write_bytes(encoded("jpeg2k", DEEP, reversible=True, level=0))
        assert np.array_equal(stored(tmp_path / "a.jp2").values, DEEP)

    @pytest.mark.parametrize("white", [4095, 65535])
    def test_sixteen_bits_of_ppm(self, white, tmp_path):
        values = np.minimum(DEEP, white)
        (tmp_path / "a.ppm").write_bytes(b"P6\n# made here\n40 24\n%d\n" % white + values.astype(">u2").tobytes())
        picture = read_image(tmp_path / "a.ppm", "full")
        assert picture.span == (0, white)
        assert np.array_equal(picture.values, values)

    def test_grey_pfm_goes_from_the_bottom_up(self, tmp_path):
        values = RNG.random((5, 7), np.float32)
        (tmp_path / "a.pfm").write_bytes(b"Pf\n7 5\n1.0\n" + values[::-1].astype(">f4").tobytes())
        assert np.array_equal(stored(tmp_path / "a.pfm").values[..., 0], values)

    def test_the_limit_of_pixels_comes_before_the_decoder(self, tmp_path, monkeypatch):
        codecs = pytest.importorskip("imagecodecs")
        for kind in ("jxl", "hdr"):
            self.write(tmp_path / kind, kind)
            monkeypatch.setattr(codecs, {"jxl": "jpegxl_decode", "hdr": "rgbe_decode"}[kind], pytest.fail)
            with pytest.raises(ImageReadError, match="40x24 is over the limit"):
                read_image(tmp_path / kind, max_pixels=40 * 24 - 1)

    @pytest.mark.parametrize("size", [(8, 8), (256, 255), (257, 300), (1, 513), (4100, 3)])
    def test_sizes_in_headers_of_jpeg_xl(self, size, tmp_path):
        values = np.zeros((*size, 3), np.uint8)
        (tmp_path / "a.jxl").write_bytes(encoded("jpegxl", values))
        with pytest.raises(ImageReadError, match=rf" {size[1]}x{size[0]} is over"):
            read_image(tmp_path / "a.jxl", max_pixels=1)

    @pytest.mark.parametrize("count", [1, 3])
    def test_the_first_frame_of_an_animated_jpeg_xl_is_read_and_said(self, count, tmp_path):
        frames = np.stack([np.full((16, 16, 3), 60 * i + 9, np.uint8) for i in range(count)])
        (tmp_path / "a.jxl").write_bytes(encoded("jpegxl", frames if count > 1 else frames[0], lossless=True))
        found = stored(tmp_path / "a.jxl")
        assert (found.values == 9).all()
        notes = [note for note in found.notes if "colour profile" not in note]
        assert notes == (["an animation, of which the first frame was read"] if count > 1 else [])

    def test_numbers_at_the_end_of_a_name_are_no_extension(self):
        names = ("IM.0001", "1.2.840.10", "a.ome.tif", "a.jfif", "a.xyz")
        assert [bare_name(Path(name)) for name in names] == ["IM.0001", "1.2.840.10", "a", "a", "a"]


class TestSeveral:
    def stack(self, path, count=4, **how):
        values = RNG.integers(0, 256, (count, 24, 40)).astype(np.uint8)
        tifffile.imwrite(path, values, photometric="minisblack", **how)
        return values

    @pytest.mark.parametrize(
        ("name", "how", "second"),
        [
            ("a.tif", {}, "page 2"),
            ("a.ome.tif", {"metadata": {"axes": "ZYX"}}, "slice 2"),
            ("a.tif", {"imagej": True, "metadata": {"axes": "ZYX"}}, "slice 2"),
        ],
    )
    def test_pages_are_pictures_and_one_file_is_a_stack(self, name, how, second, tmp_path):
        values = self.stack(tmp_path / name, **how)
        assert count_pictures(tmp_path / name) == 4
        picture = read_image(f"{tmp_path / name}#2")
        assert picture.name == f"{name} ({second})"
        assert np.array_equal(picture.values[..., 0], values[1])
        assert job_of([tmp_path / name], tmp_path / "out.png").pictures == (0, 1, 2, 3)
        assert b"ImageJ" not in picture.metadata.exif

    def test_channels_and_slices_are_no_one_stack(self, tmp_path):
        values = RNG.integers(0, 256, (3, 2, 24, 40)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"})
        assert np.array_equal(read_image(f"{tmp_path / 'a.tif'}#4").values[..., 0], values[1, 1])
        with pytest.raises(InputError, match="holds 6 pictures, of 3 slices and 2 channels; name those to fuse"):
            job_of([tmp_path / "a.tif"], tmp_path / "out.png")

    def test_large_files_of_imagej_have_one_page_for_all(self, tmp_path):
        values = self.stack(tmp_path / "a.tif", imagej=True, metadata={"axes": "ZYX"})
        data = bytearray((tmp_path / "a.tif").read_bytes())
        order = ">" if data[:2] == b"MM" else "<"
        at = struct.unpack(f"{order}I", data[4:8])[0]
        entries = struct.unpack(f"{order}H", data[at : at + 2])[0]
        data[at + 2 + 12 * entries : at + 6 + 12 * entries] = bytes(4)  # no next page
        (tmp_path / "a.tif").write_bytes(data)
        assert count_pictures(tmp_path / "a.tif") == 4
        assert np.array_equal(read_image(f"{tmp_path / 'a.tif'}#3").values[..., 0], values[2])

    @pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
    def test_animations(self, suffix, tmp_path):
        frames = [Image.new("RGB", (16, 12), (60 * i + 20,) * 3) for i in range(4)]
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert count_pictures(path) == 4
        levels = [read_image(path, picture=i).values.mean() for i in (3, 0, 2, 1)]
        assert levels == pytest.approx([200, 20, 140, 80], abs=3)
        job = job_of([path], tmp_path / "out.png")
        assert len(job.sources) == 4

    def test_a_header_that_claims_billions_of_frames_is_refused(self, tmp_path):
        frames = [Image.new("L", (16, 12), v) for v in (10, 100)]
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
        data = (tmp_path / "a.png").read_bytes()
        at = data.index(b"acTL")
        body = b"acTL" + struct.pack(">II", 2_000_000_000, 0)
        (tmp_path / "a.png").write_bytes(data[:at] + body + struct.pack(">I", crc32(body)) + data[at + 16 :])
        with pytest.raises(ImageReadError, match="says that it holds 2000000000 pictures"):
            job_of([tmp_path / "a.png"], tmp_path / "out.png")

    def test_the_first_picture_of_a_phones_jpeg_is_read_and_views_of_a_scene_are_equals(self, tmp_path):
        frames = [Image.new("RGB", size, (v,) * 3) for size, v in (((32, 24), 200), ((16, 12), 90))]
        frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / "a.jpg").size == (32, 24)
        assert count_pictures(tmp_path / "a.jpg") == 1
        assert read_image(f"{tmp_path / 'a.jpg'}#2").size == (16, 12)
        data = (tmp_path / "a.jpg").read_bytes()
        at = data.index(struct.pack("<I", 0x030000), data.index(b"MPF\0") + 50)  # the first word of 16 bytes: kind
        both = data[:at] + struct.pack("<I", 0x020002) + data[at + 4 : at + 16] + struct.pack("<I", 0x020002)
        (tmp_path / "b.jpg").write_bytes(both + data[at + 20 :])  # "disparity"
        assert count_pictures(tmp_path / "b.jpg") == 2
        with pytest.raises(ImageReadError, match="holds 2 pictures"):
            read_image(tmp_path / "b.jpg")

    def test_one_stack_is_fused_from_the_command_line(self, tmp_path):
        self.stack(tmp_path / "a.tif", 3)
        done = run_cli("run", *FAST, tmp_path / "a.tif", "-o", tmp_path / "out.tif")
        assert done.returncode == 0, done.stderr
        assert "a.tif holds 3 pictures, which were fused" in done.stderr
        frames = [Image.new("L", (16, 12), v) for v in (10, 100)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        done = run_cli("run", *FAST, tmp_path / "a.gif", "-o", tmp_path / "out.png")
        assert done.returncode == 0, done.stderr
        assert np.asarray(load_image(tmp_path / "out.png")).mean() == pytest.approx(55, abs=2)

    def test_pictures_are_decoded_when_they_are_asked_for(self):
        asked = []
        pictures = Pictures(5, lambda i: asked.append(i) or Stored(COLOUR))
        assert len(pictures) == 5
        assert pictures[-1] is not None
        assert len(pictures[1:3]) == 2
        assert asked == [4, 1, 2]
        with pytest.raises(IndexError):
            pictures[5]


class TestTiff:
    @pytest.mark.parametrize(
        ("text", "dtype", "nodata"),
        [
            ("-9999", np.float32, -9999),
            ("nan", np.float32, np.nan),
            ("-3.4e+38", np.float32, np.float32(-3.4e38)),
            ("-1.7976931348623157e+308", np.float32, np.finfo(np.float32).min),
            ("0", np.uint16, 0),
            ("255", np.uint8, 255),
            ("-32768", np.int16, -32768),
        ],
    )
    def test_gdals_nodata_is_outside_the_picture(self, text, dtype, nodata, tmp_path):
        values = RNG.integers(1, 100, (20, 30)).astype(dtype)
        values[:5] = nodata
        tags = [(42113, 2, None, text, True)]
        tifffile.imwrite(tmp_path / "a.tif", values, metadata=None, extratags=tags)
        found = stored(tmp_path / "a.tif")
        assert found.nodata == pytest.approx(float(nodata), nan_ok=True)
        assert np.array_equal(found.valid, np.arange(20)[:, None].repeat(30, 1) >= 5)

    @pytest.mark.parametrize(("text", "dtype"), [("-9999", np.uint8), ("0.5", np.uint16), ("none", np.float32)])
    def test_a_value_that_no_pixel_can_have_is_none(self, text, dtype, tmp_path):
        tags = [(42113, 2, None, text, True)]
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), dtype), metadata=None, extratags=tags)
        assert (stored(tmp_path / "a.tif").nodata, stored(tmp_path / "a.tif").valid) == (None, None)

    def test_a_pixel_is_none_where_all_bands_are(self, tmp_path):
        values = np.full((4, 5, 3), 9, np.uint8)
        values[0, :, 0], values[1] = 0, 0
        tags = [(42113, 2, None, "0", True)]
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", metadata=None, extratags=tags)
        assert stored(tmp_path / "a.tif").valid.all(1).tolist() == [True, False, True, True]

    def test_a_mask_page_is_alpha_and_copies_are_no_pictures(self, tmp_path):
        mask = np.zeros((24, 40), bool)
        mask[:, 10:] = True
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(COLOUR, photometric="rgb", metadata=None)
            tiff.write(mask, photometric=4, subfiletype=4, metadata=None)
            tiff.write(COLOUR[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
            tiff.write(mask[::2, ::2], photometric=4, subfiletype=5, metadata=None)
            tiff.write(COLOUR[::4, ::4], photometric="rgb", metadata=None)
        found = stored(tmp_path / "a.tif")
        assert count_pictures(tmp_path / "a.tif") == 1
        assert np.array_equal(found.values, COLOUR)
        assert np.array_equal(found.valid, mask)
        assert np.array_equal(found.alpha, mask * np.uint8(255))

    def test_masks_of_floats_are_in_their_range(self, tmp_path):
        mask = np.eye(9, dtype=bool)
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(RNG.random((9, 9), np.float32), metadata=None)
            tiff.write(mask, photometric=4, subfiletype=4, metadata=None)
        picture = read_image(tmp_path / "a.tif")
        assert np.array_equal(picture.alpha, mask.astype(np.float32))

    @pytest.mark.parametrize(
        ("count", "photometric", "kinds"),
        [(4, "minisblack", [0] * 3), (4, "rgb", [0]), (2, "minisblack", [0]), (8, "minisblack", [0] * 7)],
    )
    def test_other_bands_are_chosen_and_never_dropped_in_silence(self, count, photometric, kinds, tmp_path):
        values = RNG.integers(0, 65536, (6, 7, count)).astype(np.uint16)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, values, photometric=photometric, extrasamples=kinds, planarconfig="contig")
        with pytest.raises(ImageReadError, match=f"holds {count} bands; name the one or three to use"):
            read_image(path)
        assert np.array_equal(read_image(path, "full", bands=(2,)).values[..., 0], values[..., 1])
        if count > 3:
            picture = read_image(path, "full", bands=(4, 2, 1))
            assert np.array_equal(picture.values, values[..., [3, 1, 0]])
            assert picture.bands == (4, 2, 1)
        with pytest.raises(ImageReadError, match="names others"):
            read_image(path, bands=(count + 1,))

    def test_the_command_takes_bands_once_or_for_each_source(self, tmp_path):
        pan, many = RNG.integers(0, 256, (24, 40)).astype(np.uint8), RNG.integers(0, 256, (24, 40, 5)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "pan.tif", pan)
        tifffile.imwrite(
            tmp_path / "ms.tif", many, photometric="minisblack", extrasamples=[0] * 4, planarconfig="contig"
        )
        command = (
            "run",
            *FAST,
            "--reference",
            "1",
            tmp_path / "pan.tif",
            tmp_path / "ms.tif",
            "-o",
            tmp_path / "o.tif",
        )
        refused = run_cli(*command)
        assert refused.returncode == 2
        assert "ms.tif: holds 5 bands; name the one or three to use, as in --bands 3,2,1" in refused.stderr
        done = run_cli(*command, "--bands", "1", "--bands", "4,3,2")
        assert done.returncode == 0, done.stderr
        assert tifffile.imread(tmp_path / "o.tif").shape == (24, 40, 3)
        other = shutil.copy(tmp_path / "pan.tif", tmp_path / "pan2.tif")
        idle = run_cli("run", *FAST, "--bands", "1", tmp_path / "pan.tif", other, "-o", tmp_path / "p.tif")
        assert "--bands has no effect" in idle.stderr
        assert "expected one or three numbers" in run_cli(*command, "--bands", "1,2", "--force").stderr


class TestJpegWithoutEnd:
    def data(self):
        stream = BytesIO()
        y, x = np.mgrid[:200, :120]
        pixels = np.stack([(x * 2) % 256, (y + x) % 256, (3 * y) % 256], 2).astype(np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    @pytest.mark.parametrize("tail", [b"", bytes(600)])
    def test_it_is_read_with_a_note(self, tail, tmp_path):
        data = self.data()
        (tmp_path / "whole.jpg").write_bytes(data)
        (tmp_path / "a.jpg").write_bytes(data[:-2] + tail)
        picture = read_image(tmp_path / "a.jpg")
        assert np.array_equal(picture.values, read_image(tmp_path / "whole.jpg").values)
        if not tail:  # which decoders take for filling before the marker
            assert picture.notes == ("the file's end marker is missing; it was read all the same",)

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
    def test_half_pictures_are_refused(self, share, tmp_path):
        data = self.data()
        (tmp_path / "a.jpg").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageReadError, match=r"truncated.*export or copy it again"):
            read_image(tmp_path / "a.jpg")


class TestLeftOut:
    def folders(self, tmp_path):
        for folder in ("ir", "vis"):
            (tmp_path / folder).mkdir()
            Image.fromarray(COLOUR).save(tmp_path / folder / "1", "PNG")
        return tmp_path / "ir", tmp_path / "vis"

    def heic(self, path):
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")

    def test_kinds_are_counted_with_what_would_read_them(self, tmp_path, monkeypatch):
        ir, vis = self.folders(tmp_path)
        for i in range(10):
            self.heic(ir / f"p{i}.heic")
        for name in ("notes.txt", "TABLE"):
            (ir / name).write_text("some words\n")
        (ir / "manifest.jsonl").write_text("{}\n")
        (ir / ".hidden").write_bytes(b"\0")
        find = __import__("importlib.util", fromlist=["util"]).find_spec
        monkeypatch.setattr("fusionkit.registry.loading.find_spec", lambda n: None if n == "pillow_heif" else find(n))
        plan = plan_folders([ir, vis], tmp_path / "out")
        assert plan.left_out == [f"{ir}: 12 files left out: 10 HEIC (pip install pillow-heif), 2 text"]
        assert plan.lost == 10
        assert [job.key for job in plan.jobs] == ["1"]

    def test_text_is_no_loss_and_a_kind_of_image_is(self, tmp_path):
        ir, vis = self.folders(tmp_path)
        (ir / "notes.txt").write_text("words")
        command = ("run", *FAST, "--pairs", ir, vis, "-o", tmp_path / "out")
        done = run_cli(*command)
        assert (done.returncode, "1 file left out: 1 text" in done.stderr) == (0, True), done.stderr
        (vis / "a.psd").write_bytes(b"8BPS\0\1")
        (vis / "gone.png").symlink_to(tmp_path / "nowhere")
        done = run_cli(*command)
        assert done.returncode == 1
        assert "2 files left out: 1 .psd, 1 broken link" in done.stderr

    def test_nothing_in_common_says_what_was_left_out(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "x.psd").write_bytes(b"8BPS\0\1")
        with pytest.raises(InputError, match=r"a: holds no images; .*a: 1 file left out: 1 \.psd"):
            match_folders([tmp_path / "a", tmp_path / "b"])


class TestDeclining:
    READER = """
import fusionkit
from fusionkit.contracts import Reader

class Marked(Reader):
    def read(self, path, max_pixels):
        return ()

@fusionkit.hookimpl
def fusionkit_readers():
    yield fusionkit.ReaderRecord(name="marked", summary="declines", target="declining:Marked", mark=b"MARKED", several=True)
"""

    def test_the_next_reader_is_asked(self, tmp_path, site):
        site.add("declining", self.READER)
        path = tmp_path / "a.png"
        Image.fromarray(COLOUR).save(path)
        path.write_bytes(path.read_bytes() + b"MARKED")
        env = {"FUSIONKIT_PLUGINS": "imagefusionkit,declining", "PYTHONPATH": str(site.site)}
        other = shutil.copy(path, tmp_path / "b.png")
        done = run_cli("run", *FAST, path, other, "-o", tmp_path / "out.png", env=env)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.asarray(load_image(tmp_path / "out.png")), COLOUR)


class TestMessages:
    def test_only_damage_asks_for_another_copy(self, tmp_path):
        from fusionkit.reading.read import _reason

        assert _reason(NotImplementedError("compression 7")) == "cannot be read: compression 7"
        assert "copy" not in _reason(ValueError("the codec is not supported"))
        assert _reason(ValueError("broken data stream")).endswith("; export or copy it again")
        assert "b'" not in _reason(ValueError("unknown chunk b'IDAX' in it"))

    def test_a_decoder_that_prints_leaves_json_alone(self, tmp_path, site):
        site.add(
            "loud",
            """
import ctypes
import os
import numpy as np
import fusionkit
from fusionkit.contracts import Reader, Stored

class Loud(Reader):
    def read(self, path, max_pixels):
        os.write(1, b"noise on stdout\\n")
        ctypes.CDLL(None).puts(b"noise in the buffer of C")
        print("noise of Python")
        os.write(2, b"noise on stderr\\n")
        return [Stored(np.zeros((8, 8, 1), np.uint8))]

@fusionkit.hookimpl
def fusionkit_readers():
    yield fusionkit.ReaderRecord(name="loud", summary="prints", target="loud:Loud", extensions=(".loud",))
""",
        )
        (tmp_path / "a.loud").write_bytes(b"x")
        env = {"FUSIONKIT_PLUGINS": "imagefusionkit,loud", "PYTHONPATH": str(site.site)}
        path = tmp_path / "a.loud"
        done = run_cli(
            "run", "--json", *FAST, path, shutil.copy(path, tmp_path / "b.loud"), "-o", tmp_path / "out.png", env=env
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("{")
        assert len(done.stdout.splitlines()) == 1
        assert "noise" not in done.stdout + done.stderr

    def test_a_format_is_refused_before_anything_is_read(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "1.png").write_bytes(b"no image")
        done = run_cli(
            "run",
            *FAST,
            "--pairs",
            tmp_path / "a",
            tmp_path / "b",
            "-o",
            tmp_path / "o",
            "--ext",
            "jpg",
            "--depth",
            "16",
        )
        assert done.returncode == 2
        assert "cannot hold 16-bit images" in done.stderr
        assert not (tmp_path / "o" / "manifest.jsonl").exists()


def _installed(package, pattern, most=10):
    folder = Path(pytest.importorskip(package).__file__).parent
    return sorted(p for p in folder.rglob(pattern) if p.is_file())[:most]


@pytest.mark.parametrize("number", range(10))
def test_files_that_other_packages_bring(number):
    """Pictures beside the code of scikit-image, and of imageio and matplotlib where they are there."""
    found = [p for suffix in ("png", "jpg", "tif*", "gif") for p in _installed("skimage", f"data/*.{suffix}")]
    if number >= len(found):
        pytest.skip("not among the installed files")
    picture = read_image(found[number], picture=0)
    assert picture.pixels.std() > 0.01


def test_metadata_of_a_page_is_its_own(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for i in range(2):
            tiff.write(COLOUR, photometric="rgb", metadata=None, extratags=[(271, 2, None, f"Camera {i}", True)])
    makers = []
    for i in range(2):
        exif = Image.Exif()
        exif.load(read_image(tmp_path / "a.tif", picture=i).metadata.exif)
        makers.append(exif[271])
    assert makers == ["Camera 0", "Camera 1"]
    assert Metadata() == Metadata(b"", b"", (), ())


def test_colours_that_a_jpeg_xl_states(tmp_path):
    for values, kind in ((COLOUR, None), (DEEP, b"RGB "), (DEEP[..., 0], b"GRAY")):  # imagecodecs: deep is linear
        (tmp_path / "a.jxl").write_bytes(encoded("jpegxl", values, lossless=True))
        found = stored(tmp_path / "a.jxl")
        assert (found.icc and found.icc[16:20], found.notes) == (kind, ())
        assert np.array_equal(found.values.squeeze(), values)
