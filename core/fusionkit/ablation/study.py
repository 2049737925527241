"""Running an ablation: each cell over each pair, resumable, one folder a cell."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from ..contracts import Metric, Options, Sources
from ..engines.engine import Engine, SerialEngine
from ..errors import FusionkitError, InputError, NoEffect, OptionError, SizeMismatch
from ..extras import DISTRIBUTION
from ..images import Picture
from ..images.convert import to_tensor
from ..method.degrade import NONE, degrade, made_pictures
from ..method.pipeline import Pipeline
from ..method.result import FusedPicture
from ..reading import read_image
from ..reading.matching import bare_name, match_folders, spread
from ..reading.ranges import Reading, source_ranges
from ..registry.loading import get_registry
from ..scenes import SCENES
from ..scoring.baselines import baseline_rows
from ..scoring.cache import ScoreCache, pair_key
from ..scoring.evaluation import Evaluation, as_sources, kind_of, score_images
from ..scoring.metrics import load_metrics
from ..scoring.statistics import nullable
from ..storage.manifest import Manifest, digest, sha256
from ..storage.outcome import Outcome, attempt
from ..timing import Stopwatch
from ..writing import write_image
from .grid import Cell, Grid, cleanly

CELLS, ROWS, BASELINES = "cells", "pairs.jsonl", "baselines"
ROUNDING = 1 / 12  # squared grey levels: the error of 8-bit files, below which none is told


@dataclass(frozen=True)
class Case:
    """One pair. identity: hashes of its pixels. read: reads its sources."""

    key: str
    identity: tuple[str, ...]
    read: Callable[[], list[Picture]]

    @property
    def image(self) -> str:
        """File of a result, in a cell's folder."""
        return f"{self.key}.png"


@dataclass
class CellState:
    """A cell with its id, its folder, and its status: "new", "done" or "failed" with the reason.

    goal: the same method on clean sources, restoring nothing, where the grid degrades sources; not always in the grid.
    """

    cell: Cell
    id: str
    folder: Path
    method: dict[str, Any]
    status: str = "new"
    reason: str = ""
    goal: "CellState | None" = None

    @cached_property
    def manifest(self) -> Manifest:
        """Journal of the pairs."""
        return Manifest(self.folder / ROWS)

    def rows(self) -> dict[str, dict[str, Any]]:
        """The last successful row of each pair whose image is still there."""
        rows = dict(self.manifest.finished_rows())
        return {key: row for key, row in rows.items() if (self.folder / row["image"]).is_file()}


@dataclass(frozen=True)
class _Task:
    """A cell over a pair. row: the journal's, where the image is done and only scores are missing."""

    state: CellState
    case: Case
    row: dict[str, Any] | None

    @property
    def key(self) -> str:
        """Cell and pair."""
        return f"{self.state.id} {self.case.key}"


def load_pairs(
    folders: Sequence[Path],
    limit: int | None = None,
    reading: Reading = Reading(),  # noqa: B008
) -> list[Case]:
    """Match pairs of folders by name; `limit` of them, spread evenly."""
    groups = spread(match_folders(folders).groups, limit)
    wanted = source_ranges(groups, reading)
    odd, read = [str(span) for span in wanted if span != "auto"], replace(reading, range=wanted).all
    return [Case(bare_name(paths[-1]), (*(sha256(p) for p in paths), *odd), partial(read, paths)) for paths in groups]


def load_scenes(name: str, count: int, size: tuple[int, int]) -> list[Case]:
    """Render procedural scenes of seeds 0 to count - 1."""
    if name not in SCENES:
        raise OptionError(f"data.scenes {name!r}: unknown; known: {', '.join(SCENES)}")
    made = f"fusionkit {version(DISTRIBUTION)} {name} {size[0]}x{size[1]}"
    return [
        Case(f"{name}-{seed}", (f"{made} {seed}",), partial(made_pictures, name, size, seed)) for seed in range(count)
    ]


class CleanFusion(Metric):
    """A metric of a result against the fusion of the clean sources, given in the sources' place."""

    def __init__(self, name: str, most: float = math.inf) -> None:
        super().__init__(Options())
        self.metric: Metric = get_registry().create("metric", f"{DISTRIBUTION}:{name}", {})
        self.definition = f"{name} of the 8-bit luma to the same method's fusion of the clean sources, nothing restored"
        self.range, self.version = self.metric.range, self.metric.version
        if most < math.inf:
            self.definition += f", dB; at most {most:.1f}, the error of rounding"
            self.range = (0.0, most)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """fused (B, 1, H, W), luma in [0, 1]; sources: the clean fusion alone -> (B,)."""
        return self.metric(fused, sources).clamp_max(self.range[1])


def clean_metrics() -> dict[str, Metric]:
    """PSNR, of equal images that of the rounding to 8 bits, so that they count in means, and SSIM; by name."""
    return {"clean.PSNR": CleanFusion("PSNR", 10 * math.log10(255**2 / ROUNDING)), "clean.SSIM": CleanFusion("SSIM")}


