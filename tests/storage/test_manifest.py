"""The manifest by itself; what a run makes of it is in batch/test_batch_run.py."""

from fusionkit.storage.manifest import Manifest


def test_a_line_cut_off_by_a_crash_is_ignored_and_the_next_stands_alone(tmp_path):
    manifest = Manifest(tmp_path / "made" / "manifest.jsonl")
    assert list(manifest.rows()) == []
    for number in range(3):
        manifest.append("pair", number=number)
    manifest.path.write_text(manifest.path.read_text()[:-5])
    manifest.append("pair", number=3)
    assert [row["number"] for row in manifest.rows()] == [0, 1, 3]
