"""Scoring fused images: metrics over folders, with intervals, baselines and tests that can be reproduced."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .contracts import Metric, Sources
from .errors import BrokenPlugin, FusionkitError, InputError, OptionError
from .images import read_image
from .intake import to_tensor
from .jobs import match_folders
from .luma import luma
from .manifest import file_record
from .registry import get_registry

__all__ = ["BASELINES", "Evaluation", "Summary", "bootstrap", "evaluate", "load_metrics", "score_images"]

DEFAULT = ("EN", "SD", "SF", "AG", "MI", "NMI", "CC", "SCD", "VIF", "Qabf", "SSIM", "PSNR", "MSE")
RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0


def _released_form(lumas: Sequence[Tensor]) -> Tensor:
    """The closed form of the released RFfusion on [-1, 1], stretched to the full range: docs/rffusion.md."""
    i, v = (2 * y - 1 for y in (lumas[0], lumas[-1]))
    total = (i.abs() + v.abs()).clamp_min(1e-6)
    fused = torch.where(i.abs() <= 2 * v.abs(), (i.abs() * i + v.abs() * v) / total, (2 * i + v) / 3)
    low, high = (f(fused, (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    return (fused - low) / (high - low).clamp_min(1e-6)


# what every table needs beside the methods: functions of the sources' luma
BASELINES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "average": lambda lumas: torch.stack(list(lumas)).mean(0),
    "max": lambda lumas: torch.stack(list(lumas)).amax(0),
    "first source": lambda lumas: lumas[0],
    "last source": lambda lumas: lumas[-1],
    "released RFfusion (closed form)": _released_form,
}


@dataclass(frozen=True)
class Summary:
    """One metric of one method: mean over the pairs where it is defined, its interval, how many those are."""

    mean: float
    low: float
    high: float
    defined: int


def bootstrap(values: "np.ndarray[Any, Any]") -> Summary:
    """Mean of defined values (n,) and its percentile interval."""
    if values.size == 0:
        return Summary(math.nan, math.nan, math.nan, 0)
    picks = np.random.default_rng(SEED).integers(0, values.size, (RESAMPLES, values.size))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[picks].mean(axis=1), (tail, 1 - tail))
    return Summary(float(values.mean()), float(low), float(high), int(values.size))


@dataclass
class Evaluation:
    """Values by method, metric and pair; what they mean; what could not be scored."""

    pairs: list[str]
    metrics: dict[str, Metric]
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    baselines: set[str] = field(default_factory=set)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def _defined(self, method: str, metric: str) -> "np.ndarray[Any, Any]":
        values = np.array(self.values[method][metric])
        return values[np.isfinite(values)]

    def mean(self, method: str, metric: str) -> float:
        """Mean over the pairs where the metric is defined; nan where there is none."""
        values = self._defined(method, metric)
        return float(values.mean()) if values.size else math.nan

    def summary(self, method: str, metric: str) -> Summary:
        """Mean and its bootstrap interval (percentile, 95 %, 2000 resamples of the pairs, fixed seed)."""
        return bootstrap(self._defined(method, metric))

    def mean_ranks(self) -> dict[str, float]:
        """Mean over metrics of each method's rank by mean value; 1 is best, ties share, undefined is last."""
        from scipy.stats import rankdata

        methods = list(self.values)
        ranks = np.zeros(len(methods))
        for name, metric in self.metrics.items():
            means = np.array([self.mean(method, name) for method in methods])
            signed = np.where(np.isnan(means), -np.inf, means if metric.higher_is_better else -means)
            ranks += rankdata(-signed)
        return dict(zip(methods, (ranks / max(1, len(self.metrics))).tolist(), strict=True))

    def tests(self, method: str) -> dict[str, dict[str, float]]:
        """p of `method` against each other one, by metric: paired Wilcoxon, two-sided, Holm over the others.

        Each metric is a family of its own. nan where fewer than six pairs differ: no p below 0.05 is possible then.
        """
        from scipy.stats import wilcoxon

        others = [other for other in self.values if other != method]
        result: dict[str, dict[str, float]] = {other: {} for other in others}
        for metric in self.metrics:
            found = []
            for other in others:
                a, b = (np.array(self.values[m][metric]) for m in (method, other))
                difference = (a - b)[np.isfinite(a) & np.isfinite(b)]
                enough = np.count_nonzero(difference) >= 6
                found.append(float(wilcoxon(difference).pvalue) if enough else math.nan)
            for other, p in zip(others, _holm(found), strict=True):
                result[other][metric] = p
        return result

    def record(self) -> dict[str, Any]:
        """Everything, as JSON holds it; undefined values are null."""
        ranks = self.mean_ranks()
        return {
            "fusionkit": version("fusionkit"),
            "conventions": "luma BT.601 of the files read back, or R, G, B where a definition says so, "
            "rounded to 8-bit levels; no resizing, no stretch but where a definition says so",
            "pairs": self.pairs,
            "metrics": {
                name: {
                    "definition": metric.definition, "version": metric.version,
                    "range": [v if math.isfinite(v) else None for v in metric.range],
                    "higher_is_better": metric.higher_is_better,
                }
                for name, metric in self.metrics.items()
            },
            "interval": {
                "kind": "bootstrap percentile", "confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED,
            },
            "methods": {
                method: {
                    "baseline": method in self.baselines,
                    "mean_rank": ranks[method],
                    "summary": {m: _finite(vars(self.summary(method, m))) for m in self.metrics},
                    "values": {m: [v if math.isfinite(v) else None for v in values] for m, values in table.items()},
                    "files": self.files.get(method, []),
                }
                for method, table in self.values.items()
            },
            "failures": self.failures,
            "tests": {
                "kind": "paired Wilcoxon, two-sided, Holm over the other methods, each metric a family of its own",
                "p": {
                    method: {other: _finite(row) for other, row in self.tests(method).items()}
                    for method in self.values
                    if method not in self.baselines
                },
            },
        }  # fmt: skip

    def to_csv(self) -> str:
        """One row for each method, pair and metric; an undefined value is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("method", "pair", "metric", "value"))
        for method, table in self.values.items():
            for metric, values in table.items():
                for pair, value in zip(self.pairs, values, strict=True):
                    writer.writerow((method, pair, metric, repr(value) if math.isfinite(value) else ""))
        return text.getvalue()


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction; nan stays nan and does not count."""
    result = [math.nan] * len(p)
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    largest = 0.0
    for step, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - step)))
        result[i] = largest
    return result


