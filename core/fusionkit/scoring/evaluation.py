"""Scores of fused images: metrics over folders, with intervals, baselines and tests that can be reproduced."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Metric, Sources
from ..contracts.base import check_answer
from ..engines.engine import Engine, SerialEngine
from ..errors import InputError
from ..extras import DISTRIBUTION
from ..images import Picture
from ..images.convert import to_array, to_tensor
from ..images.onto import onto
from ..images.picture import Range
from ..images.validity import mirrored
from ..numerics.luma import luma
from ..reading import read_image
from ..reading.matching import Matching, match_folders, spread
from ..reading.ranges import Reading, source_ranges
from ..registry.loading import get_registry
from ..scene import Scene
from ..storage.manifest import Manifest, file_record, sha256
from ..storage.outcome import Outcome, attempt
from ..threads import side_by_side
from ..writing import write_image
from .baselines import baseline_images, baseline_rows
from .cache import ScoreCache, pair_key
from .maps import overlay
from .statistics import CONFIDENCE, RESAMPLES, SEED, Summary, bootstrap, decimals, nullable, paired_tests

CONVENTIONS = (
    "luma BT.601 of the files read back, or R, G, B where a definition says so, rounded to 8-bit levels; no resizing, "
    "no stretch but where a definition says so"
)
DESCRIBED = ("definition", "version", "range", "higher_is_better", "ideal", "better")  # of a metric, in the record
LOOKED_AT = 5  # pairs, evenly spread, that the kind of scene is recognised from


@dataclass
class Evaluation:
    """Values by method, metric and pair.

    baselines: methods that are baselines. scene: the kind of scene that most pairs show; "" where no metric asks.
    inputs: of methods that were given degraded sources, which; methods are compared with those of their input. reused:
    number of cached values. scored: the files of the pairs, and how their sources are read.
    """

    pairs: list[str]
    metrics: dict[str, Metric]
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    baselines: set[str] = field(default_factory=set)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    reused: int = 0
    scene: Scene = ""
    inputs: dict[str, str] = field(default_factory=dict)
    scored: "list[Pair]" = field(default_factory=list)

    def groups(self) -> dict[str, list[str]]:
        """Group methods by input: "" for the sources as they are, with the baselines, then each degradation."""
        found: dict[str, list[str]] = {"": []}
        for method in self.values:
            found.setdefault(self.inputs.get(method, ""), []).append(method)
        return {given: methods for given, methods in found.items() if methods}

    def suited(self) -> list[str]:
        """Metrics that are made for this kind of scene."""
        return [name for name, metric in self.metrics.items() if metric.suits(self.scene)]

    def ranked(self) -> list[str]:
        """Suited metrics that count in the mean rank: those that a baseline has, unlike those to clean fusions."""
        judges = self.baselines or set(self.values)
        return [name for name in self.suited() if any(self._defined(method, name).size for method in judges)]

    def _defined(self, method: str, metric: str) -> "np.ndarray[Any, Any]":
        values = np.array(self.values[method][metric])
        return values[np.isfinite(values)]

    def mean(self, method: str, metric: str) -> float:
        """Mean over the pairs where the metric is defined; nan without any."""
        values = self._defined(method, metric)
        return float(values.mean()) if values.size else math.nan

    def summary(self, method: str, metric: str) -> Summary:
        """Mean and its bootstrap interval (percentile, 95 %, 2000 resamples of the pairs, fixed seed)."""
        return bootstrap(self._defined(method, metric))

    def mean_ranks(self) -> dict[str, float]:
        """Mean over the `ranked` metrics of each method's rank by mean value, among methods of one input.

        1 is best, ties share, undefined is last; nan where no metric is ranked.
        """
        from scipy.stats import rankdata

        counted = self.ranked()
        ranks = dict.fromkeys(self.values, math.nan)
        for methods in self.groups().values() if counted else ():
            means = ([self.metrics[name].merit(self.mean(method, name)) for method in methods] for name in counted)
            merits = np.array(list(means))
            found = rankdata(-np.where(np.isnan(merits), -np.inf, merits), axis=1).mean(0)
            ranks |= dict(zip(methods, found.tolist(), strict=True))
        return ranks

    def printed(self, metric: str) -> dict[str, str]:
        """Print the means of all methods, the largest with four digits and the others with its decimals; "-": none."""
        means = {method: self.mean(method, metric) for method in self.values}
        places = decimals(means.values())
        return {method: f"{mean:.{places}f}" if math.isfinite(mean) else "-" for method, mean in means.items()}

    def places(self, metric: str) -> dict[str, int]:
        """Find the best (1) and the second (2) among methods of one input; equal means as printed share a place.

        Empty for a metric of another kind of scene; nobody is best where all are equal.
        """
        found, printed = dict[str, int](), self.printed(metric)
        for methods in self.groups().values() if metric in self.suited() else ():
            merits = {m: self.metrics[metric].merit(float(printed[m])) for m in methods if printed[m] != "-"}
            order = sorted(set(merits.values()), reverse=True)[:2]
            if len(order) > 1:
                found |= {m: order.index(merit) + 1 for m, merit in merits.items() if merit in order}
        return found

    def no_better_than_a_source(self) -> set[str]:
        """Methods that rank no better than an unfused source, by these metrics; sources are not degraded."""
        ranks = self.mean_ranks()
        alone = [ranks[label] for label, row in baseline_rows().items() if row.alone and label in ranks]
        judged = set(self.groups().get("", ())) - self.baselines
        return {name for name in judged if alone and ranks[name] >= min(alone)}

    def tests(self, method: str) -> dict[str, dict[str, float]]:
        """Compute p of `method` against others of its input, by metric (`paired_tests`); each metric is a family."""
        group = next(methods for methods in self.groups().values() if method in methods)
        others = {other: self.values[other] for other in group if other != method}
        by_metric = {m: paired_tests(self.values[method][m], [t[m] for t in others.values()]) for m in self.metrics}
        return {other: {metric: p[i] for metric, p in by_metric.items()} for i, other in enumerate(others)}

    def record(self) -> dict[str, Any]:
        """Record everything as JSON holds it; undefined values are null."""
        ranks, weak, ranked = self.mean_ranks(), self.no_better_than_a_source(), set(self.ranked())
        suited = set(self.suited())
        places = {name: self.places(name) for name in self.metrics}
        record = {
            "fusionkit": version(DISTRIBUTION),
            "conventions": CONVENTIONS,
            "pairs": self.pairs,
            "scene": self.scene or None,
            "metrics": {
                name: {field: getattr(metric, field) for field in DESCRIBED}
                | {"suits_scene": name in suited, "ranked": name in ranked}
                for name, metric in self.metrics.items()
            },
            "interval": {
                "kind": "bootstrap percentile",
                "confidence": CONFIDENCE,
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "methods": {
                method: {
                    "baseline": method in self.baselines,
                    "input": self.inputs.get(method, ""),
                    "mean_rank": ranks[method],
                    "no_better_than_a_source": method in weak,
                    "summary": {m: vars(self.summary(method, m)) for m in self.metrics},
                    "places": {m: places[m][method] for m in self.metrics if method in places[m]},
                    "values": table,
                    "files": self.files.get(method, []),
                }
                for method, table in self.values.items()
            },
            "failures": self.failures,
            "tests": {
                "kind": "paired Wilcoxon, two-sided, Holm over other methods of the same input, each metric a family",
                "p": {method: self.tests(method) for method in self.values if method not in self.baselines},
            },
        }
        result: dict[str, Any] = nullable(record)
        return result


def evaluate(
    methods: Mapping[str, Path],
    sources: Sequence[Path],
    metrics: Mapping[str, Metric],
    *,
    baselines: bool = True,
    maps: Path | None = None,
    reading: Reading = Reading(),  # noqa: B008
    resize: bool = False,
    engine: Engine | None = None,
    cache: Path | None = None,
    report: Callable[[str, int, int], None] = lambda pair, done, total: None,
) -> Evaluation:
    """Score folders of fused images against folders of sources, files matched by name without extension.

    Only pairs that every method has are scored, so that all means are over the same pairs; `failures` names files that
    are missing or unreadable. Sizes must agree, unless `resize`: sources are then resized to the last one.
    reading: of the sources; the range "auto" is the one that the manifest of a method says it was made with, if any.
    Pixels count where every source and result has data. A result of the last
    source's depth is read with its range. maps: a folder for METHOD/PAIR.png, losses in blue and inventions in red, by
    the metrics that have maps. cache: a folder of scores by the hashes of files. report: called after each pair.
    """
    folders = [*sources, *methods.values()]
    matching = match_folders(folders)
    unscored = [*matching.left_out, *(f"{path}: not in every folder" for path in matching.unmatched)]
    result = Evaluation([], dict(metrics), failures=[*unscored])
    result.baselines = set(baseline_rows() if baselines else ()) - set(methods)
    result.values = {m: {name: [] for name in metrics} for m in (*methods, *(baseline_rows() if baselines else ()))}
    work = _Work(dict(metrics), baselines, maps, resize, cache)
    pairs = _pairs(methods, len(sources), matching, reading)
    for done, outcome in enumerate((engine or SerialEngine()).map(partial(attempt, work), pairs), 1):
        report(outcome.key, done, len(pairs))
        if outcome.status == "failed":
            result.failures.append(f"{outcome.key}: {outcome.reason}")
            continue
        result.reused += outcome.counts["reused"]
        result.pairs.append(outcome.key)
        for method, values in outcome.record["values"].items():
            for name, value in values.items():
                result.values[method][name].append(value)
        for method, record in outcome.record["files"].items():
            result.files.setdefault(method, []).append(record)
    if not result.pairs:
        raise InputError(_nothing_scored(result.failures[len(unscored) :], matching))
    result.scored = [pair for pair in pairs if pair.key in result.pairs]
    result.scene = kind_of([pair.read for pair in result.scored], metrics)
    return result


def _pairs(
    methods: Mapping[str, Path],
    count: int,
    matching: Matching,
    reading: Reading,
) -> "list[Pair]":
    """The pairs of matched files, the first `count` of each group its sources, and how these are read."""
    groups = [paths[:count] for paths in matching.groups]
    wanted = source_ranges(groups, reading)
    made_with = _ranges_of_runs(methods.values()) if all(span == "auto" for span in reading.range) else {}
    pairs = []
    for paths in matching.groups:
        own, results = paths[:count], dict(zip(methods, paths[count:], strict=True))
        spans = tuple(made_with.get(path.resolve(), span) for path, span in zip(own, wanted, strict=True))
        pairs.append(Pair(paths[-1].stem, own, results, replace(reading, range=spans)))
    return pairs


def _nothing_scored(failures: Sequence[str], matching: Matching) -> str:
    """Why no pair could be scored: the pairs that failed, by the first one's reason, and files without a partner."""
    reason = f"{len(failures)} pairs failed, the first is {failures[0]}" if len(failures) > 1 else failures[0]
    return "; ".join([f"no pair could be scored: {reason}", *matching.reasons])


