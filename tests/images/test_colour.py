"""Colours of all sources in the reference's space, from profiles and from what PNG states in chunks."""

import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from fusionkit.images.colour import in_profile
from fusionkit.images.metadata import read_metadata
from fusionkit.images.picture import Picture
from fusionkit.reading import read_image
from fusionkit.writing import write_image
from harness import load_image, run_cli

codecs = pytest.importorskip("imagecodecs")
FAST = ("--prior", "source", "--prior-opt", "number=1", "--backbone", "identity")
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
P3 = (0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def made(kind="rgb", gamma=2.2):
    how = {"primaries": P3, "whitepoint": (0.3127, 0.329, 1.0)} if kind == "rgb" else {}
    return bytes(codecs.cms_profile(kind, gamma=gamma, **how))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(path, *chunks, values=COLOUR):
    Image.fromarray(values).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"".join(chunk(*c) for c in chunks) + data[33:])
    return path


def picture(values, icc):
    depth, peak = {"uint8": ("8", 255.0), "uint16": ("16", 65535.0), "float32": ("float", 1.0)}[str(values.dtype)]
    return Picture(values, depth, (0.0, peak), icc=icc, name="a")


class TestProfiles:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_a_source_is_converted_to_the_references(self, dtype):
        peak = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
        values = (COLOUR / 255 * peak).round(0 if peak > 1 else 9).astype(dtype)
        source, reference = picture(values, made()), picture(values, None)
        (converted, same), notes = in_profile([source, reference], 1)
        assert same is reference
        expected = codecs.cms_transform(COLOUR, made(), SRGB, colorspace="rgb", outcolorspace="rgb")
        assert np.abs(converted.pixels * 255 - expected).max() <= 2
        assert np.abs(expected.astype(int) - COLOUR).max() > 20
        assert converted.icc is None
        assert notes[0].startswith("a: colours converted from")
        assert (converted.depth, converted.span) == (source.depth, source.span)

    def test_a_source_without_one_is_srgb(self):
        (converted, _), _ = in_profile([picture(COLOUR, None), picture(COLOUR, made())], 1)
        expected = codecs.cms_transform(COLOUR, SRGB, made(), colorspace="rgb", outcolorspace="rgb")
        assert np.abs(converted.values.astype(int) - expected).max() <= 1
        assert converted.icc == made()

    def test_what_makes_no_difference_stays_as_it_is(self):
        grey = picture(COLOUR[..., :1], None)  # a thermal image has no colours
        for source in (picture(COLOUR, SRGB), picture(COLOUR, None), grey, picture(COLOUR, made("gray"))):
            assert in_profile([source, picture(COLOUR, None)], 1)[0][0] is source
        assert in_profile([grey, picture(COLOUR, made())], 1)[0][0] is grey

    def test_grey_of_another_curve_is_converted(self):
        (converted, _), _ = in_profile([picture(COLOUR[..., :1], made("gray", 1.0)), picture(COLOUR, None)], 1)
        expected = codecs.cms_transform(COLOUR[..., 0], made("gray", 1.0), SRGB, colorspace="gray", outcolorspace="rgb")
        assert np.abs(converted.values[..., 0].astype(int) - expected[..., 0]).max() <= 1

    def test_without_the_codec_deep_colours_are_said_to_be_left(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        deep = picture(COLOUR.astype(np.uint16) * 257, made())
        (left, _), notes = in_profile([deep, picture(COLOUR, None)], 1)
        assert "they were not converted; pip install 'imagecodecs>=" in notes[0]
        assert np.array_equal(left.values, deep.values)

    def test_a_damaged_profile_is_said(self):
        bad = made()[:200] + bytes(400)
        _, notes = in_profile([picture(COLOUR, bad), picture(COLOUR, None)], 1)
        assert "cannot be used" in notes[0]

    def test_the_command_converts(self, tmp_path):
        Image.fromarray(COLOUR).save(tmp_path / "a.png", icc_profile=made())
        Image.fromarray(COLOUR[::-1].copy()).save(tmp_path / "b.png")
        done = run_cli(
            "run", *FAST, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "o.png", "--color", "ycbcr"
        )
        assert done.returncode == 0, done.stderr
        assert "a.png: colours converted from" in done.stderr


class TestChunks:
    def test_gamma_is_a_profile_and_stays_in_the_result(self, tmp_path):
        png(tmp_path / "a.png", (b"gAMA", struct.pack(">I", 100_000)))
        found = read_image(tmp_path / "a.png")
        (converted, _), _ = in_profile([found, picture(COLOUR, None)], 1)
        light = COLOUR / 255.0
        srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(converted.values - 255 * srgb).max() <= 1.5
        write_image(tmp_path / "b.png", found)
        again = load_image(tmp_path / "b.png").info
        assert again["gamma"] == 1.0
        assert again["icc_profile"] == found.icc

    def test_primaries_are_a_profile(self, tmp_path):
        numbers = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
        body = struct.pack(">8I", *(round(n * 100_000) for n in numbers))
        png(tmp_path / "a.png", (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", body))
        png(tmp_path / "b.png", (b"cICP", bytes((12, 13, 0, 1))))
        first, second = (
            in_profile([read_image(tmp_path / n), picture(COLOUR, None)], 1)[0][0] for n in ("a.png", "b.png")
        )
        assert np.abs(first.values.astype(int) - second.values).max() <= 1
        assert np.abs(first.values.astype(int) - COLOUR).max() > 20

    @pytest.mark.parametrize(
        "chunks",
        [
            [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))],
            [(b"gAMA", struct.pack(">I", 45455))],
            [(b"cICP", bytes((1, 13, 0, 1)))],
        ],
    )
    def test_srgb_by_any_name_needs_no_profile(self, chunks, tmp_path):
        found = read_image(png(tmp_path / "a.png", *chunks))
        assert (found.icc, found.notes) == (None, ())

    @pytest.mark.parametrize(
        ("codes", "word"), [((9, 16, 0, 1), "PQ"), ((9, 18, 0, 1), "HLG"), ((4, 99, 0, 1), "H.273")]
    )
    def test_what_no_profile_says_is_said(self, codes, word, tmp_path):
        found = read_image(png(tmp_path / "a.png", (b"cICP", bytes(codes))))
        assert word in found.notes[0]
        assert found.icc is None
        write_image(tmp_path / "b.png", found)
        assert b"cICP" + bytes(codes) in (tmp_path / "b.png").read_bytes()
        assert any("holds no cICP" in note for note in write_image(tmp_path / "b.tif", found))

    @pytest.mark.parametrize("body", [b"\0\0\0\0"])
    def test_damaged_ones_are_said(self, body, tmp_path):
        found = read_image(png(tmp_path / "a.png", (b"gAMA", body)))
        assert any("damaged" in note for note in found.notes)

    @pytest.mark.parametrize("codec", [True, False])
    def test_resolution_stays_with_and_without_the_codec(self, codec, tmp_path, monkeypatch):
        found = read_image(png(tmp_path / "a.png", (b"pHYs", struct.pack(">IIB", 3937, 3937, 1))))
        if not codec:
            monkeypatch.setitem(sys.modules, "imagecodecs", None)
        write_image(tmp_path / "b.png", found)
        assert load_image(tmp_path / "b.png").info["dpi"] == pytest.approx((100, 100), abs=0.1)
        write_image(tmp_path / "c.tif", found)
        with tifffile.TiffFile(tmp_path / "c.tif") as tiff:
            assert tiff.pages[0].get_resolution() == pytest.approx((100, 100), abs=0.1)

    def test_deep_colours_have_them_too(self, tmp_path):
        data = bytes(codecs.png_encode(COLOUR.astype(np.uint16) * 257))
        body = chunk(b"gAMA", struct.pack(">I", 100_000))
        (tmp_path / "a.png").write_bytes(data[:33] + body + data[33:])
        assert read_image(tmp_path / "a.png").icc is not None


def test_read_metadata_of_an_image_without_any():
    assert read_metadata(Image.new("L", (4, 4)), []).exif == b""
