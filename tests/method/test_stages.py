"""Stages around the fusion: their order, notes, records, and those that fields of a configuration stand for."""

from dataclasses import replace

import pytest
import torch

import fusionkit
from fusionkit.contracts import Options, Sources, Stage
from fusionkit.errors import OptionError, PluginError, SizeMismatch
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import infrared_visible
from fusionkit.timing import Stopwatch
from fusionkit_plugins.stages.levels import Vivid, VividOptions
from fusionkit_priors.baselines import Average
from harness import load_image, run_cli

PLAIN = {"prior": "average", "backbone": "identity", "device": "cpu", "restore": "none"}


class Writes(Stage):
    """Says when it is called."""

    def __init__(self, name, log):
        super().__init__(Options())
        self.name, self.log = name, log

    def before(self, sources):
        self.log.append(f"before {self.name}")
        sources.report.note(f"note of {self.name}")
        return replace(sources, names=tuple(name + self.name for name in sources.names))

    def after(self, image, sources):
        self.log.append(f"after {self.name} {sources.names[0]}")
        return image


def test_the_first_stage_is_the_outermost_and_sees_what_it_was_given(scene):
    log = []
    result = Pipeline(stages=[Writes("a", log), Writes("b", log)], **PLAIN).run(scene)
    assert log == ["before a", "before b", "after b source 1a", "after a source 1"]
    assert result.notes == ("note of a", "note of b")


def test_seconds_options_and_origin_are_recorded(scene):
    watch = Stopwatch()
    pipeline = Pipeline(stages=[{"name": "working_size", "size": [48, 64]}, "stretch"], **PLAIN)
    pipeline.run(scene, watch=watch)
    assert {"stage working_size", "stage stretch"} <= watch.seconds.keys()
    recorded = pipeline.method()["stages"]
    assert [(s["name"], s["options"]) for s in recorded] == [("working_size", {"size": [48, 64]}), ("stretch", {})]
    assert recorded[0]["from"].startswith("imagefusionkit ")


@pytest.mark.parametrize(
    ("field", "stages"),
    [
        ({"stretch": "minmax"}, ["stretch"]),
        ({"look": "vivid"}, ["vivid"]),
        ({"look": "hot"}, [{"name": "vivid", "hot": 1.5}]),
        ({"working_size": "40x56"}, [{"name": "working_size", "size": [40, 56]}]),
        ({"luma": "rounded"}, ["rounded_luma"]),
        ({"levels": "truncated"}, ["truncate"]),
    ],
)
def test_a_field_is_its_stage(scene, field, stages):
    fused = [Pipeline(**PLAIN, **how).fuse_tensors(scene) for how in (field, {"stages": stages})]
    assert torch.equal(*fused)
    assert not torch.equal(fused[0], Pipeline(**PLAIN).fuse_tensors(scene))


def test_another_size_is_resized_and_said_or_refused(scene):
    small = torch.nn.functional.interpolate(scene[0], (48, 64))
    result = Pipeline(resize="reference", **PLAIN).run([small, scene[1]], names=["ir", "vis"])
    assert result.image.shape == scene[1].shape
    assert result.notes == ("ir resized from 64x48 to 128x96",)
    with pytest.raises(SizeMismatch, match=r"ir is 64x48 but vis is 128x96.*`resize=reference`"):
        Pipeline(**PLAIN).run([small, scene[1]], names=["ir", "vis"])


def test_on_the_command_line(pair_files, tmp_path):
    out = tmp_path / "a.png"
    done = run_cli(
        "run",
        "--prior",
        "average",
        "--backbone",
        "identity",
        *pair_files,
        "-o",
        out,
        "--stage",
        "working_size:size=[48,64]",
        "--stage",
        "imagefusionkit:stretch",
    )
    assert done.returncode == 0, done.stderr
    assert load_image(out).size == (128, 96)
    assert '"stages": [{"name": "working_size"' in (tmp_path / "a.manifest.jsonl").read_text()
    done = run_cli("run", *pair_files, "-o", tmp_path / "b.png", "--stage", "strech")
    assert done.returncode == 2
    assert "no stage 'strech'; did you mean 'stretch'?" in done.stderr


def test_what_is_no_stage_is_refused():
    with pytest.raises(PluginError, match="stage Average: expected a name or an object"):
        Pipeline(stages=[Average(Options())], **PLAIN)
    with pytest.raises(OptionError, match=r"stage rounded_luma needs BT\.601"):
        Pipeline(stages=["rounded_luma"], color="lab", **PLAIN)


