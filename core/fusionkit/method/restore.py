"""Sources pass through the flow first: what cameras did to each is undone (`fusionkit.contracts.Degradation`).

Degradations are undone in the reverse order in which a camera acts: file, pattern, noise, sampling, light, lens. Each
is sought in what the ones before left. Sources in which nothing is found are left alone, bit for bit.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import Tensor

from ..contracts import Backbone, ColorSpace, Decoder, Degradation, Memory, Sources
from ..contracts.base import check_answer, unfit
from ..errors import OptionError, PluginError
from ..extras import culprit
from ..flow.restoring import LEFT, Ask, Restoration, side_by_side
from ..numerics.noise import estimate_noise
from ..registry.loading import options_of
from ..scene import SCENE_KINDS
from ..sources import STILL
from ..threads import on_free_cores
from ..timing import Stopwatch
from .choice import Restoring
from .cleaning import TOGETHER, Cleaner
from .config import Precision
from .planes import Plane, chroma_of, merged, put_back
from .sought import Restored, Sought, sought
from .words import as_text

BLOCK = 8  # pixels of a side of JPEG's blocks


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
    cleaner: Cleaner = field(init=False)
    links: tuple[Sought, ...] = field(init=False)
    broken: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the plug-ins, and refuse now what would fail at the first image."""
        object.__setattr__(self, "cleaner", Cleaner(self.backbone, self.decoder, self.precision))
        found = [link for one in self.wanted for link in sought(one)]
        object.__setattr__(self, "broken", tuple(link for link in found if isinstance(link, str)))
        links = [link for link in found if isinstance(link, Sought)]
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
        return self.cleaner.able

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
        planes = [Plane(i, b, y[b : b + 1]) for i, y in enumerate(sources.luma) for b in range(len(y))]
        together = sum(y.numel() for y in sources.luma) <= TOGETHER
        for some in [planes] if together else [[plane] for plane in planes]:
            work = [self._restored(sources, plane, memory, watch) for plane in some]
            side_by_side(work, partial(self.cleaner, watch=watch))
        offers = [self._offer(sources.names[plane.source], plane.offered) for plane in planes if plane.offered]
        for note in (*self.broken, *offers, *(note for plane in planes for note in plane.notes)):
            sources.report.note(note, warning=True)
        rows = [row for plane in planes for row in plane.rows]
        if not rows:
            return sources, []
        noise, had = (tuple(y.new_zeros(len(y), 1, 1, 1) for y in sources.luma) for _ in range(2))
        veiled = tuple(y.clone() for y in sources.veiled)
        for plane in planes:
            noise[plane.source][plane.image], had[plane.source][plane.image] = plane.noise, plane.had
            veiled[plane.source][plane.image] = plane.veiled
        changed = [plane for plane in planes if plane.changed]
        restored = put_back(self.color, sources, changed) if changed else sources
        return replace(restored, noise=noise, had=had, veiled=veiled), rows

    def _restored(
        self, sources: Sources, plane: Plane, memory: Memory, watch: Stopwatch
    ) -> Generator[Ask, Tensor, None]:
        """Undo all that is found in a source of an image, from the file back to the lens."""
        links = iter(self._links_of(plane.source))
        noise, coarse, current = 0.0, 0.0, self._next(links, sources, plane, memory, watch)
        while current is not None:
            link, degradation = current
            following = None
            y = self._image(sources, plane) if link.kind.color else plane.luma
            if degradation.coarse:
                coarse = max(coarse, degradation.deviation)
            elif degradation.deviation:
                plane.noise = plane.had = degradation.deviation
                following = self._next(links, sources, plane, memory, watch)
                if following is not None and following[1].ends_clean:
                    noise, current = degradation.deviation, following
                    plane.rows.append(self._row(sources, plane, link, degradation, 0, undone=self.able))
                    if self.able:
                        yield from self._restored_chroma(sources, plane, link, memory)
                    continue
            if degradation.asks_flow and not self.able:
                plane.rows.append(self._row(sources, plane, link, degradation, 0, undone=False))
            else:
                if not isinstance(restoration := degradation.undo(y, noise), Generator):
                    raise unfit(link.kind, "undo", "no generator, which `x0 = yield x, s` makes of it")
                x, count = yield from _counted(restoration, link.kind, watch)
                noise = LEFT if degradation.ends_clean and noise else noise
                self._take(plane, link, x, y)
                plane.veiled |= degradation.veils
                plane.rows.append(self._row(sources, plane, link, degradation, count, undone=True))
                if plane.noise and (degradation.deviation or degradation.ends_clean):
                    rest = partial(estimate_noise, plane.luma)
                    plane.noise = _part(memory, link, plane).once("rest", rest)[0].level
                if not link.kind.color:
                    yield from self._restored_chroma(sources, plane, link, memory)
            current = following or self._next(links, sources, plane, memory, watch)
        plane.noise, plane.had = max(plane.noise, coarse), max(plane.had, coarse)

    def _links_of(self, source: int) -> list[Sought]:
        """What is sought in a source: what was chosen for it alone takes the place of the same for all."""
        alone = {link.name for link in self.links if link.source == source}
        return [link for link in self.links if link.source == source or (link.source < 0 and link.name not in alone)]

    @staticmethod
    def _concerns(link: Sought, sources: Sources, plane: Plane) -> bool:
        """Whether a degradation is sought in a source: of colour in those that have any, or in one that is named."""
        return (
            not link.kind.color or (link.asked and link.source >= 0) or bool(sources.colored[plane.source][plane.image])
        )

    @staticmethod
    def _found(link: Sought, sources: Sources, plane: Plane) -> Degradation | None:
        """The degradation with its options; light and weather unasked in infrared and visible scenes alone.

        Scans know none, exposures are dark on purpose, and fine lines in close-ups of focus settings are no rain.
        """
        if link.kind.color and not link.asked and SCENE_KINDS[sources.scenes[plane.image]].evidence != "heat":
            return None
        return link.find(_with_data(plane.luma, sources, plane), sources.degraded[plane.source].get(link.name, {}))

    @on_free_cores()
    def _next(
        self, links: Iterator[Sought], sources: Sources, plane: Plane, memory: Memory, watch: Stopwatch
    ) -> tuple[Sought, Degradation] | None:
        """The next degradation that is found and to be undone; what the user may ask for is noted."""
        name = sources.names[plane.source]
        for link in links:
            if not self._concerns(link, sources, plane):
                continue
            try:
                with watch.stage("estimate"):
                    found = _once(_part(memory, link, plane), partial(self._found, link, sources, plane))
                    wanted = link.automatic or link.asked
                    words = "" if found is None or wanted else found.describe()
            except Exception as error:
                reason = str(error) if isinstance(error, PluginError) else culprit(error)
                if link.asked or not reason:
                    raise
                plane.notes.append(f"left out: {reason}")  # of another package, which nobody asked for
                continue
            if found is not None:
                if wanted:
                    return link, found
                plane.offered[link.name] = words
            elif link.asked:
                plane.notes.append(f"{name}: no {link.name} found, so nothing is undone; its options can be given")
        return None

    def _offer(self, name: str, offered: Mapping[str, str]) -> str:
        """Name what a source has, and all that undoes it beside what is undone already."""
        asked = as_text([str(choice) for choice in (*self.wanted, *offered)])
        them = "them" if len(offered) > 1 else "it"
        return f"{name} has {' and '.join(offered.values())}; `restore={asked}` undoes {them}"

    def _row(
        self, sources: Sources, plane: Plane, link: Sought, degradation: Degradation, count: int, *, undone: bool
    ) -> Restored:
        options = degradation.options.model_dump(mode="json", exclude_defaults=True)
        name, what, by = sources.names[plane.source], degradation.describe(), link.by(degradation, count)
        return Restored(
            name, link.name, what, options, count, undone, (plane.source, plane.image), by, dict(degradation.provenance)
        )

    def _image(self, sources: Sources, plane: Plane) -> Tensor:
        """The image of a plane as it stands, (1, 1 or 3, H, W)."""
        image = sources.images[plane.source][plane.image : plane.image + 1]
        return merged(self.color, sources, image, plane, slice(None), len(sources)) if plane.changed else image

    def _take(self, plane: Plane, link: Sought, x: Tensor, y: Tensor) -> None:
        """Take up the luma or image x that was restored from y."""
        like = x if getattr(x, "ndim", 0) == len(y.shape) else y  # it may have another size than before
        check_answer(x, (*y.shape[:2], *like.shape[2:]), "undo", link.kind)
        plane.changed = True
        if not link.kind.color:
            plane.luma = x.clamp(0, 1)
            return
        luma, chroma = self.color.split(x.clamp(0, 1))
        plane.luma = luma
        plane.chroma = {} if chroma is None else {c + 1: chroma[0, c] + 0.5 for c in range(chroma.shape[1])}

    def _restored_chroma(
        self, sources: Sources, plane: Plane, link: Sought, memory: Memory
    ) -> Generator[Ask, Tensor, None]:
        """Undo in the chroma what was found in the luma."""
        if link.kind.estimate_chroma.__func__ is Degradation.estimate_chroma.__func__:  # type: ignore[attr-defined]
            return
        for c, pixels in enumerate(chroma_of(self.color, sources, plane.source, plane.image)):
            given = plane.chroma.get(c + 1, pixels)[None, None]
            found = _once(_part(memory, link, plane, c + 1), partial(link.find_chroma, given))
            if found is not None:
                x = yield from found.undo(given, 0.0)
                plane.chroma[c + 1] = x[0, 0]


