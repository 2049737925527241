"""Comparison of methods on one scene, side by side."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from .contracts import Metric, Sources, Stage
from .errors import FusionkitError, one_line
from .extras import DISTRIBUTION, culprit
from .images.convert import to_array, to_tensor
from .images.picture import Array, Picture
from .images.sheet import checkerboard, contact_sheet, sized, smaller
from .method.choice import merge_choices
from .method.config import make_config
from .method.pipeline import Pipeline
from .method.presets import task_names
from .method.words import named, several
from .registry.loading import get_registry
from .registry.records import PriorRecord
from .scene import SCENE_KINDS, Scene
from .scoring.evaluation import as_sources, score_images
from .scoring.metrics import load_metrics
from .storage.outcome import Stopped
from .timing import Stopwatch


@dataclass(frozen=True)
class Entry:
    """A method's result: image, seconds, audit figures by name, notes; or the reason why there is none.

    lying: the sources as they were fused, where some were moved.
    """

    name: str
    image: Array | None = None
    seconds: float = 0.0
    figures: dict[str, float] | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    lying: tuple[Array, ...] = ()

    @property
    def label(self) -> str:
        """Label on a sheet, two lines."""
        figures = ", ".join(f"{word} {value:.2f}" for word, value in (self.figures or {}).items())
        return f"{self.name}: {self.seconds:.2f} s\n{figures}"


def scene_of(pictures: Sequence[Picture]) -> Scene:
    """Kind of scene that the pictures show."""
    return as_sources(pictures, resize=True).scenes[0]


def suitable(scene: Scene, priors: str = "") -> dict[str, dict[str, object]]:
    """Choices of the methods that suit a scene, by name: its task, and every prior.

    priors: only these, "A,B" or, with options, "A:KEY=VALUE,B".
    """
    if priors:
        return {text.strip(): {"prior": named(text.strip(), "priors")} for text in several(priors)}
    methods: dict[str, dict[str, object]] = {}
    task = SCENE_KINDS[scene].task
    if task in task_names():
        methods[f"task {task}"] = {"task": task}
    for plugin in get_registry().of_kind("prior"):
        name, own = plugin.record.name, plugin.distribution == DISTRIBUTION
        if isinstance(plugin.record, PriorRecord) and not plugin.record.suits(scene):
            continue
        full = f"{plugin.distribution}:{name}"
        methods[name if own or name not in methods else full] = {"prior": full}
    return methods


def compare(
    pictures: Sequence[Picture],
    methods: dict[str, dict[str, object]],
    scene: Scene,
    *,
    device: str = "auto",
    base: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Entry]:
    """Fuse by each method; one that fails, or takes several steps, is an entry with the reason.

    base: choices that all have in common, which each method overrides. Where sources are restored, the first method is
    shown without that, too.
    """
    chosen = load_metrics(["audit"], None)
    metrics: dict[str, Metric] = {word: chosen[f"audit.{name}"] for name, word in SCENE_KINDS[scene].audit.items()}
    sources = as_sources(pictures, resize=True)
    queue, shown = deque(methods.items()), False
    while queue:
        name, choices = queue.popleft()
        others, seen = merge_choices(base, choices), _Seen()
        try:
            if base:  # which may move or resize sources
                others["stages"] = (*others.get("stages", ()), seen)
            pipeline = Pipeline(device=device, **others)
            if (steps := pipeline.sampler.options.steps) > 1:
                yield Entry(name, reason=f"{steps} steps; only methods of one step are compared")
                continue
            for part in pipeline.parts.values():
                part.plugin.prepare()
            watch = Stopwatch()
            with watch.stage("all"):
                result = pipeline.fuse_pictures(pictures)
        except Stopped:
            raise
        except (Exception, SystemExit) as error:
            reason = one_line(error) if isinstance(error, FusionkitError | ImportError) else culprit(error)
            if not reason:  # our own fault
                raise
            yield Entry(name, reason=reason)
            continue
        fused = result.picture.pixels
        moved = "aligned" in result.found or fused.shape[:2] != sources.reference_luma.shape[-2:]
        lying = tuple(seen.images) if moved else ()
        figures = _figures(fused, Sources.of([to_tensor(image) for image in lying]) if lying else sources, metrics)
        yield Entry(name, fused, watch.seconds["all"], figures, notes=tuple(result.notes), lying=lying)
        if not shown and any(row.undone for row in result.restored):
            shown = True
            queue.appendleft((f"{name}, not restored", {**choices, "restore": "none"}))


def _figures(fused: Array, sources: Sources, metrics: dict[str, Metric]) -> dict[str, float]:
    rounded = (to_tensor(fused) * 255).round() / 255
    [(_, values)] = score_images({"": rounded}, sources, metrics, baselines=False)
    return {word: value for word, value in values.items() if not math.isnan(value)}


class _Seen(Stage):
    """Keeps the sources as the prior is given them; innermost, since it is no field's."""

    images: Sequence[Array] = ()

    def before(self, sources: Sources) -> Sources:
        """Take them up, cut down as the result will be."""
        cut = sources.cut or (slice(None), slice(None))
        self.images = [to_array(image)[cut] for image in sources.images]
        return sources


def fuse_seen(pictures: Sequence[Picture], choices: Mapping[str, object]) -> tuple[Array, list[Picture]]:
    """Fuse; the result, and the sources that were fused: restored, and in one size."""
    seen = _Seen()
    fused = Pipeline(make_config({**choices, "stages": (seen,)})).fuse_pictures(pictures).picture
    return fused.pixels, [replace(p, values=image) for p, image in zip(pictures, seen.images, strict=True)]


def sheet_of(pictures: Sequence[Picture], entries: Sequence[Entry], width: int, columns: int) -> Array:
    """Lay out sources, then results, each at most `width` pixels wide: (H', W', 3) in [0, 1].

    Where sources were moved, they are shown as they were fused, and each but the last in a checkerboard with it.
    """
    results = [(entry.label, to_tensor(entry.image)) for entry in entries if entry.image is not None]
    size = results[0][1].shape[-2:] if results else pictures[-1].size[::-1]
    moved = next((entry.lying for entry in entries if entry.lying), ())
    images = [sized(to_tensor(image), size) for image in moved or [p.pixels for p in pictures]]
    panels = [(p.name, image) for p, image in zip(pictures, images, strict=True)]
    if moved:
        boards = zip(pictures[:-1], images[:-1], strict=True)
        panels += [(f"{p.name}, {pictures[-1].name}", checkerboard(image, images[-1])) for p, image in boards]
    panels += results
    return contact_sheet([(label, to_array(smaller(image, width))) for label, image in panels], columns)
