"""Running an ablation: every cell over every pair, resumable, one folder a cell."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from ..contracts import Metric, Sources
from ..engines.engine import KILLED, Engine
from ..errors import FusionkitError, InputError, OptionError, SizeMismatch
from ..images import Picture, write_image
from ..images.convert import to_tensor
from ..images.picture import Range
from ..method.pipeline import Pipeline
from ..reading import read_image
from ..reading.matching import match_folders
from ..reading.ranges import source_ranges
from ..registry.kinds import DISTRIBUTION
from ..scoring.baselines import baseline_rows
from ..scoring.evaluation import Evaluation, as_sources, score_images
from ..scoring.metrics import load_metrics
from ..storage.manifest import Manifest, sha256
from ..timing import Stopwatch
from .degrade import degrade
from .grid import Cell, Grid

__all__ = ["Case", "CellState", "Study", "load_pairs", "load_scenes"]

CELLS, ROWS = "cells", "pairs.jsonl"


@dataclass(frozen=True)
class Case:
    """One pair: its name, what identifies its pixels, how to get them."""

    key: str
    identity: tuple[str, ...]
    read: Callable[[], list[Picture]]


@dataclass
class CellState:
    """A cell with its id, where it is kept, and what became of it: "done", "new", "running" or "failed"."""

    cell: Cell
    id: str
    folder: Path
    method: dict[str, Any]
    status: str = "new"
    reason: str = ""

    @cached_property
    def manifest(self) -> Manifest:
        """Rows of its pairs."""
        return Manifest(self.folder / ROWS)

    def rows(self) -> dict[str, dict[str, Any]]:
        """The last successful row of each pair whose image is still there."""
        rows = {row["key"]: row for row in self.manifest.rows() if row.get("status") == "ok"}
        return {key: row for key, row in rows.items() if (self.folder / row["image"]).is_file()}


_Ran = tuple[list[tuple[int, str]], str, str]  # events by the number of the pair, the cell's status, the reason


def load_pairs(
    folders: Sequence[Path], limit: int | None = None, ranges: Sequence[Range] = ("auto",), *, folder_scope: bool = True
) -> list[Case]:
    """Pairs of folders, matched by name; `limit` of them, spread evenly.

    ranges: how sources of more than 8 bits are read, one or one a source; "auto" of all files where `folder_scope`.
    """
    groups = match_folders(folders).groups
    if not groups:
        raise InputError(f"no file names in common between {', '.join(map(str, folders))}")
    if limit is not None and limit < len(groups):
        groups = [groups[i * len(groups) // limit] for i in range(limit)]
    wanted = source_ranges(groups, ranges, folder_scope=folder_scope)

    odd = [str(span) for span in wanted if span != "auto"]  # 8 bits are what they are
    return [
        Case(paths[-1].stem, (*(sha256(p) for p in paths), *odd), partial(_read_pair, paths, wanted))
        for paths in groups
    ]


def _read_pair(paths: Sequence[Path], ranges: Sequence[Range]) -> list[Picture]:
    return [read_image(path, span) for path, span in zip(paths, ranges, strict=True)]


def load_scenes(name: str, count: int, size: tuple[int, int]) -> list[Case]:
    """Procedural scenes: seeds 0 to count - 1."""
    from ..scenes import SCENES

    if name not in SCENES:
        raise OptionError(f"data.scenes {name!r}: unknown; known: {', '.join(SCENES)}")
    made = f"fusionkit {version(DISTRIBUTION)} {name} {size[0]}x{size[1]}"
    return [
        Case(f"{name}-{seed}", (f"{made} {seed}",), partial(_make_scene, name, size, seed)) for seed in range(count)
    ]


def _make_scene(name: str, size: tuple[int, int], seed: int) -> list[Picture]:
    from ..scenes import SCENES

    scene, roles = SCENES[name]
    images = (image.astype("float32") for image in scene(size, seed=seed))
    return [Picture(image, "8", (0.0, 255.0), name=role) for role, image in zip(roles, images, strict=True)]


class Study:
    """A grid over cases, in a folder of its own."""

    def __init__(self, grid: Grid, cases: Sequence[Case], output: Path, *, device: str = "auto") -> None:
        """Builds every cell's method, so that a wrong one is refused before the first runs."""
        if len({case.key for case in cases}) < len(cases):
            raise InputError("two pairs have one name")
        self.grid, self.cases, self.output, self.device = grid, list(cases), output, device
        self.metrics: dict[str, Metric] = load_metrics(grid.report.metrics or None, grid.report.dialect)
        self.cells = self._validated()

    def _validated(self) -> list[CellState]:
        states, problems = [], []
        for cell in self.grid.cells:
            try:
                method = Pipeline(cell.config, device=self.device).method()
            except FusionkitError as error:
                problems.append(f"{cell.label}: {error}")
                continue
            identity = [
                method,
                cell.degradation,
                version(DISTRIBUTION),
                sorted((c.key, *c.identity) for c in self.cases),
            ]
            digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
            state = CellState(cell, digest, self.output / CELLS / digest, method)
            if self._finished(state):
                state.status = "done"
            states.append(state)
        if problems:
            more = f"; and {len(problems) - 1} more cells" if len(problems) > 1 else ""
            raise OptionError(f"nothing was run: {problems[0]}{more}")
        return states

    def _finished(self, state: CellState) -> bool:
        rows = state.rows()
        return all(c.key in rows and set(self.metrics) <= set(rows[c.key]["values"]) for c in self.cases)

    def run(self, engine: Engine | None = None) -> Iterator[tuple[CellState, Case, str]]:
        """Run what is not done yet; yields each pair before it is done with "run", or "failed" once a cell has failed.

        A cell that fails is recorded and the others go on. Cells of one id are one. engine: who runs whole cells, with
        `lost` for what its processes lose; each pair is then yielded after its cell was run.
        """
        first: dict[str, CellState] = {}
        for state in self.cells:
            first.setdefault(state.id, state)
        todo = [state for state in first.values() if state.status != "done"]
        if engine is None:
            for state in todo:
                yield from self._run_cell(state)
        else:
            for state, (events, status, reason) in zip(todo, engine.map(self._whole_cell, todo), strict=True):
                state.status, state.reason = status, reason
                yield from ((state, self.cases[i], event) for i, event in events)
        for state in self.cells:
            state.status, state.reason = first[state.id].status, first[state.id].reason

    def lost(self, state: CellState) -> "_Ran":
        """What becomes of a cell whose process is killed each time."""
        return [(0, "failed")], "failed", KILLED

    def _whole_cell(self, state: CellState) -> "_Ran":
        """A cell, in whichever process."""
        events = [(self.cases.index(case), event) for _, case, event in self._run_cell(state)]
        return events, state.status, state.reason

    def _run_cell(self, state: CellState) -> Iterator[tuple[CellState, Case, str]]:
        state.status, case = "running", self.cases[0]
        try:
            pipeline = Pipeline(state.cell.config, device=self.device)
            known = state.rows()
            for case in self.cases:
                row = known.get(case.key)
                if row is None or not set(self.metrics) <= set(row["values"]):
                    yield state, case, "run"
                    self._run_case(state, pipeline, case, row)
            state.status = "done"
        except Exception as error:  # one cell may never stop the others, whatever a plug-in raises
            named = "" if isinstance(error, FusionkitError) else f"{type(error).__name__}: "
            state.status, state.reason = "failed", named + " ".join(str(error).split())[:500]
            state.manifest.append("pair", key=case.key, status="failed", error=state.reason)
            yield state, case, "failed"

    def _run_case(self, state: CellState, pipeline: Pipeline, case: Case, known: dict[str, Any] | None) -> None:
        """Fuse one pair, unless its image is there already, and score the file as it is read back."""
        pictures = case.read()
        image = known["image"] if known else f"{_safe(case.key)}.png"
        seconds, evaluations = (known["seconds"], known.get("evaluations")) if known else (None, None)
        if known is None:
            degraded = [_degraded(p, state.cell.degradation, i, case.key) for i, p in enumerate(pictures)]
            watch = Stopwatch()
            with watch.stage("fuse"):
                fused = pipeline.fuse_pictures(degraded)
            seconds, evaluations = watch.seconds["fuse"], fused.evaluations
            write_image(state.folder / image, fused.picture.pixels, "8")
        result = to_tensor(read_image(state.folder / image).pixels)
        [(_, values)] = score_images({"": result}, self._sources(pictures), self.metrics, baselines=False)
        row = {"image": image, "seconds": seconds, "evaluations": evaluations, "values": _nullable(values)}
        state.manifest.append("pair", key=case.key, status="ok", **row)

    def evaluation(self) -> Evaluation:
        """Values of every finished cell of the grid and of the baselines, over all pairs."""
        result = Evaluation([c.key for c in self.cases], self.metrics)
        for state in self.finished():
            if state.cell.removed:
                continue
            rows = state.rows()
            result.values[state.cell.label] = {
                name: [_number(rows[c.key]["values"][name]) for c in self.cases] for name in self.metrics
            }
        for name in baseline_rows():
            result.values[name] = {metric: [] for metric in self.metrics}
            result.baselines.add(name)
        for case in self.cases:
            for name, values in score_images({}, self._sources(case.read()), self.metrics, baselines=True):
                for metric, value in values.items():
                    result.values[name][metric].append(value)
        result.failures = [f"{s.cell.label}: {s.reason}" for s in self.cells if s.status == "failed"]
        return result

    def _sources(self, pictures: Sequence[Picture]) -> Sources:
        """What results are compared with, resized where every method resizes them."""
        return as_sources(pictures, resize=all(s.cell.config.resize == "reference" for s in self.cells))

    def check_sizes(self) -> None:
        """Refuse, before anything runs, sources that no method can take: looked for in the first pair."""
        case = self.cases[0]
        pictures = case.read()
        if len({p.size for p in pictures}) > 1 and any(s.cell.config.resize != "reference" for s in self.cells):
            sizes = " and ".join(f"{p.name} is {p.size[0]}x{p.size[1]}" for p in pictures)
            raise SizeMismatch(
                f'{case.key}: {sizes}; sources must be registered and of one size; resize = "reference" under [base] '
                "in the grid resizes them to the reference"
            )

    def finished(self) -> list[CellState]:
        """Cells whose every pair is there."""
        return [state for state in self.cells if state.status == "done"]

    def seconds(self, state: CellState) -> float:
        """Median seconds of a fusion: the first one may be slow."""
        rows = state.rows()
        return float(median(rows[c.key]["seconds"] for c in self.cases))

    def image(self, state: CellState, case: Case) -> Path:
        """A cell's result for a pair."""
        return state.folder / str(state.rows()[case.key]["image"])


def _degraded(picture: Picture, text: str, index: int, key: str) -> Picture:
    return replace(picture, values=degrade(picture.pixels, text, index, key))


def _safe(key: str) -> str:
    """A key as a file name of its own."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in key)
    return safe if safe == key else f"{safe}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _nullable(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
