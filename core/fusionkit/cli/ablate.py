"""`fusionkit ablate`: a grid of methods over the same pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import NoEffect, OptionError
from .fields import model_options, with_options
from .given import Given
from .messages import printable
from .parameters import Device
from .progress import progress
from .reports import print_table

if TYPE_CHECKING:
    from ..ablation import Study
    from ..engines.engine import Engine

Pairs = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--pairs", metavar="A B", help="Folders of the sources.", show_default="the grid's"),
]


@with_options(
    *model_options(FileOptions, "Sources", only=("range", "range_scope")), *model_options(EngineOptions, "Workers")
)
def ablate(
    grid: Annotated[Path, typer.Argument(metavar="GRID.TOML", help="What to vary, over what, and what to measure.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results and reports.")],
    pairs: Pairs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate, list the cells, run nothing.")] = False,
    device: Device = "auto",
    **given: Any,
) -> None:
    """Run a grid of methods over the same pairs, score and compare them, and take them apart.

    fusionkit ablate grid.toml -o ablation

    The grid is TOML. Its table `base` holds choices as a preset does, `grid` lists to combine, such as

    prior = ["em_tv", "laplacian"]
    "prior.em_tv.lit" = [0, 0.6]
    degradation = ["none", "noise:level=10"]

    `data` names pairs = ["ir", "vis"] or scenes = "infrared-visible"; `report` names metrics. Everything is validated
    before the first cell runs. A run that was stopped continues. A failed cell is recorded, the others run, and the
    exit code is 1. Writes results.csv, results.json, report.html, which needs no network, and the table of means for
    papers, table.tex, table.md and table.csv.
    """
    if output.suffix.lower() in (".tex", ".md", ".csv", ".json", ".html"):
        raise OptionError(
            f"--output {output}: name a folder; table.tex, .md and .csv and the reports are written into it"
        )
    if output.exists() and not output.is_dir():
        raise OptionError(f"--output {output}: is a file; name a folder")

    from ..ablation import Study, load_grid, load_pairs, load_scenes

    asked = Given(given)
    engine = asked.options(EngineOptions)
    parsed = load_grid(grid)
    data = parsed.data
    chosen = "pairs" if data.pairs else "scenes" if data.scenes and not pairs else ""
    beside = data.model_fields_set & {"pairs": {"scenes", "count", "size"}, "scenes": {"limit"}}.get(chosen, set())
    if beside:
        raise NoEffect(f"{grid}: data.{min(beside)} has no effect with data.{chosen}; leave it out")
    if folders := list(pairs) if pairs else [Path(p) for p in data.pairs]:
        files = asked.options(FileOptions)
        cases = load_pairs(folders, data.limit, files.reading)
    elif data.scenes:
        if unread := sorted(asked.options(FileOptions).model_fields_set):
            raise NoEffect(f"`{unread[0]}` has no effect on scenes made by code; it is read with folders")
        cases = load_scenes(data.scenes, data.count, data.size)
    else:
        raise OptionError(f"{grid}: no data; [data] pairs = [...] or scenes = ..., or --pairs A B")
    study = Study(parsed, cases, output, device=device)
    for line in parsed.without_effect:
        typer.echo(f"left out: {printable(line)}", err=True)
    study.check_sizes()
    if dry_run:
        _list(study)
        return
    for path in _run(study, engine.make()):
        typer.echo(str(path))
    if failed := sum(state.status == "failed" for state in study.cells):
        typer.secho(f"{failed} of {len(study.cells)} cells failed", fg="yellow", err=True)
        raise typer.Exit(1)


def _run(study: "Study", engine: "Engine") -> list[Path]:
    """Run the cells that are not done and write the reports; their paths."""
    from ..ablation.report import write_reports

    before, total = study.fused()
    with progress("fusions", total) as say:
        say.before = say.done = before
        for state, case, outcome in study.run(engine):
            if outcome.status == "failed":
                typer.secho(f"failed: {state.cell.label}: {printable(state.reason)}", fg="yellow", err=True)
            else:
                say(f"{state.cell.label}, {case.key}", say.done + 1)
    with progress() as say:
        return write_reports(study, say) if study.finished() else []


def _list(study: "Study") -> None:
    """List the cells with their ids and states."""
    print_table(("id", "status", "cell"), [(state.id, state.status, state.cell.label) for state in study.cells])
    new = len({state.id for state in study.cells if state.status != "done"}) * len(study.cases)
    typer.echo(f"{len(study.cells)} cells over {len(study.cases)} pairs; {new} fusions to do")
