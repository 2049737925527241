"""Registers the built-in priors, exactly as a third party's package would."""

from collections.abc import Iterator

from fusionkit import PriorRecord, hookimpl


@hookimpl
def fusionkit_priors() -> Iterator[PriorRecord]:
    """The built-in priors."""
    yield PriorRecord(
        name="em_tv",
        summary="EM by evidence: finds out which source explains what, from the flow's estimate; any number of sources",
        target="fusionkit_priors.em_tv:EMTV",
    )
    yield PriorRecord(
        name="laplacian",
        summary="Laplacian pyramid: local energy picks the details, global contrast the base; any number of sources",
        target="fusionkit_priors.laplacian:Laplacian",
    )
    yield PriorRecord(
        name="learned",
        summary="Laplacian pyramid whose choices a small network corrects, trained on rendered pairs",
        target="fusionkit_priors.learned:Learned",
        trainer="fusionkit_priors.learned_training:LearnedTrainer",
    )
    yield PriorRecord(
        name="focus",
        summary="multi-focus: one source per pixel by a decision map with consistency check",
        target="fusionkit_priors.focus:Focus",
        trainer="fusionkit_priors.focus_training:FocusTrainer",
    )
    yield PriorRecord(
        name="exposure",
        summary="multi-exposure: what is well exposed by a network trained on rendered brackets",
        target="fusionkit_priors.exposure:Exposure",
        trainer="fusionkit_priors.exposure_training:ExposureTrainer",
    )
    for name, summary, target in (
        (
            "gradient",
            "gradient domain: the strongest gradients of all sources, integrated (screened Poisson)",
            "gradient:Gradient",
        ),
        ("tv", "gradient transfer by L1-TV: intensities of one source, edges of the reference", "tv:TotalVariation"),
        ("saliency", "two scales: base by visual saliency, details by their energy", "saliency:Saliency"),
        (
            "guided_filter",
            "guided filter: who is sharper, refined along edges; a good general choice",
            "guided_filter:GuidedFilter",
        ),
        ("mertens", "exposure fusion: contrast, saturation and exposedness in a pyramid", "mertens:Mertens"),
        ("ccf", "differentiable conditions weighted anew at each step, after CCF (baseline)", "ccf:CCF"),
        ("average", "mean of the sources (baseline)", "baselines:Average"),
        ("max", "brightest source at each pixel (baseline)", "baselines:Maximum"),
        ("source", "one source as it is (baseline)", "baselines:Source"),
        ("none", "no correction: shows what backbone and decoder do alone (baseline)", "baselines:Keep"),
    ):
        yield PriorRecord(name=name, summary=summary, target=f"fusionkit_priors.{target}")
    yield PriorRecord(
        name="wavelet",
        summary="stationary wavelets: coefficients of the larger local energy (extra: wavelet)",
        target="fusionkit_priors.wavelet:Wavelet",
        modules=("pywt",),
        extra="wavelet",
    )
