"""A shard's log → what is learned from it and what it is judged by."""

import numpy as np
import pandas as pd
import pyarrow as pa

from components.interaction_example_gen.log import Rows
from components.interaction_example_gen.merge import Told
from components.interaction_example_gen.sequences import Sequences, decayed_counts, halved_by_age, split
from components.interaction_example_gen.shards import hashed

POPULARITY_HALF_LIFE_SECONDS = 30 * 24 * 3600
DAY_SECONDS = 24 * 3600


def examples_of(log: Rows, is_new: np.ndarray, told: Told, cut: int) -> dict[str, tuple[Sequences, np.ndarray | None]]:
    """The splits of a log, each with the weights [N] of the log's rows, or None without a half-life.

    Learned is what is new (`is_new` [N]: of a span being learned) or was the eval part of the last run; and once more,
    against forgetting, a sample of what was learned before: another in each run.
    """
    contract = told.contract.interactions
    is_due = is_new | (log.timestamp >= told.learned_until_seconds)
    is_due |= is_drawn(log, told.config.replay_fraction, seed=told.plan.span)
    splits = split(
        log.starts,
        log.timestamp,
        is_learned=is_one_of(log, tuple(contract.weights)) & is_due,
        is_judged=is_one_of(log, contract.positive_types),
        cut=cut,
        max_history=told.config.max_history,
    )
    days = told.config.half_life_days
    weights = None if days is None else halved_by_age(log.timestamp, cut, days * DAY_SECONDS)
    return {name: (sequences, weights) for name, sequences in splits.items()}


def is_drawn(log: Rows, fraction: float, seed: int) -> np.ndarray:
    """[N] bool: this fraction of the interactions, drawn by a hash of each and of the seed.

    So a state and a window that is read again draw the same, however the users are dealt, and so does a run that is
    repeated.
    """
    if not fraction:
        return np.zeros(len(log), dtype=bool)
    mixed = hashed(log.users)[log.user]
    for part in (hashed(log.items)[log.item], hashed(log.kinds)[log.kind], log.timestamp, seed):
        mixed = pd.util.hash_array(np.uint64(0x9E3779B97F4A7C15) * mixed + np.asarray(part).astype(np.uint64))
    return (mixed >> np.uint64(11)) * 2.0**-53 < fraction


def popularity_of(log: Rows, types: tuple[str, ...], cut: int) -> pa.Table:
    """Item → of its interactions of these types before the cut the number, time-decayed (`weight`) and plain (`count`),
    and when the first and the last were, in seconds.
    """
    counted = (log.timestamp < cut) & is_one_of(log, types)
    items, times, size = log.item[counted], log.timestamp[counted], len(log.items)
    weights = decayed_counts(items, size, times, cut, POPULARITY_HALF_LIFE_SECONDS)
    first, last = np.full(size, cut), np.full(size, -1)
    np.minimum.at(first, items, times)
    np.maximum.at(last, items, times)
    counts = np.bincount(items, minlength=size)
    columns = {"weight": weights, "count": counts, "first_seconds": first, "last_seconds": last}
    some = counts > 0
    return pa.table({"item_id": log.items.filter(pa.array(some)), **{n: values[some] for n, values in columns.items()}})


def is_one_of(log: Rows, types: tuple[str, ...]) -> np.ndarray:
    """[N] bool: the interaction is of one of these types."""
    return np.isin(log.kinds.to_numpy(zero_copy_only=False).astype(str), types)[log.kind]
