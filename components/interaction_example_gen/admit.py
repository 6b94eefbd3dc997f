"""Which items of the catalog a model gets to know: enough interactions (admission), and not too long ago (eviction).

An item that is left out is not in the catalog's examples, so it is in no vocabulary: the model takes it for unknown in
a history, does not learn to find it, and serves it to nobody. Its interactions are kept all the same, and count for it
in the next run.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Seen:
    """What the log held of each of M items, before the eval cut: [M] each.

    weight: time-decayed number of interactions; count: their number; last_seconds: the newest, -1 for none.
    since_seconds: the oldest of all, None where there is none.
    """

    weight: np.ndarray
    count: np.ndarray
    last_seconds: np.ndarray
    since_seconds: int | None


def seen_of(ids: pa.Array, parts: list[pa.Table]) -> Seen:
    """The shards' parts (learn.popularity_of), in any order to the same sum, for the items of these ids [M]."""
    weight, count, last = np.zeros(len(ids)), np.zeros(len(ids), np.int64), np.full(len(ids), -1)
    firsts = []
    for part in sorted(parts, key=lambda part: part["item_id"][0].as_py() if len(part) else ""):
        place = pc.index_in(part["item_id"], value_set=ids).to_numpy()
        weight[place] += part["weight"].to_numpy()
        count[place] += part["count"].to_numpy()
        np.maximum.at(last, place, part["last_seconds"].to_numpy())
        firsts += part["first_seconds"].to_pylist()
    return Seen(weight, count, last, min(firsts, default=None))


def is_rare(seen: Seen, min_interactions: int) -> np.ndarray:
    """[M] bool: fewer than `min_interactions` are held of the item."""
    return seen.count < min_interactions


def is_unseen(seen: Seen, listed_seconds: np.ndarray | None, cut: int, evict_after_days: float | None) -> np.ndarray:
    """[M] bool: neither touched nor listed in so many days before the cut. Without a limit, none.

    listed_seconds: since when the catalog has the item [M], None where it does not say. A log that goes back less far
    than the limit says of no item that it was unseen for so long.
    """
    if evict_after_days is None:
        return np.zeros(len(seen.count), dtype=bool)
    horizon = cut - evict_after_days * DAY_SECONDS
    newest = seen.last_seconds if listed_seconds is None else np.maximum(seen.last_seconds, listed_seconds)
    goes_back_enough = seen.since_seconds is not None and seen.since_seconds < horizon
    return (newest < horizon) & goes_back_enough