def kind_of(reads: Sequence[Callable[[], Sequence[Picture]]], metrics: Mapping[str, Metric]) -> Scene:
    """Kind of scene that most of a few of these pairs show; "" where no metric is made for some kinds only."""
    if not any(metric.scenes for metric in metrics.values()):
        return ""
    kinds = Counter(as_sources(read(), resize=True).scenes[0] for read in spread(reads, LOOKED_AT))
    return kinds.most_common(1)[0][0]


@dataclass(frozen=True)
class Pair:
    """Files of the sources, and of each method's result; how the sources are read."""

    key: str
    sources: tuple[Path, ...]
    results: dict[str, Path]
    reading: Reading

    def read(self) -> list[Picture]:
        """Read the sources."""
        return self.reading.all(self.sources)


def _ranges_of_runs(folders: Iterable[Path]) -> dict[Path, Range]:
    """The range that each source was read with, as manifests of these folders say; of several, the first one's."""
    found: dict[Path, Range] = {}
    for folder in folders:
        for _, row in Manifest(folder / "manifest.jsonl").finished_rows():
            for source, span in zip(row.get("sources", ()), row.get("ranges", ()), strict=False):
                if isinstance(source, dict) and isinstance(span, list) and len(span) == 2 and "path" in source:
                    found.setdefault(Path(source["path"]).resolve(), (float(span[0]), float(span[1])))
    return found


