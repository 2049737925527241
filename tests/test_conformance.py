"""Every built-in keeps the public contract of its kind."""

import math
from importlib.util import find_spec

import pytest
import torch

from example_files import EXAMPLES
from fusionkit import testing
from fusionkit.contracts import Sources
from fusionkit.registry.kinds import KINDS
from fusionkit.registry.loading import get_registry
from harness import blob_detector, mean_program

CONTRACTS = {name: getattr(testing, kind.conformance) for name, kind in KINDS.items()}
# what a built-in needs to be told for its test


def by_day(contract):
    """The street, as well exposed as `darkness` wants pictures."""
    street = testing.DegradationContract.clean(contract)
    return street ** float(math.log(0.46) / street.mean().log())


def grey_beside(contract, *shape):
    """The contract's sources, the first one without colour."""
    made = testing.StageContract.sources(contract, *shape)
    return Sources.of([made.images[0].mean(1, keepdim=True).expand(-1, 3, -1, -1), made.images[1]])


SETTINGS = {("color-space", "gray"): {"exact": False}, ("prior", "released_rffusion"): {"stretches": True}}
SETTINGS |= {("degradation", "noise"): {"options": {"level": 20.0}}, ("degradation", "blur"): {"cautious": False}}
SETTINGS |= {("degradation", "darkness"): {"cautious": False, "clean": by_day}}
SETTINGS |= {("prior", "network"): {"options": property(lambda self: {"file": mean_program(), "trusted": True})}}
SETTINGS |= {("stage", "palette"): {"options": {"palette": "iron:0.3,0.9"}, "sources": grey_beside}}
SETTINGS |= {("stage", "align"): {"options": {"or_keep": True}}}  # its sources are noise, which nothing aligns
SETTINGS |= {("detector", "onnx"): {"options": property(lambda self: {"file": blob_detector()})}}
SETTINGS |= {("reader", name): {"write": staticmethod(write)} for name, write in EXAMPLES.items()}
SETTINGS |= {("writer", "jpeg"): {"precision": 30.0}, ("writer", "hdr"): {"precision": 0.03}}


def _contracts():
    for plugin in get_registry().plugins:
        kind, name = plugin.kind, plugin.record.name
        title = f"Test_{kind}_{name}".replace("-", "_").replace(".", "_")
        marks = [pytest.mark.skipif(not plugin.installed, reason=f"{name} needs {', '.join(plugin.record.modules)}")]
        body = {"name": name, "pytestmark": marks, **SETTINGS.get((kind, name), {})}
        yield title, type(title, (CONTRACTS[kind],), body)


globals().update(_contracts())


def test_every_kind_has_a_contract():
    assert set(CONTRACTS) == set(KINDS)
    assert {c.kind for c in CONTRACTS.values()} == set(KINDS)


def _skipped(contract, **settings):
    """Tests of a contract that skip, with their reasons; the others are not run."""
    case, reasons = type("Case", (contract,), settings)(), {}
    for name in (name for name in dir(case) if name.startswith("test_")):
        parameters = [mark.args for mark in getattr(getattr(case, name), "pytestmark", [])]
        values = [next(iter(value)) for _, value in parameters]
        try:
            getattr(case, name)(*values)
        except pytest.skip.Exception as skipped:
            reasons[name.removeprefix("test_")] = str(skipped)
    return reasons


