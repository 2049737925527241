"""Comparison of methods on one scene, side by side."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .contracts import Metric, Sources, Stage
from .errors import FusionkitError
from .images.convert import to_array, to_tensor
from .images.picture import Array, Picture
from .images.sheet import contact_sheet, smaller
from .method.config import make_config
from .method.pipeline import Pipeline
from .method.presets import choose, task_names
from .registry.kinds import DISTRIBUTION
from .registry.loading import get_registry
from .registry.records import PriorRecord
from .scene import SCENE_KINDS, Scene
from .scoring.evaluation import as_sources, score_images
from .scoring.metrics import load_metrics
from .timing import Stopwatch

__all__ = ["Entry", "compare", "fuse_seen", "scene_of", "sheet_of", "suitable"]


@dataclass(frozen=True)
class Entry:
    """A method's result: image, seconds, audit figures by name; or the reason why there is none."""

    name: str
    image: Array | None = None
    seconds: float = 0.0
    figures: dict[str, float] | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        """Label on a sheet, two lines."""
        figures = ", ".join(f"{word} {value:.2f}" for word, value in (self.figures or {}).items())
        return f"{self.name}: {self.seconds:.2f} s\n{figures}"


def scene_of(pictures: Sequence[Picture]) -> Scene:
    """Kind of scene that the pictures show."""
    return as_sources(pictures, resize=True).scenes[0]


def suitable(scene: Scene) -> dict[str, dict[str, object]]:
    """Choices of the methods that suit a scene, by name: its task, and every prior."""
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
    pictures: Sequence[Picture], methods: dict[str, dict[str, object]], scene: Scene, *, device: str = "auto"
) -> Iterator[Entry]:
    """Fuse by each method; one that fails, or takes several steps, is an entry with the reason.

    Where sources are restored, the first method is shown without that, too.
    """
    chosen = load_metrics(["audit"], None)
    metrics: dict[str, Metric] = {word: chosen[f"audit.{name}"] for name, word in SCENE_KINDS[scene].audit.items()}
    sources = as_sources(pictures, resize=True)
    queue, shown = deque(methods.items()), False
    while queue:
        name, choices = queue.popleft()
        others = dict(choices)
        task = others.pop("task", None)
        try:
            pipeline = Pipeline(choose(str(task) if task else None, None, others), device=device)
            if (steps := pipeline.sampler.options.steps) > 1:
                yield Entry(name, reason=f"{steps} steps; only methods of one step are compared")
                continue
            for part in pipeline.parts.values():
                part.plugin.prepare()
            watch = Stopwatch()
            with watch.stage("all"):
                result = pipeline.fuse_pictures(pictures)
        except (FusionkitError, ImportError) as error:
            yield Entry(name, reason=str(error).splitlines()[0])
            continue
        fused = result.picture.pixels
        yield Entry(name, fused, watch.seconds["all"], _figures(fused, sources, metrics))
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
        """Take them up."""
        self.images = [to_array(image) for image in sources.images]
        return sources


def fuse_seen(pictures: Sequence[Picture], choices: Mapping[str, object]) -> tuple[Array, list[Picture]]:
    """Fuse; the result, and the sources that were fused: restored, and in one size."""
    seen = _Seen()
    fused = Pipeline(make_config({**choices, "stages": (seen,)})).fuse_pictures(pictures).picture
    return fused.pixels, [replace(p, values=image) for p, image in zip(pictures, seen.images, strict=True)]


def sheet_of(pictures: Sequence[Picture], entries: Sequence[Entry], width: int, columns: int) -> Array:
    """Lay out sources, then results, each at most `width` pixels wide: (H', W', 3) in [0, 1]."""
    last = pictures[-1].size
    panels = [(p.name, p.pixels) for p in pictures if p.size == last]
    panels += [(entry.label, entry.image) for entry in entries if entry.image is not None]
    return contact_sheet([(label, to_array(smaller(to_tensor(image), width))) for label, image in panels], columns)
