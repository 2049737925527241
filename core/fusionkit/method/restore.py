"""Sources pass through the flow first: what cameras did to each is undone (`fusionkit.contracts.Degradation`).

Degradations are undone in the reverse order in which a camera acts: file, pattern, noise, sampling, light, lens. Each
is sought in what the ones before left. Sources in which nothing is found are left alone, bit for bit.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Backbone, ColorSpace, Decoder, Degradation, Memory, Sources
from ..errors import FusionkitError, OptionError, PluginError, SizeMismatch
from ..flow.path import x0_from_velocity
from ..flow.restoring import LEFT, Ask, Restoration, side_by_side
from ..images.convert import ChangedImages, StoredImages, image_rows
from ..memory import release_pages
from ..numerics.choice import all_finite
from ..numerics.noise import estimate_noise
from ..numerics.precision import arithmetic
from ..numerics.strips import strips
from ..options import effective
from ..registry.loading import Registered, get_registry, load_class, options_of
from ..registry.records import DegradationRecord
from ..sources import STILL
from ..timing import Stopwatch
from .choice import Restoring
from .config import Precision
from .parts import build

__all__ = ["Restored", "Restorer"]

TOGETHER = 2**20  # pixels that go through the flow at once
KIND = "degradation"
PLACE = 100  # of an object, which has no record: undone first


@dataclass(frozen=True)
class Restored:
    """What was found in one source of one image, and the evaluations of the flow that undid it.

    plane: indices of the source and of the image in the batch. by: what undid it, for the user's note. Noise that was
    left to the next degradation took no evaluation of its own. provenance: what a manifest records beside the options.
    """

    source: str
    degradation: str
    what: str
    options: Mapping[str, Any]
    evaluations: int = 0
    undone: bool = True
    plane: tuple[int, int] = (0, 0)
    by: str = "by the flow"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def note(self) -> str:
        """For the user."""
        done = f"restored {self.by}".rstrip() if self.undone else "left as it is: this backbone restores nothing"
        return f"{self.source}: {self.what}, {done}"

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": self.source,
            "degradation": self.degradation,
            "options": {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in self.options.items()},
            **self.provenance,
            "undone": self.undone,
            "evaluations": self.evaluations,
        }


@dataclass(frozen=True)
class _Link:
    """A degradation that is sought in sources. source: index of the only one, -1 for all. asked: by its name.

    given: options that the user gave. automatic, learned: of its record. kept: the degradation made last, which serves
    again while the options stay, with its network, kernels and patterns.
    """

    plugin: Registered | None
    name: str
    kind: type[Degradation]
    place: int
    source: int = -1
    given: Mapping[str, Any] = field(default_factory=dict)
    instance: Degradation | None = None
    asked: bool = False
    automatic: bool = True
    learned: bool = False
    kept: list[Degradation] = field(default_factory=list, compare=False)

    def find(self, y: Tensor, told: Mapping[str, Any]) -> Degradation | None:
        """The degradation with the options of y; None where it is not found."""
        if self.instance is not None:
            return _placed(self.instance, y.device)
        assert self.plugin is not None
        found = self.given if self.given.keys() & self.kind.decisive else self.kind.estimate(y, told)
        if found is None and self.asked and self.learned:  # its options describe nothing that is found in pictures
            found = {}
        if found is None and not (self.asked and (self.given or told)):
            return None
        options = effective(self.kind.Options, {**(told if found is None else found), **self.given})
        if not self.given.keys() <= options.keys():  # what was found excludes what was given
            options = dict(self.given)
        wanted = options_of(self.plugin, options)
        if not self.kept or self.kept[0].options != wanted:
            self.kept[:] = [self.kind(wanted)]
        return _placed(self.kept[0], y.device)

    def by(self, degradation: Degradation, count: int) -> str:
        """What undid it in `count` evaluations of the flow, for the user's note."""
        own = ["a network"] if self.learned else []
        flow = ["the flow"] if count or (degradation.asks_flow and not self.learned) else []
        return f"by {' and '.join(own + flow)}" if own or flow else ""