@pytest.mark.parametrize(
    ("contract", "settings", "expected"),
    [
        (
            testing.PriorContract,
            {"name": "laplacian"},
            {
                "its_energy_has_the_right_gradient": "`has_energy` is False: it states no energy",
                "it_streams_as_it_says": "`passes` is 0: it needs all frames at once",
            },
        ),
        (
            testing.PriorContract,
            {"name": "em_tv", "stretches": True},
            {
                "equal_constant_sources_stay_as_they_are": "`stretches`: the result is stretched to the full range",
                "it_says_truly_whether_it_reads_the_estimate": "`reads_x0` is True: it may read the estimate",
                "it_says_truly_that_it_has_no_energy": "`has_energy` is True: its gradient is tested",
                "it_streams_as_it_says": "`passes` is 0: it needs all frames at once",
            },
        ),
        (
            testing.DecoderContract,
            {"name": "identity"},
            {
                "latents_have_the_stated_channels": "`channels` is None: latents have those of the image",
            },
        ),
        (testing.DecoderContract, {"name": "vq"}, {"lossless_is_true": "`lossless` is False: it may lose detail"}),
        (
            testing.ColorSpaceContract,
            {"name": "gray", "exact": False},
            {
                "every_option_has_a_default_and_a_description": "it has no options",
                "merge_inverts_split": "`exact` is False: it drops colour",
            },
        ),
        (
            testing.MetricContract,
            {"name": "MS_SSIM", "images": lambda self, count: testing.random_images(count, 1, 64, 72, count=3)},
            {
                "every_option_has_a_default_and_a_description": "it has no options",
                "an_image_does_not_depend_on_its_neighbours": "it has no value for `images`: return some for which it has",
                "values_are_one_per_image_and_in_range": "it has no value for `images`: return some for which it has",
                "its_map_shows_places": "`shows` is empty: it has no map",
            },
        ),
        (
            testing.MetricContract,
            {"name": "audit.hot"},
            {"every_option_has_a_default_and_a_description": "it has no options"},
        ),
        (
            testing.DegradationContract,
            {"name": "noise", "options": {"level": 20.0}, "cautious": True},
            {},
        ),
        pytest.param(
            testing.DetectorContract,
            {"name": "hog_people", "scene": lambda self: torch.full((1, 3, 160, 120), 0.5)},
            {"boxes_touch_the_image": "it finds nothing in `scene`: return an image with objects that it knows"},
            marks=pytest.mark.skipif(find_spec("cv2") is None, reason="hog_people needs cv2"),
        ),
    ],
)
def test_what_is_not_promised_is_skipped_with_the_reason(contract, settings, expected):
    assert _skipped(contract, **settings) == expected


class Bad:
    """Plug-ins that break their promise, and the test that must notice."""

    CODE = """
import torch
import fusionkit
from fusionkit.contracts import Degradation, Options, Prior

class InPlace(Prior):
    def correct(self, x0, sources, state, sigma):
        sources.luma[0].mul_(0.5)
        return x0, None

class Coupled(Prior):
    def correct(self, x0, sources, state, sigma):
        return x0 - x0.mean(), None

class Liar(Prior):
    reads_x0 = False
    def correct(self, x0, sources, state, sigma):
        return x0, None

class Sees(Degradation):
    @classmethod
    def estimate(cls, y, told):
        return {}
    def forward(self, x, generator=None):
        return x.mul_(0.5) + 0.1 * torch.rand(x.shape)
    def undo(self, y, noise):
        x = yield y.mul_(0.5), 0.0
        return x[..., 1:] / 0

class Divides(Prior):
    def correct(self, x0, sources, state, sigma):
        a, b = sources.luma[:2]
        return (a - b) / (a - b).abs().amax((1, 2, 3), keepdim=True), None

@fusionkit.hookimpl
def fusionkit_priors():
    for cls in (InPlace, Coupled, Liar, Divides):
        yield fusionkit.PriorRecord(name=cls.__name__.lower(), summary="bad", target=f"{__name__}:{cls.__name__}")

@fusionkit.hookimpl
def fusionkit_degradations():
    yield fusionkit.DegradationRecord(name="sees", summary="bad", target=f"{__name__}:Sees", place=1, automatic=True)
"""


@pytest.mark.parametrize(
    ("name", "test", "arguments"),
    [
        ("inplace", "test_any_size_is_kept_finite_and_inputs_untouched", [(32, 48)]),
        ("coupled", "test_an_image_does_not_depend_on_its_neighbours", []),
        ("liar", "test_it_says_truly_whether_it_reads_the_estimate", []),
        ("divides", "test_constant_sources_are_harmless", [(0.5, 0.5)]),
        ("liar", "test_listing_it_imports_no_torch", []),
        ("sees", "test_a_degraded_picture_is_one", []),
        ("sees", "test_a_generator_decides_what_is_random", []),
        ("sees", "test_any_flow_serves", [0.0]),
        ("sees", "test_undoing_brings_the_picture_nearer_to_the_clean_one", []),
        ("sees", "test_a_constant_picture_has_nothing_to_undo", [0.5]),
        ("sees", "test_a_smooth_clean_picture_has_nothing_to_undo", []),
    ],
)
def test_a_broken_promise_is_noticed(site, monkeypatch, name, test, arguments):

    site.add("bad-prior", Bad.CODE)
    monkeypatch.setenv("PYTHONPATH", str(site.site))
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,bad-prior")
    get_registry.cache_clear()
    try:
        kind = testing.DegradationContract if name == "sees" else testing.PriorContract
        contract = type("Contract", (kind,), {"name": name})()
        with pytest.raises(AssertionError):
            getattr(contract, test)(*arguments)
    finally:
        monkeypatch.undo()
        get_registry.cache_clear()
