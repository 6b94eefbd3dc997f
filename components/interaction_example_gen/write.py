"""Examples as gzip TFRecord files. Arrow batches go straight to the encoder and the file: no element per row."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.interaction_example_gen.columns import whole
from components.interaction_example_gen.load import TIME
from components.interaction_example_gen.log import Rows
from components.interaction_example_gen.sequences import Sequences
from trainer.features import (
    INTERACTION_TYPES_KEY,
    IS_TARGET_KEY,
    ITEM_IDS_KEY,
    TIMESTAMPS_KEY,
    USER_ID_KEY,
    USER_KEY,
    WEIGHTS_KEY,
    Feature,
)

BATCH_EXAMPLES = 2048
# A build of 1M rows took 5.8 s at level 1 (32 MB) and 9.3 s at zlib's default of 6 (29 MB); 2026-11-21, 2 cores.
COMPRESSION_LEVEL = 1
NEVER = np.iinfo(np.int64).max


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
    log: Rows,
    sequences: Sequences,
    users: pa.Table | None,
    context: tuple[Feature, ...],
    *,
    with_targets: bool,
    with_user: bool,
    weights: np.ndarray | None = None,
) -> Iterator[pa.RecordBatch]:
    """Examples [E] as batches, laid out as trainer.features says.

    `with_targets` adds `is_target`, `with_user` the id as a feature.

    users: rows by id and time (load.load_users); an example has the newest before its first target, empty lists when
      there is none. weights: of the log's rows [N], or None for examples without.
    """
    text = {
        ITEM_IDS_KEY: (log.item, log.items.cast(pa.binary())),
        INTERACTION_TYPES_KEY: (log.kind, log.kinds.cast(pa.binary())),
    }
    ids, first_rows = log.users.cast(pa.binary()), sequences.first_rows
    as_of = _asked_at(log, sequences) if users is not None and with_targets else np.full(len(sequences), NEVER)
    for start in range(0, len(sequences), BATCH_EXAMPLES):
        end = min(start + BATCH_EXAMPLES, len(sequences))
        low, high = sequences.offsets[start], sequences.offsets[end]
        offsets = pa.array((sequences.offsets[start : end + 1] - low).astype(np.int32))
        rows, user = sequences.rows[low:high], log.user[first_rows[start:end]]
        lists = {key: values.take(pa.array(codes[rows])) for key, (codes, values) in text.items()}
        lists[TIMESTAMPS_KEY] = pa.array(log.timestamp[rows])
        for feature in context:
            values = log.context[f"context:{feature.name}"].take(pa.array(rows))
            lists[feature.name] = values.cast(pa.binary()) if pa.types.is_string(values.type) else values
        if with_targets:
            lists[IS_TARGET_KEY] = pa.array(sequences.is_target[low:high].astype(np.int64))
        if weights is not None:
            lists[WEIGHTS_KEY] = pa.array(weights[rows], type=pa.float32())
        columns = {USER_ID_KEY: one_each(ids.take(pa.array(user)))}
        if with_user:
            columns[USER_KEY] = columns[USER_ID_KEY]
        if users is not None:
            columns |= _user_features(users, log.users.take(pa.array(user)), as_of[start:end])
        columns |= {key: pa.ListArray.from_arrays(offsets, values) for key, values in lists.items()}
        yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def one_each(values: pa.Array) -> pa.ListArray:
    """[E] → lists of one value each [E, 1]."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)


def _asked_at(log: Rows, sequences: Sequences) -> np.ndarray:
    """[E] seconds: when the first target of each example happened."""
    times = np.where(sequences.is_target, log.timestamp[sequences.rows], NEVER)
    return np.minimum.reduceat(times, sequences.offsets[:-1])


def _user_features(users: pa.Table, user_ids: pa.Array, as_of: np.ndarray) -> dict[str, pa.ListArray]:
    """The feature lists of these users [E], of their newest row before `as_of` [E] → name → [E, 0 or more]."""
    known = pa.compute.dictionary_encode(whole(users[USER_ID_KEY]))
    times = users[TIME].to_numpy()
    bounds = np.append(np.flatnonzero(np.diff(known.indices.to_numpy(), prepend=-1)), len(users))
    user = pa.compute.index_in(user_ids, value_set=known.dictionary).fill_null(len(bounds) - 1).to_numpy()
    bounds = np.append(bounds, len(users))  # one more user, without rows
    seconds, rank = np.unique(times, return_inverse=True)
    keys = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)) * (len(seconds) + 1) + rank
    row = np.searchsorted(keys, user * (len(seconds) + 1) + np.searchsorted(seconds, as_of)) - 1
    row = np.where((row >= bounds[user]) & (row < bounds[user + 1]), row, len(users))  # one past the end: nothing known
    features = {}
    for name in users.column_names:
        if name not in (USER_ID_KEY, TIME):
            lists = users[name].combine_chunks()
            features[name] = pa.concat_arrays([lists, pa.array([[]], type=lists.type)]).take(pa.array(row))
    return features
