"""Which source explains what: the E-step of `em_tv`, a strategy for each kind of scene.

Each goes by the oldest sound idea of its field. *Heat*: an object hotter than everything around it must be seen, and
the infrared image shows the structure that it has and the visible one lacks; everything else looks as the reference
does. *Density*: what a scan shows white and flat is its own, black says nothing (`density`). *Exposure* and *focus*:
the source that a network takes to be well exposed, or in focus.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.numerics.choice import clamped
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.pyramid import collapse, gaussian_pyramid, laplacian_pyramid
from fusionkit.numerics.strips import in_strips, strips
from fusionkit.numerics.thermal import ThermalSaliency
from fusionkit.numerics.window import box_mean, enlarged_rows, gaussian_blur, reduced
from fusionkit.threads import on_free_cores

from .decision import Decision
from .density import layered
from .exposure import well_exposed
from .laplacian import default_levels
from .standing import COARSE, Standing
from .worth import FLATTEST, TIMES, Worth, quantiles

# set by the audit, by eye and by blind votes on pairs of VIFB, MSRS, TNO and RoadScene (docs/decisions/em-tv.md)
LEAST = 0.9  # share of the reference's edge weight removed, times heat²: its texture shows where heat is clipped
DARK = 0.3  # luma up to which darkness is lifted
GRAIN, FEW = 3, 64  # side of the squares of pixels whose gradients tell what is grain; rows of them, up to twice that
JOINED = 32  # samples along the shorter side, at least, of the coarsest band in which sources in focus are joined
FADE = 1 / 24  # deviation, in sides, in which evidence sets in inside a source's data
OWN = 1.5  # factor of the energy of the current image's gradients
OPPOSED = 6.0  # an edge explains nothing where it runs against another of a sixth of its strength, or more


class Target(NamedTuple):
    """The expected brightness T (B, 1, H, W), and how much the expected gradients follow each source.

    follows: (B, 1, H, W) in [0, 1] for each source, (B, 1, 1, 1) where it is the same everywhere; empty where nothing
    is left open, since T has every source's edges already.
    """

    brightness: Tensor
    follows: tuple[Tensor, ...]

    def rows(self, rows: slice) -> Self:
        """A strip of it."""
        cut = (follow if follow.shape[-2] == 1 else follow[..., rows, :] for follow in self.follows)
        return type(self)(self.brightness[..., rows, :], tuple(cut))


class Evidence(NamedTuple):
    """What strategies go by: how far what a source alone shows is followed, networks by name, averages of a video."""

    lit: float
    decisions: Mapping[str, Decision]
    steady: Callable[[str, Tensor], Tensor]


def _by_density(_: Tensor, sources: Sources, __: Evidence) -> Target:
    """Each scene's scans, layered: which of them have colour may differ from scene to scene."""
    return Target(torch.cat([layered(sources.select([b])) for b in range(len(sources.luma[0]))]), ())


def _by_exposure(_: Tensor, sources: Sources, evidence: Evidence) -> Target:
    """A mixture of the well exposed; it changes from pixel to pixel, so it is flat: its edges are the sources' own.

    Their energy counts as it is in the tone of the mixture, whose contrast is c times theirs: less, by c².
    """
    mixture, contrast = well_exposed(evidence.decisions["exposure"], sources.luma, partial(evidence.steady, "tone"))
    return Target(mixture, (contrast.square(),) * len(sources))


def _by_focus(x0: Tensor, sources: Sources, evidence: Evidence) -> Target:
    """The sources in focus, joined band by band, in the range that they and the estimate have."""
    joined = _joined(evidence.decisions["focus"].weights(sources.luma), sources.luma)
    return Target(in_strips(clamped, joined, x0, *sources.luma, reach=0), ())