def test_a_scene_function_of_the_package_takes_stages(scene):
    assert fusionkit.fuse(*scene, stages=["stretch"], **PLAIN).shape == scene[1].shape


def test_a_working_size_hides_no_difference_of_sizes(scene):
    small = torch.nn.functional.interpolate(scene[0], (48, 64))
    with pytest.raises(SizeMismatch, match="which a working size would hide"):
        Pipeline(working_size="40x56", **PLAIN).run([small, scene[1]])
    fused = Pipeline(working_size="40x56", resize="reference", **PLAIN).run([small, scene[1]])
    assert fused.image.shape == scene[1].shape


class Breaks(Stage):
    """Returns what no stage may."""

    def __init__(self, where):
        super().__init__(Options())
        self.where = where

    def before(self, sources):
        return None if self.where == "before" else sources

    def after(self, image, sources):
        return image[..., 1:] if self.where == "after" else image


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_broken_stage_is_named(scene, where):
    with pytest.raises(PluginError, match=rf"\.Breaks\.{where} returned"):
        Pipeline(stages=[Breaks(where)], **PLAIN).run(scene)


class TestVivid:
    def test_a_flat_result_gets_more_contrast_and_a_full_one_stays(self):
        flat = torch.linspace(0.3, 0.8, 64).expand(1, 1, 64, 64).contiguous()
        full = torch.linspace(0, 1, 64).expand(1, 1, 64, 64).contiguous()
        for image, gain in ((flat, 1.4), (full, 1.0)):
            result = Pipeline(look="vivid", prior="source", backbone="identity").fuse_tensors([image, image])
            assert float(result.std() / image.std()) == pytest.approx(gain, abs=0.03)

    @pytest.mark.parametrize(("median", "opened"), [(0.03, 0.045), (0.12, 40 / 255), (0.17, 0.17), (0.5, 0.5)])
    def test_a_night_is_opened_and_a_day_stays(self, median, opened):
        """Lamps and black fill the range, so that no contrast is left to raise; at most 1.4 times that at the median."""
        image = torch.full((1, 1, 64, 64), median)
        image[..., :4, :], image[..., 4:8, :], image[..., 8, :] = 0, 1, 1.02 * median
        result = Pipeline(look="vivid", prior="source", backbone="identity").fuse_tensors([image, image])
        assert result[0, 0, 32, 0] == pytest.approx(opened, abs=0.005)
        assert result[0, 0, 0, 0] == pytest.approx(0, abs=1e-6)
        assert result[0, 0, 4, 0] == pytest.approx(1, abs=1e-6)
        steeper = float(result[0, 0, 8, 0] - result[0, 0, 32, 0]) / (0.02 * median)
        assert 0.99 < steeper < 1.405

    def test_auto_is_vivid_for_heat_alone(self):
        from fusionkit.scenes import multi_focus

        pairs = {
            "heat": [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible((96, 128), seed=2)],
            "focus": [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in multi_focus((96, 128))],
        }
        for kind, pair in pairs.items():
            auto, faithful = (Pipeline(look=look).fuse_tensors(pair) for look in ("auto", "faithful"))
            assert torch.equal(auto, faithful) == (kind == "focus")

    @pytest.mark.parametrize(("most", "gain"), [(1.5, 1.5), (1.2, 1.2), (1.0, 1.0)])
    def test_what_is_hot_in_dim_infrared_gets_more_contrast_before_it_is_fused(self, most, gain):
        infrared, visible = torch.full((2, 1, 64, 64), 0.1), torch.rand(2, 3, 64, 64)
        infrared[:, :, 20:30, 20:30] = 0.4
        infrared[1, :, 40:50, 40:50] = 0.95  # this one fills its range already
        given = Sources.of([infrared, visible])
        shown = Vivid(VividOptions(hot=most)).before(given)
        before, after = infrared[0, 0], shown.luma[0][0, 0]
        assert torch.allclose(after[23:27, 23:27], 0.1 + gain * (before[23:27, 23:27] - 0.1), atol=0.01)
        assert torch.allclose(after[:10], before[:10], atol=1e-3)  # far from what is hot
        assert torch.allclose(shown.luma[0][1], infrared[1])
        assert shown.luma[1] is given.luma[1]
        assert torch.equal(infrared.amax((1, 2, 3)), torch.tensor([0.4, 0.95]))  # what was given stays

    def test_sources_without_heat_are_left_alone(self):
        pair = [torch.rand(1, 3, 64, 64) * 0.4, torch.rand(1, 3, 64, 64) * 0.4]
        given = Sources.of(pair)
        assert "heat" not in given.scenes
        assert Vivid(VividOptions(hot=1.5)).before(given) is given

    @pytest.mark.parametrize("look", ["auto", "hot"])
    def test_sources_of_two_sizes_are_refused_as_ever(self, look):
        with pytest.raises(SizeMismatch):
            Pipeline(look=look).fuse_tensors([torch.rand(1, 1, 96, 128), torch.rand(1, 3, 90, 128)])

    def test_visible_sources_are_not_raised(self):
        infrared = torch.full((1, 1, 64, 64), 0.1)
        infrared[..., 20:30, 20:30] = 0.4
        colour = 0.4 * torch.rand(1, 3, 64, 64)
        given = Sources.of([infrared, colour, colour.flip(-1)])
        shown = Vivid(VividOptions(hot=1.5)).before(given)
        assert [torch.equal(a, b) for a, b in zip(shown.luma, given.luma, strict=True)] == [False, True, True]

    @pytest.mark.parametrize("more", [{}, {"luma": "rounded"}, {"working_size": "72x96"}])
    def test_the_look_hot_makes_dim_people_stand_out(self, more):
        infrared, visible = torch.full((1, 1, 96, 128), 0.08), torch.rand(1, 3, 96, 128) * 0.3 + 0.35
        infrared[..., 30:60, 40:52] = 0.4  # as bright as what is around it in the visible image
        plain, hot = (Pipeline(look=look, **more).fuse_tensors([infrared, visible]) for look in ("vivid", "hot"))

        def contrast(image):
            return float(image[..., 34:56, 43:49].mean() - image[..., 34:56, 60:70].mean())

        assert contrast(hot) > contrast(plain) + 0.05

    def test_dim_people_stand_out_where_weather_veils_the_reference(self):
        """Of two images the one that was veiled is raised without being asked for, and no note asks for it."""
        infrared = torch.full((2, 1, 64, 64), 0.1)
        infrared[..., 20:30, 20:30] = 0.2
        veiled = tuple(torch.tensor(x).view(2, 1, 1, 1) for x in ([False, False], [True, False]))
        given = replace(Sources.of([infrared, torch.rand(2, 3, 64, 64)]), veiled=veiled)
        shown = Vivid(VividOptions()).before(given)
        assert float(shown.luma[0][0, 0, 23:27, 23:27].mean()) == pytest.approx(0.4, abs=0.01)
        assert torch.equal(shown.luma[0][1], infrared[1])
        Vivid(VividOptions()).after(torch.full((2, 3, 64, 64), 0.42), given.select([0]))
        assert not given.report.notes

    @pytest.mark.parametrize(
        ("most", "person", "shown", "told"),
        [(1.0, 0.4, 0.42, True), (1.0, 0.4, 0.7, False), (1.0, 0.95, 0.42, False), (1.5, 0.4, 0.42, False)],
        ids=["hidden", "shown", "nothing to raise", "raised already"],
    )
    def test_a_note_says_that_what_is_hot_does_not_show(self, most, person, shown, told, generator):
        infrared, result = torch.full((1, 1, 96, 128), 0.08), torch.full((1, 3, 96, 128), 0.42)
        infrared[..., 30:60, 40:52], result[..., 30:60, 40:52] = person, shown
        sources = Sources.of([infrared, torch.rand(1, 3, 96, 128, generator=generator)], names=("ir.png", "vis.png"))
        Vivid(VividOptions(hot=most)).after(result, sources)
        assert [note.partition(" ")[2] for note in sources.report.notes] == [
            "of the hot area of ir.png does not stand out; `look=hot` raises it"
        ] * told

    def test_other_priors_keep_their_pixels(self, scene):
        assert torch.equal(*(Pipeline(prior="laplacian", look=k).fuse_tensors(scene) for k in ("auto", "faithful")))


class Blackens(Stage):
    """Writes over the image that it is given, as a stage may."""

    def after(self, image, sources):
        return image.zero_()


class Reference(Average):
    """Gives back a source's own tensor."""

    def correct(self, x0, sources, state, sigma):
        return sources.reference_luma, None


def test_a_stage_that_works_in_place_leaves_the_sources_alone():
    images = [torch.rand(1, 1, 20, 24), torch.rand(1, 1, 20, 24)]
    kept = [image.clone() for image in images]
    plain = {**PLAIN, "prior": Reference(Reference.Options())}
    fused = Pipeline(stages=[Blackens(Options())], color="gray", **plain).run(images).image
    assert float(fused.max()) == 0
    assert all(torch.equal(a, b) for a, b in zip(images, kept, strict=True))
