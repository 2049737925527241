"""Statistics of scores: means with intervals, and tests corrected for their number."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images.picture import Array

RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
DIGITS = 4  # of the largest number of a printed column


@dataclass(frozen=True)
class Summary:
    """One metric of one method: mean over the pairs where it is defined, its interval, the number of those pairs.

    low, high: nan of a single pair, which says nothing of others.
    """

    mean: float
    low: float
    high: float
    defined: int


def resamples(count: int) -> Array:
    """Indices that draw `count` values anew, with replacement, from the fixed seed: (RESAMPLES, count)."""
    return np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))


def bootstrap(values: Array, of: Array | None = None) -> Summary:
    """Mean of defined values (n,) and its percentile interval (95 %, 2000 resamples, fixed seed).

    of: what they are counts of, (n,); then the ratio of the sums. nan without any.
    """
    of = np.ones(values.size) if of is None else of
    count = int(np.count_nonzero(of))
    mean = float(values.sum() / of.sum()) if count else math.nan
    if count < 2:
        return Summary(mean, math.nan, math.nan, count)
    picks = resamples(values.size)
    sums = of[picks].sum(1)
    some = sums > 0
    low, high = np.quantile(values[picks].sum(1)[some] / sums[some], TAILS)
    return Summary(mean, float(low), float(high), count)


def decimals(values: Iterable[float]) -> int:
    """Decimals of a column that show the largest of these with four digits; at most 5."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(5, max(0, DIGITS - 1 - math.floor(math.log10(largest)))) if largest else 1


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction; nan stays nan and does not count."""
    result = [math.nan] * len(p)
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    largest = 0.0
    for step, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - step)))
        result[i] = largest
    return result


def paired_tests(scores: Sequence[float], others: Sequence[Sequence[float]]) -> list[float]:
    """Compute p of one method against each other one: paired Wilcoxon, two-sided, Holm over the others.

    nan where fewer than six pairs differ: no p below 0.05 is possible then.
    """
    from scipy.stats import wilcoxon

    found = []
    for other in others:
        difference = np.array(scores) - np.array(other)
        difference = difference[np.isfinite(difference)]
        enough = np.count_nonzero(difference) >= 6
        found.append(float(wilcoxon(difference).pvalue) if enough else math.nan)
    return holm(found)


def nullable(value: Any) -> Any:
    """Replace each float in dicts and lists that JSON does not hold by None."""
    if isinstance(value, dict):
        return {key: nullable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [nullable(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
