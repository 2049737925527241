"""The table of kinds: everything that differs from one kind of plug-in to the next, stated once.

Hooks are written out in `hookspecs` and contracts in `fusionkit.contracts`, since their docstrings are the authors'
manual; their names follow from the kind's. Options of commands, fields of configurations, listings, scaffolds, grids
and pages of the documentation read this table.
"""

from dataclasses import dataclass

from ..errors import UnknownPlugin
from . import records


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of plug-in.

    name: as users write it. scaffold: one line on the example that `fusionkit new` writes, "" where it has none. key:
    the field of `PipelineConfig` that chooses it, "" where a method has none. default: the built-in that a method takes
    unless told otherwise; None leaves it to another plug-in. neutral: the built-in that takes the place of a part that
    is left out. several: a method has any number of them. flag: the option of the command line, "" where there is none.
    help: that option's text.
    """

    name: str
    scaffold: str = ""
    key: str = ""
    default: str | None = None
    neutral: str = ""
    several: bool = False
    flag: str = ""
    help: str = ""

    @property
    def contract(self) -> str:
        """Name of the contract in `fusionkit.contracts`."""
        return self.name.title().replace("-", "")

    @property
    def conformance(self) -> str:
        """Name of the class of tests in `fusionkit.testing`."""
        return f"{self.contract}Contract"

    @property
    def record(self) -> type[records.PluginRecord]:
        """The record that a package yields."""
        record: type[records.PluginRecord] = getattr(records, f"{self.contract}Record")
        return record

    @property
    def hook(self) -> str:
        """Name of the hook that yields the records."""
        return f"fusionkit_{self.name.replace('-', '_')}s"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="prior",
            scaffold="sources weighted by local contrast",
            key="prior",
            default="em_tv",
            neutral="none",
            flag="--prior",
            help="the fusion prior",
        ),
        Kind(
            name="backbone",
            scaffold="exact flow of Gaussian pixels",
            key="backbone",
            default="rf",
            neutral="identity",
            flag="--backbone",
            help="the flow model",
        ),
        Kind(
            name="decoder",
            scaffold="2x2 blocks of pixels as channels, lossless",
            key="decoder",
            neutral="identity",
            flag="--decoder",
            help="the autoencoder; by default the one the backbone was trained with",
        ),
        Kind(
            name="color-space",
            scaffold="YCoCg",
            key="color",
            default="ycbcr",
            neutral="gray",
            flag="--color",
            help="the colour space whose luma is fused",
        ),
        Kind(
            name="stage",
            scaffold="gamma before, its inverse after",
            key="stages",
            several=True,
            flag="--stage",
            help="a stage around the fusion, in the order given; NAME or NAME:KEY=VALUE,KEY=VALUE",
        ),
        Kind(
            name="degradation",
            scaffold="vignetting: corners that a lens leaves dark",
            key="restore",
            several=True,
            flag="--restore",
            help="what the flow undoes in the sources first: auto: what is found with confidence, clean sources stay "
            "as they are; none; or degradations, as in auto,haze, whose options are estimated where not given; NUMBER= "
            "before one: in that source alone",
        ),
        Kind(name="metric", scaffold="share of neighbouring pixels that differ"),
        Kind(
            name="detector",
            scaffold="bright blobs",
            flag="--detector",
            help="also compare what a detector finds in results and in sources",
        ),
        Kind(name="reader", scaffold="grids of numbers as text (Esri ASCII), with cells of no data"),
        Kind(name="writer", scaffold="grids of numbers as text (Esri ASCII), with cells of no data"),
    )
}

# the kinds of which a method has exactly one each, by the field that chooses it
METHOD: dict[str, Kind] = {kind.key: kind for kind in KINDS.values() if kind.key and not kind.several}
# those of which it has any number
SEVERAL: dict[str, Kind] = {kind.key: kind for kind in KINDS.values() if kind.several}


def kind_named(name: str) -> Kind:
    """The kind called `name`; an error that lists all of them."""
    if name not in KINDS:
        raise UnknownPlugin(f"no kind {name!r}; kinds: {', '.join(sorted(KINDS))}")
    return KINDS[name]
