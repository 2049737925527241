"""What the votes of a study say: wins with intervals, strengths, and whether viewers agree."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..scoring.statistics import CONFIDENCE, RESAMPLES, SEED, TAILS
from .study import EVEN, Key, Vote

CARELESS = 1 / 3  # share of failed checks above which a viewer's votes do not count
ONE_SIDED = 0.001  # p of a viewer's lefts and rights, by a fair coin, below which the votes do not count
ROUNDS, CLOSE = 100, 1e-9  # steps for strengths at most, and the largest one that ends them


@dataclass(frozen=True)
class Viewer:
    """One viewer: votes, checks that were answered and passed, share of decided votes for the left side.

    counts: whether the votes do; not of who failed more than a third of the checks, or chose one side only.
    """

    name: str
    votes: int
    checks: int
    passed: int
    left: float
    counts: bool


@dataclass(frozen=True)
class Compared:
    """Votes for the first and the second of two methods, and for neither.

    share: of the first in the decided votes, nan without any; low, high: Wilson's interval (95 %), as if votes were
    independent; by_scene: interval over resampled scenes, whose votes are not; nan of a single scene.
    """

    first: str
    second: str
    wins: int
    losses: int
    even: int
    share: float
    low: float
    high: float
    by_scene: tuple[float, float]


@dataclass(frozen=True)
class Strength:
    """A method's share of votes against one of average strength, by Bradley and Terry's model, with its interval."""

    method: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """What a study's votes say. strengths: the best first.

    agreement: share of pairs of votes on one sheet, of different viewers, that are the same; nan without any. alpha:
    Krippendorff's, 0 for chance, 1 for full agreement. reasons: what viewers wrote, with what they preferred.
    """

    viewers: tuple[Viewer, ...]
    compared: tuple[Compared, ...]
    strengths: tuple[Strength, ...]
    agreement: float
    alpha: float
    reasons: tuple[dict[str, str], ...]

    def record(self) -> dict[str, Any]:
        """Everything as a dict, undefined values as nan."""
        return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, **asdict(self)}


def tally(key: Key, votes: Iterable[Vote]) -> Tally:
    """Count votes; of one viewer for one sheet the last counts, and none of viewers whose votes do not (`Viewer`).

    Raises InputError where a vote is of a sheet that the study does not have, or where none counts.
    """
    last: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        if vote.sheet not in key.sheets:
            raise InputError(f"viewer {vote.viewer} voted on sheet {vote.sheet}, which this study does not have")
        last[vote.viewer, vote.sheet] = vote
    viewers = _viewers(key, list(last.values()))
    heard = {viewer.name for viewer in viewers if viewer.counts}
    counted = [v for v in last.values() if v.viewer in heard and not key.sheets[v.sheet].check]
    if not counted:
        why = "; every viewer failed the checks or chose one side" if viewers else ""
        raise InputError(f"there are no votes that count{why}")
    scenes = sorted({key.sheets[v.sheet].scene for v in counted})
    wins, even = _matrices(key, counted, scenes)
    picks = np.random.default_rng(SEED).multinomial(len(scenes), [1 / len(scenes)] * len(scenes), RESAMPLES)
    said = sorted((v for v in counted if v.reason), key=lambda v: (v.sheet, v.viewer))
    agreement, alpha = _agreement(counted)
    return Tally(
        viewers,
        tuple(_compared(key.methods, wins, even, picks)),
        _strengths(key.methods, wins + (even + even.transpose(0, 2, 1)) / 2, picks),
        agreement,
        alpha,
        tuple({"scene": key.sheets[v.sheet].scene, "viewer": v.viewer, **_said(key, v)} for v in said),
    )


def _viewers(key: Key, votes: Sequence[Vote]) -> tuple[Viewer, ...]:
    by_name = defaultdict[str, list[Vote]](list)
    for vote in votes:
        by_name[vote.viewer].append(vote)
    found = []
    for name, own in sorted(by_name.items()):
        checks = [v for v in own if key.sheets[v.sheet].check]
        passed = sum(v.choice not in (EVEN, key.sheets[v.sheet].check) for v in checks)
        others = [v for v in own if not key.sheets[v.sheet].check]
        decided = [v for v in others if v.choice != EVEN]
        left = sum(v.choice == "A" for v in decided)
        counts = len(checks) - passed <= CARELESS * len(checks) and _by_chance(left, len(decided))
        share = left / len(decided) if decided else float("nan")
        found.append(Viewer(name, len(others), len(checks), passed, share, counts))
    return tuple(found)


def _by_chance(left: int, decided: int) -> bool:
    """Whether shuffled sides explain so many votes for the left."""
    from scipy.stats import binomtest

    return not decided or bool(binomtest(left, decided).pvalue >= ONE_SIDED)


def _matrices(key: Key, votes: Sequence[Vote], scenes: Sequence[str]) -> tuple[Any, Any]:
    """Votes by scene, method, and the method it was preferred to; even ones by the two methods in the key's order."""
    place, at = {scene: i for i, scene in enumerate(scenes)}, {m: i for i, m in enumerate(key.methods)}
    wins, even = (np.zeros((len(scenes), len(at), len(at))) for _ in range(2))
    for vote in votes:
        sides = key.sheets[vote.sheet]
        a, b, scene = at[sides.a], at[sides.b], place[sides.scene]
        if vote.choice == EVEN:
            even[scene, min(a, b), max(a, b)] += 1
        else:
            better, worse = (a, b) if vote.choice == "A" else (b, a)
            wins[scene, better, worse] += 1
    return wins, even


