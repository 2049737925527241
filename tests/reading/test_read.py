"""Files in and out: nothing is silently converted, and what cannot be read right is refused with the reason."""

import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

import fusionkit
from fusionkit.errors import ImageReadError, OutputError
from fusionkit.images.metadata import Metadata
from fusionkit.images.picture import PEAK, from_unit, to_unit
from fusionkit.reading import read_image
from fusionkit.writing import check_output, write_image

RNG = np.random.default_rng(0)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("depth", "dtype"), [("8", np.uint8), ("16", np.uint16)])
def test_every_stored_value_survives_the_unit_interval(depth, dtype):
    values = np.arange(int(PEAK[depth]) + 1).astype(dtype)
    span = (0.0, PEAK[depth])
    assert np.array_equal(from_unit(to_unit(values, span), depth, span), values)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_round_trip_is_exact(tmp_path, suffix, channels):
    values = RNG.integers(0, 256, (13, 17, channels)).astype(np.uint8)
    write_image(tmp_path / f"a{suffix}", values / np.float32(255), "8")
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.depth == "8"
    assert picture.size == (17, 13)
    assert np.array_equal(
        np.round(picture.pixels * 255).astype(np.uint8), np.broadcast_to(values, picture.pixels.shape)
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_round_trip_is_exact(tmp_path, suffix, channels, alpha):
    pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65536, (13, 17, channels)).astype(np.uint16)
    cover = (RNG.integers(0, 65536, (13, 17)) / 65535).astype(np.float32) if alpha else None
    write_image(tmp_path / f"a{suffix}", (values / 65535).astype(np.float32), "16", alpha=cover)
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.depth == "16"
    assert np.array_equal(np.round(picture.pixels.astype(np.float64) * 65535), values)
    assert (picture.alpha is not None) == alpha
    if alpha:
        np.testing.assert_allclose(picture.alpha, cover, atol=1e-7)


def test_float_tiff_round_trip_and_range(tmp_path):
    values = RNG.uniform(280, 310, (9, 11)).astype(np.float32)
    tifffile.imwrite(tmp_path / "kelvin.tif", values)
    with pytest.raises(ImageReadError, match=r"range=28\d.*,30\d"):
        read_image(tmp_path / "kelvin.tif", "full")
    picture = read_image(tmp_path / "kelvin.tif", (280.0, 310.0))
    np.testing.assert_allclose(picture.pixels[..., 0] * 30 + 280, values, atol=1e-4)
    write_image(tmp_path / "out.tif", picture.pixels, "float", span=picture.span)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out.tif"), values, atol=1e-4)
    clipped = read_image(tmp_path / "kelvin.tif", (285.0, 300.0))
    assert "clipped" in clipped.notes[0]


class TestOwnRange:
    """Data that fill little of their type, or lie outside it."""

    def write(self, path, values):
        tifffile.imwrite(path, values)
        return read_image(path)

    def test_thermal_counts_keep_their_contrast_and_come_back_as_they_were(self, tmp_path):
        values = RNG.integers(29_000, 30_600, (40, 50)).astype(np.uint16)
        picture = self.write(tmp_path / "ir.tif", values)
        assert picture.span == (values.min(), values.max())
        assert (picture.pixels.min(), picture.pixels.max()) == (0, 1)
        assert f"black is {values.min()}, white is {values.max()}" in picture.notes[0]
        write_image(tmp_path / "out.tif", picture.pixels, "16", span=picture.span)
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), values)

    def test_a_dead_pixel_does_not_decide(self, tmp_path):
        values = RNG.integers(29_000, 30_600, (100, 100)).astype(np.uint16)
        values[3, 4], values[5, 6] = 0, 65535
        low, high = self.write(tmp_path / "ir.tif", values).span
        assert 28_990 < low < 29_050
        assert 30_550 < high < 30_610

    def test_a_photograph_keeps_the_range_of_its_type(self, tmp_path):
        picture = self.write(tmp_path / "vis.tif", RNG.integers(500, 30_000, (40, 50)).astype(np.uint16))
        assert picture.span == (0, 65535)
        assert picture.notes == ()
        assert self.write(tmp_path / "unit.tif", RNG.uniform(0, 1, (9, 9)).astype(np.float32)).span == (0, 1)

    @pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
    def test_temperatures_of_any_type(self, tmp_path, dtype):
        values = RNG.integers(-20, 90, (30, 30)).astype(dtype)
        assert self.write(tmp_path / "c.tif", values).span == (values.min(), values.max())

    @pytest.mark.parametrize("value", [-3, 7])
    def test_a_constant_is_no_error(self, tmp_path, value):
        assert np.isfinite(self.write(tmp_path / "c.tif", np.full((8, 8), value, np.int16)).pixels).all()

    def test_arrays_are_taken_alike(self):
        values = RNG.integers(29_000, 30_600, (40, 50)).astype(np.uint16)
        with pytest.warns(fusionkit.FusionWarning, match="black is .* white is"):
            fused = fusionkit.fuse(values, values, prior="average", backbone="identity")
        assert np.array_equal(fused, values)


