"""Choices between images against `argmax`, `topk` and `gather`."""

import pytest
import torch

from fusionkit.numerics.choice import argmax, gather, one_hot, subsample, top_two


class TestChoice:
    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_it_is_what_reductions_say(self, count, generator):
        images = list(torch.randint(0, 5, (count, 2, 1, 9, 11), generator=generator).float())  # with many ties
        stacked = torch.stack(images)
        best, second, index = top_two(images)
        two = stacked.topk(2, dim=0).values
        assert torch.equal(best, two[0])
        assert torch.equal(second, two[1])
        assert torch.equal(index, argmax(images))
        first = (stacked == stacked.amax(0)).long().argmax(0)
        assert torch.equal(index.long(), first)  # the first of equal ones
        assert torch.equal(gather(images, index), best)
        assert torch.equal(torch.stack(one_hot(index, count)).argmax(0), first)

    def test_one_image_is_the_largest(self):
        best, second, index = top_two([torch.ones(1, 1, 2, 2)])
        assert float(best.sum()) == 4
        assert bool((second == -torch.inf).all())
        assert int(index.sum()) == 0


@pytest.mark.parametrize("size", [(480, 640), (1500, 1500), (3000, 4000), (100, 90_000)])
def test_of_a_large_image_some_of_the_pixels_are_left_and_of_a_small_one_all(size):
    y = torch.rand(1, 1, 1, 1).expand(1, 1, *size)
    left, whole = subsample(y)[0, 0].numel(), y.numel()
    assert left == whole if whole < 2**20 else 2**20 <= left <= 2**22


def test_what_is_left_has_the_statistics_of_all(generator):
    y = torch.rand(1, 1, 2000, 3000, generator=generator) * torch.linspace(0, 1, 3000)
    assert float(subsample(y).mean()) == pytest.approx(float(y.mean()), abs=1e-3)
