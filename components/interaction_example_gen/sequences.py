"""Point in time: which rows of the ordered log make an example, such that nothing is judged or learned from its future.

Pure numpy over a log of N rows and U users, ordered by user and time (order.py). `starts` [U + 1] bounds the users.
An example is a range of one user's rows, so a user's rows are its history in order.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """E examples over P positions: example e has the rows `rows[offsets[e]:offsets[e + 1]]` of the log, oldest first.

    rows       [P] int64
    offsets    [E + 1] int64
    is_target  [P] bool
    """

    rows: np.ndarray
    offsets: np.ndarray
    is_target: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def first_rows(self) -> np.ndarray:
        """[E]: one row of each example, which tells its user."""
        return self.rows[self.offsets[:-1]]


def eval_cut(times: np.ndarray, counts: np.ndarray, eval_fraction: float) -> int:
    """The (1 − eval_fraction) quantile by time of the newest span: from it on, interactions are eval.

    `times` [T] ascending, each with `counts` [T] interactions. Interactions of one timestamp go together, so the eval
    part may be larger than `eval_fraction`.
    """
    total = int(counts.sum())
    place = min(int(np.floor((1 - eval_fraction) * total)), total - 1)
    return int(times[np.searchsorted(np.cumsum(counts), place, side="right")])


def split(
    starts: np.ndarray,
    timestamps: np.ndarray,
    *,
    is_learned: np.ndarray,
    is_judged: np.ndarray,
    cut: int,
    max_history: int,
) -> dict[str, Sequences]:
    """The splits `train` and `eval` of a log: [U + 1], [N], [N] bool, [N] bool.

    A row before `cut` is a target of `train` if it `is_learned`, one since `cut` a target of `eval` if it `is_judged`.
    """
    is_past = timestamps < cut
    return {
        "train": train_sequences(starts, is_past, is_past & is_learned, max_history),
        "eval": eval_sequences(starts, timestamps, ~is_past & is_judged, max_history),
    }


def train_sequences(starts: np.ndarray, is_past: np.ndarray, is_target: np.ndarray, max_history: int) -> Sequences:
    """Each user's rows before the eval cut (`is_past` [N]), in chunks in which every target [N] is a target once.

    From a user's first target on, each `max_history` rows are one chunk, preceded by up to `max_history` rows of
    context: L ≤ 2 · max_history, and every target has its last max_history predecessors, as many as exist, before it
    in its chunk. Of these, the model may use the strictly older ones: where a tie of g rows spans a chunk's border,
    the targets there see up to g − 1 fewer. Chunks without a target are left out. `is_target` must imply `is_past`.
    """
    begin = starts[:-1]
    end = begin + _per_user(is_past, starts)  # the past is a prefix: rows are in order of time
    size = len(is_target)
    first = np.minimum.reduceat(np.append(np.where(is_target, np.arange(size), size), size), begin)
    first = np.minimum(first, end)
    chunks = -(-(end - first) // max_history)
    user = np.repeat(np.arange(len(begin)), chunks)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    learn_from = first[user] + nth * max_history
    learn_to = np.minimum(learn_from + max_history, end[user])
    targets_before = np.append(0, np.cumsum(is_target))
    kept = targets_before[learn_to] > targets_before[learn_from]
    user, learn_from, learn_to = user[kept], learn_from[kept], learn_to[kept]
    context_from = np.maximum(learn_from - max_history, begin[user])
    rows, offsets = _ranges(context_from, learn_to)
    learned = rows >= np.repeat(learn_from, np.diff(offsets))
    return Sequences(rows, offsets, is_target[rows] & learned)


def eval_sequences(starts: np.ndarray, timestamps: np.ndarray, is_judged: np.ndarray, max_history: int) -> Sequences:
    """One example per judged row [N]: the user's last `max_history` rows strictly older than it, then itself."""
    size = len(timestamps)
    changes = np.zeros(size, dtype=bool)
    changes[1:] = timestamps[1:] != timestamps[:-1]
    changes[starts[:-1]] = True
    tie_begin = np.maximum.accumulate(np.where(changes, np.arange(size), 0))
    target = np.flatnonzero(is_judged)
    history_to = tie_begin[target]
    begin = starts[np.searchsorted(starts, target, side="right") - 1]
    history_from = np.maximum(history_to - max_history, begin)
    rows, offsets = _ranges(history_from, history_to + 1)
    last = offsets[1:] - 1
    rows[last] = target
    judged = np.zeros(len(rows), dtype=bool)
    judged[last] = True
    return Sequences(rows, offsets, judged)


def newest_sequences(starts: np.ndarray, max_history: int) -> Sequences:
    """Each user's last `max_history` rows, the eval part included: the state as of now. No targets."""
    rows, offsets = _ranges(np.maximum(starts[1:] - max_history, starts[:-1]), starts[1:])
    return Sequences(rows, offsets, np.zeros(len(rows), dtype=bool))


def halved_by_age(timestamps: np.ndarray, now_seconds: int, half_life_seconds: float) -> np.ndarray:
    """0.5^((now − t) / half-life), 1 for what is newer than now: [N] seconds → [N]."""
    return np.exp2(np.minimum(timestamps - now_seconds, 0) / half_life_seconds)


def decayed_counts(
    codes: np.ndarray, size: int, timestamps: np.ndarray, now_seconds: int, half_life_seconds: float
) -> np.ndarray:
    """Σ 0.5^((now − t) / half-life) over the rows of each code: [N] int, [N] seconds → [size] float64."""
    weights = halved_by_age(timestamps, now_seconds, half_life_seconds)
    return np.bincount(codes, weights=weights, minlength=size)


def _per_user(mask: np.ndarray, starts: np.ndarray) -> np.ndarray:
    before = np.append(0, np.cumsum(mask))
    return before[starts[1:]] - before[starts[:-1]]


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All of begin[e] … end[e] − 1, one after another: [E], [E] → [P], offsets [E + 1]."""
    lengths = end - begin
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(begin, lengths)
    return rows, offsets
