"""The log of one shard, in its one true order: by user, time, item and type; no interaction twice.

    rows of the state ──────────┐
    rows of history, from files ┼─ gather ─▶ Rows ─ repeats, robots ─▶ merge ─▶ one ordered log
    rows of the spans to learn ─┘

What is kept of the past (`recent`) depends on the rows alone, not on the runs that saw them: so a run that reads the
state and one that reads the window again see the same past.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.shards import OF_STATE

PLAIN = ("user", "item", "kind", "timestamp", "span", "file", "line")


@dataclass(frozen=True)
class Rows:
    """N interactions; `user`, `item` and `kind` [N] int32 are places in `users`, `items` and `kinds`, which ascend.

    timestamp [N] int64 seconds; span [N] int32; file [N] int32, OF_STATE for rows of the state; line [N] int64;
    key [N] int64, of deduplicate_by, or None; context: name → [N].
    """

    users: pa.Array
    items: pa.Array
    kinds: pa.Array
    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    timestamp: np.ndarray
    span: np.ndarray
    file: np.ndarray
    line: np.ndarray
    key: np.ndarray | None
    context: Mapping[str, pa.Array]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> "Rows":
        """Some rows, by place [M] int or by mask [N] bool; all of `users`, `items` and `kinds` stay."""
        if rows.dtype == bool:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)
        places = pa.array(rows)
        arrays = {
            name: getattr(self, name)[rows] for name in ("user", "item", "kind", "timestamp", "span", "file", "line")
        }
        return replace(
            self,
            **arrays,
            key=None if self.key is None else self.key[rows],
            context={name: values.take(places) for name, values in self.context.items()},
        )

    @property
    def starts(self) -> np.ndarray:
        """[U + 1]: user u of those that have rows has the rows `starts[u]` to `starts[u + 1]`, of an ordered log."""
        return np.append(np.flatnonzero(np.diff(self.user, prepend=-1)), len(self)).astype(np.int64)


def gather(tables: list[pa.Table]) -> Rows:
    """Tables of a shard, in any order → their rows: the state's first, then by file and line."""
    tables = sorted((t for t in tables if len(t)), key=lambda t: (t["file"][0].as_py(), t["line"][0].as_py()))
    table = pa.concat_tables([t.select(tables[0].column_names) for t in tables])
    coded = {name: _ranked(table[name]) for name in ("user_id", "item_id", "interaction_type")}
    (user, users), (item, items), (kind, kinds) = coded.values()
    plain = {name: table[name].combine_chunks() for name in table.column_names if name not in coded}
    return Rows(
        users=users,
        items=items,
        kinds=kinds,
        user=user,
        item=item,
        kind=kind,
        **{name: plain[name].to_numpy() for name in ("timestamp", "span", "file", "line")},
        key=plain["key"].to_numpy() if "key" in plain else None,
        context={name: column for name, column in plain.items() if name.startswith("context:")},
    )


def ordered(rows: Rows) -> Rows:
    """By user, time, item and type; equals stay in the order they came in."""
    if not len(rows):
        return rows
    second = rows.item.astype(np.int64) * len(rows.kinds) + rows.kind
    oldest, range_seconds = rows.timestamp.min(), int(np.ptp(rows.timestamp))
    if range_seconds * len(rows.users) >= 2**62:  # never in one int64
        return rows.take(np.lexsort((second, rows.timestamp, rows.user)))
    first = rows.user.astype(np.int64) * (range_seconds + 1) + (rows.timestamp - oldest)
    return rows.take(np.lexsort((second, first)))


def repeats(rows: Rows) -> np.ndarray:
    """[N] bool: equal to an earlier row of the same span (user, time, item, type), or to its key. Ordered rows."""
    repeated = _equals_before(rows) & (np.diff(rows.span, prepend=-1) == 0)
    if rows.key is None:
        return repeated
    left = np.flatnonzero(~repeated & (rows.file != OF_STATE))
    by = left[np.lexsort((rows.key[left], rows.user[left], rows.span[left]))]  # stable: the first by time stays first
    same = np.ones(max(len(by) - 1, 0), dtype=bool)
    for column in (rows.span, rows.user, rows.key):
        same &= column[by][1:] == column[by][:-1]
    repeated[by[1:][same]] = True
    return repeated


def robots(rows: Rows, max_events_per_hour: int) -> np.ndarray:
    """[N] bool: rows of a user in a span in which it has more than that many in one hour of the clock (UTC)."""
    raw = np.flatnonzero(rows.file != OF_STATE)
    spans, span = np.unique(rows.span[raw], return_inverse=True)
    whose = rows.user[raw].astype(np.int64) * len(spans) + span
    hour = rows.timestamp[raw] // 3600
    by = np.lexsort((hour, whose))
    begins = np.flatnonzero(np.append(True, (np.diff(whose[by]) != 0) | (np.diff(hour[by]) != 0))) if len(by) else by
    counts = np.diff(np.append(begins, len(by)))
    guilty = np.unique(whose[by][begins[counts > max_events_per_hour]])
    found = np.zeros(len(rows), dtype=bool)
    found[raw[np.isin(whose, guilty)]] = True
    return found


def collapse(rows: Rows, is_old: np.ndarray) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Of equal rows of several spans, the first stays, old if one of them is, and as of the newest span.

    Ordered rows [N], [N] bool → the rows that stay [M], whether each is old [M], and which went [N] bool.
    """
    again = _equals_before(rows)
    if not again.any():
        return rows, is_old, again
    begins = np.flatnonzero(~again)
    kept = replace(rows.take(begins), span=np.maximum.reduceat(rows.span, begins))
    return kept, np.logical_or.reduceat(is_old, begins), again


def recent(rows: Rows, unlearned_from_seconds: int, max_history: int) -> np.ndarray:
    """[N] bool: of each user, the interactions not learned yet, and the newest `max_history` of the others.

    Newest by span, then by time: what came late, or again, counts as new. Of ordered rows.
    """
    in_turn = np.arange(len(rows))
    if np.any((np.diff(rows.user) == 0) & (np.diff(rows.span) < 0)):
        in_turn = np.lexsort((in_turn, rows.span, rows.user))
    is_learned = rows.timestamp[in_turn] < unlearned_from_seconds
    up_to = np.append(0, np.cumsum(is_learned))
    starts = rows.starts  # the same for both orders
    newer = np.repeat(up_to[starts[1:]], np.diff(starts)) - up_to[1:]
    kept = np.zeros(len(rows), dtype=bool)
    kept[in_turn] = ~is_learned | (newer < max_history)
    return kept


def _equals_before(rows: Rows) -> np.ndarray:
    same = np.zeros(len(rows), dtype=bool)
    same[1:] = True
    for column in (rows.user, rows.timestamp, rows.item, rows.kind):
        same[1:] &= column[1:] == column[:-1]
    return same


def _ranked(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """[N] → the place of each value among the distinct values in ascending order [N] int32, and these values."""
    coded = column.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    order = pc.array_sort_indices(coded.dictionary)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return rank[coded.indices.to_numpy()], coded.dictionary.take(order)
