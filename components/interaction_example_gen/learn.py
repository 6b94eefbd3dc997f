"""A shard's log → what is learned from it and what it is judged by."""

import numpy as np
import pyarrow as pa

from components.interaction_example_gen.log import Rows
from components.interaction_example_gen.merge import Told
from components.interaction_example_gen.sequences import Sequences, decayed_counts, halved_by_age, split

POPULARITY_HALF_LIFE_SECONDS = 30 * 24 * 3600
DAY_SECONDS = 24 * 3600


def examples_of(log: Rows, is_new: np.ndarray, told: Told, cut: int) -> dict[str, tuple[Sequences, np.ndarray | None]]:
    """The splits of a log, each with the weights [N] of the log's rows, or None without a half-life.

    Learned is what is new (`is_new` [N]: of a span being learned) or was the eval part of the last run.
    """
    contract = told.contract.interactions
    splits = split(
        log.starts,
        log.timestamp,
        is_learned=is_one_of(log, tuple(contract.weights)) & (is_new | (log.timestamp >= told.learned_until_seconds)),
        is_judged=is_one_of(log, contract.positive_types),
        cut=cut,
        max_history=told.config.max_history,
    )
    days = told.config.half_life_days
    weights = None if days is None else halved_by_age(log.timestamp, cut, days * DAY_SECONDS)
    return {name: (sequences, weights) for name, sequences in splits.items()}


def popularity_of(log: Rows, types: tuple[str, ...], cut: int) -> pa.Table:
    """Item → the time-decayed number of its interactions of these types before the cut."""
    counted = (log.timestamp < cut) & is_one_of(log, types)
    weights = decayed_counts(
        log.item[counted], len(log.items), log.timestamp[counted], cut, POPULARITY_HALF_LIFE_SECONDS
    )
    some = weights > 0
    return pa.table({"item_id": log.items.filter(pa.array(some)), "weight": weights[some]})


def is_one_of(log: Rows, types: tuple[str, ...]) -> np.ndarray:
    """[N] bool: the interaction is of one of these types."""
    return np.isin(log.kinds.to_numpy(zero_copy_only=False).astype(str), types)[log.kind]
