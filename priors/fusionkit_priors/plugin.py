"""Registers the built-in priors, exactly as a third party's package would."""

from collections.abc import Iterator
from typing import Any

from fusionkit import PriorRecord, hookimpl
from fusionkit.registry.records import TableRow

PRIORS: tuple[dict[str, Any], ...] = (
    {
        "target": "em_tv:EMTV",
        "summary": "EM by evidence: which source explains what, from the flow's estimate; any number of sources",
        "rank": 1,
    },
    {
        "target": "laplacian:Laplacian",
        "summary": "Laplacian pyramid: local energy picks the details, global contrast the base; any number of sources",
        "rank": 2,
    },
    {
        "target": "learned:Learned",
        "summary": "Laplacian pyramid whose choices a small network corrects, trained on rendered pairs",
        "trainer": "fusionkit_priors.learned_training:LearnedTrainer",
        "rank": 3,
    },
    {
        "target": "gradient:Gradient",
        "summary": "gradient domain: the strongest gradients of all sources, integrated (screened Poisson)",
        "rank": 4,
    },
    {
        "target": "focus:Focus",
        "summary": "multi-focus: one source per pixel by a decision map with consistency check",
        "trainer": "fusionkit_priors.focus_training:FocusTrainer",
        "scenes": ("focus",),
        "rank": 5,
    },
    {
        "target": "mertens:Mertens",
        "summary": "exposure fusion: contrast, saturation and exposedness in a pyramid",
        "scenes": ("exposure",),
        "rank": 6,
    },
    {
        "target": "exposure:Exposure",
        "summary": "multi-exposure: what is well exposed by a network trained on rendered brackets",
        "trainer": "fusionkit_priors.exposure_training:ExposureTrainer",
    },
    {
        "target": "tv:TotalVariation",
        "summary": "gradient transfer by L1-TV: intensities of one source, edges of the reference",
    },
    {
        "target": "saliency:Saliency",
        "summary": "two scales: base by visual saliency, details by their energy",
    },
    {
        "target": "guided_filter:GuidedFilter",
        "summary": "guided filter: who is sharper, refined along edges; a good general choice",
    },
    {
        "target": "wavelet:Wavelet",
        "summary": "stationary wavelets: coefficients of the larger local energy (extra: wavelet)",
        "modules": ("pywt",),
        "extra": "wavelet",
    },
    {
        "target": "network:NetworkPrior",
        "summary": "any network that fuses, from an ONNX file or a program of torch.export (extra: onnx)",
        "importer": "fusionkit_priors.network_import:OnnxImporter",
        "yardstick": True,
    },
    {
        "name": "average",
        "target": "baselines:Average",
        "summary": "mean of the sources (baseline)",
        "rows": (TableRow(place=1, label="average"),),
    },
    {
        "name": "max",
        "target": "baselines:Maximum",
        "summary": "brightest source at each pixel (baseline)",
        "rows": (TableRow(place=2, label="max"),),
    },
    {
        "name": "source",
        "target": "baselines:Source",
        "summary": "one source as it is (baseline)",
        "yardstick": True,
        "rows": (
            TableRow(place=3, label="first source", options={"number": 1}, alone=True),
            TableRow(place=4, label="last source", options={"number": 0}, alone=True),
        ),
    },
    {
        "name": "none",
        "target": "baselines:Keep",
        "summary": "no correction: shows what backbone and decoder do alone (baseline)",
        "yardstick": True,
    },
)


@hookimpl
def fusionkit_priors() -> Iterator[PriorRecord]:
    """The built-in priors, each called as its module unless the table says otherwise."""
    for prior in PRIORS:
        name = prior["target"].partition(":")[0]
        yield PriorRecord(**{"name": name, **prior, "target": f"fusionkit_priors.{prior['target']}"})
