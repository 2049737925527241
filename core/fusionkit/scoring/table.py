"""The table of an evaluation, for a paper (LaTeX), a page (Markdown) and a spreadsheet (CSV)."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

from ..extras import DISTRIBUTION
from ..scene import SCENE_KINDS
from .evaluation import CONVENTIONS, Evaluation
from .metrics import dialects
from .statistics import CONFIDENCE, RESAMPLES, Summary, decimals

ACROSS = 7  # metrics side by side on a page of LaTeX; more are set below, in the same table


@dataclass(frozen=True)
class Column:
    """One metric: its heading, which values are better, what it is."""

    name: str
    better: str
    definition: str


@dataclass(frozen=True)
class Cell:
    """A mean as printed, its interval, and its place: 1 best, 2 second, 0 neither."""

    text: str
    summary: Summary
    interval: str
    place: int


@dataclass(frozen=True)
class Row:
    """A method. weak: it ranks no better than an unfused source."""

    method: str
    rank: str
    cells: tuple[Cell, ...]
    baseline: bool
    weak: bool


@dataclass(frozen=True)
class Table:
    """Rows in groups of one input, each group with its title, ordered by rank; notes: what the numbers are."""

    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    notes: tuple[str, ...]

    def parts(self, across: int) -> list[slice]:
        """Split the columns into tables of at most `across` metrics, about equally wide."""
        count = max(1, math.ceil(len(self.columns) / max(1, across)))
        edges = [round(i * len(self.columns) / count) for i in range(count + 1)]
        return [slice(a, b) for a, b in pairwise(edges)]


def table_of(evaluation: Evaluation) -> Table:
    """Lay out means and intervals; metrics made for other kinds of scene are left out, unless there are no others."""
    names = evaluation.suited() or list(evaluation.metrics)
    ranks, weak = evaluation.mean_ranks(), evaluation.no_better_than_a_source()
    labels = _labels(evaluation)
    columns = tuple(Column(_heading(n, names), evaluation.metrics[n].better, _definition(n, evaluation)) for n in names)
    cells = {name: _cells(evaluation, name) for name in names}
    groups = []
    for given, methods in evaluation.groups().items():
        rows = [
            Row(
                labels[method],
                "-" if math.isnan(ranks[method]) else f"{ranks[method]:.2f}",
                tuple(cells[name][method] for name in names),
                method in evaluation.baselines,
                method in weak,
            )
            for method in sorted(methods, key=lambda method: ranks[method])
        ]
        groups.append((f"sources with {given}" if given else "sources as they are", tuple(rows)))
    return Table(columns, tuple(groups), _notes(evaluation, names))


def _heading(name: str, names: Sequence[str]) -> str:
    """A metric's name without its dialect, unless another metric has that name, too."""
    last = name.rpartition(".")[2]
    return last if _dialect(name) and sum(other.rpartition(".")[2] == last for other in names) == 1 else name


def _labels(evaluation: Evaluation) -> dict[str, str]:
    """Names of methods as a table shows them: without the input, which is their group's, and without `prior=`."""
    labels = dict[str, str]()
    for methods in evaluation.groups().values():
        given = f"degradation={evaluation.inputs.get(methods[0]) or 'none'}"
        bare = {method: method.replace(f", {given}", "").replace(f"{given}, ", "") for method in methods}
        short = {method: re.sub(r"(^|, )prior=", r"\1", text) for method, text in bare.items()}
        count = Counter(short.values())
        labels |= {method: short[method] if count[short[method]] == 1 else bare[method] for method in methods}
    return labels


def _cells(evaluation: Evaluation, name: str) -> dict[str, Cell]:
    """The cells of a metric's column, by method."""
    printed, places = evaluation.printed(name), evaluation.places(name)
    digits = max(0, decimals(evaluation.mean(method, name) for method in printed) - 1)  # a bound needs fewer
    cells = {}
    for method, text in printed.items():
        found = evaluation.summary(method, name)
        interval = f"{found.low:.{digits}f}, {found.high:.{digits}f}" if found.defined > 1 else ""
        cells[method] = Cell(text, found, interval, places.get(method, 0))
    return cells


