"""Kinds of scene: one row each says how it is recognised and what every part of a method makes of it.

A kind of scene is added by a row here; where its evidence is a new one, by a strategy in `fusionkit_priors.evidence`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the command line reads the table, and imports no torch for it
    from torch import Tensor

    from .images.metadata import CameraSettings

THUMBNAIL = 64  # side of the thumbnails that a kind is recognised from
BLACK, BLACK_SHARE, BLACK_ORDER = 0.03, 0.33, 0.3  # a scan: this share below that luma in all sources, in one order
ALIKE, APART = 0.75, 0.15  # rank correlation of sources in the same light; mean difference of exposures
DARKER = 0.35  # or by this share the darkest is darker than the brightest: the most of focus settings is 0.27 (MFIFB)
# pairs of places that two sources order alike, less those that they order differently: brackets with a frame up to
# eight stops darker have 0.87 and more, scans 0.2, infrared and visible 0; a difference below TIED is none
CONCORDANT, TIED = 0.85, 1.5 / 255
# largest exposure over the least: at least that of a bracket, and less than it of frames that were exposed alike
BRACKETED, ALIKE_EXPOSED = 1.9, 1.1
REFOCUSED = 1.02  # farthest focus over the nearest, of a focus stack at least
LAGS = (1, 7, 64, 65, 131, 517, 1033, 2047)  # between such places, in samples of a thumbnail, row after row


class Statistics:
    """What tells kinds of scene apart, computed from lumas (1, 1, H, W) when it is asked for.

    colored: which sources have colour. valid: where each has data, (1, 1, H, W) of bool or None for everywhere; only
    places where all have count.
    """

    def __init__(
        self, lumas: "Sequence[Tensor]", colored: Sequence[bool], valid: "Sequence[Tensor | None]" = ()
    ) -> None:
        import torch.nn.functional as F

        from .numerics.choice import subsample

        few = [subsample(y) for y in lumas]
        size = few[0].shape[-2:]
        self._few = [y if y.shape[-2:] == size else F.interpolate(y, size, mode="area") for y in few]
        self._colored = colored
        masks = [subsample(v) for v in valid if v is not None]
        same = {x.shape for x in (*self._few, *masks)} == {self._few[0].shape}
        everywhere = reduce(and_, masks) if masks and same else None
        self._valid = everywhere if everywhere is not None and bool(everywhere.any()) else None

    @cached_property
    def _small(self) -> "Tensor":
        import torch
        import torch.nn.functional as F

        size = THUMBNAIL, THUMBNAIL
        rows = torch.cat([F.interpolate(y, size=size, mode="area") for y in self._few]).flatten(1)
        if self._valid is None:
            return rows
        from .numerics.choice import with_data

        return torch.stack([with_data(row.view(1, 1, *size), self._valid)[0] for row in rows])

    @cached_property
    def _kinds(self) -> set[bool]:
        """Whether sources have colour; one so dark that none can show is of any kind."""
        lit = self._small.amax(1) > BLACK
        return {has for has, shows in zip(self._colored, lit, strict=True) if shows} or set(self._colored)

    @property
    def all_colored(self) -> bool:
        """Whether all sources have colour."""
        return False not in self._kinds

    @cached_property
    def order(self) -> float:
        """Least rank correlation of the first source with the others; 1 for one alone, 0 for a constant."""
        rows = self._small
        if len(rows) == 1:
            return 1.0
        ranks = rows.argsort(1).argsort(1).float()
        constant = bool((rows.amax(1) == rows.amin(1)).any())
        return 0.0 if constant else float(ranks.corrcoef()[0, 1:].amin())

    @cached_property
    def concordance(self) -> float:
        """Least concordance of the first source with the others (Goodman & Kruskal's gamma); 1 where all are flat.

        Unlike ranks, it leaves out pairs of places that are alike in a source: all that is black, all that is clipped.
        """
        import torch

        rows = self._small
        steps = torch.stack([rows - rows.roll(lag, 1) for lag in LAGS], 1).flatten(1)
        signs = torch.where(steps.abs() > TIED, steps.sign(), 0.0)
        agree = signs[:1] * signs[1:]
        return float((agree.sum(1) / agree.abs().sum(1).clamp_min(1)).amin()) if signs.any() else 1.0

    @property
    def scanned(self) -> bool:
        """Whether much is black in all sources, and they agree where."""
        dark = reduce(and_, (y < BLACK for y in self._few))
        black = (dark if self._valid is None else dark[self._valid]).float().mean()
        return bool(black > BLACK_SHARE and self.order > BLACK_ORDER)

    @property
    def same_light(self) -> bool:
        """Whether sources, all grey or all in colour, have their bright and dark places in one order."""
        return len(self._kinds) == 1 and self.order >= ALIKE

    @property
    def apart(self) -> bool:
        """Whether sources differ in brightness as exposures do: by much, or by a large part of the little they have."""
        means = self._small.mean(1)
        darker = float((means.amax() - means.amin()) / (means.amax() + TIED))
        return float((self._small - self._small[:1]).abs().mean(1).amax()) > APART or darker > DARKER

    @cached_property
    def bracketed(self) -> bool:
        """Whether sources are exposures, even if one of them is nearly black."""
        return self.apart and (self.same_light or (len(self._kinds) == 1 and self.concordance >= CONCORDANT))


def _exposures(settings: "Sequence[CameraSettings]") -> float | None:
    """Largest exposure over the least of one camera and lens; None where that is not known of all frames."""
    exposures = [s.exposure for s in settings if s.exposure]
    if len(exposures) < len(settings) or len({s.camera for s in settings}) != 1 or not settings[0].camera:
        return None
    return max(exposures) / min(exposures)


def _bracketed(settings: "Sequence[CameraSettings]") -> bool | None:
    """Whether a camera says that it took one scene in several exposures; None where it says neither."""
    ratio = _exposures(settings)
    if ratio is None or ALIKE_EXPOSED <= ratio < BRACKETED:
        return None
    return ratio >= BRACKETED


def _refocused(settings: "Sequence[CameraSettings]") -> bool | None:
    """Whether a camera says that it took one scene with several focus distances; None where it says neither."""
    ratio, distances = _exposures(settings), [s.distance for s in settings if s.distance]
    if ratio is None or ratio >= BRACKETED:
        return None if ratio is None else False
    told = len(distances) == len(settings)
    return True if told and max(distances) >= REFOCUSED * min(distances) else None


def bracketed(settings: "Sequence[CameraSettings]") -> int | None:
    """Index of the middle exposure of a bracket, as its camera says; None where it does not say that it is one."""
    if not _bracketed(settings):
        return None
    order = sorted(range(len(settings)), key=lambda i: settings[i].exposure or 0.0)
    return order[len(order) // 2]


@dataclass(frozen=True, kw_only=True)
class SceneKind:
    """One kind of scene.

    name: as options call it. title: as people call it. task: the task that serves it. about: how that task fuses, in
    one sentence. shows: whether statistics of sources are of this kind; the first row of the table that says so is
    taken. written: the same by what one camera, in colour, wrote of them, before any statistics; None: it does not say.
    evidence: the strategy by which `em_tv` tells who explains a pixel. tone: the look that results get by default.
    chroma: whose colour a result takes: mixed by strength, of the source with the nearest luma, or by strength of
    sources that are not clipped; layered: as strength, but one source in colour, over grey ones, keeps its hue and
    saturation. one_quantity: its sources measure the same, so they share one range. bends: what it shows bends smoothly
    between the sources, as a body between scans, rather than standing at several distances. audit: metrics of the audit
    that say how such a fusion went, with their words on a contact sheet.
    """

    name: str
    title: str
    task: str
    about: str
    shows: Callable[[Statistics], bool]
    evidence: str
    tone: Literal["faithful", "vivid"] = "faithful"
    chroma: Literal["strongest", "nearest", "layered", "unclipped"] = "strongest"
    one_quantity: bool = False
    bends: bool = False
    written: "Callable[[Sequence[CameraSettings]], bool | None]" = lambda settings: None
    audit: Mapping[str, str]


SCENE_KINDS: dict[str, SceneKind] = {
    kind.name: kind
    for kind in (
        SceneKind(
            name="contrast",
            title="scans or spectral bands",
            task="medical",
            about="Bone whole and white, soft tissue by its bands; a scan in colour keeps its colours over grey ones",
            shows=lambda found: (
                (found.scanned or (found.all_colored and not found.same_light))
                and not (found.all_colored and found.bracketed)
            ),
            evidence="density",
            chroma="layered",
            bends=True,
            audit={
                "solid": "texture in white",
                "kept_others": "first kept",
                "kept_reference": "reference kept",
                "halo": "halo %",
            },
        ),
        SceneKind(
            name="exposure",
            title="exposures",
            task="mef",
            about="What is well exposed, by a network; no dark rims around bright windows",
            shows=lambda found: found.bracketed,
            written=_bracketed,
            evidence="exposure",
            chroma="unclipped",
            one_quantity=True,
            audit={"rescued": "rescued", "rims": "rims %"},
        ),
        SceneKind(
            name="focus",
            title="focus settings",
            task="mff",
            about="What is in focus, by a network; borders are joined band by band",
            shows=lambda found: found.same_light,
            written=_refocused,
            evidence="focus",
            one_quantity=True,
            chroma="nearest",
            audit={"sharper": "dB to the sharper", "halo": "halo %"},
        ),
        SceneKind(
            name="heat",
            title="infrared and visible",
            task="ivif",
            about="Hot objects as bright as in the infrared, everything else as in the visible image, edges of both",
            shows=lambda found: True,
            evidence="heat",
            tone="vivid",
            audit={"kept_others": "IR kept", "kept_reference": "visible kept", "hot": "hot", "polarity": "polarity"},
        ),
    )
}

Scene = str
"""The name of a kind of scene."""

if TYPE_CHECKING:
    SceneChoice = str
else:
    SceneChoice = Literal["auto", *SCENE_KINDS]  # an option's values: recognised, or a kind


def written(settings: "Sequence[CameraSettings]") -> Scene | None:
    """The kind of scene that one camera wrote of; None where it says nothing."""
    return next((kind.name for kind in SCENE_KINDS.values() if kind.written(settings)), None)


def recognise(
    lumas: "Sequence[Tensor]",
    colored: Sequence[bool],
    settings: "Sequence[CameraSettings]" = (),
    valid: "Sequence[Tensor | None]" = (),
) -> Scene:
    """The kind of one scene, from its sources' luma (1, 1, H, W), which have colour, and what their camera wrote.

    Infrared pictures and bands are exposed each for itself, so what has no colour at all is not told by that. valid:
    where sources have data, as of `Statistics`.
    """
    said = settings if settings and any(colored) else ()
    if said and (name := written(said)):
        return name
    found = Statistics(lumas, colored, valid)
    possible = (kind for kind in SCENE_KINDS.values() if not said or kind.written(said) is not False)
    return next(kind.name for kind in possible if kind.shows(found))
