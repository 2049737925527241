"""The reader `flir`: the contract of its kind, and files made here whose temperatures are known."""

import math
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fusionkit import read_image
from fusionkit.errors import ImageReadError
from fusionkit.reading import count_pictures
from fusionkit.testing import ReaderContract

R1, R2, B, F, OFFSET = 21106.77, 0.012545258, 1501.0, 1.0, -7340  # Planck constants of a camera
EMISSIVITY, REFLECTED = 0.95, 293.15
THERMAL, VISIBLE = (24, 32), (60, 80)  # height, width
RAW_DATA, EMBEDDED_IMAGE, CAMERA_INFO, PICTURE_IN_PICTURE = 1, 14, 32, 42
DEGREES, REAL_TO_IR = 45.0, 1.4  # field of view across; how much more the visible image shows


def raw_values() -> NDArray[np.uint16]:
    """A ramp with a hot corner."""
    values = np.linspace(14000, 17000, THERMAL[0] * THERMAL[1]).reshape(THERMAL)
    values[:5, :8] = 21000
    return values.astype(np.uint16)


def celsius(raw: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Temperatures of raw values, through no air and no window.

    raw = e raw_object + (1 - e) raw_reflected,  raw(T) = R1 / (R2 (exp(B / T) - F)) - OFFSET,  T in kelvin.
    """
    reflected = R1 / (R2 * (np.exp(B / REFLECTED) - F)) - OFFSET
    seen = (raw.astype(np.float64) - (1 - EMISSIVITY) * reflected) / EMISSIVITY
    return B / np.log(R1 / (R2 * (seen + OFFSET)) + F) - 273.15


def jpeg(height: int, width: int, **options: object) -> bytes:
    """A JPEG of a colour ramp with some texture."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * x // width, 255 * y // height, (x // 8 + y // 8) % 2 * 160], axis=2).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", **options)
    return stream.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(BytesIO(content)))


def picture_record(shape: tuple[int, int], content: bytes) -> bytes:
    """A record of pixels: 32 bytes, with width and height from the third on, then the data."""
    return struct.pack("<3H26x", 2, shape[1], shape[0]) + content


def write_flir(path: Path, visible: bytes | None = None, thermal: bool = True, ratio: float = REAL_TO_IR) -> Path:
    """An ordinary JPEG with a FLIR container in APP1 segments: a header, a directory, the records."""
    camera = bytearray(900)
    struct.pack_into("<6f", camera, 32, EMISSIVITY, 0, REFLECTED, 293.15, 293.15, 1)  # distance 0, window of nothing
    struct.pack_into("<3f", camera, 88, R1, B, F)
    struct.pack_into("<f", camera, 436, DEGREES)
    struct.pack_into("<if", camera, 776, OFFSET, R2)
    records = {CAMERA_INFO: bytes(camera), PICTURE_IN_PICTURE: struct.pack("<f6h16x", ratio, 3, -2, 0, 31, 0, 23)}
    if thermal:
        records[RAW_DATA] = picture_record(THERMAL, raw_values().astype("<u2").tobytes())
    if visible is not None:
        records[EMBEDDED_IMAGE] = picture_record(VISIBLE, visible)
    # cameras leave entries to spare, and flyr needs them: it counts the header as the first two
    spare = 2
    count = len(records) + spare
    container = struct.pack(">4s16s4I28x", b"FFF", b"fusionkit", 100, 64, count, 2)
    offset = len(container) + 32 * count
    for kind, content in records.items():
        container += struct.pack(">2H4I12x", kind, 1, 100, 1, offset, len(content))
        offset += len(content)
    container += bytes(32 * spare) + b"".join(records.values())
    parts = [container[i : i + 2000] for i in range(0, len(container), 2000)]
    segments = [
        struct.pack(">2sH5s3B", b"\xff\xe1", 10 + len(part), b"FLIR", 1, i, len(parts) - 1) + part
        for i, part in enumerate(parts)
    ]
    plain = jpeg(48, 64)
    path.write_bytes(plain[:2] + b"".join(segments) + plain[2:])
    return path