def _with_data(y: Tensor, sources: Sources, plane: Plane) -> Tensor:
    """The part of a luma (1, 1, H, W) that has data, as a rectangle on the grid of JPEG blocks.

    Beyond its corners values are mirrored from the data; far away from these they are streaks, in which no noise is.
    """
    valid = sources.valid[plane.source]
    if valid is None or valid.shape[-2:] != y.shape[-2:]:
        return y
    rows, columns = (valid[plane.image, 0].any(axis).nonzero() for axis in (1, 0))
    if not len(rows):
        return y
    top, left = (int(at[0]) // BLOCK * BLOCK for at in (rows, columns))
    return y[..., top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]


def _part(memory: Memory, link: Sought, plane: Plane, channel: int = 0) -> Memory:
    """The memory of a degradation in one channel of a source: luma, or chroma."""
    name = f"{link.plugin.distribution if link.plugin else ''}:{link.name}"
    return memory.part(f"{name} {plane.source} {plane.image} {channel}")


def _once(memory: Memory, find: Callable[[], Degradation | None]) -> Degradation | None:
    """The degradation that is found; in a shot that of its first frame, with this memory."""
    if memory is STILL:
        return find()

    def remembering() -> Degradation | None:
        found = find()
        return found and found.remembering(memory)

    return memory.once("found", remembering)


def _counted(
    restoration: Restoration, kind: type[Degradation], watch: Stopwatch
) -> Generator[Ask, Tensor, tuple[Tensor, int]]:
    """A restoration's result with the number of its evaluations; its own time counts as `restore`."""
    count, answer = 0, None
    while True:
        try:
            with watch.stage("restore"):
                asked = restoration.send(answer)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            return end.value, count
        if not (isinstance(asked, tuple) and len(asked) == 2 and getattr(asked[0], "shape", ())[1:2] == (1,)):
            raise unfit(kind, "undo", f"{asked!r:.60} by its yield, expected a picture (1, 1, H, W) and a deviation")
        answer = yield asked
        count += 1
