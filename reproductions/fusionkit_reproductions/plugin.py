"""Registers the reproductions, exactly as a third party's package would."""

from collections.abc import Iterator
from typing import Any

from fusionkit import DecoderRecord, MetricRecord, PriorRecord, hookimpl
from fusionkit.registry.records import TableRow

# priors: name, target, summary, more of the record
PRIORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (
        "em_tv_paper",
        "em_tv_paper:EMTVPaper",
        "EM with total variation, as DDFM and RFfusion state it; two sources",
        {"yardstick": True},
    ),
    ("ddfm", "ddfm:DDFM", "em_tv_paper at each of 100 steps from pure noise, as in DDFM (baseline)", {}),
    ("ccf", "ccf:CCF", "differentiable conditions weighted at each step, after CCF (baseline)", {}),
    (
        "released_rffusion",
        "released_rffusion:ReleasedRFfusion",
        "closed form of what the released RFfusion computes (baseline)",
        {"yardstick": True, "rows": (TableRow(place=5, label="released RFfusion (closed form)"),)},
    ),
)
DIALECTS = (
    ("cddfuse", "Evaluator.py of CDDFuse and RFfusion computes it", "EN SD SF AG MI MSE CC PSNR SCD VIFF Qabf SSIM"),
    ("linfeng", "Evaluation-for-Image-Fusion's table of TNO has it", "EN SD SF AG MI MSE CC PSNR SCD VIF Qabf SSIM"),
    ("vifb", "the benchmark VIFB computes it", "EN CE MI SD SF AG EI PSNR RMSE SSIM Qabf Qcb Qcv"),
    ("ivif_zoo", "IVIF_ZOO's eval_torch.py computes it", "EN MI SF AG SD CC SCD VIF MSE PSNR Qabf Nabf SSIM MS_SSIM"),
)
LOWER = {"MSE", "RMSE", "CE", "Nabf", "Qcv"}  # is better


@hookimpl
def fusionkit_priors() -> Iterator[PriorRecord]:
    """Priors of published methods, as their code computes them."""
    for name, target, summary, more in PRIORS:
        yield PriorRecord(name=name, summary=summary, target=f"fusionkit_reproductions.{target}", **more)


@hookimpl
def fusionkit_decoders() -> Iterator[DecoderRecord]:
    """The autoencoder of latent diffusion, which the released RFfusion works in."""
    yield DecoderRecord(
        name="vq",
        summary="VQ autoencoder of latent diffusion, factor 4; small weights are shipped, LDM's VQ-f4 fits",
        target="fusionkit_reproductions.vq.decoder:VQDecoder",
        trainer="fusionkit_reproductions.vq.training:VQTrainer",
        importer="fusionkit_reproductions.vq.importing:VQImporter",
    )


@hookimpl
def fusionkit_metrics() -> Iterator[MetricRecord]:
    """Metrics as the codes of the field compute them."""
    for dialect, code, names in DIALECTS:
        for name in names.split():
            yield MetricRecord(
                name=f"{dialect}.{name}",
                summary=f"{name} as {code}",
                dialect=dialect,
                target=f"fusionkit_reproductions.dialects.{dialect}:{name}",
                higher_is_better=name not in LOWER,
            )
