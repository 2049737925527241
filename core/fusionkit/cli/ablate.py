"""`fusionkit ablate`: a grid of methods over the same pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from ..options import validate_options
from .choices import printable
from .fields import chosen, in_flags, model_options, with_options
from .progress import progress

if TYPE_CHECKING:
    from ..ablation import Study

__all__ = ["ablate"]


@with_options(
    *model_options(FileOptions, "Sources", only=("range", "range_scope")), *model_options(EngineOptions, "Workers")
)
def ablate(
    grid: Annotated[Path, typer.Argument(metavar="GRID.TOML", help="What to vary, over what, and what to measure.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results and reports.")],
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--pairs", metavar="A B", help="Folders of the sources.", show_default="the grid's"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate, list the cells, run nothing.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    **given: Any,
) -> None:
    """Run a grid of methods over the same pairs, score and compare them, and take them apart.

    fusionkit ablate grid.toml -o ablation

    The grid is TOML: [base] holds choices as a preset does, [grid] lists to combine, such as

    prior = ["em_tv", "laplacian"], "prior.em_tv.lit" = [0, 0.6], strength = [0, 0.1], degradation = ["none", "blur=1"]

    [data] names pairs = ["ir", "vis"] or scenes = "infrared-visible"; [report] names metrics. Everything is validated
    before the first cell runs; a run that was stopped goes on where it was; a failed cell is recorded, the others go
    on, and the exit code is 1. Writes results.csv, results.json and report.html, which needs no network.
    """
    if output.exists() and not output.is_dir():
        raise OptionError(f"--output {output}: is a file; name a folder")

    from rich.console import Console

    from ..ablation import Study, load_grid, load_pairs, load_scenes

    engine = validate_options(EngineOptions, chosen(given, EngineOptions), "engine")
    parsed = load_grid(grid)
    data = parsed.data
    folders = list(pairs) if pairs else [Path(p) for p in data.pairs]
    if folders:
        files = validate_options(FileOptions, chosen(given, FileOptions), "files")
        cases = load_pairs(folders, data.limit, files.range, folder_scope=files.range_scope == "folder")
    elif data.scenes:
        cases = load_scenes(data.scenes, data.count, data.size)
    else:
        raise OptionError(f"{grid}: no data; [data] pairs = [...] or scenes = ..., or --pairs A B")
    study = Study(parsed, cases, output, device=device)
    for line in parsed.without_effect:
        typer.echo(f"left out: {printable(in_flags(line))}", err=True)
    if dry_run:
        _list(study)
        return
    study.check_sizes()

    from ..ablation.report import write_reports

    console = Console(stderr=True)
    total = len({state.id for state in study.cells}) * len(cases)
    count = sum(state.status == "done" for state in study.cells) * len(cases)
    with progress(console) as say:
        for state, case, outcome in study.run(engine.make()):
            if outcome.status == "failed":
                console.print(
                    f"failed: {state.cell.label}: {in_flags(state.reason)}",
                    style="yellow",
                    markup=False,
                    soft_wrap=True,
                )
            else:
                count += 1
                say(f"{min(count, total)} of {total}: {state.cell.label}, {case.key}")
        say("reports")
        paths = write_reports(study) if study.finished() else []
    for path in paths:
        typer.echo(str(path))
    failed = [state for state in study.cells if state.status == "failed"]
    if failed:
        console.print(f"{len(failed)} of {len(study.cells)} cells failed", style="yellow")
        raise typer.Exit(1)


def _list(study: "Study") -> None:
    """Cells with their ids and whether they are there already."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "status", "cell", box=box.SIMPLE_HEAD)
    for state in study.cells:
        table.add_row(state.id, state.status, state.cell.label)
    console = Console()
    console.print(table)
    new = {state.id for state in study.cells if state.status != "done"}
    console.print(
        f"{len(study.cells)} cells over {len(study.cases)} pairs; {len(new) * len(study.cases)} fusions to do"
    )
