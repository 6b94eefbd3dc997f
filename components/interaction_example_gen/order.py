"""The log of one shard, in its one true order: by user, time, item and type, exact duplicates taken out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.clean import DUPLICATE
from components.interaction_example_gen.report import MAX_SAMPLES, Report


@dataclass(frozen=True)
class Log:
    """N interactions of U users; user u has the rows `starts[u]` to `starts[u + 1]`, oldest first.

    The order depends on the interactions alone, not on files or shards: users by id; a user's rows by timestamp, then
    item id, then type.

    table       [N] as `clean` gives it
    starts      [U + 1] int64
    timestamps  [N] int64, seconds
    """

    table: pa.Table
    starts: np.ndarray
    timestamps: np.ndarray

    @property
    def user_ids(self) -> pa.Array:
        """[U] string, ascending."""
        return self.table["user_id"].combine_chunks().take(pa.array(self.starts[:-1]))


def partition(table: pa.Table, num_shards: int, key: str = "user_id") -> list[tuple[int, pa.Table]]:
    """Rows [N] → at most `num_shards` of (shard, its rows). An id has one shard, the same in every process."""
    ids = pc.dictionary_encode(table[key].combine_chunks())
    hashes = pd.util.hash_array(ids.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    shards = (hashes % num_shards).astype(np.int64)[ids.indices.to_numpy()]
    return [(int(shard), table.filter(pa.array(shards == shard))) for shard in np.unique(shards)]


def order(tables: list[pa.Table], file_names: list[str]) -> tuple[Log, Report]:
    """Accepted rows of a shard, one table per file in any order → the ordered log and what was taken out.

    Of rows with the same user, item, type and timestamp the first by file and line stays.
    """
    tables = sorted(tables, key=lambda table: table["file"][0].as_py())
    table = pa.concat_tables(tables).combine_chunks()
    user, item, kind = (_ranks(table[name]) for name in ("user_id", "item_id", "interaction_type"))
    time = table["timestamp"].to_numpy()
    by = np.lexsort((kind, item, time, user))  # stable: equals stay in the order of file and line
    repeated = np.zeros(len(by), dtype=bool)
    repeated[1:] = np.logical_and.reduce([key[by][1:] == key[by][:-1] for key in (user, time, item, kind)])
    report = Report()
    report.reject(DUPLICATE, int(repeated.sum()), _samples(table, np.sort(by[repeated])[:MAX_SAMPLES], file_names))
    table = table.take(pa.array(by[~repeated]))
    user = user[by[~repeated]]
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    return Log(table, np.append(starts, len(user)).astype(np.int64), table["timestamp"].to_numpy()), report


def _ranks(column: pa.ChunkedArray) -> np.ndarray:
    """[N] string → [N] int64: the place of each value among the distinct values in ascending order."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    rank = np.empty(len(encoded.dictionary), dtype=np.int64)
    rank[pc.array_sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[encoded.indices.to_numpy()]


def _samples(table: pa.Table, rows: np.ndarray, file_names: list[str]) -> list[tuple[int, int, str]]:
    shown = []
    for row in rows:
        values = {name: table[name][int(row)].as_py() for name in table.column_names}
        keys = ("user_id", "item_id", "interaction_type", "timestamp")
        words = ", ".join(f"{key}={values[key]!r}" for key in keys)
        shown.append((values["file"], values["line"], f"{file_names[values['file']]}:{values['line']}: {words}"))
    return shown
