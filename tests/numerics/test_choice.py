"""Choices between images against `argmax`, `topk` and `gather`."""

import pytest
import torch

from fusionkit.numerics.choice import chosen, largest, largest_two, one_hot


class TestChoice:
    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_it_is_what_reductions_say(self, count, generator):
        images = list(torch.randint(0, 5, (count, 2, 1, 9, 11), generator=generator).float())  # with many ties
        stacked = torch.stack(images)
        best, second, index = largest_two(images)
        two = stacked.topk(2, dim=0).values
        assert torch.equal(best, two[0])
        assert torch.equal(second, two[1])
        assert torch.equal(index, largest(images))
        first = (stacked == stacked.amax(0)).long().argmax(0)
        assert torch.equal(index.long(), first)  # the first of equal ones
        assert torch.equal(chosen(images, index), best)
        assert torch.equal(torch.stack(one_hot(index, count)).argmax(0), first)

    def test_one_image_is_the_largest(self):
        best, second, index = largest_two([torch.ones(1, 1, 2, 2)])
        assert float(best.sum()) == 4
        assert bool((second == -torch.inf).all())
        assert int(index.sum()) == 0
