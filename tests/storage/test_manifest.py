"""The manifest by itself; what a run makes of it is in batch/test_batch_run.py."""

import pytest

from fusionkit.errors import OutputError
from fusionkit.storage.atomic import stage
from fusionkit.storage.manifest import Ledger, Manifest, digest, file_record
from fusionkit.storage.outcome import Outcome


def test_a_line_cut_off_by_a_crash_is_ignored_and_the_next_stands_alone(tmp_path):
    manifest = Manifest(tmp_path / "made" / "manifest.jsonl")
    assert list(manifest.rows()) == []
    for number in range(3):
        manifest.append("pair", number=number)
    manifest.path.write_text(manifest.path.read_text()[:-5])
    manifest.append("pair", number=3)
    assert [row["number"] for row in manifest.rows()] == [0, 1, 3]


def result(folder, sources, text=b"fused"):
    with stage(folder / "a.png") as staged:
        staged.temporary.write_bytes(text)
    output = {**file_record(staged.temporary), "path": str(staged.path)}
    return Outcome("a", staged=staged, record={"sources": [file_record(s) for s in sources], "output": output})


def test_a_result_is_finished_while_method_sources_and_file_are_the_same(tmp_path):
    source, output, path = tmp_path / "s.png", tmp_path / "a.png", tmp_path / "manifest.jsonl"
    source.write_bytes(b"source")
    assert Ledger(path, "m").settle(result(tmp_path, [source])).status == "done"
    assert output.read_bytes() == b"fused"
    assert Ledger(path, "m").finished("a", [source], output)
    assert not Ledger(path, "m", force=True).finished("a", [source], output)
    other = Ledger(path, "n")
    assert not other.finished("a", [source], output)
    assert not other.owns("a", output)
    with pytest.raises(OutputError, match="other options"):
        other.refuse_others()
    source.write_bytes(b"another")
    assert not Ledger(path, "m").finished("a", [source], output)
    assert Ledger(path, "m").owns("a", output)
    output.write_bytes(b"edited by hand")
    assert not Ledger(path, "m").owns("a", output)


def test_a_result_that_cannot_appear_has_failed_and_one_without_its_row_does_not_appear(tmp_path):
    outcome = result(tmp_path, [])
    (tmp_path / "a.png").mkdir()
    ledger = Ledger(tmp_path / "manifest.jsonl", "m")
    assert ledger.settle(outcome).status == "failed"
    assert [row["status"] for row in ledger.rows()] == ["ok", "failed"]
    (tmp_path / "a.png").rmdir()
    with pytest.raises(OutputError):
        Ledger(tmp_path, "m").settle(result(tmp_path, []))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.jsonl"]


def test_a_digest_does_not_follow_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
