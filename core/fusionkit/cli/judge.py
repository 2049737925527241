"""`fusionkit judge`: a blind comparison of methods by people."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OptionError
from .messages import tell_failures
from .parameters import Force, named_folders

if TYPE_CHECKING:
    from ..judging.tally import Tally

app = typer.Typer(add_completion=False, no_args_is_help=True)

Methods = Annotated[
    list[str],
    typer.Option(
        "--methods",
        metavar="[NAME=]FOLDER",
        help="Fused images of a method; repeatable, two at least. The folder of an ablation stands for its methods.",
    ),
]
Pairs = Annotated[tuple[Path, Path], typer.Option("--pairs", metavar="A B", help="Folders of the sources.")]
Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]


@app.command()
def make(
    methods: Methods,
    pairs: Pairs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study; its key is written beside it.")],
    against: Annotated[str, typer.Option(metavar="NAME", help="Compare others with this method only.")] = "",
    most: Annotated[int, typer.Option(metavar="N", min=0, help="Comparisons at most; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed that shuffles order and sides.")] = 0,
    sheets: Annotated[
        bool, typer.Option("--sheets", help="Also write one picture for each comparison, to print or to send.")
    ] = False,
) -> None:
    """Make a study: results of two methods side by side below their sources, sides shuffled, names in a key apart.

    fusionkit judge make --methods ours=fused --methods theirs=published --pairs ir vis -o study
    fusionkit serve --study study
    fusionkit judge tally study
    fusionkit judge make --methods ablation --pairs ir vis -o ablation/study

    Files are matched by name. Both results are grey where one is. One comparison in ten has a spoilt side, which shows
    who votes without looking. STUDY.key.json says which method is on which side: keep it from those who vote.
    """
    from ..ablation.report import cells_of
    from ..judging.study import make_study, place_of_key
    from .progress import progress

    named = dict[str, Path]()
    for name, folder in named_folders(methods, "--methods").items():
        more = cells_of(folder) or {name: folder}
        if double := named.keys() & more.keys():
            raise OptionError(f"--methods names {min(double)!r} twice")
        named |= more
    with progress("comparisons") as say:
        made = make_study(named, pairs, output, seed=seed, against=against, most=most, sheets=sheets, report=say)
    tell_failures(made.failures, "left out")
    typer.echo(f"{output}: {made.sheets} comparisons, {made.checks} checks; key: {place_of_key(output)}")
    typer.echo(
        f"fusionkit serve --study {output}   shows them; fusionkit judge tally {output}   counts the votes", err=True
    )


@app.command()
def tally(
    study: Folder,
    votes: Annotated[
        list[Path], typer.Option(help="More votes, .csv with viewer, sheet, choice (A, B, =), reason; repeatable.")
    ] = [],  # noqa: B006
    key: Annotated[Path | None, typer.Option(help="The study's key.", show_default="beside the study")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Report with everything, .json.")] = None,
    force: Force = False,
) -> None:
    """Count the votes of a study: wins with intervals, strengths, agreement of viewers, reasons.

    fusionkit judge tally study -o votes.json

    Shares are of decided votes, with Wilson's interval and one over resampled scenes, since votes on one scene are not
    independent. Strengths are Bradley and Terry's. Viewers who fail more than a third of the checks, or choose one side
    whatever it shows, do not count.
    """
    from ..judging.study import all_votes, open_key, open_study, place_of_key
    from ..judging.tally import tally as count
    from .reports import check_report, write_record

    check_report(output, ".json", force=force)
    result = count(open_key(key or place_of_key(study), open_study(study)), all_votes(study, votes))
    if output is not None:
        write_record(output, result.record())
    _print(result)


def _print(result: "Tally") -> None:
    """Print tables of the comparisons, of the strengths where there are more than two methods, and of the viewers."""
    from .reports import finite, print_table, wide_enough

    shown = partial(finite, ".0%")
    rows = []
    for row in result.compared:
        counts = map(str, (row.wins, row.losses, row.even))
        shares = shown(row.share), shown(row.low, row.high), shown(*row.by_scene)
        rows.append((f"{row.first} against {row.second}", *counts, *shares))
    print_table(("", "wins", "losses", "even", "share of decided", "Wilson 95 %", "over scenes"), rows, 100)
    if len(result.strengths) > 2:
        strengths = [(s.method, shown(s.share), shown(s.low, s.high)) for s in result.strengths]
        print_table(("method", "share against an average method", "95 % over scenes"), strengths, 100)
    console = wide_enough(100)
    for viewer in result.viewers:
        checks = f"{viewer.passed} of {viewer.checks} checks passed" if viewer.checks else "no checks"
        left_out = "" if viewer.counts else "; NOT COUNTED"
        console.print(f"{viewer.name}: {viewer.votes} votes, {shown(viewer.left)} for the left; {checks}{left_out}")
    if result.agreement == result.agreement:
        text = f"two viewers agree on {result.agreement:.0%} of what both saw; Krippendorff's alpha {result.alpha:.2f}"
        console.print(text)
    for said in result.reasons:
        chosen = f"{said['preferred']} rather than {said['to']}" if said["preferred"] else f"even: {said['to']}"
        console.print(f"  {said['scene']}: {chosen}: {said['reason']}")