def _definition(name: str, evaluation: Evaluation) -> str:
    """What a metric is, and on how many pairs it has a value if not on all."""
    metric, pairs = evaluation.metrics[name], len(evaluation.pairs)
    counts = sorted({count for m in evaluation.values if (count := evaluation.summary(m, name).defined)})
    said = [] if metric.version == "1" else [f"version {metric.version}"]
    if counts != [pairs]:
        said.append(
            f"defined on {' to '.join(map(str, dict.fromkeys(counts[:1] + counts[-1:]))) or 0} of {pairs} pairs"
        )
    return metric.definition + (f" ({', '.join(said)})" if said else "")


def _notes(evaluation: Evaluation, names: Sequence[str]) -> tuple[str, ...]:
    """What the numbers are, a sentence each; the definitions of the metrics are with the columns."""
    pairs, kind = len(evaluation.pairs), SCENE_KINDS.get(evaluation.scene)
    left = [_heading(name, list(evaluation.metrics)) for name in evaluation.metrics if name not in names]
    spoken = {dialect: [n for n in names if _dialect(n) == dialect] for dialect in map(_dialect, names)}
    groups = evaluation.groups()
    better = dict.fromkeys(evaluation.metrics[name].better for name in names)
    said = {"↑": "↑ higher is better", "↓": "↓ lower is better"}
    marks = ", ".join(said.get(mark, f"{mark} nearer to {mark[1:]} is better") for mark in better)
    within = ", each within the rows of one input" if len(groups) > 1 else ""
    interval = f", with {CONFIDENCE:.0%} bootstrap intervals (percentile, {RESAMPLES} resamples of the pairs)"
    notes = [
        f"Means over {pairs} {'pairs' if pairs > 1 else 'pair'}{f' of {kind.title}' if kind else ''}"
        f"{interval if pairs > 1 else ''}.",
        f"{marks}; rank: mean over these metrics of the rank by mean value{within}.",
    ]
    if evaluation.baselines:
        dagger = "; † ranks no better than an unfused source" if evaluation.no_better_than_a_source() else ""
        notes.append(f"Baselines in italics{dagger}.")
    if left:
        notes.append(f"Not in the table, since made for other kinds of scene: {', '.join(left)}.")
    for dialect, own in spoken.items():
        which = "all metrics" if len(own) == len(names) else ", ".join(_heading(name, names) for name in own)
        notes += [f"Dialect {dialect}: {which}."] if dialect else []
    return (*notes, f"Measured by fusionkit {version(DISTRIBUTION)}: {CONVENTIONS}.")


def _dialect(name: str) -> str:
    """The dialect that a metric's name begins with, if any."""
    return prefix if (prefix := name.rpartition(".")[0]) in dialects() else ""


