"""Degradations of a third party, whose answers are known: which are undone, in which order, and what the user is told."""

import ast
from dataclasses import replace

import pytest
import torch

from fusionkit.cli.messages import in_flags
from fusionkit.contracts import Backbone, Options, ShotMemory, Sources
from fusionkit.errors import InputError, OptionError, PluginError, SizeMismatch, UnknownPlugin
from fusionkit.images.convert import StoredImages
from fusionkit.images.picture import Picture
from fusionkit.method.config import PipelineConfig
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.restore import Restorer
from fusionkit.registry.loading import get_registry
from fusionkit.server.catalog import labelled
from fusionkit.timing import Stopwatch
from fusionkit_plugins.color.ycbcr import YCbCr
from fusionkit_plugins.degradations.noise import Noise
from fusionkit_plugins.identity import IdentityDecoder, IdentityOptions

CODE = """
import torch
import fusionkit
from pydantic import Field
from fusionkit.contracts import Degradation, Options, Splitting, SplittingOptions

SOUGHT = []  # names of degradations, as they were sought
ASKED = []  # deviations at which the flow was asked

class Amount(Options):
    amount: float = Field(0.0, description="how much")

class Step(Degradation):
    Options = Amount
    asks_flow = False
    @classmethod
    def estimate(cls, y, told):
        if cls.__name__ in ("Plus", "Times"):
            SOUGHT.append(cls.__name__)
        return cls.found(y)
    @classmethod
    def found(cls, y):
        return None
    def describe(self):
        return f"{type(self).__name__.lower()} of {self.options.amount:g}"

class Plus(Step):  # in the lens; the darkest pixel of a clean picture is 0.1
    @classmethod
    def found(cls, y):
        rest = float(y.min()) - 0.1
        return {"amount": rest} if rest > 0.01 else None
    def forward(self, x, generator=None):
        return x + self.options.amount
    def undo(self, y, noise):
        return y - self.options.amount
        yield

class Times(Step):  # in the file; the brightest pixel of a clean picture is 0.9, that of a lens's 0.95
    @classmethod
    def found(cls, y):
        rest = float(y.max()) / 0.95
        return {"amount": rest} if rest < 0.9 else None
    def forward(self, x, generator=None):
        return x * self.options.amount
    def undo(self, y, noise):
        return y / self.options.amount
        yield

class Tint(Degradation):  # of the light
    Options = Amount
    asks_flow = False
    color = True
    def forward(self, x, generator=None):
        return x * torch.tensor([1.0, 1.0, 1 - self.options.amount]).view(3, 1, 1)
    def undo(self, y, noise):
        return y / torch.tensor([1.0, 1.0, 1 - self.options.amount]).view(3, 1, 1)
        yield

class Advice(Tint):
    @classmethod
    def estimate(cls, y, told):
        return {"amount": 0.25}
    def describe(self):
        return "a tint of 0.25"

class Size(Options):
    height: int = Field(0, description="rows that are wanted")

class Half(Degradation):
    Options = Size
    asks_flow = False
    resizes = True
    @classmethod
    def estimate(cls, y, told):
        return dict(told) or None
    def forward(self, x, generator=None):
        return x[..., ::2, ::2]
    def undo(self, y, noise):
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2)
        yield

class Covered(Splitting):
    Options = SplittingOptions
    highest = 0.2
    def forward(self, x, generator=None):
        return x
    def prox(self, x0, y, strength):
        return (y + strength * x0) / (1 + strength)
    def undo(self, y, noise):
        ASKED.append(noise)
        return super().undo(y, noise)

class Broken(Step):
    def forward(self, x, generator=None):
        return x
    def undo(self, y, noise):
        return y[0]
        yield

class Bright(Plus):  # as large as the picture is bright: images of a batch differ
    @classmethod
    def found(cls, y):
        return {} if float(y.mean()) > 0.6 else None
    def undo(self, y, noise):
        return y[..., ::2, ::2]
        yield

def record(name, place, **more):
    return fusionkit.DegradationRecord(
        name=name.lower(), summary=name, target=f"{__name__}:{name}", place=place, **more
    )

@fusionkit.hookimpl
def fusionkit_degradations():
    yield record("Plus", 5, automatic=True)
    yield record("Times", 70, automatic=True, learned=True)
    yield record("Tint", 20)
    yield record("Half", 30)
    yield record("Covered", 25, evaluations=8)
    yield record("Broken", 1)
    yield record("Bright", 2)
"""
MORE = """
import fusionkit
@fusionkit.hookimpl
def fusionkit_degradations():
    yield fusionkit.DegradationRecord(name="advice", summary="a", target="fakes:Advice", place=20)
    yield fusionkit.DegradationRecord(name="gone", summary="g", target="nowhere:Gone", place=30)
"""


