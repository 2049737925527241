"""Registers the built-in priors, exactly as a third party's package would."""

from collections.abc import Iterator

from fusionkit import PriorRecord, hookimpl


@hookimpl
def fusionkit_priors() -> Iterator[PriorRecord]:
    """The built-in priors."""
    yield PriorRecord(
        name="em_tv",
        summary="EM with total variation, as in DDFM and RFfusion: explains both sources from the flow's estimate",
        target="fusionkit_priors.em_tv:EMTV",
    )
    yield PriorRecord(
        name="laplacian",
        summary="Laplacian pyramid: local energy picks the details, global contrast the base; any number of sources",
        target="fusionkit_priors.laplacian:Laplacian",
    )
    yield PriorRecord(name="average", summary="mean of the sources (baseline)",
                      target="fusionkit_priors.baselines:Average")  # fmt: skip
    yield PriorRecord(name="max", summary="brightest source at each pixel (baseline)",
                      target="fusionkit_priors.baselines:Maximum")  # fmt: skip
    yield PriorRecord(name="none", summary="no correction: shows what backbone and decoder do alone (baseline)",
                      target="fusionkit_priors.baselines:Keep")  # fmt: skip
