"""Files that belong together: of several folders, by patterns, in a table, shots in turn."""

import pytest
from PIL import Image

from fusionkit.errors import InputError
from fusionkit.reading.matching import match, match_folders


@pytest.fixture
def folders(tmp_path):
    a, b = tmp_path / "ir", tmp_path / "vi"
    for folder, names in ((a, ("one.png", "two.PNG", "three.png")), (b, ("one.png", "TWO.png", "three.png"))):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    return a, b


def test_groups_are_sorted_and_ignore_extension_and_case(folders):
    a, b = folders
    for name in ("one.jpg", "alone.tif", "notes.txt", ".hidden.png"):
        (a / name).touch()
    matching = match_folders(folders)
    assert matching.groups == [(a / "three.png", b / "three.png"), (a / "two.PNG", b / "TWO.png")]
    assert matching.ambiguous == [(a / "one.jpg", a / "one.png")]
    assert matching.unmatched == [a / "alone.tif"]


def test_nothing_in_common_says_what_stands_alone(tmp_path):
    for name in ("a/x.png", "a/x.jpg", "b/x.png", "b/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pattern = r"no file name is in all of .*; .*x\.jpg and .*x\.png have one name; without a partner: .*y\.png"
    with pytest.raises(InputError, match=pattern):
        match_folders([tmp_path / "a", tmp_path / "b"])


def test_what_is_no_folder_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        match_folders([folders[0], tmp_path / "none"])


def test_one_folder_twice_is_refused(folders):
    with pytest.raises(InputError, match="one folder is named twice"):
        match_folders([folders[0], folders[0]])


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


class TestPatterns:
    def test_what_the_wildcards_stand_for_is_the_same(self, tmp_path):
        touch(tmp_path, "a_ir.tiff", "a_vis.jpg", "b_ir.tiff", "B_vis.JPG", "c_ir.tiff", "notes.txt")
        found = match([tmp_path / "*_ir.tiff", tmp_path / "*_vis.jpg"])
        assert found.groups == [(tmp_path / "a_ir.tiff", tmp_path / "a_vis.jpg")]
        assert found.names == ["a"]
        assert found.unmatched == [tmp_path / "B_vis.JPG", tmp_path / "b_ir.tiff", tmp_path / "c_ir.tiff"]

    def test_several_wildcards(self, tmp_path):
        touch(tmp_path, "s1_ir_0.png", "s1_vis_0.png", "s1_ir_1.png", "s1_vis_1.png")
        found = match([tmp_path / "*_ir_?.png", tmp_path / "*_vis_?.png"])
        assert found.names == ["s1_0", "s1_1"]

    def test_what_cannot_be_matched_is_refused(self, tmp_path):
        touch(tmp_path, "a_ir.png", "a_vis_1.png")
        with pytest.raises(InputError, match="different numbers of wildcards"):
            match([tmp_path / "*_ir.png", tmp_path / "*_vis_*.png"])
        with pytest.raises(InputError, match="not both"):
            match([tmp_path / "*_ir.png", tmp_path])
        with pytest.raises(InputError, match="no such files"):
            match([tmp_path / "*_ir.png", tmp_path / "*_none.png"])
        with pytest.raises(InputError, match="in the file's name alone"):
            match([tmp_path / "*" / "a_ir.png", tmp_path / "*" / "a_v*.png"])


class TestTables:
    def test_rows_of_paths(self, tmp_path):
        table = tmp_path / "pairs.csv"
        table.write_text("﻿ir,vis,name\nir/a.png,vis/b.png,first\n/elsewhere/c.png,vis/d.png,\n", encoding="utf-8")
        found = match([table])
        assert found.groups[0] == (tmp_path / "ir/a.png", tmp_path / "vis/b.png")
        assert str(found.groups[1][0]) == "/elsewhere/c.png"
        assert found.names == ["first", "d"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no rows"),
            ("ir,vis\n", "no rows"),
            ("a/x.png,b/x.png\na/y.png,b/y.png\n", "expected a first row of column names, with commas.*not 'a/x.png'"),
            ("ir;vis\na.png;b.png\n", "expected a first row of column names, with commas"),
            ("ir,vis\na.png,\n", "row 2 has no path in vis"),
            ("ir,vis,name\na.png,b.png,../out\n", "is no file name"),
            ('ir,vis\n"a.png,b.png\n', "cannot be read"),
        ],
    )
    def test_what_is_wrong_is_one_line_with_its_row(self, tmp_path, text, message):
        (tmp_path / "pairs.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            match([tmp_path / "pairs.csv"])

    def test_two_results_of_one_name_are_ambiguous(self, tmp_path):
        (tmp_path / "p.csv").write_text("ir,vis\na/x.png,b/x.png\nc/x.png,d/X.png\n")
        found = match([tmp_path / "p.csv"])
        assert len(found.groups) == 1
        assert found.ambiguous == [(tmp_path / "b/x.png", tmp_path / "d/X.png")]

    def test_parquet_asks_for_its_library(self, tmp_path):
        (tmp_path / "p.parquet").write_bytes(b"PAR1")
        with pytest.raises(InputError, match=r"needs pyarrow|cannot be read"):
            match([tmp_path / "p.parquet"])


class TestShots:
    def test_by_name_where_times_are_not_known(self, tmp_path):
        touch(tmp_path, *(f"img{i}.jpg" for i in (1, 2, 9, 10, 11, 12, 13)))
        found = match([tmp_path], group=3)
        assert [[p.name for p in g] for g in found.groups] == [
            ["img1.jpg", "img2.jpg", "img9.jpg"],
            ["img10.jpg", "img11.jpg", "img12.jpg"],
        ]
        assert found.names == ["img1", "img10"]
        assert found.unmatched == [tmp_path / "img13.jpg"]
        assert "in the order of their names" in found.notes[0]

    @pytest.mark.parametrize("group", [1, 4])
    def test_groups_of_one_or_of_more_than_there_are_are_refused(self, tmp_path, group):
        touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
        with pytest.raises(InputError, match=f"`group={group}`: a group has two files or more, and .* holds 3"):
            match([tmp_path], group=group)

    def test_by_exif_time_where_all_have_one(self, tmp_path):
        for name, second in (("z.jpg", 1), ("y.jpg", 2), ("a.jpg", 3), ("b.jpg", 4)):
            exif = Image.Exif()
            exif.get_ifd(0x8769)[36867] = f"2026:01:01 10:00:0{second}"
            Image.new("RGB", (8, 8)).save(tmp_path / name, exif=exif)
        found = match([tmp_path / "*.jpg"], group=2)
        assert [[p.name for p in g] for g in found.groups] == [["z.jpg", "y.jpg"], ["a.jpg", "b.jpg"]]
        assert "EXIF times" in found.notes[0]

    def test_two_folders_are_no_bracket(self, tmp_path):
        with pytest.raises(InputError, match="one folder or one pattern"):
            match([tmp_path, tmp_path], group=2)
