"""`fusionkit evaluate`: score folders of fused images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from ..method.words import key_values
from ..storage.atomic import write_text
from .fields import model_options, with_options
from .given import Given
from .messages import tell_failures
from .parameters import named_folders
from .progress import progress
from .reports import check_report, finite, print_table, wide_enough, write_record

if TYPE_CHECKING:
    from .. import contracts
    from ..scoring.evaluation import Evaluation
    from ..scoring.finding import Findings
    from ..scoring.table import Table

Fused = Annotated[
    list[str], typer.Option("--fused", metavar="[NAME=]FOLDER", help="Fused images; repeatable, one for each method.")
]
Pairs = Annotated[
    tuple[Path, Path], typer.Option("--pairs", metavar="A B", help="Folders of the sources, infrared first.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Names, separated by commas, or `all`; `audit`: what was lost and what was invented.",
        show_default="the usual ones, or a dialect's",
    ),
]
Dialect = Annotated[
    str | None,
    typer.Option(help="Compute as another project's code does, quirks included.", show_default="as defined"),
]
Maps = Annotated[
    Path | None,
    typer.Option(help="Folder for pictures of what was lost (blue) and invented (red); needs metrics of `audit`."),
]
Detector = Annotated[
    str | None, typer.Option(help="Also compare what a detector finds in results and in sources, as in hog_people.")
]
DetectorOpt = Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Option of the detector; repeatable.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Boxes in the last source's pictures (YOLO, COCO, VOC). Count those that the detector misses, and its "
        "false finds, on each source, on each result, and on both sources together."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Table of means: .tex, .md or .csv; or .json with everything."),
]
Resize = Annotated[bool, typer.Option("--resize", help="Resize sources of another size to the last folder's.")]
Cache = Annotated[bool, typer.Option(help="Keep scores, and reuse those of files and metrics scored before.")]


@with_options(
    *model_options(FileOptions, "Sources", only=("range", "bands", "range_scope")),
    *model_options(EngineOptions, "Workers"),
)
def evaluate(
    fused: Fused,
    pairs: Pairs,
    metrics: Metrics = None,
    dialect: Dialect = None,
    baselines: Annotated[bool, typer.Option(help="Also score the average, the maximum and each source.")] = True,
    maps: Maps = None,
    detector: Detector = None,
    detector_opt: DetectorOpt = [],  # noqa: B006
    labels: Labels = None,
    output: Output = None,
    resize: Resize = False,
    cache: Cache = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the report.")] = False,
    **given: Any,
) -> None:
    """Score fused images with metrics whose definitions are stated.

    fusionkit evaluate --fused mine=out --fused other=theirs --pairs ir vis -o report.json
    fusionkit evaluate --fused mine=out --fused other=theirs --pairs ir vis -o table.tex

    Files are matched by name; only pairs that every method has are scored. Means have bootstrap intervals, methods
    are compared by paired Wilcoxon tests with Holm's correction, and every definition is in the report. Started again
    after it was stopped, it reuses the scores of the first run.
    """
    asked = Given(given)
    files, engine = asked.options(FileOptions), asked.options(EngineOptions)
    folders = named_folders(fused, "--fused")

    from ..reading.boxes import read_boxes
    from ..registry.loading import get_registry
    from ..scoring.cache import default_cache
    from ..scoring.detection import consistency_metrics
    from ..scoring.evaluation import evaluate as score
    from ..scoring.finding import find_objects
    from ..scoring.maps import has_maps
    from ..scoring.metrics import load_metrics
    from ..scoring.table import table_of

    _check(folders, detector, labels, detector_opt, output, force=force)
    scorers = load_metrics([m.strip() for m in metrics.split(",")] if metrics else None, dialect)
    searcher: contracts.Detector | None = None
    if detector is not None:
        searcher = get_registry().create("detector", detector, key_values(detector_opt, "--detector-opt"))
        scorers |= consistency_metrics(detector, searcher)
    if maps is not None and not has_maps(scorers):
        raise OptionError("--maps: none of the metrics has maps; add --metrics audit")
    boxes = read_boxes(labels) if labels is not None else {}

    with progress("pairs") as say:
        result = score(
            folders,
            list(pairs),
            scorers,
            baselines=baselines,
            maps=maps,
            reading=files.reading,
            resize=resize,
            engine=engine.make(),
            cache=default_cache() if cache else None,
            report=say,
        )
    found = None
    if searcher is not None and labels is not None:
        with progress("pairs") as say:
            found = find_objects(result.scored, boxes, searcher, resize=resize, report=say)
    table = table_of(result)
    if output is not None:
        _write(result, table, output, found)
    tell_failures(result.failures, "not scored", ", all in a .json report")
    _print(table, result.reused)
    if found is not None:
        _print_found(found)


def _check(
    folders: Mapping[str, Path],
    detector: str | None,
    labels: Path | None,
    detector_opt: Sequence[str],
    output: Path | None,
    *,
    force: bool,
) -> None:
    """Refuse options that do not fit, before anything is read."""
    from ..scoring.baselines import baseline_rows
    from ..scoring.table import RENDERINGS

    for name in folders.keys() & baseline_rows().keys():
        raise OptionError(f"--fused {name}: is the name of a baseline; give another, as NAME=FOLDER")
    if detector is None and (labels is not None or detector_opt):
        option = "--labels" if labels is not None else "--detector-opt"
        raise OptionError(f"{option}: no detector is chosen; --detector NAME chooses one")
    check_report(output, ".json", *RENDERINGS, force=force)


def _write(result: "Evaluation", table: "Table", output: Path, found: "Findings | None") -> None:
    """Write the report by the extension of its name."""
    from ..scoring.table import RENDERINGS

    if render := RENDERINGS.get(output.suffix.lower()):
        write_text(output, render(table))
    else:
        write_record(output, result.record() | ({"objects": found.record()} if found is not None else {}))


def _print(table: "Table", reused: int) -> None:
    """Print the table, the best and the second of each metric marked; a narrow terminal gets several."""
    from rich.text import Text

    longest = max(len(row.method) + 2 for _, rows in table.groups for row in rows)
    console = wide_enough(needed := 15 + longest + 12 * len(table.columns))
    styles, signs = (("", "bold", "underline"), ("",) * 3) if console.is_terminal else (("",) * 3, ("", "*", "+"))
    for part in table.parts(max(3, (console.width - 15 - longest) // 10)):
        lines = list[list[str | Text]]()
        for title, rows in table.groups:
            if len(table.groups) > 1:
                lines.append([title])
            for row in rows:
                name = Text(f"{row.method}{' †' * row.weak}", style="italic" if row.baseline else "", no_wrap=True)
                cells = [Text(one.text + signs[one.place], style=styles[one.place]) for one in row.cells[part]]
                lines.append([name, row.rank, *cells])
        print_table(["method", "rank ↓", *(f"{c.name} {c.better}" for c in table.columns[part])], lines, needed)
    marked = "best bold, second underlined" if console.is_terminal else "best *, second +"
    console.print(" ".join([f"{marked}.", *table.notes[:-1]]), highlight=False, soft_wrap=True)
    if reused:
        console.print(f"{reused} scores taken from the cache")


def _print_found(found: "Findings") -> None:
    """Print the labelled objects that each method misses, and warn where fusion is behind its better source."""
    lines = []
    for method in found.missed:
        missed, false = found.miss_rate(method), found.false_finds(method)
        shares = finite(".1%", missed.mean), finite(".1%", missed.low, missed.high)
        lines.append((method, *shares, finite(".2f", false.mean), finite(".2f", false.low, false.high)))
    print_table(("", "missed ↓", "95 %", "false finds a picture ↓", "95 %"), lines, 100)
    typer.echo(f"{sum(found.labelled)} labelled objects in {len(found.pairs)} pictures; detector: {found.detector}")
    if found.never:
        typer.echo(f"note: nothing was found of {', '.join(found.never)}; all of these count as missed", err=True)
    for warning in found.behind():
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
