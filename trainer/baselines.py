"""Models that count instead of learning: the least that a learned one must beat, fitted in seconds. No TensorFlow.

Each has a `name`, is fitted by `fit(sequences)`, and answers `scores(histories)`: catalog rows [B, L], oldest first, 0
where nothing is known → [B, N] float32, larger is better; column n is catalog row n + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sparse

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Sequences:
    """U sequences end to end, each oldest first: what baselines are fitted on. P positions.

    rows        [P] int64  of the catalog; 0 = unknown, counts for nothing
    starts      [U + 1]    where each sequence begins; the last is P
    timestamps  [P] int64  seconds
    weights     [P]        how much a position counts, as that of its interaction type in the retrieval loss
    """

    rows: np.ndarray
    starts: np.ndarray
    timestamps: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> "Sequences":
        """Sequences of rows alone: a second apart, all of one weight."""
        starts = np.cumsum([0, *map(len, parts)])
        rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        age = np.arange(len(rows)) - np.repeat(starts[:-1], np.diff(starts))
        return cls(rows, starts, age, np.ones(len(rows), np.float32))

    @property
    def owners(self) -> np.ndarray:
        """Which sequence each position belongs to: [P]."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


class Baseline(Protocol):
    """What fits in a quality table beside the learned model."""

    @property
    def name(self) -> str: ...

    def fit(self, sequences: Sequences) -> None: ...

    def scores(self, histories: np.ndarray) -> np.ndarray: ...


class Popularity:
    """Everyone is shown what most chose: of all times, or of the last `days` before the newest interaction."""

    def __init__(self, num_items: int, days: float | None = None) -> None:
        self._num_items, self._days = num_items, days
        self.counts = np.zeros(num_items, np.float32)

    @property
    def name(self) -> str:
        return "popularity" if self._days is None else f"popularity of {self._days:g} days"

    def fit(self, sequences: Sequences) -> None:
        """Sums weights by item: [N]."""
        weights = sequences.weights
        if self._days is not None and len(weights):
            weights = weights * (sequences.timestamps > sequences.timestamps.max() - self._days * DAY_SECONDS)
        self.counts = np.bincount(sequences.rows, weights, self._num_items + 1)[1:].astype(np.float32)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """The same for every history: [B, L] → [B, N]."""
        return np.broadcast_to(self.counts, (len(histories), self._num_items))


class CoVisits:
    """What follows what: a Markov chain that looks `window` steps ahead and `last` interactions back.

    score(j | history) = Σ_a (p(j | i_a) + again · [j = i_a]) / (1 + a), where i_a is the interaction of age a = 0 (the
    newest) … last − 1, and p(j | i) the share of j in all that came within `window` positions after an i. In sessions,
    what came before an item says something too: such a pair counts `backward` as much.
    """

    name = "co-visits"

    def __init__(
        self, num_items: int, window: int = 3, last: int = 5, backward: float = 0.0, again: float = 0.0
    ) -> None:
        self._num_items, self._window, self._last = num_items, window, last
        self._backward, self._again = backward, again
        self.shares = sparse.csr_matrix((num_items + 1, num_items + 1), dtype=np.float32)

    def fit(self, sequences: Sequences) -> None:
        """Counts pairs of positions into a sparse [N + 1, N + 1]; memory is that of the pairs that occur."""
        rows, owners = sequences.rows.astype(np.int32), sequences.owners
        counts = sparse.csr_matrix(self.shares.shape, dtype=np.float32)
        for lag in range(1, self._window + 1):
            is_pair = (owners[:-lag] == owners[lag:]) & (rows[:-lag] > 0) & (rows[lag:] > 0)
            before, after = np.flatnonzero(is_pair), np.flatnonzero(is_pair) + lag
            counts += self._pairs(rows[before], rows[after], sequences.weights[after])
            if self._backward:
                counts += self._pairs(rows[after], rows[before], self._backward * sequences.weights[before])
        totals = np.asarray(counts.sum(axis=1)).ravel()
        shares = sparse.diags(np.divide(1, totals, out=np.zeros_like(totals), where=totals > 0)) @ counts
        self.shares = (shares + self._again * sparse.identity(len(totals))).tocsr().astype(np.float32)

    def _pairs(self, of: np.ndarray, what: np.ndarray, weights: np.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix((weights, (of, what)), self.shares.shape, dtype=np.float32)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """[B, L] → [B, N]."""
        known = histories > 0
        age = np.cumsum(known[:, ::-1], axis=1)[:, ::-1] - 1  # of the known ones; 0 = newest
        user, position = np.nonzero(known & (age < self._last))
        weight = (1 / (1 + age[user, position])).astype(np.float32)
        recent = sparse.csr_matrix(
            (weight, (user, histories[user, position])), (len(histories), self._num_items + 1), dtype=np.float32
        )
        return (recent @ self.shares).toarray()[:, 1:]