class TestContract(ReaderContract):
    name = "flir"
    precision = 1e-3

    def write(self, path: Path) -> NDArray[np.float64]:
        write_flir(path, jpeg(*VISIBLE))
        return celsius(raw_values())[:, :, None]


def test_a_file_gives_temperatures_and_the_visible_image(tmp_path):
    path = write_flir(tmp_path / "flir.jpg", jpeg(*VISIBLE))
    assert count_pictures(path) == 2
    expected = celsius(raw_values())
    low, high = float(np.floor(expected.min())), float(np.ceil(expected.max()))
    thermal = read_image(path, (low, high), picture=0)
    assert (thermal.name, thermal.format, thermal.depth) == ("flir.jpg (thermal)", "FLIR", "float")
    np.testing.assert_allclose(thermal.pixels[:, :, 0], (expected - low) / (high - low), atol=1e-5)
    visible = read_image(path, picture=1)
    assert (visible.name, visible.format, visible.depth) == ("flir.jpg (visible)", "FLIR", "8")
    np.testing.assert_array_equal((visible.pixels * 255).round(), pixels(jpeg(*VISIBLE)))


def test_the_pictures_see_what_the_camera_states(tmp_path):
    path = write_flir(tmp_path / "flir.jpg", jpeg(*VISIBLE))
    thermal, visible = (read_image(path, picture=i).view for i in (0, 1))
    assert thermal == pytest.approx(math.tan(math.radians(DEGREES / 2)))
    assert visible / thermal == pytest.approx(REAL_TO_IR)
    assert read_image(write_flir(tmp_path / "none.jpg", jpeg(*VISIBLE), ratio=0.0), picture=1).view is None


def test_a_file_without_a_visible_image_has_one_picture(tmp_path):
    path = write_flir(tmp_path / "flir.jpg")
    assert read_image(path).pixels.shape == (*THERMAL, 1)


def test_a_visible_image_that_is_damaged_is_left_out_and_this_is_said(tmp_path):
    thermal = read_image(write_flir(tmp_path / "flir.jpg", b"no image"))
    assert any("could not be decoded" in note for note in thermal.notes)


def test_the_limit_is_for_the_visible_image_too(tmp_path):
    path = write_flir(tmp_path / "flir.jpg", jpeg(*VISIBLE))
    with pytest.raises(ImageReadError, match="80x60 is over the limit"):
        read_image(path, max_pixels=VISIBLE[0] * VISIBLE[1] - 1, picture=0)


def test_records_without_temperatures_are_left_to_the_next_reader(tmp_path):
    assert read_image(write_flir(tmp_path / "flir.jpg", thermal=False)).format == "JPEG"


def test_bytes_that_only_look_like_its_segments_are_left_to_the_next_reader(tmp_path):
    """As in radiometric files of drones, which are in a format of their own."""
    plain = jpeg(48, 64)
    (tmp_path / "drone.jpg").write_bytes(plain[:2] + b"\xff\xe3\x00\x10" + b"..FLIR\x00\x01......"[:14] + plain[2:])
    assert read_image(tmp_path / "drone.jpg").format == "JPEG"


@pytest.mark.parametrize("maker", [None, "FLIR"])
def test_an_ordinary_jpeg_is_read_as_before(tmp_path, maker):
    """Also that of a FLIR camera which stored no temperatures."""
    exif = Image.Exif()
    if maker:
        exif[271] = maker
    content = jpeg(*VISIBLE, exif=exif)
    (tmp_path / "plain.jpg").write_bytes(content)
    assert (b"FLIR\x00" in content) == bool(maker)
    plain = read_image(tmp_path / "plain.jpg")
    assert plain.format == "JPEG"
    np.testing.assert_array_equal((plain.pixels * 255).round(), pixels(content))


def test_one_file_is_fused_at_the_visible_images_size(tmp_path):
    path = write_flir(tmp_path / "flir.jpg", jpeg(*VISIBLE))
    command = [sys.executable, "-m", "fusionkit", "run", "--prior", "average", "--backbone", "identity"]
    done = subprocess.run(
        [*command, "--resize", "reference", str(path), "-o", str(tmp_path / "fused.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "fused.png") as fused:
        assert (fused.size, fused.mode) == (VISIBLE[::-1], "RGB")
