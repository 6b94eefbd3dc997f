"""From transformed sequence examples to batches of integer rows, with tf.data.

A batch (B users, L positions, padded at the end):

    item_rows   [B, L] int64    rows of the catalog, 0 = unknown or padding
    type_rows   [B, L] int64    1 + position in the declared interaction types, 0 = undeclared or padding
    timestamps  [B, L] int64    seconds; padding holds the largest int64, so that it is never history
    is_target   [B, L] bool
    weights     [B, L] float32, where the examples have them: of a target in the loss, beside that of its type
    <user>      [B]    int64 or float32, per user feature; [B, V] int64 for several values, [B, dim] for a vector
    <context>   [B, L] int64 or float32, per context feature
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer.config import ModelConfig
from trainer.features import (
    INTERACTION_TYPES_KEY,
    IS_TARGET_KEY,
    ITEM_IDS_KEY,
    TIMESTAMPS_KEY,
    WEIGHTS_KEY,
    Feature,
    Features,
)
from trainer.sequences import NEVER, PIECE_HISTORIES, SequenceTable, dealt, pieces, windows

Batch = Mapping[str, tf.Tensor]
READ_AT_A_TIME = 256  # examples


class RowLookup(tf.Module):
    """Strings to rows: unknown strings, and '', have row 0. Works eagerly, in tf.data and in a saved signature."""

    def __init__(self, ids: Sequence[bytes] | np.ndarray, name: str) -> None:
        super().__init__(name=name)
        keys = tf.constant(np.asarray(ids, dtype=object), tf.string)
        rows = tf.range(1, len(ids) + 1, dtype=tf.int64)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, rows), 0)

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows of any shape: string [...] → int64 [...]."""
        return self.table.lookup(ids)


def read_sequences(
    files: Sequence[str],
    transform: tft.TFTransformOutput,
    features: Features,
    items: RowLookup,
    types: RowLookup,
    at_most: int = -1,
) -> SequenceTable:
    """Reads transformed sequence examples (TFRecord, gzip), the first `at_most` where it is not −1."""
    spec = transform.transformed_feature_spec()

    def parse(serialized: tf.Tensor) -> Batch:
        return dense_sequences(tf.io.parse_example(serialized, spec), features, items, types)

    dataset = tf.data.TFRecordDataset(list(files), compression_type="GZIP", num_parallel_reads=len(files))
    dataset = dataset.take(at_most).batch(READ_AT_A_TIME).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    of_user = {feature.name for feature in features.user}
    lengths = [np.zeros(0, np.int64)]
    read: dict[str, list[np.ndarray]] = {}
    for name, of_batch in dataset.element_spec.items():  # nothing, of the right type: there may be no example
        read[name] = [np.zeros([0] * (len(of_batch.shape) if name in of_user else 1), of_batch.dtype.as_numpy_dtype)]
    for batch in dataset.as_numpy_iterator():
        is_there = batch[TIMESTAMPS_KEY] != NEVER
        lengths.append(is_there.sum(axis=1))
        for name, values in batch.items():
            read[name].append(values if name in of_user else values[is_there])
    return SequenceTable(
        starts=np.append(0, np.cumsum(np.concatenate(lengths))),
        positions={name: np.concatenate(parts) for name, parts in read.items() if name not in of_user},
        users={name: _end_to_end(parts) for name, parts in read.items() if name in of_user},
    )


def _end_to_end(values: Sequence[np.ndarray]) -> np.ndarray:
    """Batches as one, as wide as the widest: [B, …] each → [U, …]."""
    shape = np.max([value.shape[1:] for value in values], axis=0).astype(np.int64)
    wide = [np.pad(v, [(0, 0), *((0, n - m) for n, m in zip(shape, v.shape[1:], strict=True))]) for v in values]
    return np.concatenate(wide)


def batches(
    sequences: SequenceTable, config: ModelConfig, num_replicas: int = 1, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches of sequences of about one length, of `batch_positions` for each replica; long sequences in parts.

    With a seed, to learn from: shuffled, and cut at other places, each time they are read (`windows`). Without one, to
    judge by: every target with its whole history (`pieces`). Several workers deal the users of each batch among them,
    so they learn from what one would. The price: each reads and keeps them all.
    """
    positions = config.trainer.batch_positions * num_replicas
    rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)

    def epoch() -> Iterator[dict[str, np.ndarray]]:
        if rng is None:
            read, longest = sequences, PIECE_HISTORIES * config.max_history
            parts = pieces(read, config.max_history)
        else:
            read, longest = sequences.in_new_order(rng), config.max_history + 1
            parts = windows(read, config.max_history, rng)
            parts = parts[rng.permutation(len(parts))]
        made = dealt(parts.end - parts.start, longest, positions, at_least=num_replicas)
        for n in range(len(made)) if rng is None else rng.permutation(len(made)):
            yield read.padded(parts[made[n]])

    signature = {name: tf.TensorSpec([None, None], values.dtype) for name, values in sequences.positions.items()}
    signature |= {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for name, v in sequences.users.items()}
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def dense_sequences(
    example: Mapping[str, tf.Tensor | tf.SparseTensor], features: Features, items: RowLookup, types: RowLookup
) -> Batch:
    """One transformed example or a batch of them, as dense rows: shapes as at the head of this module."""
    dense = {
        name: tf.sparse.to_dense(value, NEVER if name == TIMESTAMPS_KEY else None)
        if isinstance(value, tf.SparseTensor)
        else value
        for name, value in example.items()
    }
    lengths = tf.shape(dense[TIMESTAMPS_KEY])[-1]
    batch = {
        "item_rows": items(dense[ITEM_IDS_KEY]),
        "type_rows": types(dense[INTERACTION_TYPES_KEY]),
        TIMESTAMPS_KEY: dense[TIMESTAMPS_KEY],
        IS_TARGET_KEY: tf.cast(dense[IS_TARGET_KEY], tf.bool),
    }
    if WEIGHTS_KEY in dense:
        batch[WEIGHTS_KEY] = dense[WEIGHTS_KEY]
    batch |= {feature.name: _never_empty(feature, dense[feature.name]) for feature in features.user}
    batch |= {feature.name: dense[feature.name][..., :lengths] for feature in features.context}
    return batch


def _never_empty(feature: Feature, values: tf.Tensor) -> tf.Tensor:
    """One more value that says nothing, of a feature of several: [..., V] → [..., V + 1].

    Workers that exchange the gradients of no value at all crash (SIGSEGV in TensorFlow 2.16's collective gather).
    """
    if feature.type not in ("categories", "text"):
        return values
    nothing = tf.zeros(tf.concat([tf.shape(values)[:-1], [1]], 0), values.dtype)
    return tf.concat([values, nothing], -1)


def unknown(feature: Feature, shape: tf.Tensor | list[int]) -> tf.Tensor:
    """The transformed value that says nothing of a feature: zeros [*shape], and as many values as it has."""
    several = {"categories": [1], "text": [1], "vector": [feature.dim]}.get(feature.type, [])
    return tf.zeros(
        tf.concat([shape, tf.constant(several, tf.int32)], 0), tf.int64 if feature.has_vocabulary else tf.float32
    )


def history_lengths(timestamps: tf.Tensor) -> tf.Tensor:
    """How many positions are strictly older than each: int64 [B, L], sorted → int32 [B, L].

    This is the whole of the point-in-time law in the model: a target sees the first so many positions of its
    sequence and nothing else, so interactions of the same second never explain each other.
    """
    return tf.searchsorted(timestamps, timestamps, side="left", out_type=tf.int32)
