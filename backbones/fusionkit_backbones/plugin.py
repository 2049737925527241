"""Registers the built-in backbones, exactly as a third party's package would."""

from collections.abc import Iterator

from fusionkit import BackboneRecord, hookimpl


@hookimpl
def fusionkit_backbones() -> Iterator[BackboneRecord]:
    """The built-in backbones."""
    yield BackboneRecord(
        name="rf",
        summary="rectified flow with an NCSN++; small weights are shipped, published ones fit",
        target="fusionkit_backbones.rf:RectifiedFlow",
        trainer="fusionkit_backbones.rf_training:RFTrainer",
        importer="fusionkit_backbones.rf_import:RFImporter",
    )
    yield BackboneRecord(
        name="identity", summary="no flow: zero velocity (baseline)", target="fusionkit_backbones.identity:Identity"
    )
