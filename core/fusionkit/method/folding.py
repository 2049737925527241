"""Fold sources in one after another, for a prior that takes fewer at once."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from ..contracts import ColorSpace, Prior, Sources
from ..sources import EACH
from .sampler import corrected


class FoldedPrior(Prior):
    """Applies a prior of two sources to any number: the reference with the first other, the result with the next ...

    Each fold has its own state; all have the same estimate x̂₀. The running result replaces the reference, in the
    reference's colour.
    """

    def __init__(self, prior: Prior, color: ColorSpace) -> None:
        self.inner, self.color = prior, color
        self.reads_x0, self.has_energy = prior.reads_x0, prior.has_energy

    def _pair(self, sources: Sources, other: int, reference: Tensor) -> Sources:
        """Source `other` beside the reference with another luma, the reference last."""
        image = sources.images[sources.reference]
        if reference is not sources.reference_luma:
            image = self.color.merge(reference, [self.color.split(image)[1]] * len(sources), sources)
        own: dict[str, Any] = {n: tuple(getattr(sources, n)[i] for i in (other, sources.reference)) for n in EACH}
        own |= {"images": (sources.images[other], image), "luma": (sources.luma[other], reference)}
        return replace(sources, reference=1, **own)

    def _pairs(self, sources: Sources) -> list[Sources]:
        return [self._pair(sources, i, sources.reference_luma) for i in self._others(sources)]

    def _others(self, sources: Sources) -> list[int]:
        return [i for i in range(len(sources)) if i != sources.reference]

    def start(self, sources: Sources) -> Any:
        """States of the folds."""
        return [self.inner.start(pair) for pair in self._pairs(sources)]

    def follow(self, sources: Sources, state: Any) -> Any:
        """States of the folds."""
        return [self.inner.follow(pair, inner) for pair, inner in zip(self._pairs(sources), state, strict=True)]

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, Any]:
        """Fold all sources in."""
        result, states = sources.reference_luma, []
        for i, inner_state in zip(self._others(sources), state, strict=True):
            result, after = corrected(self.inner, x0, self._pair(sources, i, result), inner_state, sigma)
            states.append(after)
        return result, states

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Mean of the pairs' energies."""
        terms = [self.inner.energy(x0, pair) for pair in self._pairs(sources)]
        return sum(terms[1:], terms[0]) / len(terms)