class Flow(Backbone):
    """Returns what it is asked for, as a flow that knows no noise does."""

    domain, channels, restores = "pixel", 1, 0.4
    decoder, decoder_options = "identity", {"signal": "signed"}

    def __init__(self):
        super().__init__(Options())
        self.asked = []

    def velocity(self, x_t, t):
        t = t.view(-1, 1, 1, 1)
        self.asked += t.flatten().tolist()
        return -x_t / (1 - t)  # x_0 = x_t - t v = x_t / (1 - t)


@pytest.fixture
def fakes(site, monkeypatch):
    """The module of the third party, installed beside the built-in plug-ins."""
    site.add("fakes", CODE)
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,fakes")
    get_registry.cache_clear()
    get_registry()
    import fakes

    yield fakes
    monkeypatch.undo()
    get_registry.cache_clear()


@pytest.fixture
def more(fakes, site, monkeypatch):
    """A second package: one that only advises, and one that does not load."""
    site.add("more", MORE)
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,fakes,more")
    get_registry.cache_clear()
    return fakes


def restore(sources, *wanted, flow=None, memory=None):
    decoder = IdentityDecoder(IdentityOptions(signal="signed"))
    wanted = PipelineConfig(restore=wanted or "auto").restore
    restorer = Restorer(flow or Flow(), decoder, YCbCr(YCbCr.Options()), wanted)
    return restorer(sources, Stopwatch(), *([memory] if memory else []))


