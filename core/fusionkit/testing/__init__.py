"""The promises of each kind of plug-in as tests. Needs pytest.

A package subclasses the contract of its kind, names its plug-in, and gets the tests:

    from fusionkit.testing import PriorContract

    class TestMine(PriorContract):
        name = "mine"
        options = {"strength": 2.0}     # to test with other options than the defaults

Tests find the plug-in as users do, through its entry point: install the package first (`pip install -e .`). A test that
does not apply to the plug-in is skipped, with the reason (`pytest -rs`).
"""

from .colors import ColorSpaceContract
from .degradations import DegradationContract
from .metrics import DetectorContract, MetricContract
from .networks import BackboneContract, DecoderContract
from .plugin import PluginContract, make_sources, random_images
from .priors import PriorContract
from .readers import ReaderContract
from .stages import StageContract
from .writers import WriterContract

__all__ = [
    "BackboneContract",
    "ColorSpaceContract",
    "DecoderContract",
    "DegradationContract",
    "DetectorContract",
    "MetricContract",
    "PluginContract",
    "PriorContract",
    "ReaderContract",
    "StageContract",
    "WriterContract",
    "make_sources",
    "random_images",
]
