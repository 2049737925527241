"""Registers the built-in colour spaces, decoders and metrics, exactly as a third party's package would."""

from collections.abc import Iterator

from fusionkit import ColorSpaceRecord, DecoderRecord, MetricRecord, hookimpl


@hookimpl
def fusionkit_color_spaces() -> Iterator[ColorSpaceRecord]:
    """The built-in colour spaces."""
    yield ColorSpaceRecord(name="ycbcr", summary="BT.601 YCbCr, full range; colour from the sources, luma fused",
                           target="fusionkit_plugins.color.ycbcr:YCbCr")  # fmt: skip
    yield ColorSpaceRecord(name="lab", summary="CIELAB of sRGB (D65): fuses perceived lightness",
                           target="fusionkit_plugins.color.lab:Lab")  # fmt: skip
    yield ColorSpaceRecord(name="gray", summary="BT.601 luma only: a grey result",
                           target="fusionkit_plugins.color.gray:Gray")  # fmt: skip


@hookimpl
def fusionkit_decoders() -> Iterator[DecoderRecord]:
    """The built-in autoencoders."""
    yield DecoderRecord(
        name="vq",
        summary="VQ autoencoder of latent diffusion, factor 4; small weights are shipped, LDM's VQ-f4 fits",
        target="fusionkit_plugins.vq.decoder:VQDecoder",
        trainer="fusionkit_plugins.vq.training:VQTrainer",
        importer="fusionkit_plugins.vq.importing:VQImporter",
    )
    yield DecoderRecord(name="identity", summary="no autoencoder: the flow works on pixels",
                        target="fusionkit_plugins.identity:IdentityDecoder")  # fmt: skip


@hookimpl
def fusionkit_metrics() -> Iterator[MetricRecord]:
    """The built-in metrics."""
    for name, summary, cls in (
        ("entropy", "EN: entropy of the 256-level histogram, bits", "Entropy"),
        ("standard_deviation", "SD: standard deviation, grey levels", "StandardDeviation"),
        ("spatial_frequency", "SF: root mean square of row and column differences, grey levels", "SpatialFrequency"),
        ("mutual_information", "MI: sum over sources of the mutual information with the result, bits",
         "MutualInformation"),
        ("scd", "SCD: sum of the correlations of differences", "SumOfCorrelationsOfDifferences"),
    ):  # fmt: skip
        yield MetricRecord(name=name, summary=summary, target=f"fusionkit_plugins.metrics.standard:{cls}")
    for name in ("EN", "SD", "SF", "AG", "MI", "MSE", "CC", "PSNR", "SCD", "VIFF", "Qabf", "SSIM"):
        summary = f"{name} as Evaluator.py of CDDFuse and RFfusion computes it"
        yield MetricRecord(name=f"cddfuse.{name}", summary=summary, target=f"fusionkit_plugins.metrics.cddfuse:{name}")
