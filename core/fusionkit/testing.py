"""The promises of each kind of plug-in as tests. Needs pytest.

A package subclasses the contract of its kind, names its plug-in, and gets the tests:

    from fusionkit.testing import PriorContract

    class TestMine(PriorContract):
        name = "mine"
        options = {"strength": 2.0}     # where the defaults are not what should be tested

The plug-in is found as users find it, through its entry point: install the package first (`pip install -e .`).
"""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from .contracts import Backbone, ColorSpace, Decoder, Detector, Metric, Prior, Reader, Sources, Stage, Stored
from .errors import FusionkitError, OptionError
from .reading import count_pictures, read_image
from .registry.loading import get_registry
from .registry.records import MetricRecord, ReaderRecord

__all__ = [
    "BackboneContract",
    "ColorSpaceContract",
    "DecoderContract",
    "DetectorContract",
    "MetricContract",
    "PluginContract",
    "PriorContract",
    "ReaderContract",
    "StageContract",
    "make_sources",
    "random_images",
]

SIZES = [(32, 48), (31, 37), (1, 20), (20, 1), (2, 3), (1, 1)]

# what listing plug-ins may not do: it happens at every `fusionkit --help`
LIST_ONLY = """
import sys
from fusionkit.registry.loading import load_registry
load_registry(restriction="imagefusionkit," + {distribution!r}).find({kind!r}, {name!r})
assert "torch" not in sys.modules, "importing " + {distribution!r} + " to list it imports torch"
"""


