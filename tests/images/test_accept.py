"""Arrays, tensors and PIL images as pictures, and their way into files."""

import numpy as np
import pytest
import torch
from PIL import Image

from fusionkit import fuse, read_image, write_image
from fusionkit.errors import FusionkitError, InputError
from fusionkit.images.accept import as_picture

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOUR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[..., None],
        COLOUR,
        COLOUR.astype(np.uint16) * 500,
        torch.from_numpy(GREY),
        torch.from_numpy(COLOUR).permute(2, 0, 1),
        torch.from_numpy(COLOUR).permute(2, 0, 1)[None],
        Image.fromarray(GREY),
        Image.fromarray(COLOUR),
        Image.fromarray(GREY.astype(np.uint16) * 500),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'dtype', '')}-{getattr(image, 'shape', '')}",
)
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_stored_values_come_back(image, name, tmp_path):
    if name == "a.png" and as_picture(image, "x").depth == "16":
        pytest.importorskip("imagecodecs", reason="16-bit colour PNG needs the extra codecs")
    assert write_image(str(tmp_path / name), image) == []
    values = np.asarray(read_image(tmp_path / name, "full"))
    expected = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    expected = np.moveaxis(expected.reshape(-1, 3, 4), 0, -1) if isinstance(image, torch.Tensor) else expected
    assert values.dtype == expected.dtype
    assert np.array_equal(values, expected.squeeze())


def test_a_read_picture_goes_back_unchanged(tmp_path):
    rgba = np.dstack([COLOUR, 5 * GREY + 100])
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=b"0" * 16 + b"RGB " + b"0" * 20)
    picture = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", picture)
    again = read_image(tmp_path / "b.png")
    assert np.array_equal(np.asarray(again), COLOUR)
    assert np.array_equal(again.alpha, picture.alpha)
    assert (again.icc, again.depth, again.span) == (picture.icc, "8", (0.0, 255.0))
    assert write_image(tmp_path / "c.jpg", picture) == [".jpg has no alpha: composited onto white"]


def test_a_picture_is_an_array_of_stored_values():
    picture = as_picture(GREY, "x")
    assert np.asarray(picture).dtype == np.uint8
    assert np.array_equal(picture, GREY)
    assert np.asarray(picture, np.float64).dtype == np.float64
    assert repr(picture) == "Picture('x', 4x3 grey, 8 bits, black 0, white 255)"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "is a NoneType; expected a PIL image"),
        ([GREY, GREY], "is a list; .*give its images one by one"),
        (np.zeros((2, 3, 4, 5)), r"array of shape \(2, 3, 4, 5\)"),
        (np.zeros((3, 8, 9)), r"channels come last: np\.moveaxis\(image, 0, -1\)"),
        (torch.zeros(8, 9, 3), r"channels come first: image\.permute\(2, 0, 1\)"),
        (np.zeros((0, 4)), "is empty"),
        (np.zeros((3, 4), bool), "array of bool; expected uint8"),
        (np.full((3, 4), 200.0), r"values from 200 to 200, expected \[0, 1\]; divide by 255"),
        (np.full((3, 4), np.inf), r"values from inf to inf, expected \[0, 1\]$"),
        (torch.zeros(2, 3, 4, 5), "batch of 2 images"),
        (Image.new("P", (3, 4)), r'mode P; give image\.convert\("RGB"\)'),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image, reason, tmp_path):
    with pytest.raises(InputError, match=reason) as error:
        write_image(tmp_path / "a.png", image)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda p: write_image(GREY, p / "a.png"), "`path` is a ndarray; give a path first, then the image"),
        (lambda p: write_image(p / "a.xyz", GREY), r"cannot write '\.xyz'; use one of \.png"),
        (lambda p: write_image(p / "a", GREY), "a: has no extension; use one of"),
        (lambda p: write_image(p, GREY), "is a folder, not a file"),
        (lambda p: write_image(p / "a.png", GREY, depth=12), "`depth=12`: expected 8, 16 or float"),
        (lambda p: write_image(p / "a.jpg", GREY, depth=16), r"\.jpg cannot hold 16-bit images"),
        (lambda p: write_image(p / "a.jpg", GREY, quality=0), "`quality=0`: expected 1 to 100"),
        (lambda p: write_image(p / "a.png", GREY, png_level=10), "`png_level=10`: expected 0 to 9"),
        (lambda p: write_image(p / "a.png", GREY, alpha=np.ones((2, 2))), r"`alpha` has shape \(2, 2\)"),
        (lambda p: fuse(np.full((9, 9), 200.0), GREY), "source 1 has values from 200 .*divide by 255"),
        (lambda p: fuse(GREY), "fusing needs two or more images of one scene; got 1"),
        (lambda p: fuse([GREY, GREY]), "source 1 is a list; expected a path, .*one by one"),
    ],
)
def test_misuse_is_one_line(call, reason, tmp_path):
    with pytest.raises(FusionkitError, match=reason) as error:
        call(tmp_path)
    assert "\n" not in str(error.value)
