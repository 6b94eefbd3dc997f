"""From trainings to a recommendation: which window, which half-life, and what age costs. Pure numpy.

A difference is noise where the 95% interval of the paired difference holds 0: the same users, drawn with replacement,
under both models (components.evaluator.intervals).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluator.intervals import draw_users

RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training and how it did: `hits` [E], 1 where the held-out item is among the first k.

    window_spans: how many spans it learned; age_spans: how many spans ago the newest of them was the newest.
    """

    window_spans: int
    half_life_days: float | None
    age_spans: int
    targets: int
    hits: np.ndarray
    seconds: float = 0.0

    @property
    def recall(self) -> float:
        return float(self.hits.mean())


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to put into the configuration, and why: `sentence` first, then the reservations."""

    window_spans: int
    half_life_days: float | None
    sentence: str
    reservations: list[str]


class Judge:
    """Means and differences with their intervals, over resamples of the users [E] who were judged."""

    def __init__(self, user_ids: np.ndarray, metric: str) -> None:
        self.metric = metric
        weights = draw_users(user_ids, RESAMPLES)
        self._shares = weights / weights.sum(axis=1, keepdims=True)  # [R, E]

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """95% interval of the mean of `values` [E]."""
        low, high = np.percentile(self._shares @ values, [2.5, 97.5])
        return float(low), float(high)

    def is_worse(self, one: Training, other: Training) -> bool:
        """Whether `one` is worse than `other` beyond noise."""
        return self.interval(other.hits - one.hits)[0] > 0

    def loss(self, one: Training, other: Training, verb: str = "loses") -> str:
        """How much less `one` finds than `other`, in words."""
        if not other.recall:
            return f"{verb} nothing, for nothing was found"
        share = 1 - one.recall / other.recall
        low, high = self.interval(other.hits - one.hits)
        gains = {"lose": "gain", "loses": "gains"}[verb]
        return f"{verb if share >= 0 else gains} {abs(share):.0%}{' (within noise)' if low <= 0 <= high else ''}"

    def show(self, values: np.ndarray) -> str:
        """The mean and its interval."""
        low, high = self.interval(values)
        return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def recommend(trainings: Sequence[Training], popularity_hits: np.ndarray, judge: Judge) -> Recommendation:
    """The smallest window whose figure is within noise of the best; of its trainings, the one without a half-life."""
    fresh = [t for t in trainings if not t.age_spans]
    best = max(fresh, key=lambda t: t.recall)
    near = [t for t in fresh if t is best or not judge.is_worse(t, best)]
    chosen = min(near, key=lambda t: (t.window_spans, t.half_life_days is not None, -(t.half_life_days or 0.0)))
    what = f"train on the last {spans(chosen.window_spans)}, {half_life(chosen.half_life_days)}"
    parts = [f"{what}: {judge.metric} {judge.show(chosen.hits)}"]
    if smaller := [t for t in fresh if t.half_life_days is None and t.window_spans < chosen.window_spans]:
        nearest = max(smaller, key=lambda t: t.window_spans)
        verb = "loses" if nearest.window_spans == 1 else "lose"
        parts.append(f"{spans(nearest.window_spans)} {judge.loss(nearest, chosen, verb)}")
    if aged := [t for t in trainings if t.age_spans]:
        window = aged[0].window_spans
        new = next(t for t in fresh if t.window_spans == window and t.half_life_days is None)
        oldest = max(aged, key=lambda t: t.age_spans)
        parts.append(f"a model {spans(oldest.age_spans)} old {judge.loss(oldest, new)}")
    return Recommendation(
        window_spans=chosen.window_spans,
        half_life_days=chosen.half_life_days,
        sentence="; ".join(parts),
        reservations=_reservations(fresh, best, chosen, popularity_hits, judge),
    )


def _reservations(
    fresh: Sequence[Training], best: Training, chosen: Training, popularity_hits: np.ndarray, judge: Judge
) -> list[str]:
    found = []
    if best is not chosen:
        found.append(
            f"the best figure, {judge.show(best.hits)}, is that of {spans(best.window_spans)} with "
            f"{half_life(best.half_life_days)}: within noise of what is recommended"
        )
    largest = max(t.window_spans for t in fresh)
    if chosen.window_spans == largest and largest > min(t.window_spans for t in fresh):
        found.append(
            f"no window longer than {spans(largest)} was tried, and the longest is the best: a longer may be better"
        )
    if len({t.window_spans for t in fresh}) == 1:
        found.append("there is one window only, so nothing says whether another is better: more spans are needed")
    popular = popularity_hits.mean()
    if judge.interval(chosen.hits - popularity_hits)[0] <= 0:
        found.append(
            f"the most popular items alone reach {popular:.3f}, which these small models do not beat beyond noise: "
            "take the recommendation with a grain of salt"
        )
    return found


def spans(count: int) -> str:
    """1 span, 2 spans."""
    return f"{count} span{'' if count == 1 else 's'}"


def half_life(days: float | None) -> str:
    """no half-life, half-life 30 days."""
    return "no half-life" if days is None else f"half-life {days:g} day{'' if days == 1 else 's'}"
