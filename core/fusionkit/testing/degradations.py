"""Contract of degradations."""

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from ..contracts import Degradation
from ..flow.restoring import Ask, side_by_side
from ..registry.loading import get_registry
from ..registry.records import DegradationRecord
from ..scenes import infrared_visible
from .plugin import PluginContract, unchanged

SIZE = (96, 128)


class DegradationContract(PluginContract):
    """Contract of a degradation: see `fusionkit.contracts.Degradation`.

    options: what is undone; give some with which `forward` visibly harms a picture. told: what a file or a stage says,
    as `estimate` takes it. cautious: whether it finds nothing in clean pictures; must be true where it is automatic.
    """

    kind = "degradation"
    told: ClassVar[dict[str, object]] = {}
    cautious: ClassVar[bool] = True

    def clean(self) -> Tensor:
        """Return a clean picture x, (1, 3, H, W) in [0, 1]; by default a street, 96x128."""
        return torch.from_numpy(infrared_visible(SIZE, seed=0)[1]).float().permute(2, 0, 1)[None]

    def picture(self) -> Tensor:
        """Return the clean picture as the degradation takes it: its luma unless it has `color`."""
        degradation: Degradation = self.make()
        return self.clean() if degradation.color else self.clean().mean(1, keepdim=True)

    def degraded(self, x: Tensor) -> Tensor:
        """Degrade x and clip the result, as a camera does."""
        degradation: Degradation = self.make()
        return degradation.forward(x, _generator()).clamp(0, 1)

    def undone(self, y: Tensor, x0: Tensor | None = None, noise: float = 0.0) -> tuple[Tensor, list[Ask]]:
        """Undo y with a flow whose estimate is always x0, or what it is asked for: the result and what was asked."""
        degradation, asked = self.make(), list[Ask]()

        def clean(asks: Sequence[Ask]) -> list[Tensor]:
            asked.extend(asks)
            return [x if x0 is None or x.shape != x0.shape else x0 for x, _ in asks]

        with torch.no_grad():
            (found,) = side_by_side([degradation.undo(y, noise)], clean)
        return found, asked

    def test_it_can_be_made_of_its_default_options(self) -> None:
        cls = get_registry().load(self.kind, self.name)
        assert isinstance(cls(cls.Options()), Degradation)

    def test_its_record_says_where_in_a_camera_it_is(self) -> None:
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, DegradationRecord)
        assert record.evaluations >= 0
        assert self.cautious or not record.automatic, "`automatic` needs an estimate that leaves clean pictures alone"
        assert record.evaluations > 0 or not self.make().asks_flow, "it asks the flow: state `evaluations`"

    def test_options_that_say_all_exist(self) -> None:
        degradation: Degradation = self.make()
        assert degradation.decisive <= type(degradation.options).model_fields.keys()

    def test_a_degraded_picture_is_one(self) -> None:
        """One image of as many channels, finite, not x itself; x stays as it is."""
        degradation, x = self.make(), self.picture()
        check_inputs = unchanged(x)
        y = degradation.forward(x, _generator())
        check_inputs()
        assert y.shape[:2] == x.shape[:2]
        assert y.ndim == x.ndim
        assert y.dtype == torch.float32
        assert bool(y.isfinite().all())
        assert not torch.equal(y, x), "`forward` changes nothing: set `options` with which it does"

    def test_a_generator_decides_what_is_random(self) -> None:
        x = self.picture()
        assert torch.equal(self.degraded(x), self.degraded(x))

    @pytest.mark.parametrize("noise", [0.0, 0.05])
    def test_any_flow_serves(self, noise: float) -> None:
        """One that returns its input, too: asked for finite pictures at positive deviations, it gives a finite result.

        The result has the size of x; y stays as it is.
        """
        degradation, x = self.make(), self.picture()
        y = self.degraded(x)
        check_inputs = unchanged(y)
        found, asked = self.undone(y, noise=noise)
        check_inputs()
        assert found.shape == x.shape
        assert bool(found.isfinite().all())
        assert degradation.asks_flow or not asked, "it asks the flow: `asks_flow` must be True"
        for picture, deviation in asked:
            assert picture.ndim == 4
            assert picture.shape[:2] == (1, 1)
            assert bool(picture.isfinite().all())
            assert deviation > 0

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden state, no hidden randomness."""
        y = self.degraded(self.picture())
        assert torch.equal(self.undone(y)[0], self.undone(y)[0])

    def test_undoing_brings_the_picture_nearer_to_the_clean_one(self) -> None:
        """With a flow that knows the answer; a degradation that changes the size is compared with a resized picture."""
        degradation, x = self.make(), self.picture()
        y = self.degraded(x)
        found, _ = self.undone(y, x0=None if degradation.color else x)
        before = y if y.shape == x.shape else torch.nn.functional.interpolate(y, x.shape[-2:], mode="bilinear")
        assert found.shape == x.shape
        assert _error(found, x) < _error(before, x)

    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    def test_a_constant_picture_has_nothing_to_undo(self, level: float) -> None:
        self._nothing_found(torch.full((1, 1, *SIZE), level))

    def test_a_smooth_clean_picture_has_nothing_to_undo(self) -> None:
        y, x = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
        self._nothing_found((0.3 + 0.3 * x + 0.2 * torch.sin(6 * y))[None, None].clamp(0.05, 0.95))

    def _nothing_found(self, y: Tensor) -> None:
        degradation: Degradation = self.make()
        if not self.cautious:
            pytest.skip("`cautious` is False: it may find something in clean pictures")
        assert degradation.estimate(y, {}) is None, "clean pictures must keep their bits"
        assert degradation.estimate_chroma(y) is None

    def test_estimated_options_can_be_chosen(self) -> None:
        """`estimate` says nothing, or options that its model takes; y stays as it is."""
        cls, y = get_registry().load(self.kind, self.name), self.degraded(self.picture())
        luma = y.mean(1, keepdim=True)
        check_inputs = unchanged(luma)
        for found in (cls.estimate(luma, self.told), cls.estimate_chroma(luma)):
            if found is not None:
                assert isinstance(cls(cls.Options(**found)), Degradation)
        check_inputs()

    def test_it_is_described_in_a_few_words(self) -> None:
        """As in "blur of 1.6 pixels": the note says "vis.png: blur of 1.6 pixels, restored by the flow"."""
        words = self.make().describe()
        assert words
        assert "\n" not in words
        assert not words.endswith(".")


def _generator() -> Generator:
    return Generator().manual_seed(0)


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())
