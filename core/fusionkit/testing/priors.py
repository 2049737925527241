"""Contract of fusion priors."""

import io
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from ..contracts import Frame, Frames, Prior, Sources
from ..method.config import make_config
from ..method.pipeline import Pipeline
from ..registry.kinds import KINDS
from ..scene import SCENE_KINDS, Scene
from .plugin import SIZES, PluginContract, assert_alone, make_sources, random_images, unchanged

SMALL = 0.3  # planes that a state may grow by with each frame: a reduced copy in 8 bits, of frames as small as these
SERIES = 64, 96  # height and width of its frames
OVERSHOOT = 1e-3  # beyond [0, 1], of weights that are rounded


class PriorContract(PluginContract):
    """Contract of a fusion prior: see `fusionkit.contracts.Prior`.

    stretches: the result is stretched to the full range, so that constant sources do not stay as they are.
    """

    kind = "prior"
    tolerance = 5e-5
    stretches: ClassVar[bool] = False

    def correct(self, x0: Tensor, sources: Sources, steps: int = 1, prior: Prior | None = None) -> Tensor:
        """Correct `steps` times, by the given prior or by a new one."""
        prior = self.make() if prior is None else prior
        state = prior.start(sources)
        with torch.no_grad():
            for _ in range(steps):
                x0, state = prior.correct(x0, sources, state, 0.1)
        return x0

    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_is_kept_finite_and_inputs_untouched(self, size: tuple[int, int]) -> None:
        x0, *images = random_images(1, 1, *size, count=3)
        sources = make_sources(*images)
        check_inputs = unchanged(x0, *sources.images, *sources.luma)
        result = self.correct(x0, sources)
        assert result.shape == x0.shape
        assert result.dtype == torch.float32
        assert bool(result.isfinite().all())
        check_inputs()

    @pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)])
    def test_constant_sources_are_harmless(self, values: tuple[float, float]) -> None:
        """No division by zero, nothing outside [0, 1]."""
        a, b = (torch.full((1, 1, 16, 16), v) for v in values)
        for x0 in (b, (a + b) / 2):
            result = self.correct(x0, make_sources(a, b))
            assert bool(result.isfinite().all())
            assert -1e-4 <= float(result.min()) <= float(result.max()) <= 1 + 1e-4

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_equal_constant_sources_stay_as_they_are(self, value: float) -> None:
        if self.stretches:
            pytest.skip("`stretches`: the result is stretched to the full range")
        image = torch.full((1, 1, 16, 16), value)
        result = self.correct(image, make_sources(image, image.clone()))
        torch.testing.assert_close(result, image, atol=1e-4, rtol=0)

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden state, no hidden randomness."""
        x0, a, b = random_images(1, 1, 24, 40, count=3)
        assert torch.equal(self.correct(x0, make_sources(a, b)), self.correct(x0, make_sources(a, b)))

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        """Each image of a batch gets the result it gets alone, over several steps with their state, by one object."""
        prior: Prior = self.make()
        x0, a, b = random_images(3, 1, 24, 40, count=3)

        def corrected(which: slice) -> Tensor:
            return self.correct(x0[which], make_sources(a[which], b[which]), steps=2, prior=prior)

        assert_alone(corrected(slice(None)), corrected, self.tolerance)

    def test_it_says_truly_whether_it_reads_the_estimate(self) -> None:
        """With `reads_x0 = False` no network runs, so the estimate must not matter."""
        if self.make().reads_x0:
            pytest.skip("`reads_x0` is True: it may read the estimate")
        first, second, a, b = random_images(1, 1, 24, 40, count=4)
        sources = make_sources(a, b)
        assert torch.equal(self.correct(first, sources), self.correct(second, sources))

    def test_its_energy_has_the_right_gradient(self) -> None:
        """An energy is (B,) and differentiable."""
        prior: Prior = self.make()
        if not prior.has_energy:
            pytest.skip("`has_energy` is False: it states no energy")
        if isinstance(prior, torch.nn.Module):
            prior.double()  # the check needs float64
        x0, a, b = (t.double() for t in random_images(2, 1, 5, 6, count=3))
        sources = make_sources(a, b)
        assert prior.energy(x0, sources).shape == (2,)
        assert torch.autograd.gradcheck(lambda x: prior.energy(x, sources), x0.requires_grad_())

    def test_it_says_truly_that_it_has_no_energy(self) -> None:
        prior: Prior = self.make()
        if prior.has_energy:
            pytest.skip("`has_energy` is True: its gradient is tested")
        x0, a, b = random_images(2, 1, 5, 6, count=3)
        with pytest.raises(TypeError, match="no energy"):
            prior.energy(x0, make_sources(a, b))

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("scene", SCENE_KINDS)
    def test_it_streams_as_it_says(self, scene: Scene, channels: int) -> None:
        """Its state goes through a file, holds no list of frames, and ends as an image; frames stay unchanged."""
        prior: Prior = self.make()
        if not prior.passes(_frames(scene, 6)):
            pytest.skip("`passes` is 0: it needs all frames at once")
        few, (fused, many) = self._streamed(prior, scene, channels, 6)[1], self._streamed(prior, scene, channels, 12)
        assert fused.shape == (1, channels, *SERIES)
        assert bool(fused.isfinite().all())
        if not self.stretches:
            assert -OVERSHOOT <= float(fused[:, :1].min()) <= float(fused[:, :1].max()) <= 1 + OVERSHOOT
        assert many - few <= 6 * SMALL * SERIES[0] * SERIES[1] * 4, "its state grows with the number of frames"

    def _streamed(self, prior: Prior, scene: Scene, channels: int, count: int) -> tuple[Tensor, int]:
        """Fuse a series of noise; the result and the bytes of the largest state."""
        frames, state, largest = _frames(scene, count), None, 0
        images = random_images(1, channels, *SERIES, count=count)
        with torch.no_grad():
            for turn in range(prior.passes(frames)):
                state = prior.begin(frames, state, turn)
                for i, image in enumerate(images):
                    check_inputs = unchanged(image)
                    sources = replace(make_sources(image), known_scenes=(scene,))
                    frame = Frame(i, sources, lambda x: x[:, 1:] - 0.5 if x.shape[1] == 3 else None)
                    state = prior.accumulate(state, frame, turn)
                    check_inputs()
                    torch.save(state, file := io.BytesIO())
                    largest = max(largest, file.tell())
                    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
            return prior.conclude(frames, state), largest

    def test_it_fuses_three_sources_in_a_pipeline(self) -> None:
        """As `fusionkit run` calls it, with more sources than two, in colour."""
        sampling = {"steps": 2} if self.make().sampling else {}
        no_flow = {"backbone": KINDS["backbone"].neutral, "sampler": sampling}
        choices = {"prior": self.name, "prior_options": dict(self.options), **no_flow}
        images = random_images(1, 3, 40, 52, count=3)
        fused = Pipeline(make_config(choices), device="cpu").fuse_tensors(images)
        assert fused.shape == images[0].shape
        assert bool(fused.isfinite().all())


def _frames(scene: Scene, count: int) -> Frames:
    return Frames(tuple(f"frame {i + 1}" for i in range(count)), count // 2, SERIES, scene)
