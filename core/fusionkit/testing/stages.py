"""Contract of stages."""

import pytest
import torch
from torch import Tensor

from ..contracts import Sources, Stage
from .plugin import SIZES, PluginContract, assert_alone, random_images, unchanged


class StageContract(PluginContract):
    """Contract of a stage: see `fusionkit.contracts.Stage`."""

    kind = "stage"

    def sources(self, *shape: int) -> Sources:
        """Make two colour sources."""
        return Sources.of(random_images(*shape, count=2))

    def around(self, sources: Sources) -> Tensor:
        """Apply the stage around a fusion that takes the mean."""
        stage: Stage = self.make()
        seen = stage.before(sources)
        return stage.after(torch.stack(list(seen.images)).mean(0), sources)

    @pytest.mark.parametrize("size", SIZES)
    def test_sources_stay_sources(self, size: tuple[int, int]) -> None:
        """As many as before, of one size, finite, each with its luma; nothing is changed in place."""
        stage, sources = self.make(), self.sources(1, 3, *size)
        check_inputs = unchanged(*sources.images, *sources.luma)
        seen = stage.before(sources)
        assert len(seen) == len(sources) == len(seen.luma)
        assert len({tuple(image.shape[-2:]) for image in (*seen.images, *seen.luma)}) == 1
        assert all(bool(t.isfinite().all()) for t in (*seen.images, *seen.luma))
        check_inputs()

    @pytest.mark.parametrize("size", SIZES)
    def test_the_result_has_the_sources_size_again(self, size: tuple[int, int]) -> None:
        result = self.around(self.sources(1, 3, *size))
        assert result.shape == (1, 3, *size)
        assert bool(result.isfinite().all())

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden state, no hidden randomness."""
        assert torch.equal(self.around(self.sources(1, 3, 24, 40)), self.around(self.sources(1, 3, 24, 40)))

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        sources = self.sources(3, 3, 24, 40)
        together = self.around(sources)
        assert_alone(together, lambda one: self.around(sources.select([one.start])), self.tolerance)