def _compared(methods: Sequence[str], wins: Any, even: Any, picks: Any) -> Iterable[Compared]:
    from scipy.stats import binomtest

    for i, j in itertools.combinations(range(len(methods)), 2):
        won, lost, neither = (int(m.sum()) for m in (wins[:, i, j], wins[:, j, i], even[:, i, j]))
        if won + lost + neither == 0:
            continue
        share = low = high = float("nan")
        by_scene = (float("nan"), float("nan"))
        if won + lost:
            share = won / (won + lost)
            interval = binomtest(won, won + lost).proportion_ci(CONFIDENCE, "wilson")
            low, high = float(interval.low), float(interval.high)
            ours, theirs = picks @ wins[:, i, j], picks @ wins[:, j, i]
            some = ours + theirs > 0
            if np.count_nonzero((wins[:, i, j] + wins[:, j, i]) > 0) > 1:
                by_scene = tuple(np.quantile(ours[some] / (ours + theirs)[some], TAILS).tolist())
        yield Compared(methods[i], methods[j], won, lost, neither, share, low, high, by_scene)


def _strengths(methods: Sequence[str], wins: Any, picks: Any) -> tuple[Strength, ...]:
    """Strengths by Bradley & Terry (Biometrika, 1952), even votes as half a win of each.

    Their logarithms have the greatest likelihood, by Newton's steps, for the votes and for each resample of the scenes
    together, shorter where they could pass the maximum. Each method also draws once with one of average strength, so
    that strengths of unbeaten methods are finite.
    """
    from scipy.special import expit

    resampled = np.concatenate([wins.sum(0)[None], np.tensordot(picks, wins, 1)])
    games, won = resampled + resampled.transpose(0, 2, 1), resampled.sum(2) + 0.5
    log = np.zeros(won.shape)
    for _ in range(ROUNDS):
        own, beats = expit(log), expit(log[:, :, None] - log[:, None])
        curve = games * beats * (1 - beats)
        hessian = (curve.sum(2) + own * (1 - own))[..., None] * np.eye(len(methods)) - curve
        step = np.linalg.solve(hessian, (won - own - (games * beats).sum(2))[..., None])[..., 0]
        log += step / (1 + np.abs(step).max(1, keepdims=True))
        if np.abs(step).max() < CLOSE:
            break
    shares = expit(log)
    low, high = np.quantile(shares[1:], TAILS, axis=0) if picks.shape[1] > 1 else np.full((2, len(methods)), np.nan)
    found = [Strength(m, float(shares[0, i]), float(low[i]), float(high[i])) for i, m in enumerate(methods)]
    return tuple(sorted(found, key=lambda s: -s.share))


def _agreement(votes: Sequence[Vote]) -> tuple[float, float]:
    """Share of pairs of votes on a sheet that agree, and Krippendorff's alpha for nominal data with gaps (2004)."""
    sheets = defaultdict[str, Counter[str]](Counter)
    for vote in votes:
        sheets[vote.sheet][vote.choice] += 1
    shared = [counts for counts in sheets.values() if counts.total() > 1]
    if not shared:
        return float("nan"), float("nan")
    same = sum(n * (n - 1) for counts in shared for n in counts.values())
    pairs = sum(counts.total() * (counts.total() - 1) for counts in shared)
    apart = sum((c.total() ** 2 - sum(n * n for n in c.values())) / (c.total() - 1) for c in shared)
    overall = sum(shared, Counter[str]())
    expected = (overall.total() ** 2 - sum(n * n for n in overall.values())) / (overall.total() - 1)
    return same / pairs, 1 - apart / expected if expected else 1.0


def _said(key: Key, vote: Vote) -> dict[str, str]:
    sides = key.sheets[vote.sheet]
    better, other = (sides.b, sides.a) if vote.choice == "B" else (sides.a, sides.b)
    return {
        "preferred": "" if vote.choice == EVEN else better,
        "to": f"{better}, {other}" if vote.choice == EVEN else other,
        "reason": vote.reason,
    }
