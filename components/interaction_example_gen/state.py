"""The compact user state: the last interactions of every user, for the next span to read instead of all spans before.

<uri>/shard-00000-of-00002.parquet   user_id, item_id, interaction_type, timestamp, span, context:<name>…
<uri>/lineage.json                   which spans it holds, and what the gate compares the next ones with
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.interaction_example_gen.log import Rows
from components.interaction_example_gen.shards import OF_STATE, compact

LINEAGE_NAME = "lineage.json"


def state_path(uri: str, shard: int, num_shards: int) -> str:
    return f"{uri}/shard-{shard:05d}-of-{num_shards:05d}.parquet"


def state_files(uri: str) -> list[str]:
    """The shards of a state, by name."""
    return sorted(tf.io.gfile.glob(f"{uri}/shard-*.parquet"))


def write_state(path: str, rows: Rows) -> None:
    """Writes rows [N]; a retry writes the same bytes over the old."""
    coded = {"user_id": (rows.user, rows.users), "item_id": (rows.item, rows.items)}
    coded["interaction_type"] = (rows.kind, rows.kinds)
    columns = {name: pa.DictionaryArray.from_arrays(pa.array(codes), values) for name, (codes, values) in coded.items()}
    columns |= {"timestamp": pa.array(rows.timestamp), "span": pa.array(rows.span), **rows.context}
    tf.io.gfile.makedirs(path.rsplit("/", 1)[0])
    sink = pa.BufferOutputStream()
    pq.write_table(compact(pa.table(columns)), sink, compression="zstd")
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(sink.getvalue().to_pybytes())


def read_state(path: str, window_from: int, has_key: bool) -> pa.Table:
    """The rows of the spans from `window_from` on, with the columns that rows of files have."""
    with tf.io.gfile.GFile(path, "rb") as stream:
        data = stream.read()
    names = ["user_id", "item_id", "interaction_type"]
    table = pq.read_table(pa.BufferReader(data), read_dictionary=names, use_threads=False)
    table = table.filter(pa.array(table["span"].to_numpy() >= window_from)).combine_chunks()
    size = len(table)
    table = table.append_column("file", pa.array(np.full(size, OF_STATE, dtype=np.int32)))
    table = table.append_column("line", pa.array(np.arange(size)))
    return table.append_column("key", pa.array(np.zeros(size, dtype=np.int64))) if has_key else table


def read_lineage(uri: str) -> dict[str, Any]:
    """What `write_lineage` wrote."""
    with tf.io.gfile.GFile(f"{uri}/{LINEAGE_NAME}") as stream:
        lineage: dict[str, Any] = json.load(stream)
        return lineage


def write_lineage(uri: str, lineage: dict[str, Any]) -> None:
    tf.io.gfile.makedirs(uri)
    with tf.io.gfile.GFile(f"{uri}/{LINEAGE_NAME}", "w") as stream:
        stream.write(json.dumps(lineage, indent=1))