@dataclass(frozen=True)
class _Work:
    """Scores a pair; may run in another process."""

    metrics: dict[str, Metric]
    baselines: bool
    maps: Path | None
    resize: bool
    cache: Path | None

    def __call__(self, pair: Pair) -> Outcome:
        files = {method: file_record(path) for method, path in pair.results.items()}
        cache, known, keys = None, dict[str, dict[str, float]](), dict[str, str]()
        if self.cache is not None:
            cache = ScoreCache(self.cache)
            content = {method: record["sha256"] for method, record in files.items()}
            content |= {name: f"baseline {name}" for name in (baseline_rows() if self.baselines else ())}
            how = {"ranges": pair.reading.range, "resize": self.resize}
            how |= {"bands": [*map(pair.reading.chosen, range(len(pair.sources)))]} if pair.reading.bands else {}
            hashes = [sha256(path) for path in pair.sources]
            keys = {method: pair_key(text, hashes, **how) for method, text in content.items()}
            known = {method: cache.known(key, self.metrics) for method, key in keys.items()}
        counts = {"reused": sum(map(len, known.values()))}
        if known and self.maps is None and all(len(values) == len(self.metrics) for values in known.values()):
            return Outcome(pair.key, record={"values": known, "files": files}, counts=counts)
        pictures = pair.read()
        originals = as_sources(pictures, resize=self.resize)
        results = {method: read_result(path, pictures[-1]) for method, path in pair.results.items()}
        originals, fused = _where_all_have_data(originals, results)
        scored = {}
        for method, values in score_images(fused, originals, self.metrics, baselines=self.baselines, known=known):
            scored[method] = values
            if cache is not None:
                cache.keep(keys[method], values, self.metrics)
        if self.maps is not None:
            for method, image in fused.items():
                write_image(self.maps / method / f"{pair.key}.png", overlay(image, originals, self.metrics), "8")
        return Outcome(pair.key, record={"values": scored, "files": files}, counts=counts)


