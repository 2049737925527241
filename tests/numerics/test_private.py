"""Without each private function of PyTorch the same comes out."""

from functools import reduce

import pytest
import torch
import torch.nn.functional as F

from fusionkit.bench import operations
from fusionkit.numerics import private
from fusionkit.numerics.layers import Convolution, winograd
from fusionkit.numerics.precision import has_bfloat16


@pytest.fixture(params=sorted(private.LOSS))
def without(request, monkeypatch):
    """A PyTorch that lacks one of them; its name."""
    *path, name = request.param.split(".")
    holder = reduce(getattr, path, torch)
    private._nnpack_starts.cache_clear()
    if path[:1] == ["ops"]:  # its operators are found by __getattr__, not stored
        found = private._find
        monkeypatch.setattr(private, "_find", lambda asked: None if asked == request.param else found(asked))
    else:
        monkeypatch.delattr(holder, name, raising=False)
    yield request.param
    private._nnpack_starts.cache_clear()


def test_it_is_named(without):
    assert without in private.missing()


def test_convolutions_are_the_same_and_counted(without, generator):
    conv, x = Convolution(48, 48, 3, padding=1), torch.randn(1, 48, 40, 40, generator=generator)
    with torch.no_grad(), winograd():
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1), rtol=0, atol=1e-4)
        if without.startswith("_nnpack"):
            assert not private.has_winograd()
            assert operations(lambda: conv(x)) == 2 * 9 * 48 * 48 * 40 * 40
        elif without.startswith("ops") and private.has_winograd():
            assert operations(lambda: conv(x)) == 0


def test_bfloat16_is_asked_for(without):
    assert has_bfloat16(torch.device("cpu")) in (True, False)
    if without.startswith("cpu"):
        assert not has_bfloat16(torch.device("cpu"))


def test_averages_are_the_same(without, generator):
    averages, values = ([torch.rand(3, generator=generator) for _ in range(2)] for _ in range(2))
    wanted = [a + 0.25 * (v - a) for a, v in zip(averages, values, strict=True)]
    private.average_into(averages, values, 0.25)
    torch.testing.assert_close(averages, wanted)


def test_none_is_missing_from_the_version_that_was_tested():
    assert private.missing() == []
