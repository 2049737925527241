"""Contracts of metrics and of detectors."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ..contracts import Detector, Metric
from ..registry.loading import get_registry
from ..registry.records import MetricRecord
from ..scene import SCENE_KINDS
from ..scenes import infrared_visible
from .plugin import SIZES, PluginContract, assert_alone, make_sources, random_images, unchanged


@cache
def _streets(count: int) -> tuple[Tensor, ...]:
    """Render `count` streets: mean, infrared and visible image, (B, 3, H, W) each."""
    pairs = [infrared_visible((176, 208), seed=seed) for seed in range(count)]
    stacks = (torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2) for images in zip(*pairs, strict=True))
    infrared, visible = (stack.expand(-1, 3, -1, -1) for stack in stacks)
    return (infrared + visible) / 2, infrared, visible


class _Measuring(PluginContract):
    def test_it_states_its_definition(self) -> None:
        measuring: Metric | Detector = self.make()
        assert len(measuring.definition) > 20, "state the definition: formula or method, windows, thresholds"
        assert measuring.version


class MetricContract(_Measuring):
    """Contract of a metric: see `fusionkit.contracts.Metric`."""

    kind = "metric"

    def images(self, count: int) -> Sequence[Tensor]:
        """Return a fused image and its sources, (count, 1 or 3, H, W) each, for which the metric has values.

        By default the mean of an infrared and a visible image, 176x208; luma unless the metric has `color`.
        """
        color = self.make().color
        return [image if color else image.mean(1, keepdim=True) for image in _streets(count)]

    def measure(self, images: Sequence[Tensor]) -> Tensor:
        """Measure a fused image and its sources, the first of `images`: (B,)."""
        metric: Metric = self.make()
        fused, *sources = images
        return metric(fused, make_sources(*sources))

    def test_its_record_says_which_way_is_better(self) -> None:
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, MetricRecord)
        assert record.higher_is_better == self.make().higher_is_better

    def test_its_ideal_and_its_scenes_can_be_reached(self) -> None:
        metric: Metric = self.make()
        low, high = metric.range
        assert metric.ideal is None or low <= metric.ideal <= high
        assert set(metric.scenes) <= set(SCENE_KINDS), f"kinds of scene: {', '.join(SCENE_KINDS)}"

    def test_values_are_one_per_image_and_in_range(self) -> None:
        """A value may be nan where the definition has none."""
        values = self._measured(self.images(2))
        assert values.shape == (2,)
        low, high = self.make().range
        assert low < high
        assert all(bool(v.isnan()) or low <= float(v) <= high for v in values)

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        images = self.images(3)
        together = self._measured(images)
        assert_alone(together, lambda one: self.measure([x[one] for x in images]), self.tolerance, 1e-5)

    def _measured(self, images: Sequence[Tensor]) -> Tensor:
        values = self.measure(images)
        if bool(values.isnan().all()):
            pytest.skip("it has no value for `images`: return some for which it has")
        return values

    def test_its_map_shows_places(self) -> None:
        """A map is (B, 1, H, W), finite and nowhere negative."""
        metric: Metric = self.make()
        if not metric.shows:
            pytest.skip("`shows` is empty: it has no map")
        fused, *sources = self.images(2)
        places = metric.map(fused, make_sources(*sources))
        assert metric.shows in ("lost", "invented")
        assert places.shape == (2, 1, *fused.shape[-2:])
        assert bool(places.isfinite().all())
        assert float(places.min()) >= 0


class DetectorContract(_Measuring):
    """Contract of a detector: see `fusionkit.contracts.Detector`."""

    kind = "detector"

    def scene(self) -> Tensor:
        """Return an image (1, 3, H, W) with objects that the detector knows; by default a street with people."""
        return torch.from_numpy(infrared_visible()[1]).float().permute(2, 0, 1)[None]

    @pytest.mark.parametrize("size", [*SIZES, (160, 120)])
    def test_any_size_is_taken(self, size: tuple[int, int]) -> None:
        """The image stays as it is."""
        image = random_images(1, 3, *size)[0]
        check_inputs = unchanged(image)
        assert isinstance(self.make()(image), Sequence)
        check_inputs()

    def test_boxes_touch_the_image(self) -> None:
        """A box has an area; it may reach over the border."""
        image = self.scene()
        height, width = image.shape[-2:]
        found = self.make()(image)
        if not found:
            pytest.skip("it finds nothing in `scene`: return an image with objects that it knows")
        for detection in found:
            left, top, right, bottom = detection.box
            assert max(left, 0) < min(right, width)
            assert max(top, 0) < min(bottom, height)
            assert left < right
            assert top < bottom
            assert math.isfinite(detection.score)
            assert detection.label

    def test_the_same_image_gives_the_same_objects(self) -> None:
        """No hidden state, no hidden randomness."""
        image = self.scene()
        assert list(self.make()(image)) == list(self.make()(image.clone()))

    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    def test_a_flat_image_is_harmless(self, level: float) -> None:
        """It may hold objects, with finite scores."""
        found = self.make()(torch.full((1, 3, 160, 120), level))
        assert all(math.isfinite(detection.score) for detection in found)
