"""The faster convolution is measured once on a machine, and kept."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics import fastest, precision
from fusionkit.numerics.fastest import Timed, kept_in, timed
from fusionkit.numerics.layers import fastest_format
from fusionkit.numerics.private import has_winograd
from harness import run_cli

pytestmark = pytest.mark.skipif(not has_winograd(), reason="this PyTorch or processor has no NNPACK")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path / "home"))
    timed.cache_clear()
    yield tmp_path / "home"
    timed.cache_clear()


def winograd_by_auto():
    with torch.no_grad(), precision.arithmetic(torch.device("cpu"), "auto"):
        return fastest_format(torch.rand(1, 2, 4, 4)).is_contiguous()


def test_both_are_timed_and_the_answer_is_kept(home):
    state = torch.get_rng_state()
    found = timed()
    assert min(found) > 0
    assert torch.equal(torch.get_rng_state(), state)
    ((machine, row),) = json.loads(kept_in().read_text()).items()
    assert tuple(row) == found
    assert torch.__version__ in machine


@pytest.mark.parametrize(("answer", "winograd"), [(Timed(2.0, 1.0), True), (Timed(1.0, 2.0), False)])
def test_auto_takes_what_was_faster_and_says_so(home, monkeypatch, answer, winograd):
    monkeypatch.setattr(fastest, "_measure", lambda: answer)
    assert precision.takes_winograd() is winograd_by_auto() is winograd
    timed.cache_clear()
    monkeypatch.setattr(fastest, "_measure", lambda: pytest.fail("measured twice"))
    assert timed() == answer
    described = Pipeline(backbone="rf", restore="none", device="cpu").describe()
    assert described["convolutions"] == ("winograd" if winograd else "direct")
    assert "convolutions" not in Pipeline(backbone="identity", device="cpu").describe()


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}', "[" * 5000, "\xff"])
def test_a_damaged_file_is_replaced(home, text):
    home.mkdir()
    kept_in().write_text(text, encoding="latin-1")
    assert timed() == Timed(*next(iter(json.loads(kept_in().read_text()).values())))


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSIONKIT_HOME", str(tmp_path / "file" / "home"))
    timed.cache_clear()
    assert min(timed()) > 0
    timed.cache_clear()


def test_processes_that_start_together_agree(home):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        first, second = pool.map(_timed, range(2))
    assert first == second


def _timed(_):
    return tuple(timed())


def test_doctor_says_the_answer(home):
    home.mkdir()
    kept_in().write_text(json.dumps({fastest.measured(): [1.0, 2.0]}))
    assert "direct, 2.0 times as fast" in run_cli("doctor").stdout
