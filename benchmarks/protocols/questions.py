"""Sequences to learn from and questions to answer, as arrays: what every protocol makes of its files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainer.baselines import Baseline, Sequences

CELLS_AT_A_TIME = 2**22  # scores: 16 MB, which malloc gives again instead of asking the system
Scores = Callable[[slice], np.ndarray]  # a slice of the T questions → [b, N]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """U sequences with T targets among their P positions. What came before a target in its sequence is its history.

    is_target  [P] bool
    types      [P] int64, 1 + position in the declared interaction types
    users      name → [U] or [U, V], transformed user features (trainer.inputs)
    """

    sequences: Sequences
    is_target: np.ndarray
    types: np.ndarray
    users: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def positions(self) -> np.ndarray:
        """Of the targets: [T]."""
        return np.flatnonzero(self.is_target)

    @property
    def targets(self) -> np.ndarray:
        """Catalog rows of the targets: [T]."""
        return self.sequences.rows[self.is_target]

    def histories(self, part: slice, width: int | None = None) -> np.ndarray:
        """Rows before some of the targets, oldest first, 0 in front: [b, width], or as wide as the longest."""
        positions = self.positions[part]
        known = positions - self.sequences.starts[self.sequences.owners[positions]]
        width = int(known.max(initial=0)) if width is None else width
        lag = np.arange(width, 0, -1)
        rows = self.sequences.rows[np.maximum(positions[:, np.newaxis] - lag, 0)]
        return np.where(lag <= known[:, np.newaxis], rows, 0)


def to_learn(
    parts: Sequence[np.ndarray],
    types: Sequence[np.ndarray] | None = None,
    users: Mapping[str, np.ndarray] | None = None,
) -> Examples:
    """Every position but the first of each sequence is a target."""
    sequences = Sequences.of(parts)
    is_target = np.ones(len(sequences.rows), bool)
    is_target[sequences.starts[:-1][np.diff(sequences.starts) > 0]] = False
    kinds = np.concatenate(types) if types is not None else np.ones(len(sequences.rows), np.int64)
    return Examples(sequences=sequences, is_target=is_target, types=kinds, users=users or {})


def to_answer(
    histories: Sequence[np.ndarray],
    targets: np.ndarray | None = None,
    types: Sequence[np.ndarray] | None = None,
    users: Mapping[str, np.ndarray] | None = None,
) -> Examples:
    """One target after each history: [U], or unknown (0) where the answer is a list that stands elsewhere."""
    asked = np.zeros(len(histories), np.int64) if targets is None else targets
    parts = [np.append(history, target) for history, target in zip(histories, asked, strict=True)]
    examples = to_learn(parts, None if types is None else [np.append(kinds, 1) for kinds in types], users)
    is_target = np.zeros(len(examples.is_target), bool)
    is_target[examples.sequences.starts[1:] - 1] = True
    return Examples(sequences=examples.sequences, is_target=is_target, types=examples.types, users=examples.users)


def slices(total: int, num_items: int) -> Iterator[slice]:
    """Slices of the questions whose scores fit into memory."""
    size = max(1, CELLS_AT_A_TIME // num_items)
    return (slice(begin, min(begin + size, total)) for begin in range(0, total, size))


def ranks(questions: Examples, scores: Scores, num_items: int, is_seen_excluded: bool) -> np.ndarray:
    """Rank of each target among all items, 1 = best, ties against us: [T]. The rule of trainer.metrics."""
    parts, targets = [np.zeros(0, np.int64)], questions.targets
    for part in slices(len(targets), num_items):
        found = scores(part)
        own = found[np.arange(len(found)), targets[part] - 1].copy()
        if is_seen_excluded:
            found = found.copy()
            hide(found, questions.histories(part))
            found[np.arange(len(found)), targets[part] - 1] = own
        parts.append((found >= own[:, np.newaxis]).sum(axis=1))
    return np.concatenate(parts)


def hide(scores: np.ndarray, rows: np.ndarray) -> None:
    """Takes catalog rows [B, X] (0 names none) out of the scores [B, N]."""
    user, place = np.nonzero(rows)
    scores[user, rows[user, place] - 1] = -np.inf


def recall(ranks: np.ndarray, k: int) -> float:
    """Share of targets among the first k."""
    return float(np.mean(ranks <= k))


def ndcg(ranks: np.ndarray, k: int) -> float:
    """Mean of 1 / log2(rank + 1) within the first k: one relevant item per list."""
    return float(np.mean((ranks <= k) / np.log2(ranks + 1.0)))


def mrr(ranks: np.ndarray, k: int) -> float:
    """Mean of 1 / rank within the first k."""
    return float(np.mean((ranks <= k) / ranks))


def recall_and_ndcg_of_lists(
    questions: Examples, answers: Sequence[np.ndarray], scores: Scores, num_items: int, k: int
) -> tuple[float, float]:
    """Recall@k and NDCG@k of users with several relevant items each, history left out; means over the users.

    recall = found / all relevant (He et al. 2020, LightGCN's evaluation); the ideal DCG has min(k, relevant) hits. In a
    tie the irrelevant come first. One user's relevant items by rising count of irrelevant ones ahead, the i-th of them
    (from 0) with c_i ahead, stand at c_i + i + 1; only the k best irrelevant ones have to be known for the first k.
    """
    recalls, ndcgs = [np.zeros(0)], [np.zeros(0)]
    discounts = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    for part in slices(len(answers), num_items):
        found = scores(part).copy()
        relevant = answers[part]
        sizes = np.array([len(rows) for rows in relevant])
        user, row = np.repeat(np.arange(len(relevant)), sizes), np.concatenate(relevant)
        own = found[user, row - 1].copy()
        hide(found, questions.histories(part))
        found[user, row - 1] = -np.inf
        best = np.partition(found, -min(k, num_items), axis=1)[:, -min(k, num_items) :]
        ahead = (best[user] >= own[:, np.newaxis]).sum(axis=1)
        order = np.lexsort((ahead, user))  # users stay in order
        place_among_relevant = np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rank = ahead[order] + place_among_relevant + 1
        gains = (rank <= k) / np.log2(rank + 1.0)
        recalls.append(np.bincount(user, rank <= k, len(relevant)) / sizes)
        ndcgs.append(np.bincount(user, gains, len(relevant)) / discounts[np.minimum(sizes, k) - 1])
    return float(np.mean(np.concatenate(recalls))), float(np.mean(np.concatenate(ndcgs)))


def scores_of(baseline: Baseline, questions: Examples) -> Scores:
    """A fitted baseline's answers."""
    return lambda part: baseline.scores(questions.histories(part))
