"""Examples as gzip TFRecord files. Arrow batches go straight to the encoder and the file: no element per row."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.interaction_example_gen.order import Log
from components.interaction_example_gen.sequences import Sequences
from trainer.features import (
    INTERACTION_TYPES_KEY,
    IS_TARGET_KEY,
    ITEM_IDS_KEY,
    TIMESTAMPS_KEY,
    USER_ID_KEY,
    Feature,
)

BATCH_EXAMPLES = 2048
# A build of 1M rows took 5.8 s at level 1 (32 MB) and 9.3 s at zlib's default of 6 (29 MB); 2026-11-21, 2 cores.
COMPRESSION_LEVEL = 1


def split_path(uri: str, split: str, shard: int, num_shards: int) -> str:
    """The file of one shard of a split, as TFX's own ExampleGen names them."""
    return f"{uri}/Split-{split}/data_tfrecord-{shard:05d}-of-{num_shards:05d}.gz"


def write_records(path: str, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes every batch; returns the number of examples. A retry writes the same examples over the old."""
    tf.io.gfile.makedirs(path.rsplit("/", 1)[0])
    encoder = RecordBatchToExamplesEncoder()
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=COMPRESSION_LEVEL)
    count = 0
    with tf.io.TFRecordWriter(path, options) as writer:
        for batch in batches:
            for example in encoder.encode(batch):
                writer.write(example)
            count += batch.num_rows
    return count


def sequence_batches(
    log: Log, sequences: Sequences, users: pa.Table | None, context: tuple[Feature, ...], with_targets: bool
) -> Iterator[pa.RecordBatch]:
    """Examples [E] as batches, laid out as trainer.features says; `with_targets` adds `is_target`.

    `users` [U]: `user_id` and one list column per feature; a user that it lacks has empty lists.
    """
    for start in range(0, len(sequences), BATCH_EXAMPLES):
        end = min(start + BATCH_EXAMPLES, len(sequences))
        low, high = sequences.offsets[start], sequences.offsets[end]
        offsets = pa.array((sequences.offsets[start : end + 1] - low).astype(np.int32))
        rows = pa.array(sequences.rows[low:high])
        user_ids = log.table["user_id"].take(pa.array(sequences.first_rows[start:end])).combine_chunks()

        def at(name: str, offsets: pa.Array = offsets, rows: pa.Array = rows) -> pa.ListArray:
            values = log.table[name].take(rows).combine_chunks()
            text = pa.types.is_string(values.type)
            return pa.ListArray.from_arrays(offsets, values.cast(pa.binary()) if text else values)

        columns = {USER_ID_KEY: one_each(user_ids.cast(pa.binary())), **_user_features(users, user_ids)}
        columns |= {ITEM_IDS_KEY: at("item_id"), INTERACTION_TYPES_KEY: at("interaction_type")}
        columns |= {TIMESTAMPS_KEY: at("timestamp")}
        columns |= {feature.name: at(f"context:{feature.name}") for feature in context}
        if with_targets:
            targets = pa.array(sequences.is_target[low:high].astype(np.int64))
            columns[IS_TARGET_KEY] = pa.ListArray.from_arrays(offsets, targets)
        yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def one_each(values: pa.Array) -> pa.ListArray:
    """[E] → lists of one value each [E, 1]."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)


def _user_features(users: pa.Table | None, user_ids: pa.Array) -> dict[str, pa.ListArray]:
    """The feature lists of these users: [U table], [E] → name → [E, 0 or more]."""
    if users is None:
        return {}
    known = pa.compute.index_in(user_ids, value_set=users[USER_ID_KEY].combine_chunks())
    rows = known.fill_null(len(users))  # one past the end: the empty list
    features = {}
    for name in users.column_names:
        if name != USER_ID_KEY:
            lists = users[name].combine_chunks()
            features[name] = pa.concat_arrays([lists, pa.array([[]], type=lists.type)]).take(rows)
    return features