@pytest.fixture
def ramp():
    """A clean luma from 0.1 to 0.9, (1, 1, 48, 64)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    return (0.1 + 0.4 * x + 0.4 * y)[None, None]


@pytest.fixture
def colour(ramp):
    return torch.cat([ramp, 0.8 * ramp, 0.6 * ramp], 1)


def named(rows):
    return [(row.source, row.degradation) for row in rows]


def test_what_comes_last_in_a_camera_is_undone_first_whatever_order_is_named(fakes, ramp):
    y = (ramp + 0.05) * 0.5
    for wanted in (("plus:amount=0.05", "times:amount=0.5"), ("times:amount=0.5", "plus:amount=0.05")):
        restored, rows = restore(Sources.of([y]), *wanted)
        torch.testing.assert_close(restored.luma[0], ramp)
        assert named(rows) == [("source 1", "times"), ("source 1", "plus")]


def test_each_is_sought_in_what_those_before_it_left(fakes, ramp):
    """`plus` is hidden by `times`: in y itself its estimate would be another."""
    restored, rows = restore(Sources.of([(ramp + 0.05) * 0.5, ramp]))
    torch.testing.assert_close(restored.luma[0], ramp)
    assert restored.luma[1] is ramp
    assert [row.options["amount"] for row in rows] == pytest.approx([0.5, 0.05], abs=1e-6)
    assert fakes.SOUGHT == ["Times", "Plus"] * 2


def test_a_shot_keeps_what_its_first_frame_showed(fakes, ramp):
    memory, frame = ShotMemory(), (ramp + 0.05) * 0.5
    restore(Sources.of([frame]), memory=memory)
    restored, _ = restore(Sources.of([0.9 * frame]), memory=memory)
    torch.testing.assert_close(restored.luma[0], 0.9 * ramp - 0.005)
    assert fakes.SOUGHT == ["Times", "Plus"]


def test_a_number_before_the_name_is_one_source(fakes, ramp):
    restored, rows = restore(Sources.of([ramp, ramp]), "2=plus:amount=0.05")
    assert named(rows) == [("source 2", "plus")]
    assert restored.luma[0] is ramp
    torch.testing.assert_close(restored.luma[1], ramp - 0.05)


def test_what_is_chosen_for_one_source_takes_the_place_of_the_same_for_all(fakes, ramp):
    sources = Sources.of([ramp + 0.05, ramp + 0.05])
    for general in ("auto", "plus:amount=0.05"):
        restored, rows = restore(sources, general, "1=plus:amount=0.02")
        assert named(rows) == [("source 1", "plus"), ("source 2", "plus")]
        torch.testing.assert_close(restored.luma[0], ramp + 0.03)
        torch.testing.assert_close(restored.luma[1], ramp)


def test_auto_seeks_what_is_not_named_too(fakes, ramp):
    """Beside `auto` the named one is undone with the options given, not twice."""
    restored, rows = restore(Sources.of([(ramp + 0.05) * 0.5]), "auto", "plus:amount=0.01")
    assert named(rows) == [("source 1", "times"), ("source 1", "plus")]
    torch.testing.assert_close(restored.luma[0], ramp + 0.04)
    _, rows = restore(Sources.of([ramp + 0.05, ramp + 0.05]), "2=auto")
    assert named(rows) == [("source 2", "plus")]


def test_named_without_options_it_is_estimated_and_the_user_is_told_where_it_is_not_found(fakes, ramp):
    sources = Sources.of([ramp + 0.05, ramp])
    restored, rows = restore(sources, "plus")
    assert named(rows) == [("source 1", "plus")]
    torch.testing.assert_close(restored.luma[0], ramp)
    assert sources.report.notes == ["source 2: no plus found, so nothing is undone; its options can be given"]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ([], "expected auto, none, or degradations"),
        (["none", "plus"], "none stands alone"),
        (["1=none"], "none stands alone"),
        (["auto:amount=1"], "auto and none take no options"),
        (["plus", "plus:amount=1"], "plus is named twice for one source"),
        (["2=plus", "2=fakes:plus"], "plus is named twice for one source"),
        (["0=plus", "plus"], "plus is named twice for one source"),
        (["plus:amount"], "no degradation 'plus:amount'; options of plus are KEY=VALUE"),
        (["plus:"], "'plus:': expected NAME or NAME:KEY=VALUE"),
        (["1="], "'': expected NAME or NAME:KEY=VALUE"),
        (["vis.png=plus"], "`restore=vis.png=plus`: before = stands the number of a source"),
        (["-1=plus"], "before = stands the number of a source"),
        (["plus:amount=1,amount=2"], "amount: given twice"),
        (["noise:level=0"], "`level=0` is no noise"),
        (["plus:=1"], "`restore` '=1': expected KEY=VALUE"),
        (["plus:amount=much"], "degradation plus: amount=much: expected a number"),
        (["plus:amont=1"], "no option 'amont'; did you mean 'amount'"),
        (["pluss"], "no degradation 'pluss'; did you mean 'plus'"),
        ([3], "expected a name or an object"),
    ],
)
def test_what_is_wrong_is_one_line(fakes, wanted, reason):
    with pytest.raises((OptionError, PluginError, UnknownPlugin), match=reason) as error:
        Pipeline(restore=wanted, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "how", ["noise:scale=2", "noise:correlation=0.3", "blur:steps=2", "jpeg:steps=2", "stripes:steps=1"]
)
def test_options_that_say_how_a_degradation_is_undone_undo_only_what_is_found(fakes, ramp, how):
    sources = Sources.of([ramp])
    assert restore(sources, how) == (sources, [])
    assert "found, so nothing is undone" in sources.report.notes[0]


def test_several_stand_in_one_text_with_commas():
    text = "auto, 2=haze:strength=0.5,jpeg:table=[1,2,3],noise:level=4, correlation=0.5"
    assert [str(one) for one in PipelineConfig(restore=text).restore] == [
        "auto",
        "2=haze:strength=0.5",
        "jpeg:table=[1, 2, 3]",
        "noise:level=4,correlation=0.5",
    ]
    assert PipelineConfig(restore=[text]).restore == PipelineConfig(restore=text).restore


def test_none_seeks_nothing(fakes, ramp):
    sources = Sources.of([(ramp + 0.05) * 0.5])
    assert restore(sources, "none") == (sources, [])
    assert fakes.SOUGHT == []


def test_an_object_is_undone_as_it_is(fakes, ramp):
    plus = fakes.Plus(fakes.Amount(amount=0.05))
    for wanted, changed in (([plus], [0, 1]), ([{"source": 2, "instance": plus}], [1])):
        restored, rows = restore(Sources.of([ramp, ramp]), *wanted)
        assert [row.source for row in rows] == [f"source {i + 1}" for i in changed]
        for i in range(2):
            torch.testing.assert_close(restored.luma[i], ramp - 0.05 * (i in changed))
    pipeline = Pipeline(restore=plus, prior="average", device="cpu")
    assert pipeline.method()["restore"] == ["Plus"]
    with pytest.raises(PluginError, match=r"this is the class; give an object of it, Plus\(Plus\.Options\(\)\)"):
        Pipeline(restore=fakes.Plus, device="cpu")


def test_colour_is_undone_in_the_whole_image(fakes, colour):
    tinted = colour * torch.tensor([1.0, 1.0, 0.75]).view(3, 1, 1)
    restored, rows = restore(Sources.of([tinted, colour]), "1=tint:amount=0.25")
    torch.testing.assert_close(restored.images[0], colour, atol=1e-5, rtol=0)
    torch.testing.assert_close(restored.luma[0], YCbCr(YCbCr.Options()).split(colour)[0], atol=1e-5, rtol=0)
    assert restored.images[1] is colour
    assert len(rows) == 1


def test_what_changes_the_size_stands_beside_what_changes_colours(fakes, colour):
    """The chroma, of the light's own size by then, is enlarged with the luma, and then corrected."""
    constant = torch.tensor([0.6, 0.5, 0.4]).view(1, 3, 1, 1).expand(1, 3, 20, 30)
    tinted = constant * torch.tensor([1.0, 1.0, 0.75]).view(3, 1, 1)
    large = colour[..., :40, :60]
    sources = Sources.of([tinted, large])
    told = ({"half": {"height": 40}}, {})
    restored, rows = restore(Sources(sources.images, sources.luma, degraded=told), "half", "1=tint:amount=0.25")
    assert named(rows) == [("source 1", "half"), ("source 1", "tint")]
    assert restored.luma[0].shape == (1, 1, 40, 60)
    torch.testing.assert_close(restored.images[0], constant[..., :1, :1].expand(1, 3, 40, 60), atol=1e-5, rtol=0)
    assert restored.images[1] is large


