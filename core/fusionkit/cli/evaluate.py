"""`fusionkit evaluate`: score folders of fused images."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from ..options import validate_options
from .choices import key_values
from .fields import chosen, in_flags, model_options, with_options
from .progress import progress, wide_enough

if TYPE_CHECKING:
    from rich.console import Console

    from ..scoring.evaluation import Evaluation

__all__ = ["evaluate"]

SHOWN = 10  # failures on the terminal


@with_options(
    *model_options(FileOptions, "Sources", only=("range", "range_scope")), *model_options(EngineOptions, "Workers")
)
def evaluate(
    fused: Annotated[
        list[str],
        typer.Option("--fused", metavar="[NAME=]FOLDER", help="Fused images; repeatable, one for each method."),
    ],
    pairs: Annotated[
        tuple[Path, Path], typer.Option("--pairs", metavar="A B", help="Folders of the sources, infrared first.")
    ],
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Names, separated by commas, or `all`; `audit`: what was lost and what was invented.",
            show_default="the usual ones, or a dialect's",
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(help="Compute as another project's code does, quirks included.", show_default="as defined"),
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Score the average, the maximum, each source too.")] = True,
    maps: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures of what was lost (blue) and invented (red); needs metrics of `audit`."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="Also compare what a detector finds in results and in sources, as in hog_people."),
    ] = None,
    detector_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Option of the detector; repeatable.")
    ] = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report: .json with everything, or .csv with one row a value."),
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Sources of another size are resized to the last folder's.")
    ] = False,
    cache: Annotated[
        bool, typer.Option(help="Keep scores, and take those of files and metrics that were scored before.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the report.")] = False,
    **given: Any,
) -> None:
    """Score fused images with metrics whose definitions are stated.

    fusionkit evaluate --fused mine=out --fused other=theirs --pairs ir vis -o report.json

    Files are matched by name; only pairs that every method has are scored. Means have bootstrap intervals, methods
    are compared by paired Wilcoxon tests with Holm's correction, and every definition is in the report. Started again
    after it was stopped, it takes up the scores that were known by then.
    """
    files = validate_options(FileOptions, chosen(given, FileOptions), "files")
    engine = validate_options(EngineOptions, chosen(given, EngineOptions), "engine")
    folders: dict[str, Path] = {}
    for item in fused:
        name, separator, folder = item.partition("=")
        path = Path(folder if separator else name)
        name = name if separator else path.name or str(path)
        if name in folders:
            raise OptionError(f"--fused names {name!r} twice; give NAME=FOLDER")
        folders[name] = path
    if output is not None:
        if output.suffix.lower() not in (".json", ".csv"):
            raise OptionError(f"--output {output}: expected .json or .csv")
        if output.exists() and not force:
            raise OptionError(f"--output {output}: exists already; --force overwrites it")

    from rich.console import Console

    from ..scoring.baselines import baseline_rows
    from ..scoring.cache import default_cache
    from ..scoring.detection import consistency_metrics
    from ..scoring.evaluation import evaluate as score
    from ..scoring.maps import has_maps
    from ..scoring.metrics import load_metrics
    from ..storage.atomic import atomic_write

    taken = [name for name in folders if name in baseline_rows()]
    if taken:
        raise OptionError(f"--fused {taken[0]}: is the name of a baseline; give another, as NAME=FOLDER")
    scorers = load_metrics([m.strip() for m in metrics.split(",")] if metrics else None, dialect)
    if detector is not None:
        scorers |= consistency_metrics(detector, key_values(detector_opt, "--detector-opt"))
    elif detector_opt:
        raise OptionError("--detector-opt: no detector is chosen; --detector NAME chooses one")
    if maps is not None and not has_maps(scorers):
        raise OptionError("--maps: none of the metrics has maps; add --metrics audit")
    console = Console(stderr=True)
    with progress(console) as say:
        result = score(
            folders,
            list(pairs),
            scorers,
            baselines=baselines,
            maps=maps,
            ranges=files.range,
            folder_scope=files.range_scope == "folder",
            resize=resize,
            engine=engine.make(),
            cache=default_cache() if cache else None,
            report=lambda pair, done, total: say(f"{done} of {total} scored: {pair}"),
        )
    if output is not None:
        text = result.to_csv() if output.suffix.lower() == ".csv" else json.dumps(result.record(), indent=2) + "\n"
        with atomic_write(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for failure in result.failures[:SHOWN]:
        console.print(f"not scored: {in_flags(failure)}", style="yellow", markup=False, soft_wrap=True)
    if len(result.failures) > SHOWN:
        console.print(f"and {len(result.failures) - SHOWN} more, all in a .json report", style="yellow", markup=False)
    _print(result, wide_enough(14 + max(map(len, result.values)) + 12 * len(result.metrics)))


def _print(result: "Evaluation", console: "Console") -> None:
    """The table: methods by mean rank, the best and the second of each metric marked."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(result.metrics)
    ranks, weak = result.mean_ranks(), result.no_better_than_a_source()
    means = {method: {m: result.mean(method, m) for m in names} for method in result.values}
    best: dict[str, list[str]] = {}
    for name, metric in result.metrics.items():
        known = [method for method in result.values if not math.isnan(means[method][name])]
        sign = -1 if metric.higher_is_better else 1
        best[name] = sorted(known, key=lambda method, n=name, s=sign: s * means[method][n])[:2]  # type: ignore[misc]
    # a narrow terminal gets the metrics in several tables
    each = max(3, (console.width - 2 - max(len(m) for m in result.values) - 13) // 10)
    for start in range(0, len(names), each):
        part = names[start : start + each]
        arrows = [f"{n.rpartition('.')[2]} {'↑' if result.metrics[n].higher_is_better else '↓'}" for n in part]
        table = Table("method", "mean rank", *arrows, box=box.SIMPLE_HEAD)
        for method in sorted(result.values, key=lambda method: ranks[method]):
            style = "italic" if method in result.baselines else ""
            mark = " †" if method in weak else ""
            cells = [Text(f"{method}{mark}", style=style, no_wrap=True), Text(f"{ranks[method]:.2f}")]
            for name in part:
                value = means[method][name]
                place = best[name].index(method) if method in best[name] else 2
                cells.append(Text("-" if math.isnan(value) else f"{value:.4g}", style=("bold", "underline", "")[place]))
            table.add_row(*cells)
        console.print(table)
    legend = "best bold, second underlined, baselines in italics; arrows say which way is better"
    console.print(f"{len(result.pairs)} pairs; {legend}", markup=False)
    if weak:
        console.print("† ranks no better than a source alone", markup=False)
    if result.reused:
        console.print(f"{result.reused} scores taken from the cache", markup=False)
