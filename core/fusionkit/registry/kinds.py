"""The table of kinds: everything that differs from one kind of plug-in to the next, stated once.

Hooks are written out in `hookspecs` and contracts in `fusionkit.contracts`, since their docstrings are the authors'
manual; whatever enumerates kinds (options of commands, fields of configurations, listings, scaffolds, grids, pages of
the documentation) reads this table.
"""

from dataclasses import dataclass

from ..errors import UnknownPlugin
from . import records

__all__ = ["DISTRIBUTION", "KINDS", "METHOD", "Kind", "kind_named"]

DISTRIBUTION = "imagefusionkit"  # of this project; `fusionkit` on the package index is another's


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of plug-in.

    name: as users write it. record, hook: what a package yields, and where. contract: its class in
    `fusionkit.contracts`; `fusionkit.testing` has its tests as `{contract}Contract`. scaffold: one line on the example
    that `fusionkit new` writes, "" where it has none. key: the field of `PipelineConfig` that chooses it, "" where a
    method has none.
    default: the built-in that a method takes unless told otherwise; None leaves it to another plug-in. neutral: the
    built-in that takes the place of a part that is left out. flag: the option
    of the command line, "" where there is none. help: that option's text.
    """

    name: str
    record: type[records.PluginRecord]
    hook: str
    contract: str
    scaffold: str = ""
    key: str = ""
    default: str | None = None
    neutral: str = ""
    flag: str = ""
    help: str = ""

    @property
    def conformance(self) -> str:
        """Name of the class of tests in `fusionkit.testing`."""
        return f"{self.contract}Contract"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="prior",
            record=records.PriorRecord,
            hook="fusionkit_priors",
            contract="Prior",
            scaffold="sources weighted by local contrast",
            key="prior",
            default="em_tv",
            neutral="none",
            flag="--prior",
            help="the fusion prior",
        ),
        Kind(
            name="backbone",
            record=records.BackboneRecord,
            hook="fusionkit_backbones",
            contract="Backbone",
            scaffold="exact flow of Gaussian pixels",
            key="backbone",
            default="rf",
            neutral="identity",
            flag="--backbone",
            help="the flow model",
        ),
        Kind(
            name="decoder",
            record=records.DecoderRecord,
            hook="fusionkit_decoders",
            contract="Decoder",
            scaffold="2x2 blocks of pixels as channels, lossless",
            key="decoder",
            neutral="identity",
            flag="--decoder",
            help="the autoencoder; by default the one the backbone was trained with",
        ),
        Kind(
            name="color-space",
            record=records.ColorSpaceRecord,
            hook="fusionkit_color_spaces",
            contract="ColorSpace",
            scaffold="YCoCg",
            key="color",
            default="ycbcr",
            neutral="gray",
            flag="--color",
            help="the colour space whose luma is fused",
        ),
        Kind(
            name="stage",
            record=records.StageRecord,
            hook="fusionkit_stages",
            contract="Stage",
            scaffold="gamma before, its inverse after",
            key="stages",
            flag="--stage",
            help="a stage around the fusion, in the order given; NAME or NAME:KEY=VALUE,KEY=VALUE",
        ),
        Kind(
            name="metric",
            record=records.MetricRecord,
            hook="fusionkit_metrics",
            contract="Metric",
            scaffold="share of neighbouring pixels that differ",
        ),
        Kind(
            name="detector",
            record=records.DetectorRecord,
            hook="fusionkit_detectors",
            contract="Detector",
            scaffold="bright blobs",
            flag="--detector",
            help="also compare what a detector finds in results and in sources",
        ),
        Kind(name="reader", record=records.ReaderRecord, hook="fusionkit_readers", contract="Reader"),
    )
}

# the kinds of which a method has exactly one each, by the field that chooses it
METHOD: dict[str, Kind] = {kind.key: kind for kind in KINDS.values() if kind.key and kind.key != "stages"}


def kind_named(name: str) -> Kind:
    """The kind called `name`; an error that lists all of them."""
    if name not in KINDS:
        raise UnknownPlugin(f"no kind {name!r}; kinds: {', '.join(sorted(KINDS))}")
    return KINDS[name]
