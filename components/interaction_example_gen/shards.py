"""Rows on their way from the files to the shard of their user: dealt by a hash of the user, packed small.

Between two steps of Beam a shard's part of a block travels as bytes: Arrow's stream format, compressed, and whole
numbers as differences. Beam's runner on one machine holds what is to be grouped several times over: small counts.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

CODED = ("user_id", "item_id", "interaction_type")
OF_STATE = -1  # the `file` of rows that come from the user state


def deal(table: pa.Table, num_shards: int, key: str = "user_id") -> Iterator[tuple[int, pa.Table]]:
    """Rows [N] → (shard, its rows) for every shard that has some. An id has one shard, the same in every process.

    `key` is a dictionary column; the dictionaries of a shard's rows hold what its rows use.
    """
    table = table.combine_chunks()
    ids = _dictionary(table[key])
    shard_of = hashed(ids.dictionary) % num_shards
    shards = shard_of.astype(np.min_scalar_type(num_shards))[ids.indices.to_numpy()]
    order = np.argsort(shards, kind="stable")
    table = table.take(pa.array(order)) if num_shards > 1 else table
    bounds = np.searchsorted(shards[order], np.arange(num_shards + 1))
    for shard in range(num_shards):
        begin, end = bounds[shard], bounds[shard + 1]
        if end > begin:
            yield shard, compact(table.slice(begin, end - begin))


def pack(table: pa.Table) -> bytes:
    """A table as bytes."""
    table = _each_number(table, lambda numbers: np.diff(numbers, prepend=0))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """What `pack` packed."""
    return _each_number(pa.ipc.open_stream(data).read_all(), np.cumsum)


def _each_number(table: pa.Table, change: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    """Of int64 columns, where a sum of differences is exact whatever overflows."""
    for place, field in enumerate(table.schema):
        if field.type == pa.int64():
            table = table.set_column(place, field.name, pa.array(change(table[field.name].to_numpy()), pa.int64()))
    return table


def hashed(values: pa.Array) -> np.ndarray:
    """Strings [V] → uint64 [V], the same in every process."""
    return pd.util.hash_array(values.to_numpy(zero_copy_only=False), categorize=False)


def compact(table: pa.Table) -> pa.Table:
    """The same rows; dictionaries hold what is used."""
    for place, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table.schema.field(name).type):
            column = _dictionary(table[name])
            codes = column.indices.to_numpy()
            used = np.zeros(len(column.dictionary), dtype=bool)
            used[codes] = True
            renumbered = (np.cumsum(used) - 1).astype(np.int32)[codes]
            values = column.dictionary.filter(pa.array(used))
            table = table.set_column(place, name, pa.DictionaryArray.from_arrays(pa.array(renumbered), values))
    return table


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