@on_free_cores()
def _by_heat(x0: Tensor, sources: Sources, evidence: Evidence) -> Target:
    """T = x̂₀ + heat (raised - lowered) + (1 - heat) worth · (night((S - (1 - trust) veil)₊) - x̂₀)₊.

    The sum is over all sources but the reference. raised = (1 - down) (S' - T)₊, lowered = down · min(T - S, T -
    floor)₊: what is hot is as bright as in S (S': less over a bright ground in S), or, where that does not stand out
    from a bright surround, darker than it by a visible contrast (`Standing`). night(s) = D (1 - exp(-lit s / D)): S in
    the dark, never brighter than D there; T never falls where x̂₀ rises: a lit window has no dark rim. trust: whether S
    as a whole shows more than noise. worth: structure of S over all contrast of S and the structure of the reference;
    at least the trust (`Worth`). Heat and worth are 0 where S has no data.
    """

    def steady(index: int) -> Callable[[str, Tensor], Tensor]:
        return lambda name, value: evidence.steady(f"{name} {index}", value)

    every = [Worth.of(y, sources.noise[i], steady(i), sources.valid[i]) for i, y in enumerate(sources.luma)]
    seen, (height, width) = every[sources.reference], x0.shape[-2:]
    others = [i for i in range(len(every)) if i != sources.reference] or [0]
    worth = [every[i].beside(seen) for i in others]
    heat = [  # in a source that shows little but noise, what is hotter than the noise
        ThermalSaliency.of(
            sources.luma[i], partial(evidence.steady, f"heat {i}"), (1 - w.trust) * w.noise, sources.valid[i]
        )
        for i, w in ((i, every[i]) for i in others)
    ]
    standing = [
        Standing.of(sources.reference_luma, hot, steady(i), sources.valid[i])
        for i, hot in zip(others, heat, strict=True)
    ]
    brightness = torch.empty_like(x0)
    follows = [
        torch.ones_like(y) if i == sources.reference else torch.empty_like(y) for i, y in enumerate(sources.luma)
    ]
    fading = {i: _fading(v) for i in others if (v := sources.valid[i]) is not None}
    faded = max(1, min(height, width) // COARSE)
    for part in strips(height, width, reach=0):
        place, t, keeps = part.place, x0[..., part.place, :], follows[sources.reference][..., part.place, :]
        for i, share, found, stands in zip(others, worth, heat, standing, strict=True):
            own, y = every[i], sources.luma[i][..., place, :]
            hot, shown = found.evidence(y, place), own.rows(share, place, width)
            follow, lowered = stands.rows(place, width)
            if (valid := sources.valid[i]) is not None:
                inside = enlarged_rows(fading[i], faded, place, width).mul_(valid[..., place, :])
                hot, shown = hot.mul_(inside), shown.mul_(inside)
            night = _night((y - (1 - own.trust) * own.veil).clamp_min_(0), t, evidence.lit).mul_(shown)
            change = stands.shown(y).sub_(t).clamp_min_(0)
            if lowered is not None:
                down, floor = lowered
                change.lerp_(torch.maximum(y, floor).sub_(t).clamp_max_(0), down)
            t = t + night.lerp_(change, hot)
            follows[i][..., place, :] = shown.mul_(follow)
            hot = hot if lowered is None else hot.mul_(1 - lowered[0])
            keeps.mul_(hot.square().mul_(-LEAST).add_(1))
        brightness[..., place, :] = t
    return Target(brightness, tuple(follows))


def _fading(valid: Tensor) -> Tensor:
    """How far a source counts, on a reduced copy: 0 at the border of its data, 1 from a twelfth of the side inside.

    A wall that only the infrared shows bright has no reason to end there.
    """
    share = reduced(valid.float(), max(1, min(valid.shape[-2:]) // COARSE))
    return gaussian_blur(share, COARSE * FADE).mul_(2).sub_(1).clamp_(0, 1).mul_(share)


def _night(y: Tensor, t: Tensor, lit: float) -> Tensor:
    """How far the dark of t is lifted by y: less than y and than DARK, and less the brighter t is."""
    return y.mul(-lit / DARK).expm1_().mul_(-DARK).sub_(t).clamp_min_(0)


def _joined(weights: Sequence[Tensor], lumas: Sequence[Tensor]) -> Tensor:
    """The sources in focus, joined band by band, each over its own width (Burt & Adelson, 1983, "spline").

    Where no source shows more than another the decision is arbitrary, and blotched: one that is soft on coarse scales
    leaves no edge of what else differs between the pictures.
    """
    levels = default_levels(min(lumas[0].shape[-2:]), JOINED)
    joined: list[Tensor] = []
    for y, w in zip(lumas, weights, strict=True):
        bands = zip(laplacian_pyramid(y, levels), gaussian_pyramid(w, levels), strict=True)
        parts = [band * weight for band, weight in bands]
        joined = [a + b for a, b in zip(joined, parts, strict=True)] if joined else parts
    return collapse(joined)


def explained_gradient(
    current: Tensor,
    found: Target,
    lumas: Sequence[Tensor],
    floors: Sequence[Tensor],
    copied: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradient that is expected where each pixel's is explained by the target or by one of the sources.

    Responsibilities are proportional to the squared energy of the gradients over 3x3 pixels, beyond what grain gives
    (`floors`: `grain_floor` of the current image, then of each luma); the target's counts one and a half times. A
    source whose edge runs against the current image's is no explanation: it would turn skies and people round.

    copied: how far edges are displaced copies of the reference's (`displaced.copies`), and the reference, whose own
    gradient explains them.
    """
    cx, cy = gradient(current)
    total = own_energy(cx, cy, floors[0])
    x, y = cx * total, cy * total
    for luma, follow, floor in zip(lumas, found.follows, floors[1:], strict=True):
        gx, gy = gradient(luma)
        weight = _energy(gx, gy).sub_(floor).clamp_min_(0)
        agreement = box_mean((cx * gx).addcmul_(cy, gy), 1)
        agreement = agreement.mul_(OPPOSED).div_(weight + 1e-6).add_(1).clamp_(0, 1)
        weight = weight.mul_(agreement).mul_(follow).add_(1e-9).square_()
        total += weight
        x.addcmul_(gx, weight)
        y.addcmul_(gy, weight)
    x, y = x.div_(total), y.div_(total)
    if copied is None:
        return x, y
    gx, gy = gradient(copied[1])
    return x.lerp_(gx, copied[0]), y.lerp_(gy, copied[0])


def own_energy(cx: Tensor, cy: Tensor, floor: Tensor) -> Tensor:
    """The responsibility, not normalised, of the target for the gradient: of (cx, cy), beyond its grain."""
    return _energy(cx, cy).sub_(floor).clamp_min_(0).mul_(OWN).add_(1e-7).square_()


def frame_gradient(luma: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of a frame of a bracket, and its responsibility, not normalised: what `explained_gradient` sums.

    Frames of one scene do not run against each other, and all follow the tone alike, so that the target is not needed.
    """
    gx, gy = gradient(luma)
    return gx, gy, _energy(gx, gy).sub_(floor).clamp_min_(0).add_(1e-9).square_()


def grain_floor(y: Tensor) -> Tensor:
    """Energy of gradients that grain may have: three times what the flattest 15 % of an image have, (B, 1, 1, 1).

    In some `FEW` rows of squares.
    """
    apart = max(1, y.shape[-2] // (FEW * GRAIN))
    rows = y.unfold(-2, GRAIN + 1, GRAIN * apart).mT.flatten(1, 2) if y.shape[-2] > GRAIN else y
    gx, gy = gradient(rows)
    energy = gx.square_().addcmul_(gy, gy)[..., :GRAIN, :]
    return TIMES * quantiles(reduced(energy, GRAIN), FLATTEST)[0]


def _energy(gx: Tensor, gy: Tensor) -> Tensor:
    """Squared gradients over 3x3 pixels."""
    return box_mean(gx.square().addcmul_(gy, gy), 1)


Strategy = Callable[[Tensor, Sources, Evidence], Target]
"""Makes a target of the estimate x0 (B, 1, H, W) and the sources."""

STRATEGIES: dict[str, Strategy] = {
    "heat": _by_heat,
    "density": _by_density,
    "exposure": _by_exposure,
    "focus": _by_focus,
}
