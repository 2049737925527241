"""Registers the reproductions, exactly as a third party's package would."""

from collections.abc import Iterator

from fusionkit import PriorRecord, hookimpl


@hookimpl
def fusionkit_priors() -> Iterator[PriorRecord]:
    """Priors of published methods, as their code computes them."""
    for name, summary, target in (
        ("em_tv_paper", "EM with total variation, as DDFM and RFfusion state it; two sources", "em_tv_paper:EMTVPaper"),
        ("ddfm", "em_tv_paper at each of 100 steps from pure noise, as in DDFM (baseline)", "ddfm:DDFM"),
    ):
        yield PriorRecord(name=name, summary=summary, target=f"fusionkit_reproductions.{target}")