def load_metrics(names: Sequence[str] | None, dialect: str | None) -> dict[str, Metric]:
    """The metrics to score with: those named, else all of a dialect, else the usual ones.

    The one name "all" means every metric that belongs to no dialect and whose packages are installed.
    """
    registry = get_registry()
    known = registry.names("metric")
    if names is not None and list(names) == ["all"]:
        if dialect is not None:
            return load_metrics(None, dialect)
        every = {name: _create_if_installed(name) for name in known if "." not in name}
        return {name: metric for name, metric in every.items() if metric is not None}
    if dialect is not None:
        offered = [name for name in known if name.startswith(f"{dialect}.")]
        if not offered:
            dialects = sorted({name.partition(".")[0] for name in known if "." in name})
            raise OptionError(f"no dialect {dialect!r}; dialects: {', '.join(dialects)}")
        chosen = [f"{dialect}.{name}" for name in names] if names else offered
    else:
        chosen = list(names) if names else [name for name in DEFAULT if name in known]
    return {name: registry.create("metric", name) for name in chosen}


def _create_if_installed(name: str) -> Metric | None:
    try:
        return get_registry().create("metric", name)
    except BrokenPlugin:
        return None


def evaluate(
    methods: Mapping[str, Path],
    sources: Sequence[Path],
    metrics: Mapping[str, Metric],
    *,
    baselines: bool = True,
    report: Callable[[str, int, int], None] = lambda pair, done, total: None,
) -> Evaluation:
    """Score folders of fused images against folders of sources, files matched by name without extension.

    Only pairs that every method has are scored, so that all means are over the same pairs; what is missing or cannot
    be read is in `failures`. Sizes must agree. `report` is called before each pair.
    """
    matching = match_folders([*sources, *methods.values()])
    jobs = matching.jobs
    if not jobs:
        raise InputError(f"no file names in common between {', '.join(map(str, [*sources, *methods.values()]))}")
    result = Evaluation([], dict(metrics), failures=[f"{path}: not in every folder" for path in matching.unmatched])
    for method in [*methods, *(BASELINES if baselines else ())]:
        result.values[method] = {name: [] for name in metrics}
        if method not in methods:
            result.baselines.add(method)
    for number, job in enumerate(jobs):
        report(job.key, number, len(jobs))
        try:
            images = tuple(to_tensor(read_image(path).pixels) for path in job.sources)
            originals = Sources(images[: len(sources)], tuple(luma(image) for image in images[: len(sources)]))
            fused = dict(zip(methods, images[len(sources) :], strict=True))
            row = dict(score_images(fused, originals, metrics, baselines=baselines))
        except FusionkitError as error:
            result.failures.append(f"{job.key}: {error}")
            continue
        result.pairs.append(job.key)
        for method, values in row.items():
            for name, value in values.items():
                result.values[method][name].append(value)
        for method, path in zip(methods, job.sources[len(sources) :], strict=True):
            result.files.setdefault(method, []).append(file_record(path))
    if not result.pairs:
        raise InputError(f"no pair could be scored: {result.failures[0]}")
    return result


def score_images(
    fused: Mapping[str, Tensor], sources: Sources, metrics: Mapping[str, Metric], *, baselines: bool
) -> Iterator[tuple[str, dict[str, float]]]:
    """Values of every method for one pair: results (1, 1 or 3, H, W) in [0, 1], and the baselines if asked for."""
    every = {**fused, **({name: f(sources.luma) for name, f in BASELINES.items()} if baselines else {})}
    for method, image in every.items():
        shapes = [x.shape[-2:] for x in (image, *sources.luma)]
        if len(set(shapes)) > 1:
            sizes = ", ".join(f"{shape[1]}x{shape[0]}" for shape in shapes)
            raise InputError(f"{method}: sizes of result and sources differ ({sizes}); nothing is resized to compare")
        grey = luma(image)
        with torch.inference_mode():
            yield (
                method,
                {name: float(metric(image if metric.color else grey, sources)) for name, metric in metrics.items()},
            )