def test_16_bit_colour_png_without_a_codec_is_refused_not_truncated(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65536, (4, 5, 3)).astype(np.uint16)
    write_image(tmp_path / "a.png", (values / 65535).astype(np.float32), "16")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageReadError, match=r"16-bit PNG.*imagecodecs"):
        read_image(tmp_path / "a.png")
    with pytest.raises(OutputError, match=r"imagecodecs"):
        check_output(tmp_path / "b.png", "16", 3)
    check_output(tmp_path / "b.png", "16", 1)  # grey needs none


def test_12_bits_in_16_are_named_and_can_be_told(tmp_path):
    values = RNG.integers(0, 4096, (8, 8)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert "`range=0,4095`" in read_image(tmp_path / "a.tif", "full").notes[0]
    assert read_image(tmp_path / "a.tif").span[1] > 4000
    picture = read_image(tmp_path / "a.tif", (0.0, 4095.0))
    assert picture.notes == ()
    write_image(tmp_path / "b.tif", picture.pixels, "16", span=picture.span)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), values)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65536, (12, 9, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", compression=compression)
    assert np.array_equal(np.round(read_image(tmp_path / "a.tif").pixels.astype(np.float64) * 65535), values)


def test_tiff_photometrics(tmp_path):
    grey = RNG.integers(0, 256, (6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    assert np.array_equal(np.round(read_image(tmp_path / "white.tif").pixels[..., 0] * 255), 255 - grey)
    planes = RNG.integers(0, 256, (3, 6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(np.round(read_image(tmp_path / "planes.tif").pixels * 255), np.moveaxis(planes, 0, 2))
    Image.fromarray(grey).convert("1").save(tmp_path / "bits.tif")
    assert set(np.unique(read_image(tmp_path / "bits.tif").pixels)) <= {0.0, 1.0}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes(tmp_path, mode):
    base = Image.fromarray(RNG.integers(0, 256, (8, 9, 3)).astype(np.uint8))
    image = Image.fromarray(RNG.integers(0, 65536, (8, 9)).astype(np.uint16)) if mode == "I;16" else base.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    picture = read_image(path)
    assert picture.pixels.shape == (8, 9, 1 if mode in ("1", "L", "LA", "I;16") else 3)
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA"))
    assert picture.pixels.dtype == np.float32


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
def test_orientation_is_applied(tmp_path, orientation, suffix):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    stored = Image.fromarray(upright)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that stores it so
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a{suffix}", exif=exif)
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.size == (24, 16)
    assert picture.pixels[4, 4].mean() > 0.9
    assert picture.pixels[12, 20].mean() < 0.1


def test_colour_profile_is_carried(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for suffix in (".png", ".jpg", ".tif"):
        write_image(tmp_path / f"a{suffix}", np.full((4, 4, 3), 0.5, np.float32), "8", icc=profile)
        assert read_image(tmp_path / f"a{suffix}").icc == profile


def _truncated(path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def _bad_crc(path):
    Image.fromarray(RNG.integers(0, 256, (8, 8)).astype(np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[-14] ^= 1  # inside the checksum of IDAT
    path.write_bytes(bytes(data))


def _bomb(path):
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _bomb16(path):
    header = struct.pack(">IIBBBBB", 40000, 40000, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header))


def _animated(path):
    frames = [Image.new("L", (8, 8), v) for v in (0, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:], format="GIF")


def _pages(path):
    tifffile.imwrite(path, np.zeros((2, 8, 8, 3), np.uint8), photometric="rgb")


def _nan(path):
    values = np.zeros((8, 8), np.float32)
    values[0, 0] = np.nan
    tifffile.imwrite(path, values)


BAD = {
    "empty.png": (lambda p: p.write_bytes(b""), "empty"),
    "text.png": (lambda p: p.write_text("no image"), "known format"),
    "truncated.png": (_truncated, "export or copy it again"),
    "truncated.jpg": (_truncated, "truncated"),
    "crc.png": (_bad_crc, "checksum"),
    "bomb.png": (_bomb, "(1600000000 pixels|40000x40000) is over the limit"),
    "bomb16.png": (_bomb16, "40000x40000 is over the limit"),
    "frames.gif": (_animated, "holds 2 pictures; name one as frames.gif#1"),
    "pages.tif": (_pages, "holds 2 pictures"),
    "complex.tif": (lambda p: tifffile.imwrite(p, np.zeros((8, 8), np.complex64)), "no image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    make, reason = BAD[name]
    make(tmp_path / name)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name))
    assert "\n" not in message


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageReadError, match="No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageReadError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("name", "depth", "reason"),
    [
        ("a.jpg", "16", "cannot hold 16-bit"),
        ("a.png", "float", "cannot hold 32-bit float"),
        ("a.xyz", "8", "cannot write '.xyz'"),
        ("a", "8", "has no extension"),
    ],
)
def test_impossible_outputs_are_refused_before_work(tmp_path, name, depth, reason):
    with pytest.raises(OutputError, match=reason):
        check_output(tmp_path / name, depth, 1)


def test_alpha_is_composited_where_it_cannot_be_kept(tmp_path):
    pixels, alpha = np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32)
    notes = write_image(tmp_path / "a.jpg", pixels, "8", alpha=alpha)
    assert "composited onto white" in notes[0]
    assert read_image(tmp_path / "a.jpg").pixels.min() > 0.98


@pytest.mark.parametrize("codec", [True, False])
def test_a_failed_write_leaves_nothing(codec, tmp_path, monkeypatch):
    import fusionkit_plugins.writers.png as module

    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_png_encode", lambda: fails if codec else None)
    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OutputError, match="No space left"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 1), np.float32), "8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", ["8", "16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [1, 6])
@pytest.mark.parametrize("codec", [True, False])
def test_a_png_holds_what_was_written_whoever_writes_it(codec, level, channels, depth, tmp_path, monkeypatch):
    import fusionkit_plugins.writers.png as module

    if not codec:
        monkeypatch.setattr(module, "_png_encode", lambda: None)
        if channels > 1 and depth == "16":
            pytest.skip("needs the codec, and says so")
    pixels, packet = RNG.random((20, 31, channels), np.float32), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    write_image(tmp_path / "a.png", pixels, depth, png_level=level, metadata=Metadata(xmp=packet))
    again = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(again.pixels, pixels, atol=0.51 / PEAK[depth])
    assert again.depth == depth
    assert b"xmpmeta" in again.metadata.xmp


def test_a_thumbnail_is_not_taken_for_the_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(np.zeros((5, 6), np.uint8), subfiletype=1)
        tiff.write(np.full((50, 60), 200, np.uint8))
    assert read_image(tmp_path / "a.tif").size == (60, 50)


def test_16_bit_colour_png_is_turned_and_keeps_its_profile_when_read(tmp_path):
    pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65536, (6, 9, 3)).astype(np.uint16)
    write_image(tmp_path / "a.png", (values / 65535).astype(np.float32), "16")
    exif = Image.Exif()
    exif[0x0112] = 6
    data = (tmp_path / "a.png").read_bytes()
    chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00"))
    (tmp_path / "b.png").write_bytes(data[:33] + chunk + data[33:])
    picture = read_image(tmp_path / "b.png")
    assert picture.size == (6, 9)
    assert picture.turned
    assert np.array_equal(np.round(picture.pixels.astype(np.float64) * 65535), np.rot90(values, -1))


def test_a_profile_of_other_channels_is_left_out(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    notes = write_image(tmp_path / "a.png", np.zeros((4, 4, 1), np.float32), "8", icc=profile)
    assert "does not fit" in notes[0]
    assert read_image(tmp_path / "a.png").icc is None


def test_grey_stored_as_rgb_has_no_colour(tmp_path):
    grey = np.repeat(RNG.integers(0, 256, (16, 16, 1)), 3, axis=2).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert not read_image(tmp_path / "a.png").has_color
