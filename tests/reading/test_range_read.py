"""A range that no source reads is refused, wherever it is given."""

import pytest

from fusionkit.errors import NoEffect
from fusionkit.reading.ranges import Reading, source_ranges
from harness import run_cli


def test_a_range_needs_a_source_of_more_than_8_bits(pair_files, tmp_path):
    groups = [list(pair_files)]
    assert source_ranges(groups, Reading(folder_scope=False)) == ("auto", "auto")
    with pytest.raises(NoEffect, match="no source has more than 8 bits"):
        source_ranges(groups, Reading(((0.0, 4095.0),), folder_scope=False))
    for name, file in zip(("ir", "vis", "fused"), (*pair_files, pair_files[1]), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(file.read_bytes())
    folders = (tmp_path / "ir", tmp_path / "vis")
    for command in (
        ("run", *pair_files, "-o", tmp_path / "a.png"),
        ("run", "--pairs", *folders, "-o", tmp_path / "out"),
        ("evaluate", "--fused", tmp_path / "fused", "--pairs", *folders, "--metrics", "SD"),
    ):
        done = run_cli(*command, "--range", "0,4095")
        assert done.returncode == 2, command
        assert done.stderr.strip() == "fusionkit: error: --range has no effect: no source has more than 8 bits"


def test_an_ablation_of_made_scenes_reads_no_files(tmp_path):
    grid = tmp_path / "g.toml"
    grid.write_text('[data]\nscenes = "infrared-visible"\ncount = 1\n[report]\nmetrics = ["SD"]\n')
    done = run_cli("ablate", grid, "-o", tmp_path / "out", "--range", "0,4095")
    assert (done.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "--range has no effect on scenes made by code" in done.stderr
