"""Colours of a thermal camera on what is hot, and their legend."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fusionkit import Pipeline
from fusionkit.errors import OptionError
from fusionkit.reading import read_image
from fusionkit_plugins.palettes import colours_of
from fusionkit_plugins.stages.palette import COLD

PLAIN = {"prior": "source", "prior_options": {"number": 2}, "backbone": "identity", "align": "none", "look": "faithful"}
COLOURS = colours_of("iron", first=COLD)


def fused(palette, images, **more):
    return Pipeline(**{**PLAIN, **more}, palette=palette).run(images)


@pytest.fixture
def pair():
    """A ramp from 0 to 1 downwards, and a picture in one colour."""
    heat = torch.linspace(0, 1, 120).view(1, 1, 120, 1).expand(1, 1, 120, 140).contiguous()
    return [heat, torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 120, 140).contiguous()]


def test_colours_are_those_of_the_legend_and_the_rest_is_the_picture(pair):
    image = fused("iron:0.5,0.9", pair).image
    column = image[0, :, :, 70].T.numpy()
    heat = pair[0][0, 0, :, 70].numpy()
    np.testing.assert_allclose(column[heat < 0.5], np.broadcast_to([0.2, 0.5, 0.3], (60, 3)), atol=1e-6)
    above = (heat > 0.55) & (heat < 0.9)
    expected = COLOURS[np.rint((heat[above] - 0.5) / 0.4 * 255).astype(int)]
    np.testing.assert_allclose(column[above], expected, atol=1e-6)
    np.testing.assert_allclose(column[heat > 0.9] - COLOURS[-1], 0, atol=1e-6)


def test_the_legend_covers_a_corner_without_heat_alone(pair):
    image = fused("iron:0.5,0.9", pair).image[0].numpy()
    changed = np.abs(image - np.array([0.2, 0.5, 0.3])[:, None, None]).max(0) > 1e-4
    assert changed[:60].any()
    assert not changed[:50, :70].any()  # it is in the upper right


def test_no_legend_on_small_pictures_is_said(pair):
    result = fused("iron:0.5,0.9", [x[..., :90, :90] for x in pair])
    assert "no legend: a side is below 100 px" in result.notes


def test_a_range_above_all_values_is_said(pair):
    (note,) = (note for note in fused("iron:30,60", pair).notes if "nothing is above" in note)
    assert note == "source 1: nothing is above 30, where `palette` begins; its range is 0 to 1"
    assert not any("nothing is above" in note for note in fused("iron:0.9,60", pair).notes)


def test_a_grey_result_becomes_colour(pair):
    assert fused("iron:0.5,0.9", [pair[0], pair[1][:, :1]]).shape == (1, 3, 120, 140)


def test_the_values_are_degrees_of_the_file_and_gaps_have_no_colour(tmp_path):
    degrees = np.tile(np.linspace(-10, 90, 140, dtype=np.float32), (120, 1))
    degrees[70:, 120:] = np.nan
    tifffile.imwrite(tmp_path / "ir.tif", degrees)
    shown = np.full((120, 140, 3), (50, 120, 80), np.uint8)
    Image.fromarray(shown).save(tmp_path / "vis.png")
    pictures = [read_image(tmp_path / "ir.tif", (-10, 90)), read_image(tmp_path / "vis.png")]
    result = Pipeline(**PLAIN, palette="iron:40,80").fuse_pictures(pictures)
    row = result.picture.pixels[10]  # above the legend
    for x in (100, 110, 120):
        expected = COLOURS[round((degrees[10, x] - 40) / 40 * 255)]
        np.testing.assert_allclose(row[x], expected, atol=0.02)
    assert np.array_equal(np.rint(255 * row[:65]), shown[0, :65])
    np.testing.assert_allclose(result.picture.pixels[90, 130], shown[0, 0] / 255, atol=1e-3)


@pytest.mark.parametrize("text", ["iron", "iron:9", "iron:9,9", "iron:a,b", "iron:0,inf", "blue:1,2", ":1,2"])
def test_other_texts_are_refused(text):
    with pytest.raises(OptionError, match="palette"):
        Pipeline(**PLAIN, palette=text)


def test_without_one_grey_source_it_is_refused(pair):
    for images in ([pair[1], pair[1]], [pair[0], pair[0], pair[1]]):
        with pytest.raises(OptionError, match="the one grey source beside the reference"):
            fused("iron:0.5,0.9", images)
