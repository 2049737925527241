"""Pictures of thermal cameras in the colours of a palette: undone where the file holds it, noticed where it does not."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fusionkit import read_image
from fusionkit_plugins.palettes import colours_of
from fusionkit_plugins.readers.false_colour import looks_false

IRON = np.rint(255 * colours_of("iron")).astype(np.uint8)


def heat(count=256):
    """Indices into a palette."""
    shown = data.camera()[:240, :320].astype(float)
    return np.rint((shown - shown.min()) / np.ptp(shown) * (count - 1)).astype(np.uint8)


def palette_png(path, index, colours):
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    image.save(path)


@pytest.mark.parametrize("count", [256, 120])
def test_a_png_palette_that_is_a_scale_is_undone(count, tmp_path):
    index = heat(count)
    palette_png(tmp_path / "ir.png", index, np.rint(255 * colours_of("iron", count)).astype(np.uint8))
    picture = read_image(tmp_path / "ir.png")
    assert picture.channels == 1
    assert np.array_equal(picture.values[..., 0], np.rint(index * (255 / (count - 1))).astype(np.uint8))
    assert any("read as the values" in note for note in picture.notes)


@pytest.mark.parametrize("make", ["grey", "quantised", "few", "shuffled"])
def test_other_palettes_stay_colours(make, tmp_path):
    if make == "quantised":
        image = Image.fromarray(data.astronaut()).quantize(256)
        image.save(tmp_path / "a.png")
        expected = np.asarray(image.convert("RGB"))
    else:
        index = heat(8 if make == "few" else 256)
        colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1) if make == "grey" else IRON
        colours = np.random.default_rng(0).permutation(colours) if make == "shuffled" else colours
        palette_png(tmp_path / "a.png", index, colours)
        expected = colours[index]
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.values, expected)
    assert not any("palette of colours" in note for note in picture.notes)


def flir_jpeg(path, index, palette, order, offset=0):
    """A JPEG in a palette that is in FLIR's records, in two segments."""
    y = palette @ [0.299, 0.587, 0.114]
    ycrcb = np.stack([y, (palette[:, 0] - y) * 0.713 + 128, (palette[:, 2] - y) * 0.564 + 128], 1)
    record = bytearray(0x70)
    record[0], record[0x50:0x54] = len(palette), b"Iron"
    record += np.rint(ycrcb).clip(0, 255).astype(np.uint8).tobytes()
    head = b"FFF\0".ljust(20, b"\0") + struct.pack(f"{order}III", 101, 64, 1)
    entry = struct.pack(f"{order}H10xII12x", 0x22, 96, len(record))
    block = head.ljust(64, b"\0") + entry + bytes(record)
    stream = io.BytesIO()
    Image.fromarray((palette[index] + offset).clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=92)
    content, segments = stream.getvalue(), b""
    halves = block[:200], block[200:]
    for number, half in enumerate(halves):
        body = b"FLIR\0\x01" + bytes((number, len(halves) - 1)) + half
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    path.write_bytes(content[:2] + segments + content[2:])


@pytest.mark.parametrize("order", [">", "<"])
def test_a_flir_palette_is_undone(order, tmp_path):
    palette = 255 * colours_of("iron", 224)
    index = heat(224)
    flir_jpeg(tmp_path / "ir.jpg", index, palette, order)
    picture = read_image(tmp_path / "ir.jpg")
    assert picture.channels == 1
    error = np.abs(picture.values[..., 0].astype(float) - index / 223.0 * 255)
    assert np.median(error) <= 3
    assert np.percentile(error, 99) < 25  # edges, where JPEG has mixed colours
    assert any("in its palette Iron" in note and "temperatures need a reader" in note for note in picture.notes)


def test_a_photograph_with_a_palette_and_damaged_records_stay_as_they_are(tmp_path):
    palette = 255 * colours_of("iron", 224)
    flir_jpeg(tmp_path / "ir.jpg", heat(224), palette, ">")
    content = (tmp_path / "ir.jpg").read_bytes()
    assert content.count(b"FFF\0") == 1
    (tmp_path / "odd.jpg").write_bytes(content.replace(struct.pack(">II", 64, 1), struct.pack(">II", 2**31, 9)))
    assert read_image(tmp_path / "odd.jpg").channels == 3
    stream = io.BytesIO()
    Image.fromarray(data.astronaut()).save(stream, "JPEG")
    photo = stream.getvalue()
    (tmp_path / "photo.jpg").write_bytes(photo[:2] + content[2 : content.index(b"\xff\xe0", 4)] + photo[2:])
    assert read_image(tmp_path / "photo.jpg").channels == 3


@pytest.mark.parametrize("name", ["camera", "coins", "moon"])
def test_false_colours_without_a_palette_are_noticed(name, tmp_path):
    shown = getattr(data, name)().astype(float)
    index = np.rint((shown - shown.min()) / np.ptp(shown) * 255).astype(int)
    Image.fromarray(IRON[index]).save(tmp_path / "ir.jpg", quality=75)
    picture = read_image(tmp_path / "ir.jpg")
    assert picture.channels == 3
    assert any("a thermal camera's palette like iron" in note for note in picture.notes)


def test_photographs_and_tinted_pictures_are_not():
    shown = data.camera().astype(float)[..., None] / 255
    sepia = (shown * [255, 220, 170]).astype(np.uint8)
    fire = (np.concatenate([3 * shown, 3 * shown - 1, 3 * shown - 2], 2).clip(0, 1) * 255).astype(np.uint8)  # hot metal
    for pixels in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.retina(), sepia, fire):
        assert not looks_false(pixels)
