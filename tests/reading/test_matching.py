"""Files of several folders that belong together."""

import pytest

from fusionkit.errors import InputError
from fusionkit.reading.matching import match_folders


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


def test_what_is_no_folder_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        match_folders([folders[0], tmp_path / "none"])


def test_one_folder_twice_is_refused(folders):
    with pytest.raises(InputError, match="one folder is named twice"):
        match_folders([folders[0], folders[0]])
