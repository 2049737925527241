"""Sources through the flow first: where the answer is known, then with the shipped network."""

import json
from dataclasses import replace

import pytest
import torch

from fusionkit.contracts import Backbone, Options, ShotMemory, Sources
from fusionkit.errors import OptionError, PluginError
from fusionkit.images.convert import StoredImages
from fusionkit.images.picture import Picture
from fusionkit.method.config import PipelineConfig
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.restore import Restorer
from fusionkit.timing import Stopwatch
from fusionkit.writing import write_image
from fusionkit_plugins.color.ycbcr import YCbCr
from fusionkit_plugins.degradations.enlarged import DEAD_ZONE
from fusionkit_plugins.identity import IdentityDecoder, IdentityOptions
from harness import run_cli

MEAN, SPREAD = 0.4, 0.2


class GaussianFlow(Backbone):
    """The exact field for pixels N(MEAN, SPREAD²) in [0, 1], seen in [-1, 1]; notes what it is asked."""

    domain, channels, restores = "pixel", 1, 0.4
    decoder, decoder_options = "identity", {"signal": "signed"}

    def __init__(self, options):
        super().__init__(options)
        self.asked = []

    def velocity(self, x_t, t):
        self.asked.append((tuple(x_t.shape), t.clone()))
        t = t.view(-1, 1, 1, 1)
        mean, variance = 2 * MEAN - 1, (2 * SPREAD) ** 2
        x0 = mean + (1 - t) * variance * (x_t - (1 - t) * mean) / ((1 - t) ** 2 * variance + t**2)
        return (x_t - x0) / t


def restorer(*wanted, flow=None):
    return Restorer(
        flow or GaussianFlow(Options()),
        IdentityDecoder(IdentityOptions(signal="signed")),
        YCbCr(YCbCr.Options()),
        PipelineConfig(restore=wanted or "auto").restore,
    )