def as_sources(pictures: Sequence[Picture], *, resize: bool, reference: int | None = None) -> Sources:
    """Convert pictures of one scene to sources; `resize`: all in the size of the reference, by default the last one."""
    reference = len(pictures) - 1 if reference is None else reference
    pictures, _ = onto(pictures, reference)
    sources = replace(Sources.of([to_tensor(p.pixels) for p in pictures]), reference=reference)
    valid = tuple(None if p.valid is None else torch.from_numpy(p.valid)[None, None] for p in pictures)
    sources = replace(sources, valid=valid)
    return get_registry().create("stage", f"{DISTRIBUTION}:resize", {}).before(sources) if resize else sources


def _where_all_have_data(sources: Sources, results: Mapping[str, Picture]) -> tuple[Sources, dict[str, Tensor]]:
    """Sources and results cut to where all have data; what lies between is mirrored from there in all of them alike."""
    fused = {method: to_tensor(picture.pixels) for method, picture in results.items()}
    size = sources.reference_luma.shape[-2:]
    masks = [v[0, 0].numpy() for v in sources.valid if v is not None and v.shape[-2:] == size]
    masks += [p.valid for p in results.values() if p.valid is not None and p.valid.shape == tuple(size)]
    if not masks or any(x.shape[-2:] != size for x in (*fused.values(), *sources.luma)):
        return sources, fused
    valid = np.logical_and.reduce(masks)
    if not valid.any():
        raise InputError("there is no pixel where every source and result has data")
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(valid))
    images = [to_array(image)[box] for image in (*sources.images, *fused.values())]
    cut = [to_tensor(image) for image in mirrored(valid[box], *images)]
    return Sources.of(cut[: len(sources)]), dict(zip(fused, cut[len(sources) :], strict=True))


def read_result(path: Path, reference: Picture) -> Picture:
    """Read a fused image, in the range of the reference where both have one depth of more than 8 bits."""
    picture = read_image(path, reference.span if reference.depth != "8" else "auto")
    return picture if picture.depth in ("8", reference.depth) else read_image(path, "full")


def score_images(
    fused: Mapping[str, Tensor],
    sources: Sources,
    metrics: Mapping[str, Metric],
    *,
    baselines: bool,
    known: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Iterator[tuple[str, dict[str, float]]]:
    """Score each method's result (1, 1 or 3, H, W) in [0, 1] for one pair, and the `baselines` if asked for.

    known: by method, values that are not computed again.
    """
    for method, image in (fused or {"sources": sources.images[-1]}).items():
        shapes = [x.shape[-2:] for x in (image, *sources.luma)]
        if len(set(shapes)) > 1:
            sizes = ", ".join(f"{shape[1]}x{shape[0]}" for shape in shapes)
            raise InputError(
                f"{method}: sizes of result and sources differ ({sizes}); `resize` resizes sources to the last"
            )
    for method, image in {**fused, **(baseline_images(sources) if baselines else {})}.items():
        grey, before = luma(image), known.get(method, {})
        missing = {name: metric for name, metric in metrics.items() if name not in before}
        work = partial(_value, image, grey, sources)
        found = (side_by_side if grey.device.type == "cpu" else map)(work, missing.values())
        values = {**before, **dict(zip(missing, found, strict=True))}
        yield method, {name: values[name] for name in metrics}


def _value(image: Tensor, grey: Tensor, sources: Sources, metric: Metric) -> float:
    with torch.inference_mode():
        found = metric(image if metric.color else grey, sources)
    check_answer(found, (1,), "__call__", metric, finite=False)
    return float(found)
