"""What is popular in a context: for users of whom nothing is known, where the context says anything.

With c_v(i) an item's interactions in the context v, time-decayed, and p(i) its share of all interactions counted,

    p(i | v) = (c_v(i) + m p(i)) / (c_v + m)

is its share in the context, drawn to the overall one as if m more interactions had been seen (a Dirichlet prior). What
a context adds to the logarithm of an item's popularity is log p(i | v) − log p(i); several add up, as if independent
given the item. Which contexts count, and m, are what makes held-out interactions likelier, by more than chance would.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY

PRIOR_STRENGTHS = (30.0, 100.0, 300.0, 1_000.0, 3_000.0)
HALF_LIFE_SECONDS = 30 * 24 * 3600  # as of the popularity itself (components.interaction_example_gen.learn)
STANDARD_ERRORS, LEAST_GAIN = 3.0, 0.01  # the best of several strengths is judged; 1% likelier on the mean

Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Interactions:
    """T interactions: place among the W most popular items (−1: none of them), seconds, and values of each context.

    places [T] int64, timestamps [T] int64, contexts: name → [T] int64, 0 = unknown
    """

    places: np.ndarray
    timestamps: np.ndarray
    contexts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ContextPopularity:
    """What contexts add to the logarithm of the share of each of the W most popular items.

    first    context feature that counts → its first row but one: value v ≥ 1 has the row first[name] + v
    table    [1 + values, W] float32; row 0 is what is unknown, which adds nothing
    gains    context feature → mean logarithm by which held-out interactions become likelier, of all that were tried
    """

    first: Mapping[str, int]
    table: np.ndarray
    gains: Mapping[str, float]


def targets_of(
    batches: Iterable[Batch], names: Sequence[str], place_of: np.ndarray, is_positive: np.ndarray
) -> Interactions:
    """The targets of dense sequences (trainer.inputs) that are of a positive type.

    place_of [N + 1]: of each catalog row, −1 for none. is_positive [types + 1].
    """
    places, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    contexts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.int64)] for name in names}
    for batch in batches:
        counts = batch[IS_TARGET_KEY] & is_positive[batch["type_rows"]]
        places.append(place_of[batch["item_rows"][counts]])
        seconds.append(batch[TIMESTAMPS_KEY][counts])
        for name in names:
            contexts[name].append(batch[name][counts])
    return Interactions(
        np.concatenate(places), np.concatenate(seconds), {name: np.concatenate(c) for name, c in contexts.items()}
    )


def learn(
    shares: np.ndarray, sizes: Mapping[str, int], train: Interactions, held_out: Interactions, now_seconds: int
) -> ContextPopularity:
    """Counts on `train`, and keeps the contexts that make `held_out` likelier.

    shares [W]: p(i) of the popular items. sizes: context feature → values of its vocabulary.
    """
    weights = np.exp2(np.minimum(train.timestamps - now_seconds, 0) / HALF_LIFE_SECONDS)
    counts = np.bincount(train.places + 1, weights, len(shares) + 1)[1:]
    overall = (counts + shares) / (weights.sum() + 1)  # popularity itself, as one interaction more
    best: dict[str, np.ndarray] = {}
    for name, size in sizes.items():
        tables = [_table(overall, size, train.places, train.contexts[name], weights, m) for m in PRIOR_STRENGTHS]
        best[name] = max(tables, key=lambda table: _likelier(overall, {name: table}, held_out).sum())
    alone = {name: _likelier(overall, {name: table}, held_out) for name, table in best.items()}
    chosen: dict[str, np.ndarray] = {}
    so_far = np.zeros(len(held_out.places))
    for name in sorted(best, key=lambda name: -alone[name].sum()):
        together = _likelier(overall, chosen | {name: best[name]}, held_out)
        if _is_beyond_chance(together - so_far):
            chosen[name], so_far = best[name], together
    begins = np.cumsum([0, *(len(table) - 1 for table in chosen.values())]).tolist()
    return ContextPopularity(
        first=dict(zip(chosen, begins, strict=False)),
        table=np.concatenate([np.zeros([1, len(shares)], np.float32), *(table[1:] for table in chosen.values())]),
        gains={name: float(values.mean()) if len(values) else 0.0 for name, values in alone.items()},
    )


def _table(
    overall: np.ndarray, size: int, places: np.ndarray, values: np.ndarray, weights: np.ndarray, strength: float
) -> np.ndarray:
    """log p(i | v) − log p(i): [1 + size, W] float32; 0 for the unknown value and for one that was never seen."""
    width = len(overall)
    is_popular = places >= 0
    cells = values[is_popular] * width + places[is_popular]
    counts = np.bincount(cells, weights[is_popular], (size + 1) * width).reshape(size + 1, width)
    seen = np.bincount(values, weights, size + 1)[:, np.newaxis]  # of all items, popular or not
    table = np.log((counts + strength * overall) / ((seen + strength) * overall))
    table[0] = 0.0
    return table.astype(np.float32)


def _likelier(overall: np.ndarray, tables: Mapping[str, np.ndarray], held_out: Interactions) -> np.ndarray:
    """What tables together add to the logarithm of each held-out interaction's probability, normalised: [T].

    Items beyond the popular keep their share before the normalisation.
    """
    added = np.zeros([len(held_out.places), len(overall)])
    for name, table in tables.items():
        added += table[held_out.contexts[name]]
    own = added[np.arange(len(added)), np.maximum(held_out.places, 0)]
    total = np.exp(added) @ overall + 1 - overall.sum()
    return np.where(held_out.places >= 0, own, 0.0) - np.log(total)


def _is_beyond_chance(added: np.ndarray) -> bool:
    """Whether the mean is above 0 by more than some standard errors, and worth a word."""
    if len(added) < 2:
        return False
    return bool(added.mean() > max(LEAST_GAIN, STANDARD_ERRORS * added.std(ddof=1) / np.sqrt(len(added))))