class Study:
    """A grid over cases, with a folder for its results."""

    def __init__(self, grid: Grid, cases: Sequence[Case], output: Path, *, device: str = "auto") -> None:
        """Build every cell's method, so that a wrong one is refused before the first runs."""
        if len({case.key for case in cases}) < len(cases):
            raise InputError("two pairs have one name")
        self.grid, self.cases, self.output, self.device = grid, list(cases), output, device
        self.scored: dict[str, Metric] = load_metrics(grid.report.metrics or None, grid.report.dialect)
        self.clean = clean_metrics() if any(cell.degradation != NONE for cell in grid.cells) else {}
        self.metrics: dict[str, Metric] = {**self.scored, **self.clean}
        self._built: dict[str, Pipeline] = {}  # of the cell at work in this process, and of its goal
        self.cells = self._validated()

    def _validated(self) -> list[CellState]:
        states, problems = [], []
        for cell in self.grid.cells:
            try:
                state = self._state(cell)
                state.goal = self._state(cleanly(cell)) if self.clean else None
            except NoEffect as error:
                self.grid.without_effect.append(f"{cell.label}: {error}")
                continue
            except FusionkitError as error:
                problems.append(f"{cell.label}: {error}")
                continue
            if not any(self._missing(state)):
                state.status = "done"
            states.append(state)
        kept = {state.cell.label for state in states}
        states = [state for state in states if not state.cell.parent or state.cell.parent in kept]
        if not states and not problems:
            raise NoEffect(f"nothing was run: {self.grid.without_effect[0]}")
        if problems:
            more = f"; and {len(problems) - 1} more cells" if len(problems) > 1 else ""
            raise OptionError(f"nothing was run: {problems[0]}{more}")
        return states

    def _state(self, cell: Cell) -> CellState:
        method = Pipeline(cell.config, device=self.device).method()
        pairs = sorted((c.key, *c.identity) for c in self.cases)
        name = digest(method, cell.degradation, version(DISTRIBUTION), pairs)
        return CellState(cell, name, self.output / CELLS / name, method)

    def _missing(self, state: CellState) -> Iterator[_Task]:
        """Find pairs without an image or a score."""
        rows = state.rows()
        for case in self.cases:
            row = rows.get(case.key)
            if row is None or not set(self.metrics) <= set(row["values"]):
                yield _Task(state, case, row)

    def run(self, engine: Engine | None = None) -> Iterator[tuple[CellState, Case, Outcome]]:
        """Fuse and score pairs that are not done yet; yield each with its outcome.

        A cell ends at its first failure, and the others go on. Cells of one id run once, those that others are
        compared with first.
        """
        first: dict[str, CellState] = {}
        for state in self.cells:
            first.setdefault(state.id, state)
        goals = {state.goal.id for state in self.cells if state.goal}
        todo = [state for state in first.values() if state.status != "done"]
        todo.sort(key=lambda state: state.id not in goals)
        sent: dict[str, _Task] = {}
        for outcome in (engine or SerialEngine()).map(partial(attempt, self._run), self._tasks(todo, sent)):
            task = sent.pop(outcome.key)
            state, case = task.state, task.case
            if state.status == "failed":
                continue  # a pair that another process had begun
            if outcome.status == "failed":
                state.status, state.reason = "failed", outcome.reason
                state.manifest.append("pair", key=case.key, status="failed", error=outcome.reason)
            else:
                state.manifest.append("pair", key=case.key, status="ok", **outcome.record)
            yield state, case, outcome
        for state in todo:
            state.status = state.status if state.status == "failed" else "done"
        for state in self.cells:
            state.status, state.reason = first[state.id].status, first[state.id].reason

    def _tasks(self, states: Sequence[CellState], sent: dict[str, _Task]) -> Iterator[_Task]:
        """List tasks cell after cell, each to its first failure; `sent` holds those whose outcome is due."""
        for state in states:
            for task in self._missing(state):
                if state.status != "failed":
                    sent[task.key] = task
                    yield task

    def _run(self, task: _Task) -> Outcome:
        """Fuse one pair, unless its image is done already, and score the file as it is read back."""
        state, case, row = task.state, task.case, task.row
        pictures = case.read()
        wanted = {one.id for one in (state, state.goal) if one}
        self._built = {name: built for name, built in self._built.items() if name in wanted}
        if row is None:
            fused, seconds = self._fuse(state, case, pictures)
            row = {"image": case.image, "seconds": seconds, "evaluations": fused.evaluations}
        result = {"": to_tensor(read_image(state.folder / row["image"]).pixels)}
        [(_, values)] = score_images(result, self.sources(pictures), self.scored, baselines=False)
        if state.goal is not None:
            goal = Sources.of([to_tensor(self._goal(state.goal, case, pictures).pixels)])
            [(_, near)] = score_images(result, goal, self.clean, baselines=False)
            values |= near
        kept = {name: row.get(name) for name in ("image", "seconds", "evaluations")}
        return Outcome(task.key, record={**kept, "values": nullable(values)})

    def _fuse(self, state: CellState, case: Case, pictures: Sequence[Picture]) -> tuple[FusedPicture, float]:
        """Fuse one pair as the cell says and write its image; the result, and the seconds of the fusion alone."""
        kind = state.cell.degradation
        degraded = [replace(p, values=degrade(p.pixels, kind, i, case.key)) for i, p in enumerate(pictures)]
        pipeline = self._pipeline(state)
        watch = Stopwatch()
        with watch.stage("fuse"):
            fused = pipeline.fuse_pictures(degraded)
        write_image(state.folder / case.image, fused.picture.pixels, "8")
        return fused, watch.seconds["fuse"]

    def _goal(self, goal: CellState, case: Case, pictures: Sequence[Picture]) -> Picture:
        """The fusion of the clean sources: fused once, whether the grid has this cell or not."""
        path = goal.folder / case.image
        if not path.is_file():
            self._fuse(goal, case, pictures)
        return read_image(path)

    def _pipeline(self, state: CellState) -> Pipeline:
        """Build a cell's method, once for its pairs."""
        if state.id not in self._built:
            self._built[state.id] = Pipeline(state.cell.config, device=self.device)
        return self._built[state.id]

    def evaluation(self, say: Callable[[str], None] = lambda text: None) -> Evaluation:
        """Collect values of every finished cell of the grid and of the baselines, over all pairs.

        say: called with what is being done.
        """
        whole = [state for state in self.finished() if not state.cell.removed]
        result = Evaluation([c.key for c in self.cases], self.metrics, baselines=set(baseline_rows()))
        result.values = {state.cell.label: self.scores(state) for state in whole}
        result.inputs = {s.cell.label: s.cell.degradation for s in whole if s.cell.degradation != NONE}
        result.values |= {name: {metric: [] for metric in self.metrics} for name in baseline_rows()}
        for case in self.cases:
            say(f"baselines of {case.key}")
            for name, values in self._baselines(case).items():
                for metric in self.metrics:
                    result.values[name][metric].append(values.get(metric, math.nan))
        result.failures = [f"{s.cell.label}: {s.reason}" for s in self.cells if s.status == "failed"]
        result.scene = kind_of([case.read for case in self.cases], self.metrics)
        return result

    def _baselines(self, case: Case) -> dict[str, dict[str, float]]:
        """Values of the baselines for a pair, kept beside the cells."""
        cache = ScoreCache(self.output / CELLS / BASELINES)
        keys = {name: pair_key(f"baseline {name}", case.identity, resize=self._resized) for name in baseline_rows()}
        known = {name: cache.known(key, self.scored) for name, key in keys.items()}
        if all(len(values) == len(self.scored) for values in known.values()):
            return known
        scored = dict(score_images({}, self.sources(case.read()), self.scored, baselines=True, known=known))
        for name, values in scored.items():
            cache.keep(keys[name], values, self.scored)
        return scored

    def scores(self, state: CellState) -> dict[str, list[float]]:
        """Values of a finished cell over all pairs, by metric; nan where undefined."""
        rows = state.rows()
        values = {name: [rows[case.key]["values"][name] for case in self.cases] for name in self.metrics}
        return {name: [math.nan if v is None else v for v in column] for name, column in values.items()}

    def sources(self, pictures: Sequence[Picture]) -> Sources:
        """Sources that results are compared with, resized where every method resizes them."""
        return as_sources(pictures, resize=self._resized)

    @property
    def _resized(self) -> bool:
        """Whether every method resizes the sources to the reference."""
        return all(state.cell.config.resize == "reference" for state in self.cells)

    def check_sizes(self) -> None:
        """Refuse sources of sizes that no method takes, by the first pair, before anything runs."""
        case = self.cases[0]
        pictures = case.read()
        if self._resized:
            return
        for kind in dict.fromkeys([NONE, *(s.cell.degradation for s in self.cells)]):
            shapes = [degrade(p.pixels, kind, i, case.key).shape for i, p in enumerate(pictures)]
            if len({shape[:2] for shape in shapes}) > 1:
                sizes = " and ".join(f"{p.name} is {s[1]}x{s[0]}" for p, s in zip(pictures, shapes, strict=True))
                made = "" if kind == NONE else f" with degradation {kind}"
                raise SizeMismatch(
                    f"{case.key}: {sizes}{made}; sources must be registered and of one size; "
                    'resize = "reference" under [base] in the grid resizes them to the reference'
                )

    def fused(self) -> tuple[int, int]:
        """How many pairs of the cells are fused and scored already, and of how many; cells of one id count once."""
        cells = {state.id: state for state in self.cells}.values()
        open_ones = sum(sum(1 for _ in self._missing(state)) for state in cells)
        return len(cells) * len(self.cases) - open_ones, len(cells) * len(self.cases)

    def finished(self) -> list[CellState]:
        """Cells whose every pair is done."""
        return [state for state in self.cells if state.status == "done"]

    def seconds(self, state: CellState) -> float:
        """Median seconds of a fusion, since the first one may be slow."""
        rows = state.rows()
        return float(median(rows[c.key]["seconds"] for c in self.cases))

    def image(self, state: CellState, case: Case) -> Path:
        """Path of a cell's result for a pair."""
        return state.folder / str(state.rows()[case.key]["image"])