@pytest.mark.parametrize("stored", [False, True])
def test_a_stage_tells_what_it_would_only_cover_up(fakes, ramp, monkeypatch, stored):
    """Of two sources the smaller is enlarged by the flow, not by the stage."""
    from fusionkit_plugins.stages.sizes import Resize

    def smaller(self, sources):
        wanted = sources.reference_luma.shape
        return [{} if y.shape == wanted else {"half": {"height": wanted[-2]}} for y in sources.luma]

    monkeypatch.setattr(Resize, "degradations", smaller)
    pipeline = Pipeline(
        prior="average", backbone="identity", restore="half", resize="reference", look="faithful", device="cpu"
    )
    pixels = [(255 * x[0]).round().byte().permute(1, 2, 0).numpy() for x in (ramp[..., ::2, ::2], ramp)]
    pictures = [Picture(p, "8", (0.0, 255.0)) for p in pixels]
    images = StoredImages(pictures, torch.device("cpu"))
    fused = pipeline.run(images if stored else list(images))
    expected = (images[0].repeat_interleave(2, -1).repeat_interleave(2, -2) + images[1]) / 2
    torch.testing.assert_close(fused.image, expected, atol=1e-5, rtol=0)
    assert [row.degradation for row in fused.restored] == ["half"]
    assert not any("resized" in note for note in fused.notes)


def test_sources_of_several_sizes_are_refused_before_anything_is_sought(fakes, ramp):
    choices = {"prior": "average", "backbone": "identity", "look": "faithful", "device": "cpu"}
    small = ramp[..., ::2, ::2] + 0.05
    with pytest.raises(SizeMismatch, match="resize=reference"):
        Pipeline(restore="plus", **choices).run([small, ramp])
    assert not fakes.SOUGHT
    fused = Pipeline(restore=f"1=half:height={ramp.shape[-2]}", **choices).run([small, ramp])
    assert fused.image.shape == ramp.shape


