"""Every built-in keeps the public contract of its kind."""

import pytest

from example_files import EXAMPLES
from fusionkit import testing
from fusionkit.registry.kinds import KINDS
from fusionkit.registry.loading import get_registry

CONTRACTS = {name: getattr(testing, kind.conformance) for name, kind in KINDS.items()}
# what a built-in needs to be told for its test
SETTINGS = {("color-space", "gray"): {"exact": False}, ("prior", "released_rffusion"): {"stretches": True}}
SETTINGS |= {("reader", name): {"write": staticmethod(write)} for name, write in EXAMPLES.items()}


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


class Bad:
    """Plug-ins that break their promise, and the test that must notice."""

    CODE = """
import torch
import fusionkit
from fusionkit.contracts import Options, Prior

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

class Divides(Prior):
    def correct(self, x0, sources, state, sigma):
        a, b = sources.luma[:2]
        return (a - b) / (a - b).abs().amax((1, 2, 3), keepdim=True), None

@fusionkit.hookimpl
def fusionkit_priors():
    for cls in (InPlace, Coupled, Liar, Divides):
        yield fusionkit.PriorRecord(name=cls.__name__.lower(), summary="bad", target=f"{__name__}:{cls.__name__}")
"""


@pytest.mark.parametrize(
    ("name", "test", "arguments"),
    [
        ("inplace", "test_any_size_is_kept_finite_and_inputs_untouched", [(32, 48)]),
        ("coupled", "test_an_image_does_not_depend_on_its_neighbours", []),
        ("liar", "test_it_says_truly_whether_it_reads_the_estimate", []),
        ("divides", "test_constant_sources_are_harmless", [(0.5, 0.5)]),
        ("liar", "test_listing_it_imports_no_torch", []),
    ],
)
def test_a_broken_promise_is_noticed(site, monkeypatch, name, test, arguments):

    site.add("bad-prior", Bad.CODE)
    monkeypatch.setenv("PYTHONPATH", str(site.site))
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "imagefusionkit,bad-prior")
    get_registry.cache_clear()
    try:
        contract = type("Contract", (testing.PriorContract,), {"name": name})()
        with pytest.raises(AssertionError):
            getattr(contract, test)(*arguments)
    finally:
        monkeypatch.undo()
        get_registry.cache_clear()