def markdown(table: Table) -> str:
    """Render for GitHub and other pages: best bold, second underlined, intervals below the means."""

    def cell(one: Cell) -> str:
        text = {1: f"**{one.text}**", 2: f"<ins>{one.text}</ins>"}.get(one.place, one.text)
        return text + (f"<br><small>{one.interval}</small>" if one.interval else "")

    lines = []
    for title, rows in table.groups:
        if len(table.groups) > 1:
            lines += [f"**{_plain(title)}**", ""]
        heads = ["method", "rank ↓", *(f"{_plain(column.name)} {column.better}" for column in table.columns)]
        lines += [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
        for row in rows:
            name = f"*{_plain(row.method)}*" if row.baseline else _plain(row.method) + (" †" if row.weak else "")
            lines.append(f"| {' | '.join([name, row.rank, *map(cell, row.cells)])} |")
        lines.append("")
    first, *others = table.notes
    lines += [f"{_plain(first)} **Best**, <ins>second</ins>. {_plain(' '.join(others))}", ""]
    lines += [f"- {_plain(column.name)}: {_plain(column.definition)}" for column in table.columns]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", text)


def spreadsheet(table: Table) -> str:
    """Render as CSV: a row for each method, four columns for each metric; definitions do not fit in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("", " low", " high", " place")
    writer.writerow(["method", "input", "baseline", "rank", *(c.name + part for c in table.columns for part in parts)])
    for title, rows in table.groups:
        for row in rows:
            values: list[object] = []
            for cell in row.cells:
                found = cell.summary
                bounds = [found.low, found.high] if cell.interval else ["", ""]
                values += [found.mean, *bounds, cell.place or ""] if found.defined else [""] * len(parts)
            rank = "" if row.rank == "-" else row.rank
            writer.writerow([row.method, title, "yes" if row.baseline else "no", rank, *values])
    return text.getvalue()


def latex(table: Table) -> str:
    r"""Render as floats of two columns' width with the metrics side by side as a page has room for them.

    \textbf best, \underline second, intervals below the means.
    """
    first, *others = map(_tex, table.notes)
    said = [" ".join([first, r"\textbf{Best}, \underline{second}.", *others]), r"Table~\ref{tab:fusion} continued."]
    lines = [r"% needs \usepackage{booktabs} in the preamble"]
    for number, part in enumerate(table.parts(ACROSS)):
        defined = "; ".join(rf"\textit{{{_tex(c.name)}}}: {_tex(c.definition)}" for c in table.columns[part])
        lines += [
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption[Fusion methods compared]{{{said[min(number, 1)]} {{\footnotesize {defined}.}}}}",
            rf"\label{{tab:fusion{f'-{number + 1}' if number else ''}}}",
            r"\footnotesize\setlength{\tabcolsep}{4pt}",
            *_tabular(table, part),
            r"\end{table*}",
        ]
    return "\n".join(lines) + "\n"


def _tabular(table: Table, part: slice) -> Iterator[str]:
    """Lines of the rows with these columns."""

    def cell(one: Cell) -> str:
        text = _minus(one.text)
        return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(one.place, text)

    columns = table.columns[part]
    yield rf"\begin{{tabular}}{{l{'r' * (1 + len(columns))}}}"
    yield r"\toprule"
    heads = [r"Method", r"Rank $\downarrow$", *(rf"{_tex(c.name)} {_tex(c.better)}" for c in columns)]
    yield " & ".join(heads) + r" \\"
    for title, rows in table.groups:
        yield r"\midrule"
        if len(table.groups) > 1:
            yield rf"\multicolumn{{{2 + len(columns)}}}{{l}}{{\textit{{{_tex(title)}}}}} \\"
        for row in rows:
            name = _tex(row.method)
            name = rf"\textit{{{name}}}" if row.baseline else name + (r"$^\dagger$" if row.weak else "")
            below = [rf"{{\scriptsize {_minus(one.interval)}}}" for one in row.cells[part]]
            told = any(one.interval for one in row.cells[part])
            yield " & ".join([name, row.rank, *map(cell, row.cells[part])]) + (r" \\[-1pt]" if told else r" \\")
            if told:
                yield " & ".join(["", "", *below]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _minus(number: str) -> str:
    return number.replace("-", "$-$") if any(map(str.isdigit, number)) else number.replace("-", "--")


# what LaTeX takes for commands, or sets otherwise
TEX = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    **{c: rf"${c}$" for c in "<>|"},
    "[": "{[}",  # after a line's end it would begin an option
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''", "²": "$^2$",
    "³": "$^3$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "†": r"$^\dagger$", "°": r"$^\circ$", "±": r"$\pm$", "Σ": r"$\Sigma$", "∇": r"$\nabla$",
    "λ": r"$\lambda$", "μ": r"$\mu$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$",
}  # fmt: skip


def _tex(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(TEX.get(c, c) for c in text)


RENDERINGS = {".tex": latex, ".md": markdown, ".csv": spreadsheet}