def test_large_pictures_of_which_one_was_enlarged_are_still_made_row_by_row(fakes, ramp, monkeypatch):
    pixels = [(255 * x[0]).round().byte().permute(1, 2, 0).numpy() for x in (ramp[..., ::2, ::2], ramp)]
    stored = StoredImages([Picture(p, "8", (0.0, 255.0)) for p in pixels], torch.device("cpu"))
    given = Sources.of(stored)
    enlarged = stored[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
    asked, rows_of = [], StoredImages.rows
    with monkeypatch.context() as patch:
        patch.setattr(StoredImages, "rows", lambda s, i, rows: asked.append((i, rows)) or rows_of(s, i, rows))
        restored, _ = restore(Sources(stored, given.luma, degraded=({"half": {"height": 40}}, {})), "half")
    assert isinstance(restored.images, StoredImages)
    assert {i for i, _ in asked} == {0}  # the other picture is left stored
    torch.testing.assert_close(restored.images[0], enlarged)
    rows = slice(10, 23)
    strip = restored.rows(rows)
    torch.testing.assert_close(strip.images[0], enlarged[..., rows, :])
    torch.testing.assert_close(strip.images[1], stored[1][..., rows, :])
    torch.testing.assert_close(strip.luma[0], enlarged[..., rows, :])


def test_images_of_a_batch_that_would_get_different_sizes_are_refused(fakes, ramp):
    batch = torch.cat([ramp, ramp / 2 + 0.5])
    with pytest.raises(InputError, match="fuse them one by one"):
        restore(Sources.of([batch]), "bright")


def test_what_is_not_automatic_is_advised_of_colour_in_sources_that_have_any(more, ramp):
    coloured, grey = torch.cat([ramp, 0.9 * ramp, 0.5 * ramp], 1), ramp.expand(1, 3, -1, -1)
    sources = Sources.of([coloured, grey], names=("vis.png", "ir.png"))
    _, rows = restore(sources, "auto")
    assert "advice" not in [row.degradation for row in rows]
    told = [note for note in sources.report.notes if "tint" in note]
    assert told == ['vis.png has a tint of 0.25; `restore=["auto", "advice"]` undoes it']
    restore(only := replace(sources, images=(coloured, coloured[:, 2:].expand(1, 3, -1, -1))), "2=auto")
    assert not any("ir.png has" in note for note in only.report.notes)
    restored, rows = restore(sources, "advice")
    assert named(rows) == [("vis.png", "advice")]
    assert float(restored.images[0][:, 2].mean()) > float(coloured[:, 2].mean()) + 0.03
    _, rows = restore(sources, "2=advice")
    assert named(rows) == [("ir.png", "advice")]


@pytest.mark.parametrize(
    ("scene", "told"), [("heat", True), ("focus", False), ("contrast", False), ("exposure", False)]
)
def test_light_and_weather_are_sought_in_infrared_and_visible_scenes_alone(more, ramp, scene, told):
    coloured = torch.cat([ramp, 0.9 * ramp, 0.5 * ramp], 1)
    sources = replace(Sources.of([coloured, coloured]), known_scenes=(scene,))
    restore(sources, "auto")
    assert any("tint" in note for note in sources.report.notes) == told


def test_one_note_offers_all_that_a_source_has_beside_what_is_undone(more, ramp):
    restorer = Restorer(Flow(), IdentityDecoder(IdentityOptions()), YCbCr(YCbCr.Options()), PipelineConfig().restore)
    note = restorer._offer("vis.png", {"rain": "rain at 15 degrees", "haze": "haze"})
    assert note == 'vis.png has rain at 15 degrees and haze; `restore=["auto", "rain", "haze"]` undoes them'
    assert labelled(note).endswith("; restore: auto, rain, haze undoes them")
    assert in_flags(note).endswith("; --restore auto --restore rain --restore haze undoes them")
    asked = ast.literal_eval(note.split("`")[1].removeprefix("restore="))
    assert [str(one) for one in PipelineConfig(restore=asked).restore] == asked


def test_a_package_that_does_not_load_leaves_the_others_at_work(more, ramp):
    sources = Sources.of([ramp + 0.05])
    _, rows = restore(sources, "auto")
    assert named(rows) == [("source 1", "plus")]
    assert any(note.startswith("left out: degradation 'gone' of more 1.0") for note in sources.report.notes)
    with pytest.raises(PluginError, match="'gone' of more"):
        restore(sources, "gone")


def test_noise_is_left_to_the_next_that_ends_clean(fakes, ramp, generator):
    """It takes no evaluation of its own; what follows is told its deviation and asks down to it."""
    flow, y = Flow(), (ramp + 12 / 255 * torch.randn(ramp.shape, generator=generator)).clamp(0, 1)
    restored, rows = restore(Sources.of([y]), "noise:level=12", "covered:steps=3", flow=flow)
    assert [(r.degradation, r.evaluations, r.undone) for r in rows] == [("noise", 0, True), ("covered", 3, True)]
    assert [pytest.approx(12 / 255)] == fakes.ASKED
    last = 2 * 12 / 255
    assert flow.asked[-1] == pytest.approx(last / (1 + last))
    assert len(flow.asked) == 3
    assert not torch.equal(restored.luma[0], y)
    assert [r.note() for r in rows] == [
        "source 1: noise of 12.0 levels, restored by the flow",
        "source 1: covered, restored by the flow",
    ]


def test_noise_is_undone_at_once_where_what_follows_does_not_end_clean(fakes, ramp):
    flow = Flow()
    _, rows = restore(Sources.of([ramp]), "noise:level=12", "plus:amount=0.05", flow=flow)
    assert [(r.degradation, r.evaluations) for r in rows] == [("noise", 1), ("plus", 0)]
    assert len(flow.asked) == 1


def test_without_a_flow_what_needs_none_is_still_undone(fakes, ramp, generator):
    flow = Flow()
    flow.restores = 0.0
    noisy = ((ramp + 0.05) * 0.5)[..., :40, :].repeat(1, 1, 4, 3)
    noisy = (noisy + 0.05 * torch.randn(noisy.shape, generator=generator)).clamp(0, 1)
    restored, rows = restore(Sources.of([noisy]), "auto", "plus:amount=0.02", flow=flow)
    assert ("source 1", "noise") in named(rows)
    by_name = {row.degradation: row for row in rows}
    assert by_name["plus"].undone
    assert not by_name["noise"].undone
    assert float(restored.noise[0]) > 0.03
    with pytest.raises(OptionError, match="`restore=covered`: this backbone restores nothing"):
        restore(Sources.of([ramp]), "covered:steps=2", flow=flow)


def test_the_user_is_told_what_undid_it(fakes, ramp):
    _, rows = restore(Sources.of([ramp]), "plus:amount=0.05", "times:amount=0.5")
    assert [row.note() for row in rows] == [
        "source 1: times of 0.5, restored by a network",
        "source 1: plus of 0.05, restored",
    ]


def test_evaluations_are_those_of_the_source_that_took_most(fakes, ramp):
    """Sources go side by side; what is undone in one source after the other counts together."""
    pipeline = Pipeline(
        prior="average", restore=["covered:steps=2", "1=noise:level=4", "1=plus:amount=0"], device="cpu"
    )
    pipeline.restorer = Restorer(Flow(), pipeline.decoder, pipeline.color, pipeline.config.restore)
    fused = pipeline.run([ramp.repeat(2, 1, 1, 1), ramp.repeat(2, 1, 1, 1)])
    assert fused.evaluations == 2
    covered = [fakes.Covered(fakes.Covered.Options(steps=3)), "1=covered:steps=2"]
    pipeline.restorer = Restorer(
        Flow(), pipeline.decoder, pipeline.color, PipelineConfig(restore=[*covered, "noise:level=4"]).restore
    )
    assert pipeline.run([ramp, ramp]).evaluations == 5


def test_a_wrong_result_is_named(fakes, ramp):
    with pytest.raises(
        PluginError, match=r"fakes\.Broken\.undo returned shape \(1, 48, 64\), expected \(1, 1, 48, 64\)"
    ):
        restore(Sources.of([ramp]), "broken:amount=1")


class TestNoise:
    """A level given by hand is all that is undone."""

    @pytest.fixture
    def grainy(self, generator):
        """Noise that grows with light, (1, 1, 160, 192)."""
        y, x = torch.meshgrid(torch.linspace(0, 1, 160), torch.linspace(0, 1, 192), indexing="ij")
        clean = (0.1 + 0.4 * x + 0.4 * y)[None, None]
        return Noise(Noise.Options(slope=0.012)).forward(clean, generator).clamp(0, 1)

    def test_the_estimate_says_that_it_grows(self, grainy):
        _, (row,) = restore(Sources.of([grainy]))
        assert row.options["slope"] == pytest.approx(0.012, rel=0.3)
        assert "grows with light" in row.what

    def test_a_level_is_white_noise(self, grainy):
        flow = Flow()
        _, (row,) = restore(Sources.of([grainy]), "noise:level=12", flow=flow)
        assert row.options == {"level": 12.0}
        assert flow.asked == [pytest.approx(2 * 12 / 255 / (1 + 2 * 12 / 255))]

    def test_a_slope_is_noise_of_that_growth(self, grainy):
        flow = Flow()
        _, (row,) = restore(Sources.of([grainy]), "noise:slope=0.01", flow=flow)
        assert row.options == {"slope": 0.01}
        assert row.what == "noise that grows with light of 18.0 levels"  # sqrt(0.01 / 2)
        assert len(flow.asked) == 1
