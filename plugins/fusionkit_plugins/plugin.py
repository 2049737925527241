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
    for name, summary in (
        ("EN", "entropy of the 256-level histogram, bits"),
        ("SD", "standard deviation, grey levels"),
        ("SF", "spatial frequency: root mean square of row and column differences, grey levels"),
        ("AG", "average gradient, grey levels"),
        ("MI", "sum over sources of the mutual information with the result, bits"),
        ("NMI", "the same over the mean of the entropies"),
        ("CC", "mean correlation with the sources"),
        ("SCD", "sum of the correlations of differences"),
        ("VIF", "visual information fidelity, mean over sources"),
        ("Qabf", "edges of the sources that are kept"),
        ("SSIM", "structural similarity, mean over sources"),
        ("PSNR", "peak signal-to-noise ratio against both sources, dB"),
        ("MSE", "mean squared difference to the sources, squared grey levels"),
    ):
        yield MetricRecord(name=name, summary=summary, target=f"fusionkit_plugins.metrics.standard:{name}")
    for name in ("EN", "SD", "SF", "AG", "MI", "MSE", "CC", "PSNR", "SCD", "VIFF", "Qabf", "SSIM"):
        summary = f"{name} as Evaluator.py of CDDFuse and RFfusion computes it"
        yield MetricRecord(name=f"cddfuse.{name}", summary=summary, target=f"fusionkit_plugins.metrics.cddfuse:{name}")
    for name in ("EN", "SF", "AG", "MSE", "CC", "PSNR", "SCD"):
        summary = f"{name} as Evaluation-for-Image-Fusion's table of TNO has it"
        yield MetricRecord(name=f"linfeng.{name}", summary=summary, target=f"fusionkit_plugins.metrics.linfeng:{name}")
