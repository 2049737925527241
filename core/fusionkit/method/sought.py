"""What is sought in sources: the degradations that were chosen, and a row for each that was found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..contracts import Degradation
from ..contracts.base import unfit
from ..errors import BrokenPlugin, FusionkitError
from ..options import effective
from ..registry.loading import Registered, create, get_registry, load_class, made, options_of
from ..registry.records import DegradationRecord
from .choice import Restoring
from .parts import build

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
class Sought:
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
        found = self.given if self.given.keys() & self.kind.decisive else self._estimated(self.kind.estimate(y, told))
        if found is None and self.asked and self.learned:  # its options describe nothing that is found in pictures
            found = {}
        what = self.kind.Options.model_fields.keys() - self.kind.manner
        if found is None and not (self.asked and (told or (self.given.keys() & what if what else self.given))):
            return None
        options = {**(told if found is None else found), **self.given}
        if unknown := options.keys() - self.kind.Options.model_fields.keys():
            raise BrokenPlugin(
                f"{self.plugin.title}: no option {', '.join(sorted(unknown))}, which was estimated or told"
            )
        options = effective(self.kind.Options, options)
        if not self.given.keys() <= options.keys():  # what was found excludes what was given
            options = dict(self.given)
        wanted = options_of(self.plugin, options)
        if not self.kept or self.kept[0].options != wanted:
            self.kept[:] = [made(self.plugin, wanted)]
        return _placed(self.kept[0], y.device)

    def find_chroma(self, y: Tensor) -> Degradation | None:
        """The degradation with the options of a chroma plane y, if it has it."""
        found = self._estimated(self.kind.estimate_chroma(y)) if self.plugin is not None else None
        return None if found is None or self.plugin is None else create(self.plugin, found)

    def _estimated(self, found: object) -> Mapping[str, Any] | None:
        """The options that were estimated, if they are some."""
        if found is None or isinstance(found, Mapping):
            return found
        raise unfit(self.kind, "estimate", f"{type(found).__name__}, expected options, or None")

    def by(self, degradation: Degradation, count: int) -> str:
        """What undid it in `count` evaluations of the flow, for the user's note."""
        own = ["a network"] if self.learned else []
        flow = ["the flow"] if count or (degradation.asks_flow and not self.learned) else []
        return f"by {' and '.join(own + flow)}" if own or flow else ""


def sought(one: Restoring) -> Iterator[Sought | str]:
    """The degradations that one choice names; auto: all that are installed, and a note for each that does not load."""
    choice, source = one.degradation, one.source - 1
    if choice.instance is not None:
        instance = build(KIND, choice, torch.device("cpu")).plugin
        yield Sought(None, choice.name, type(instance), PLACE, source, instance=instance, asked=True)
    elif choice.name == "auto":
        for plugin in (p for p in get_registry().of_kind(KIND) if p.installed):
            try:
                yield _of(plugin, source)
            except FusionkitError as error:  # one package's; the others still serve
                yield f"left out: {error}"
    elif choice.name != "none":
        plugin = get_registry().find(KIND, choice.name)
        given = options_of(plugin, choice.options).model_dump(exclude_unset=True)
        yield replace(_of(plugin, source), given=given, asked=True)


def _of(plugin: Registered, source: int) -> Sought:
    record = cast(DegradationRecord, plugin.record)
    kind, automatic, learned = load_class(plugin), record.automatic, record.learned
    return Sought(plugin, record.name, kind, record.place, source, automatic=automatic, learned=learned)


def _placed(degradation: Degradation, device: torch.device) -> Degradation:
    """The degradation; one with a network on the device, frozen."""
    if isinstance(degradation, nn.Module):
        degradation.to(device).requires_grad_(False).eval()
    return degradation