def random_images(*shape: int, count: int = 1, seed: int = 0) -> list[Tensor]:
    """`count` images of uniform noise in [0, 1]: (B, C, H, W) each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(*shape, generator=generator) for _ in range(count)]


def make_sources(*images: Tensor) -> Sources:
    """Sources of images (B, 3 or 1, H, W); the last one is the reference."""
    return Sources.of(images, lambda image: image.mean(1, keepdim=True))


class PluginContract:
    """What every plug-in promises: it is found, listed cheaply, and its options are strict and explained."""

    kind: ClassVar[str]
    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[float] = 2e-4  # of equal results computed in another batch

    def make(self) -> Any:
        """The plug-in as a pipeline builds it: a module is in evaluation mode and frozen."""
        plugin = get_registry().create(self.kind, self.name, dict(self.options))
        return plugin.eval().requires_grad_(False) if isinstance(plugin, torch.nn.Module) else plugin

    def test_it_is_found_under_its_name(self) -> None:
        """One distribution offers it, with a summary of one line."""
        record = get_registry().find(self.kind, self.name).record
        assert record.summary.strip()
        assert "\n" not in record.summary

    def test_listing_it_imports_no_torch(self) -> None:
        """The module that the entry point names imports nothing heavy."""
        distribution = get_registry().find(self.kind, self.name).distribution
        code = LIST_ONLY.format(kind=self.kind, name=self.name, distribution=distribution)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_misspelt_option_is_refused(self) -> None:
        """Options forbid what they do not know."""
        with pytest.raises(OptionError, match="no_such_option"):
            get_registry().create(self.kind, self.name, {**self.options, "no_such_option": 1})

    def test_every_option_has_a_default_and_a_description(self) -> None:
        """`fusionkit plugins show` is the reference that users have."""
        fields = get_registry().load(self.kind, self.name).Options.model_fields
        for key, field in fields.items():
            assert not field.is_required(), f"option {key} has no default"
            assert field.description, f"option {key} is not described"

    def test_options_can_be_recorded(self) -> None:
        """A manifest holds them as JSON."""
        assert isinstance(self.make().options.model_dump(mode="json"), dict)


class PriorContract(PluginContract):
    """What a fusion prior promises: see `fusionkit.contracts.Prior`."""

    kind = "prior"
    tolerance = 5e-5
    stretches: ClassVar[bool] = False  # the result is stretched to the full range, so that a constant does not stay

    def correct(self, x0: Tensor, sources: Sources, steps: int = 1, prior: Prior | None = None) -> Tensor:
        """`steps` corrections in a row, by a prior of their own or by the given one."""
        prior = self.make() if prior is None else prior
        state = prior.start(sources)
        with torch.no_grad():
            for _ in range(steps):
                x0, state = prior.correct(x0, sources, state, 0.1)
        return x0

    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_is_kept_finite_and_inputs_untouched(self, size: tuple[int, int]) -> None:
        """Shape, type and finiteness; nothing is changed in place."""
        x0, *images = random_images(1, 1, *size, count=3)
        sources = make_sources(*images)
        inputs = (x0, *sources.images, *sources.luma)
        copies = [t.clone() for t in inputs]
        result = self.correct(x0, sources)
        assert result.shape == x0.shape
        assert result.dtype == torch.float32
        assert bool(result.isfinite().all())
        assert all(torch.equal(t, c) for t, c in zip(inputs, copies, strict=True)), "an input was changed in place"

    @pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)])
    def test_constant_sources_are_harmless(self, values: tuple[float, float]) -> None:
        """No division by zero, nothing outside [0, 1], and equal sources stay as they are."""
        a, b = (torch.full((1, 1, 16, 16), v) for v in values)
        for x0 in (b, (a + b) / 2):
            result = self.correct(x0, make_sources(a, b))
            assert bool(result.isfinite().all())
            assert -1e-4 <= float(result.min()) <= float(result.max()) <= 1 + 1e-4
            if values[0] == values[1] and not self.stretches:
                torch.testing.assert_close(result, a, atol=1e-4, rtol=0)

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden state, no hidden randomness."""
        x0, a, b = random_images(1, 1, 24, 40, count=3)
        assert torch.equal(self.correct(x0, make_sources(a, b)), self.correct(x0, make_sources(a, b)))

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Image b of a batch is what it would be alone, over several steps with their state; one object serves all."""
        prior: Prior = self.make()
        x0, a, b = random_images(3, 1, 24, 40, count=3)
        together = self.correct(x0, make_sources(a, b), steps=2, prior=prior)
        for i in range(3):
            one = slice(i, i + 1)
            alone = self.correct(x0[one], make_sources(a[one], b[one]), steps=2, prior=prior)
            torch.testing.assert_close(together[one], alone, atol=self.tolerance, rtol=0)

    def test_it_says_truly_whether_it_reads_the_estimate(self) -> None:
        """reads_x0 = False lets the networks rest, so the estimate must not matter."""
        if not self.make().reads_x0:
            first, second, a, b = random_images(1, 1, 24, 40, count=4)
            sources = make_sources(a, b)
            assert torch.equal(self.correct(first, sources), self.correct(second, sources))

    def test_its_energy_has_the_right_gradient(self) -> None:
        """An energy is (B,) and differentiable; a prior without one says so."""
        prior: Prior = self.make()
        x0, a, b = (t.double() for t in random_images(2, 1, 5, 6, count=3))
        sources = make_sources(a, b)
        if isinstance(prior, torch.nn.Module):
            prior.double()  # the check needs float64
        if prior.has_energy:
            assert prior.energy(x0, sources).shape == (2,)
            assert torch.autograd.gradcheck(lambda x: prior.energy(x, sources), x0.requires_grad_())
        else:
            with pytest.raises(TypeError, match="no energy"):
                prior.energy(x0, sources)

    def test_it_fuses_three_sources_in_a_pipeline(self) -> None:
        """As `fusionkit run` calls it, with more sources than two, in colour."""
        from .method.config import make_config
        from .method.pipeline import Pipeline

        sampling = {"steps": 2} if self.make().sampling else {}
        choices = {"prior": self.name, "prior_options": dict(self.options), "backbone": "identity", "sampler": sampling}
        images = random_images(1, 3, 40, 52, count=3)
        fused = Pipeline(make_config(choices), device="cpu").fuse_tensors(images)
        assert fused.shape == images[0].shape


class BackboneContract(PluginContract):
    """What a velocity field promises: see `fusionkit.contracts.Backbone`."""

    kind = "backbone"

    def velocity(self, x: Tensor, t: Sequence[float]) -> Tensor:
        """The field at x and t, without gradients."""
        backbone: Backbone = self.make()
        with torch.no_grad():
            return backbone.velocity(x, torch.tensor(t))

    def images(self, batch: int, size: tuple[int, int]) -> Tensor:
        """Noise with the channels that the backbone wants."""
        backbone: Backbone = self.make()
        return random_images(batch, backbone.channels or 3, *size)[0]

    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_is_kept(self, size: tuple[int, int]) -> None:
        """The backbone pads to its own multiple; inputs are not changed in place."""
        x = self.images(1, size)
        copy = x.clone()
        v = self.velocity(x, [0.5])
        assert v.shape == x.shape
        assert v.dtype == torch.float32
        assert bool(v.isfinite().all())
        assert torch.equal(x, copy), "the input was changed in place"

    @pytest.mark.parametrize("t", [1.0, 0.999, 0.1, 1e-3])
    def test_it_is_finite_at_every_time(self, t: float) -> None:
        """From pure noise to nearly data."""
        assert bool(self.velocity(self.images(1, (16, 16)), [t]).isfinite().all())

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Each image has a time of its own."""
        x, times = self.images(3, (16, 24)), [0.9, 0.5, 0.1]
        together = self.velocity(x, times)
        for i, t in enumerate(times):
            alone = self.velocity(x[i : i + 1], [t])
            torch.testing.assert_close(together[i : i + 1], alone, atol=self.tolerance, rtol=1e-4)

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden randomness: dropout is off."""
        x = self.images(1, (16, 16))
        assert torch.equal(self.velocity(x, [0.5]), self.velocity(x, [0.5]))

    def test_its_domain_is_one_that_exists(self) -> None:
        """And the decoder that it was trained with is installed."""
        backbone: Backbone = self.make()
        assert backbone.domain in ("latent", "pixel", "any")
        get_registry().find("decoder", backbone.decoder)


class DecoderContract(PluginContract):
    """What an autoencoder promises: see `fusionkit.contracts.Decoder`."""

    kind = "decoder"

    def round_trip(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The latent and what is decoded from it."""
        decoder: Decoder = self.make()
        with torch.no_grad():
            z = decoder.encode(image)
            return z, decoder.decode(z, (image.shape[-2], image.shape[-1]))

    @pytest.mark.parametrize("size", [(32, 48), (31, 37), (9, 20), (1, 1)])
    def test_any_size_comes_back(self, size: tuple[int, int]) -> None:
        """Latents have the stated factor and channels; decoding gives the size that was asked for."""
        image = random_images(1, 3, *size)[0]
        copy = image.clone()
        decoder: Decoder = self.make()
        z, again = self.round_trip(image)
        assert torch.equal(image, copy), "the input was changed in place"
        assert z.dtype == again.dtype == torch.float32
        assert torch.equal(again, self.round_trip(image)[1]), "the same call gave another result"
        assert z.shape[-2:] == tuple(-(-side // decoder.factor) for side in size)
        if decoder.channels is not None:
            assert z.shape[1] == decoder.channels
        assert again.shape == image.shape
        assert bool(again.isfinite().all())

    def test_lossless_is_what_it_says(self) -> None:
        """decode(encode(image)) is the image."""
        decoder: Decoder = self.make()
        if decoder.lossless:
            image = random_images(1, 3, 24, 32)[0]
            torch.testing.assert_close(self.round_trip(image)[1], image, atol=1e-6, rtol=0)

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Image b of a batch is what it would be alone."""
        images = random_images(3, 3, 24, 32)[0]
        together = self.round_trip(images)[1]
        for i in range(3):
            alone = self.round_trip(images[i : i + 1])[1]
            torch.testing.assert_close(together[i : i + 1], alone, atol=self.tolerance, rtol=0)


class ColorSpaceContract(PluginContract):
    """What a colour space promises: see `fusionkit.contracts.ColorSpace`. exact: merge inverts split."""

    kind = "color-space"
    exact: ClassVar[bool] = True

    def sources(self, *images: Tensor) -> Sources:
        """Sources with the luma of this space, as a pipeline gives them."""
        space: ColorSpace = self.make()
        return Sources(images, tuple(space.split(image)[0] for image in images))

    def test_luma_is_in_range_and_of_one_channel(self) -> None:
        """For colour and for grey."""
        space: ColorSpace = self.make()
        for channels in (1, 3):
            luma, _ = space.split(random_images(2, channels, 9, 11)[0])
            assert luma.shape == (2, 1, 9, 11)
            assert -1e-4 <= float(luma.min()) <= float(luma.max()) <= 1 + 1e-4

    def test_merge_inverts_split(self) -> None:
        """Fusing nothing changes no colour."""
        if self.exact:
            space: ColorSpace = self.make()
            image = random_images(2, 3, 9, 11)[0]
            luma, chroma = space.split(image)
            torch.testing.assert_close(space.merge(luma, [chroma], self.sources(image)), image, atol=1e-4, rtol=0)

    def test_grey_stays_grey(self) -> None:
        """Without chroma the result has one channel, and grey in three channels stays neutral."""
        space: ColorSpace = self.make()
        grey = random_images(1, 1, 9, 11)[0]
        luma, chroma = space.split(grey)
        assert chroma is None
        merged = space.merge(luma, [None, None], self.sources(grey, grey))
        torch.testing.assert_close(merged, grey, atol=1e-4, rtol=0)
        neutral = grey.expand(-1, 3, -1, -1)
        luma, chroma = space.split(neutral)
        merged = space.merge(luma, [chroma], self.sources(neutral))
        torch.testing.assert_close(merged, grey.expand_as(merged), atol=1e-4, rtol=0)


class StageContract(PluginContract):
    """What a stage promises: see `fusionkit.contracts.Stage`."""

    kind = "stage"

    def sources(self, *shape: int) -> Sources:
        """Two colour sources."""
        return Sources.of(random_images(*shape, count=2))

    def around(self, sources: Sources) -> Tensor:
        """The stage around a fusion that takes the mean."""
        stage: Stage = self.make()
        seen = stage.before(sources)
        return stage.after(torch.stack(list(seen.images)).mean(0), sources)

    @pytest.mark.parametrize("size", SIZES)
    def test_sources_stay_sources(self, size: tuple[int, int]) -> None:
        """As many as before, of one size, finite, each with its luma; nothing is changed in place."""
        stage, sources = self.make(), self.sources(1, 3, *size)
        inputs = (*sources.images, *sources.luma)
        copies = [t.clone() for t in inputs]
        seen = stage.before(sources)
        assert len(seen) == len(sources)
        assert len(set(seen.sizes)) == 1
        assert [tuple(y.shape[-2:]) for y in seen.luma] == list(seen.sizes)
        assert all(bool(t.isfinite().all()) for t in (*seen.images, *seen.luma))
        assert all(torch.equal(t, c) for t, c in zip(inputs, copies, strict=True)), "an input was changed in place"

    @pytest.mark.parametrize("size", SIZES)
    def test_the_result_has_the_sources_size_again(self, size: tuple[int, int]) -> None:
        """Whatever size the fusion worked at."""
        result = self.around(self.sources(1, 3, *size))
        assert result.shape == (1, 3, *size)
        assert bool(result.isfinite().all())

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden state, no hidden randomness."""
        assert torch.equal(self.around(self.sources(1, 3, 24, 40)), self.around(self.sources(1, 3, 24, 40)))

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Image b of a batch is what it would be alone."""
        sources = self.sources(3, 3, 24, 40)
        together = self.around(sources)
        for i in range(3):
            alone = self.around(sources.select([i]))
            torch.testing.assert_close(together[i : i + 1], alone, atol=self.tolerance, rtol=0)


class MetricContract(PluginContract):
    """What a metric promises: see `fusionkit.contracts.Metric`."""

    kind = "metric"

    def measure(self, images: Sequence[Tensor]) -> Tensor:
        """Of (fused, first source, second source)."""
        metric: Metric = self.make()
        fused, *sources = images
        return metric(fused, make_sources(*sources))

    def test_it_says_which_number_it_is(self) -> None:
        """Definition, range, version."""
        metric: Metric = self.make()
        assert len(metric.definition) > 20, "state the definition: formula, logarithm, windows, sum or mean"
        low, high = metric.range
        assert low < high
        assert metric.version

    def test_its_record_says_which_way_is_better(self) -> None:
        """As the class does."""
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, MetricRecord)
        assert record.higher_is_better == self.make().higher_is_better

    def test_values_are_one_per_image_and_in_range(self) -> None:
        """nan is allowed where the definition has no value."""
        metric: Metric = self.make()
        values = self.measure(random_images(2, 1, 64, 72, count=3))
        assert values.shape == (2,)
        low, high = metric.range
        assert all(bool(v.isnan()) or low <= float(v) <= high for v in values)

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Value b of a batch is what it would be alone."""
        images = random_images(3, 1, 64, 72, count=3)
        together = self.measure(images)
        for i in range(3):
            alone = self.measure([x[i : i + 1] for x in images])
            torch.testing.assert_close(together[i : i + 1], alone, atol=self.tolerance, rtol=1e-5, equal_nan=True)


class DetectorContract(PluginContract):
    """What a detector promises: see `fusionkit.contracts.Detector`."""

    kind = "detector"

    def test_it_says_which_detector_it_is(self) -> None:
        """Definition and version."""
        detector: Detector = self.make()
        assert len(detector.definition) > 20, "state the definition: method, model, thresholds"
        assert detector.version

    @pytest.mark.parametrize("size", [*SIZES, (160, 120)])
    def test_any_size_is_taken_and_boxes_touch_the_image(self, size: tuple[int, int]) -> None:
        """A box has an area; it may reach over the border."""
        height, width = size
        for detection in self.make()(random_images(1, 3, *size)[0]):
            left, top, right, bottom = detection.box
            assert left < right
            assert top < bottom
            assert left < width
            assert right > 0
            assert top < height
            assert bottom > 0
            assert math.isfinite(detection.score)
            assert detection.label

    def test_the_same_image_gives_the_same_objects(self) -> None:
        """And the image stays as it is."""
        detector: Detector = self.make()
        image = random_images(1, 3, 160, 120)[0]
        before = image.clone()
        assert list(detector(image)) == list(detector(image))
        torch.testing.assert_close(image, before, rtol=0, atol=0)

    def test_a_flat_image_holds_nothing_or_something_finite(self) -> None:
        """Constant images are harmless."""
        for level in (0.0, 0.5, 1.0):
            assert all(math.isfinite(d.score) for d in self.make()(torch.full((1, 3, 160, 120), level)))


class ReaderContract(PluginContract):
    """What a reader promises: see `fusionkit.contracts.Reader`.

    write: makes an example file; by default the test is skipped. pixels: what its first picture holds, (H, W, C), to
    `precision` in stored values.
    """

    kind = "reader"
    extension: ClassVar[str] = ""
    precision: ClassVar[float] = 0.0

    def write(self, path: Path) -> "np.ndarray[Any, Any]":
        """Make an example file; returns the stored values of its first picture, (H, W, 1 or 3)."""
        pytest.skip("`write` makes an example file")

    def example(self, folder: Path) -> tuple[Path, "np.ndarray[Any, Any]"]:
        """The example and what it holds."""
        record = get_registry().find(self.kind, self.name).record
        assert isinstance(record, ReaderRecord)
        path = folder / f"example{self.extension or record.extensions[0]}"
        return path, self.write(path)

    def test_it_reads_what_was_written(self, tmp_path: Path) -> None:
        """Values, upright, in their type; the file stays as it is."""
        path, expected = self.example(tmp_path)
        before = path.read_bytes()
        reader: Reader = self.make()
        found = reader.read(path, 10**9)
        assert found
        for stored in found:
            assert isinstance(stored, Stored)
            assert stored.values.ndim == 3
            assert stored.values.shape[2] in (1, 3)
            assert stored.alpha is None or stored.alpha.shape == stored.values.shape[:2]
        assert np.abs(found[0].values.astype(float) - expected).max() <= self.precision
        assert path.read_bytes() == before

    def test_files_find_it(self, tmp_path: Path) -> None:
        """`fusionkit.read_image` takes the example, and the record says so where it holds several pictures."""
        path, _ = self.example(tmp_path)
        count = len(self.make().read(path, 10**9))
        picture = read_image(path, "auto", picture=0)
        assert picture.pixels.min() >= 0
        assert picture.pixels.max() <= 1
        assert count == count_pictures(path)

    def test_too_many_pixels_are_refused(self, tmp_path: Path) -> None:
        """By whoever sees it first."""
        path, expected = self.example(tmp_path)
        with pytest.raises(FusionkitError, match="over the limit"):
            read_image(path, max_pixels=expected.shape[0] * expected.shape[1] - 1, picture=0)

    def test_a_cut_file_is_one_line(self, tmp_path: Path) -> None:
        """Whatever the decoder raises."""
        path, _ = self.example(tmp_path)
        content = path.read_bytes()
        for share in (0.02, 0.5):
            path.write_bytes(content[: max(1, int(share * len(content)))])
            said = ""
            try:
                read_image(path, picture=0)  # some formats can be shown in part
            except FusionkitError as error:
                said = str(error)
            assert "\n" not in said
            assert not said or str(path) in said