def with_noise(image, level, generator):
    return (image + level / 255 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def smooth():
    """A clean scene: a ramp with a few blobs (1, 1, 160, 192)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 160), torch.linspace(0, 1, 192), indexing="ij")
    return (0.3 + 0.3 * x + 0.2 * torch.sin(6 * y))[None, None].clamp(0.05, 0.95)


def test_one_evaluation_is_the_posterior_mean_at_the_sources_own_t(generator):
    """y = x₀ + s ε is x_t / (1 - t): for Gaussian pixels the answer is Wiener's."""
    y = (MEAN + SPREAD * torch.randn(1, 1, 32, 32, generator=generator)).clamp(0, 1)
    level = 20 / 255
    flow = GaussianFlow(Options())
    restored, found = restorer("noise:level=20", flow=flow)(Sources.of([y]), Stopwatch())
    expected = MEAN + SPREAD**2 / (SPREAD**2 + level**2) * (y - MEAN)
    torch.testing.assert_close(restored.luma[0], expected, atol=1e-5, rtol=0)
    ((_, t),) = flow.asked
    assert float(t) == pytest.approx(2 * level / (1 + 2 * level))
    assert found[0].evaluations == 1


def test_all_sources_go_in_one_batch_each_at_its_own_t(smooth, generator):
    flow = GaussianFlow(Options())
    sources = Sources.of([with_noise(smooth, 10, generator), smooth, with_noise(smooth, 30, generator)])
    restored, found = restorer(flow=flow)(sources, Stopwatch())
    ((shape, t),) = flow.asked
    assert shape[0] == 2
    assert t[1] > 2 * t[0]
    assert [r.source for r in found] == ["source 1", "source 3"]
    assert restored.luma[1] is sources.luma[1]
    assert [float(level) * 255 for level in restored.had] == pytest.approx([10, 0, 30], rel=0.15)


def test_clean_sources_keep_their_bits_and_no_network_is_asked(smooth):
    flow = GaussianFlow(Options())
    sources = Sources.of([smooth, smooth.flip(-1)])
    restored, found = restorer(flow=flow)(sources, Stopwatch())
    assert flow.asked == found == []
    assert all(a is b for a, b in zip(restored.images, sources.images, strict=True))


def test_of_a_batch_only_the_noisy_images_change(smooth, generator):
    batch = torch.cat([smooth, with_noise(smooth, 20, generator), smooth])
    restored, _ = restorer()(Sources.of([batch, batch]), Stopwatch())
    for before, after in ((batch, restored.images[0]), (batch, restored.luma[1])):
        assert torch.equal(before[[0, 2]], after[[0, 2]])
        assert not torch.equal(before[1], after[1])


def test_chroma_is_cleaned_where_luma_is_noisy(smooth, generator):
    space = YCbCr(YCbCr.Options())
    clean = torch.cat([smooth, 0.8 * smooth, 0.6 * smooth], dim=1)
    noisy = with_noise(clean, 20, generator)
    restored, _ = restorer()(Sources.of([noisy]), Stopwatch())
    before, after = (float((space.split(x)[1] - space.split(clean)[1]).std()) for x in (noisy, restored.images[0]))
    assert after < before  # the field believes in a spread of 0.2, so it cleans little: but it was asked
    torch.testing.assert_close(space.split(restored.images[0])[0], restored.luma[0], atol=2e-2, rtol=0)


def test_stored_pictures_are_cleaned_row_by_row_when_they_are_asked_for(smooth, generator):
    noisy = with_noise(torch.cat([smooth, 0.8 * smooth, 0.6 * smooth], dim=1), 20, generator)
    pixels = [(255 * x[0]).round().byte().permute(1, 2, 0).numpy() for x in (noisy, smooth)]
    stored = StoredImages([Picture(p, "8", (0.0, 255.0)) for p in pixels], torch.device("cpu"))
    given, kept = Sources.of(stored), Sources.of(list(stored))
    (lazy, _), (whole, _) = (restorer()(sources, Stopwatch()) for sources in (given, kept))
    for i in range(2):
        torch.testing.assert_close(lazy.images[i], whole.images[i], atol=0, rtol=0)
        torch.testing.assert_close(lazy.luma[i], whole.luma[i], atol=0, rtol=0)
        torch.testing.assert_close(lazy.images[i - 2], whole.images[i], atol=0, rtol=0)
        rows = slice(50, 83)
        torch.testing.assert_close(lazy.rows(rows).images[i], whole.images[i][..., rows, :], atol=0, rtol=0)
    assert not torch.equal(lazy.images[0], stored[0])
    assert torch.equal(lazy.images[1], stored[1])
    assert isinstance(lazy.images, StoredImages)
    assert len([*lazy.images]) == 2


class Whole(YCbCr):
    """Merges whole images only."""

    reach = None


def test_a_colour_space_that_must_see_all_rows_is_given_them(smooth, generator):
    noisy = with_noise(torch.cat([smooth, 0.8 * smooth, 0.6 * smooth], dim=1), 20, generator)
    expected, found = (
        replace(restorer(), color=space(space.Options()))(Sources.of([noisy]), Stopwatch())[0].images[0]
        for space in (YCbCr, Whole)
    )
    torch.testing.assert_close(found, expected)


def test_cleaning_a_frame_decides_nothing_about_the_shot(smooth, generator):
    infrared = with_noise(1 - smooth, 20, generator)
    visible = with_noise(torch.cat([smooth, 0.8 * smooth, 0.6 * smooth], dim=1), 20, generator)
    memory = ShotMemory()
    restored, _ = restorer()(Sources.of([infrared, visible]), Stopwatch(), memory)
    assert memory.once("scenes", lambda: "free") == "free"
    assert restored.scenes == ("heat",)


def test_cleaning_keeps_a_source_s_colour_whatever_the_others_show(smooth, generator):
    """Beside a darker exposure, too: only the fusion lifts colours with the luma."""
    bright = torch.cat([smooth, 0.8 * smooth, 0.6 * smooth], dim=1)
    dark = 0.3 * bright
    alone, _ = restorer("noise:level=20")(Sources.of([bright]), Stopwatch())
    beside, _ = restorer("1=noise:level=20")(Sources.of([bright, dark]), Stopwatch())
    torch.testing.assert_close(beside.images[0], alone.images[0])


def test_a_backbone_that_restores_nothing_leaves_the_sources_and_tells_the_prior(smooth, generator):
    noisy = with_noise(smooth, 20, generator)
    pipeline = Pipeline(prior="laplacian", backbone="identity", device="cpu")
    seen = []
    correct = pipeline.prior.correct
    pipeline.prior.correct = lambda x0, sources, *rest: seen.append(sources) or correct(x0, sources, *rest)
    result = pipeline.run([smooth, noisy])
    assert torch.equal(seen[0].images[1], noisy)
    assert float(seen[0].noise[0]) == 0
    assert float(seen[0].noise[1]) * 255 == pytest.approx(20, rel=0.1)
    assert "left as it is" in result.notes[0]


def test_levels_that_cannot_be_served_are_refused(smooth):
    with pytest.raises(OptionError, match=r"this backbone restores nothing.*`restore=none`"):
        Pipeline(backbone="identity", restore="noise:level=12", device="cpu")
    with pytest.raises(OptionError, match=r"`restore=3=\.\.\.`, but there are only 2 sources"):
        restorer("1=noise:level=1", "3=noise:level=3")(Sources.of([smooth, smooth]), Stopwatch())
    with pytest.raises(OptionError, match="no option 'strength'"):
        Pipeline(restore="noise:strength=1", device="cpu")
    with pytest.raises(OptionError, match=r"trained for t up to 0\.4"):
        Pipeline(sampler={"strength": 0.9}, device="cpu")


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize(("prior", "gain"), [("em_tv", 7.0), ("laplacian", 6.0)])
def test_the_shipped_flow_gives_back_what_noise_took(scene, generator, prior, gain):
    """Against the clean fusion of the same prior. benchmarks/ablations/restore.toml measures it."""
    clean = [source.mean(1, keepdim=True) for source in scene]
    noisy = [with_noise(source, 20, generator) for source in clean]
    control = Pipeline(prior=prior, backbone="identity", restore="none", device="cpu")
    goal = control.fuse_tensors(clean)
    restored = Pipeline(prior=prior, restore="noise:level=20", device="cpu").fuse_tensors(noisy)
    assert psnr(restored, goal) > psnr(control.fuse_tensors(noisy), goal) + gain


def test_without_noise_the_flow_is_not_even_loaded(scene):
    pipeline = Pipeline(prior="laplacian", device="cpu")
    clean = [torch.nn.functional.interpolate(s, (192, 256), mode="bicubic").clamp(0, 1) for s in scene]
    without = Pipeline(prior="laplacian", backbone="identity", restore="none", device="cpu")
    assert torch.equal(pipeline.fuse_tensors(clean), without.fuse_tensors(clean))
    assert pipeline.backbone.network._module is None


def test_the_manifest_and_the_user_are_told(smooth, generator, tmp_path):
    for name, image in (("ir", smooth), ("vis", with_noise(smooth, 20, generator))):
        write_image(tmp_path / f"{name}.png", image[0].permute(1, 2, 0).numpy(), "8")
    done = run_cli("run", tmp_path / "ir.png", tmp_path / "vis.png", "-o", tmp_path / "f.png")
    assert done.returncode == 0, done.stderr
    assert "vis.png: noise of " in done.stderr
    row = json.loads((tmp_path / "f.manifest.jsonl").read_text())
    (found,) = row["restored"]
    assert found["source"] == "vis.png"
    assert found["degradation"] == "noise"
    assert found["options"]["level"] == pytest.approx(20, rel=0.1)
    assert found["undone"] is True
    assert found["evaluations"] == row["evaluations"] == 1
    assert row["restore"] == ["auto"]
    assert DEAD_ZONE == 1.5 / 255


def test_a_level_given_by_hand_is_taken_below_the_dead_zone_and_refused_beyond_what_the_flow_knows(smooth):
    _, found = restorer("noise:level=1")(Sources.of([smooth]), Stopwatch())
    assert found[0].evaluations == 1
    with pytest.raises(OptionError, match="up to 85 levels"):
        restorer("noise:level=120")


def test_a_backbone_of_colour_images_restores_nothing(smooth):
    class Colour(GaussianFlow):
        channels = 3

    restored, _ = restorer(flow=Colour(Options()))(Sources.of([smooth, smooth]), Stopwatch())
    assert restored.images[0] is restored.images[1] is smooth
    with pytest.raises(OptionError, match="restores nothing"):
        restorer("noise:level=12", flow=Colour(Options()))


def test_a_broken_field_is_named(smooth, generator):
    class Broken(GaussianFlow):
        def velocity(self, x_t, t):
            return x_t * float("nan")

    with pytest.raises(PluginError, match=r"Broken\.velocity returned"):
        restorer(flow=Broken(Options()))(Sources.of([with_noise(smooth, 20, generator)]), Stopwatch())


def test_contrast_below_noise_that_was_enlarged_counts_as_lost(smooth, generator):
    """It is not left to what ends clean, and the priors are told its deviation."""
    flow = GaussianFlow(Options())
    sources = Sources.of([with_noise(smooth, 6, generator)])
    restored, found = restorer("noise:level=6,scale=2", "blur:sigma=1", flow=flow)(sources, Stopwatch())
    assert [(row.degradation, row.evaluations) for row in found] == [("noise", 1), ("blur", 5)]
    assert float(restored.noise[0]) == pytest.approx(6 / 255)
    assert flow.asked[0][0] == (1, 1, 80, 96)