@dataclass
class _Plane:
    """One source of one image on its way: its luma (1, 1, H, W) and what became of it."""

    source: int
    image: int
    luma: Tensor
    noise: float = 0.0
    chroma: dict[int, Tensor] = field(default_factory=dict)
    rows: list[Restored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: bool = False


@dataclass(frozen=True)
class Restorer:
    """Undoes the degradations of sources by the flow.

    wanted: what is undone, in which source. precision: auto takes bfloat16 where the processor has it.
    Raises OptionError for what this backbone cannot serve.
    """

    backbone: Backbone
    decoder: Decoder
    color: ColorSpace
    wanted: Sequence[Restoring]
    precision: Precision = "float32"
    links: tuple[_Link, ...] = field(init=False)
    broken: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the plug-ins, and refuse now what would fail at the first image."""
        found = [link for one in self.wanted for link in _links(one)]
        object.__setattr__(self, "broken", tuple(link for link in found if isinstance(link, str)))
        links = [link for link in found if isinstance(link, _Link)]
        named = {(link.name, link.source) for link in links if link.asked}
        links = [link for link in links if link.asked or not {(link.name, -1), (link.name, link.source)} & named]
        object.__setattr__(self, "links", tuple(sorted(links, key=lambda link: -link.place)))
        for link in links:
            if link.asked and link.kind.asks_flow and not self.able:
                raise OptionError(
                    f"`restore={link.name}`: this backbone restores nothing, or decodes with a loss; use "
                    "`backbone=rf`, or `restore=none`"
                )
            limit = self.backbone.restores
            given = link.instance or (link.plugin and link.given and link.kind(options_of(link.plugin, link.given)))
            if given and self.able and 255 * given.deviation > (largest := 255 * limit / (1 - limit) / 2) + 0.5:
                raise OptionError(
                    f"`restore={link.name}`: this flow knows noise of up to {largest:.0f} levels; give less"
                )

    @property
    def able(self) -> bool:
        """Whether this backbone and decoder restore anything."""
        one = self.backbone.channels in (None, 1)
        return self.backbone.restores > 0 and one and self.decoder.lossless and self.decoder.factor == 1

    def resizes(self, sources: Sources) -> bool:
        """Whether a source may come back in another size."""
        told = {name for own in sources.degraded for name in own}
        return any(link.kind.resizes and (link.asked or link.name in told) for link in self.links)

    def __call__(self, sources: Sources, watch: Stopwatch, memory: Memory = STILL) -> tuple[Sources, list[Restored]]:
        """The restored sources with the noise that each still has; a row for each degradation that was found.

        memory: of a video's shot, whose degradations are those of its first frame.
        """
        if not self.links:
            return sources, []
        if (most := max(link.source for link in self.links) + 1) > len(sources):
            raise OptionError(f"`restore={most}=...`, but there are only {len(sources)} sources")
        planes = [_Plane(i, b, y[b : b + 1]) for i, y in enumerate(sources.luma) for b in range(len(y))]
        together = sum(y.numel() for y in sources.luma) <= TOGETHER
        for some in [planes] if together else [[plane] for plane in planes]:
            work = [self._restored(sources, plane, memory, watch) for plane in some]
            side_by_side(work, partial(self._clean, watch=watch))
        for note in (*self.broken, *(note for plane in planes for note in plane.notes)):
            sources.report.note(note)
        rows = [row for plane in planes for row in plane.rows]
        if not rows:
            return sources, []
        noise = tuple(y.new_zeros(len(y), 1, 1, 1) for y in sources.luma)
        for plane in planes:
            noise[plane.source][plane.image] = plane.noise
        changed = [plane for plane in planes if plane.changed]
        return replace(self._put_back(sources, changed) if changed else sources, noise=noise), rows

    def _restored(
        self, sources: Sources, plane: _Plane, memory: Memory, watch: Stopwatch
    ) -> Generator[Ask, Tensor, None]:
        """Undo all that is found in a source of an image, from the file back to the lens."""
        links = iter(self._links_of(plane.source))
        noise, current = 0.0, self._next(links, sources, plane, memory, watch)
        while current is not None:
            link, degradation = current
            following = None
            y = self._image(sources, plane) if link.kind.color else plane.luma
            if degradation.deviation:
                plane.noise = degradation.deviation
                following = self._next(links, sources, plane, memory, watch)
                if following is not None and following[1].ends_clean:
                    noise, current = degradation.deviation, following
                    plane.rows.append(self._row(sources, plane, link, degradation, 0, undone=self.able))
                    if self.able:
                        yield from self._restored_chroma(sources, plane, link)
                    continue
            if degradation.asks_flow and not self.able:
                plane.rows.append(self._row(sources, plane, link, degradation, 0, undone=False))
            else:
                x, count = yield from _counted(degradation.undo(y, noise), watch)
                noise = LEFT if degradation.ends_clean and noise else noise
                self._take(plane, link, x, y)
                plane.rows.append(self._row(sources, plane, link, degradation, count, undone=True))
                if plane.noise and (degradation.deviation or degradation.ends_clean):
                    plane.noise = estimate_noise(plane.luma)[0].level
                if not link.kind.color:
                    yield from self._restored_chroma(sources, plane, link)
            current = following or self._next(links, sources, plane, memory, watch)

    def _links_of(self, source: int) -> list[_Link]:
        """What is sought in a source: what was chosen for it alone takes the place of the same for all."""
        alone = {link.name for link in self.links if link.source == source}
        return [link for link in self.links if link.source == source or (link.source < 0 and link.name not in alone)]

    @staticmethod
    def _concerns(link: _Link, sources: Sources, plane: _Plane) -> bool:
        """Whether a degradation is sought in a source: of colour in those that have any, or in one that is named."""
        return not link.kind.color or link.source >= 0 or bool(sources.colored[plane.source][plane.image])

    def _next(
        self, links: Iterator[_Link], sources: Sources, plane: _Plane, memory: Memory, watch: Stopwatch
    ) -> tuple[_Link, Degradation] | None:
        """The next degradation that is found and to be undone; what the user may ask for is noted."""
        name = sources.names[plane.source]
        for link in links:
            if not self._concerns(link, sources, plane):
                continue
            told = sources.degraded[plane.source].get(link.name, {})
            key = f"{link.plugin.distribution if link.plugin else ''}:{link.name} {plane.source} {plane.image}"
            with watch.stage("estimate"):
                found = memory.once(key, partial(link.find, plane.luma, told))
            if found is not None and (link.automatic or link.asked):
                return link, found
            if found is not None:
                plane.notes.append(f"{name} has {found.describe()}; `restore={link.name}` undoes it")
            elif link.asked:
                plane.notes.append(f"{name}: no {link.name} found, so nothing is undone; its options can be given")
        return None

    def _row(
        self, sources: Sources, plane: _Plane, link: _Link, degradation: Degradation, count: int, *, undone: bool
    ) -> Restored:
        options = degradation.options.model_dump(mode="json", exclude_defaults=True)
        name, what, by = sources.names[plane.source], degradation.describe(), link.by(degradation, count)
        return Restored(
            name, link.name, what, options, count, undone, (plane.source, plane.image), by, dict(degradation.provenance)
        )

    def _image(self, sources: Sources, plane: _Plane) -> Tensor:
        """The image of a plane as it stands, (1, 1 or 3, H, W)."""
        image = sources.images[plane.source][plane.image : plane.image + 1]
        return self._merged(sources, image, plane, slice(None)) if plane.changed else image

    def _take(self, plane: _Plane, link: _Link, x: Tensor, y: Tensor) -> None:
        """Take up the luma or image x that was restored from y."""
        if x.ndim != 4 or x.shape[:2] != y.shape[:2] or not all_finite(x):
            raise PluginError(
                f"{link.kind.__module__}.{link.kind.__name__}.undo returned shape {tuple(x.shape)} for "
                f"{tuple(y.shape)}, or values that are not finite"
            )
        plane.changed = True
        if not link.kind.color:
            plane.luma = x.clamp(0, 1)
            return
        luma, chroma = self.color.split(x.clamp(0, 1))
        plane.luma = luma
        plane.chroma = {} if chroma is None else {c + 1: chroma[0, c] + 0.5 for c in range(chroma.shape[1])}

    def _restored_chroma(self, sources: Sources, plane: _Plane, link: _Link) -> Generator[Ask, Tensor, None]:
        """Undo in the chroma what was found in the luma."""
        if link.kind.estimate_chroma.__func__ is Degradation.estimate_chroma.__func__:  # type: ignore[attr-defined]
            return
        for c, pixels in enumerate(self._chroma(sources, plane.source, plane.image)):
            given = plane.chroma.get(c + 1, pixels)[None, None]
            if (found := link.kind.estimate_chroma(given)) is not None and link.plugin is not None:
                x = yield from link.kind(options_of(link.plugin, found)).undo(given, 0.0)
                plane.chroma[c + 1] = x[0, 0]

    def _chroma(self, sources: Sources, source: int, image: int) -> Sequence[Tensor]:
        """The chroma planes (H, W) of one image, shifted to mid-grey; none where it has none."""
        height, width = sources.luma[source].shape[-2:]
        found: list[Tensor] = []
        for part in strips(height, width, 0):
            chroma = self.color.split(image_rows(sources.images, source, part.place)[image : image + 1])[1]
            if chroma is None:
                return []
            found = found or [chroma.new_empty(height, width) for _ in chroma[0]]
            for plane, rows in zip(found, chroma[0], strict=True):
                torch.add(rows, 0.5, out=plane[part.place])
        return found

    def _clean(self, asked: Sequence[Ask], watch: Stopwatch) -> Sequence[Tensor]:
        """The flow's clean estimates: pictures of one size together, in chunks, so memory does not grow with them."""
        answers: dict[int, Tensor] = {}
        for shape in dict.fromkeys(x.shape for x, _ in asked):
            alike = [i for i, (x, _) in enumerate(asked) if x.shape == shape]
            count = max(1, TOGETHER // shape.numel())
            for first in range(0, len(alike), count):
                some = alike[first : first + count]
                with watch.stage("restore"):
                    answers |= zip(some, self._clean_some([asked[i] for i in some]), strict=True)
                if shape.numel() > TOGETHER:
                    release_pages()  # the network's
        return [answers[i] for i in range(len(asked))]

    def _clean_some(self, asked: Sequence[Ask]) -> Sequence[Tensor]:
        """Those of one size: x̂₀ at t = s / (1 + s), (1, 1, H, W) each."""
        x, device = torch.cat([x for x, _ in asked]), asked[0][0].device
        ends = self.decoder.encode(torch.tensor([0.0, 1.0], device=device).view(2, 1, 1, 1)).flatten()
        s = torch.tensor([deviation for _, deviation in asked], device=device) * (ends[1] - ends[0])
        t = (s / (1 + s)).clamp_max(self.backbone.restores)
        time = t.view(-1, 1, 1, 1)
        x_t = self.decoder.encode(x).mul(1 - time)
        del x
        with arithmetic(device, self.precision, cleaning=True):
            v = self.backbone.velocity(x_t, t).float()
        if v.shape != x_t.shape or not all_finite(v):
            name = f"{type(self.backbone).__module__}.{type(self.backbone).__name__}.velocity"
            raise PluginError(
                f"{name} returned shape {tuple(v.shape)} for {tuple(x_t.shape)}, or values that are not finite"
            )
        height, width = x_t.shape[-2:]
        x0 = self.decoder.decode(x0_from_velocity(x_t, v, time), (height, width))
        return [x0[i : i + 1] for i in range(len(x0))]

    def _put_back(self, sources: Sources, planes: Sequence[_Plane]) -> Sources:
        """Sources with the restored planes in their places; images without any keep their bits."""
        found = {(p.source, p.image): p for p in planes}
        changed, lumas = {p.source for p in planes}, list(sources.luma)
        for i in changed:
            parts = [found[i, b].luma if (i, b) in found else lumas[i][b : b + 1] for b in range(len(lumas[i]))]
            if len({part.shape for part in parts}) > 1:
                raise SizeMismatch("the images of this batch are restored to different sizes; fuse them one by one")
            lumas[i] = torch.cat(parts)
        clean = replace(sources, luma=tuple(lumas))
        moved = {i for i in changed if lumas[i].shape != sources.luma[i].shape}

        def made(i: int, b: int, rows: slice) -> Tensor:
            height = lumas[i].shape[-2]
            reach = height if self.color.reach is None or i in moved else self.color.reach
            first, last, _ = rows.indices(height)
            wide = slice(max(0, first - reach), min(height, last + reach))
            image = sources.images[i][b : b + 1] if i in moved else image_rows(clean.images, i, wide)[b : b + 1]
            merged = self._merged(clean, image, found[i, b], wide)
            return merged[..., first - wide.start : last - wide.start, :].clamp(0, 1)

        whole = {i: torch.cat([made(i, b, slice(None)) for b in range(len(lumas[i]))]) for i in moved}
        if isinstance(sources.images, StoredImages):

            def rows_of(i: int, rows: slice) -> Tensor:
                return whole[i][..., rows, :] if i in whole else made(i, 0, rows)

            heights = {i: image.shape[-2] for i, image in whole.items()}
            return replace(clean, images=ChangedImages(sources.images, changed, rows_of, heights))
        images = [whole.get(i, image.clone() if i in changed else image) for i, image in enumerate(sources.images)]
        for i, b in found:
            height, width = lumas[i].shape[-2:]
            for part in strips(height, width, self.color.reach) if i not in moved else ():
                images[i][b : b + 1, :, part.place] = made(i, b, part.place)
        return replace(clean, images=tuple(images))

    def _merged(self, sources: Sources, image: Tensor, plane: _Plane, rows: slice) -> Tensor:
        """These rows of one image with its restored luma and chroma; chroma takes the luma's size."""
        chroma, luma = self.color.split(image)[1], plane.luma[..., rows, :]
        if chroma is not None:
            restored = {c - 1: pixels[rows][None, None] - 0.5 for c, pixels in plane.chroma.items()}
            parts = [restored.get(c, chroma[:, c : c + 1]) for c in range(chroma.shape[1])]
            chroma = torch.cat([_resized(part, luma) for part in parts], 1)
        count = len(sources)
        # its colour is nobody else's
        alone = replace(sources, images=(image,) * count, luma=(luma,) * count, known_scenes=(), whole=None)
        merged = self.color.merge(luma, [chroma] * count, alone)
        return merged if merged.shape[1] == image.shape[1] else luma


def _links(one: Restoring) -> Iterator[_Link | str]:
    """The degradations that one choice names; auto: all that are installed, and a note for each that does not load."""
    choice, source = one.degradation, one.source - 1
    if choice.instance is not None:
        instance = build(KIND, choice, torch.device("cpu")).plugin
        yield _Link(None, choice.name, type(instance), PLACE, source, instance=instance, asked=True)
    elif choice.name == "auto":
        for plugin in (p for p in get_registry().of_kind(KIND) if p.installed):
            try:
                yield _link(plugin, source)
            except FusionkitError as error:  # one package's; the others still serve
                yield f"left out: {error}"
    elif choice.name != "none":
        plugin = get_registry().find(KIND, choice.name)
        given = options_of(plugin, choice.options).model_dump(exclude_unset=True)
        yield replace(_link(plugin, source), given=given, asked=True)


def _link(plugin: Registered, source: int) -> _Link:
    record = cast(DegradationRecord, plugin.record)
    kind, automatic, learned = load_class(plugin), record.automatic, record.learned
    return _Link(plugin, record.name, kind, record.place, source, automatic=automatic, learned=learned)


def _placed(degradation: Degradation, device: torch.device) -> Degradation:
    """The degradation; one with a network on the device, frozen."""
    if isinstance(degradation, nn.Module):
        degradation.to(device).requires_grad_(False).eval()
    return degradation


def _resized(chroma: Tensor, luma: Tensor) -> Tensor:
    """A chroma plane in the size of the luma."""
    size = luma.shape[-2:]
    return chroma if chroma.shape[-2:] == size else F.interpolate(chroma, size, mode="bicubic", align_corners=False)


def _counted(restoration: Restoration, watch: Stopwatch) -> Generator[Ask, Tensor, tuple[Tensor, int]]:
    """A restoration's result with the number of its evaluations; its own time counts as `restore`."""
    count, answer = 0, None
    while True:
        try:
            with watch.stage("restore"):
                asked = restoration.send(answer)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            return end.value, count
        answer = yield asked
        count += 1
