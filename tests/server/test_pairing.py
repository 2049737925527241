"""Which files of a page belong together, by their names."""

import pytest

pytest.importorskip("fastapi", reason="the page needs the extra serve")
from fusionkit.errors import InputError
from fusionkit.server.pairing import scenes_of
from fusionkit.server.recipes import as_command


def scenes(names, *how):
    """Names of scenes with the names of their files."""
    return {scene["name"]: [names[i] for i in scene["files"]] for scene in scenes_of(names, *how)["scenes"]}


def test_kinds_of_one_folder_are_told_by_what_is_no_number():
    names = [f"dji/DJI_{i:04}_{kind}" for i in range(12) for kind in ("V.jpg", "T.tiff")]
    found = scenes_of([*names, "dji/log.txt", "dji/.DS_Store"])
    assert found["patterns"] == "DJI_*_T.tiff DJI_*_V.jpg"
    assert found["left"] == 2
    assert scenes(names)["0007"] == ["dji/DJI_0007_T.tiff", "dji/DJI_0007_V.jpg"]


def test_equal_names_in_several_folders_belong_together_whatever_their_endings():
    names = ["x/vis/a.jpg", "x/ir/A.png", "x/ir/b.png", "x/vis/b.jpg", "x/ir/c.png"]
    assert scenes(names) == {"a": ["x/ir/A.png", "x/vis/a.jpg"], "b": ["x/ir/b.png", "x/vis/b.jpg"]}
    assert scenes_of(names)["left"] == 1


def test_a_browser_that_tells_no_folders_may_give_one_name_twice():
    assert scenes(["7.png", "7.png"]) == {"7": ["7.png", "7.png"]}


def test_shots_are_in_the_order_of_their_numbers():
    names = [f"IMG_{i}.jpg" for i in range(8, 12)]
    assert scenes(names) == {"IMG_8 to IMG_11": names}
    assert scenes(names, "", 2) == {"IMG_8": names[:2], "IMG_10": names[2:]}


def test_patterns_are_those_of_the_command_line():
    names = ["s/a 1_ir.png", "s/a 1_vis.png", "t/b_ir.png", "t/b_vis.png"]
    assert list(scenes(names, "*_ir.png *_vis.png")) == ["a 1", "b"]
    assert list(scenes(names, "t/*_ir.png t/*_vis.png")) == ["b"]
    assert list(scenes(names, "'a *_ir.png' 'a *_vis.png'")) == ["1"]


def test_the_command_for_all_scenes_is_the_one_that_finds_them():
    kinds = [f"dji/D_{i}_{kind}.png" for i in range(3) for kind in "TV"]
    assert scenes_of(kinds)["many"] == ["--pairs", "dji/D_*_T.png", "dji/D_*_V.png"]
    assert scenes_of(kinds, "", 2)["many"] == ["--group", "2", "dji"]
    assert scenes_of([f"x/{kind}/{i}.png" for i in range(3) for kind in ("ir", "vis")])["many"] == [
        "--pairs",
        "x/ir",
        "x/vis",
    ]
    assert scenes_of(kinds[:2])["many"] == []
    command = as_command({"look": "vivid"}, ["a.png"], scenes_of(kinds)["many"])
    assert command == "fusionkit run --pairs 'dji/D_*_T.png' 'dji/D_*_V.png' --look vivid -o fused"


@pytest.mark.parametrize(
    ("names", "patterns", "said"),
    [
        (["a.txt"], "", "No picture is among a.txt"),
        (["a.png", "b.png"], "*.png", "a pattern for each kind"),
        (["a.png", "b.png"], "a*.png b*.png", "no such files"),
        (["a1.png", "b2.png"], "a*.png b*.png", "no file name is in all of"),
        (["a1.png", "b2.png"], "a*.png b?*.png", "different numbers of wildcards"),
        (["a1.png", "b2.png"], "'a*.png b*.png", "patterns"),
    ],
)
def test_what_cannot_be_grouped_is_said(names, patterns, said):
    with pytest.raises(InputError, match=said):
        scenes_of(names, patterns)
