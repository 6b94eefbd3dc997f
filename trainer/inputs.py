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

from collections.abc import Mapping, Sequence
from functools import partial

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

Batch = Mapping[str, tf.Tensor]
NEVER = np.iinfo(np.int64).max
PIECE_HISTORIES = 4  # length of a piece of a long sequence, in histories: 4/3 of the positions are read, not twice


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
) -> tf.data.Dataset:
    """Sequences one by one, not padded, the first `at_most` where it is not −1; kept in memory after the first pass."""
    spec = transform.transformed_feature_spec()

    def parse(serialized: tf.Tensor) -> Batch:
        return dense_sequences(tf.io.parse_single_example(serialized, spec), features, items, types)

    dataset = tf.data.TFRecordDataset(list(files), compression_type="GZIP", num_parallel_reads=len(files))
    return dataset.take(at_most).map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).cache()


def batches(
    sequences: tf.data.Dataset, config: ModelConfig, num_replicas: int = 1, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches of sequences of about one length, of `batch_positions` for each replica; long sequences in parts.

    With a seed, to learn from: shuffled, and cut at other places, each time they are read (`windows`). Without one, to
    judge by: every target with its whole history (`pieces`). Several workers deal the users of each batch among them,
    so they learn from what one would. The price: each reads and keeps them all.
    """
    if shuffle_seed is None:
        longest = PIECE_HISTORIES * config.max_history
        parts = sequences.flat_map(lambda sequence: pieces(sequence, config))
    else:
        longest = config.max_history + 1
        sequences = sequences.shuffle(50_000, seed=shuffle_seed, reshuffle_each_iteration=True)
        seeds = tf.data.Dataset.random(seed=shuffle_seed, rerandomize_each_iteration=True)
        parts = tf.data.Dataset.zip((sequences, seeds)).flat_map(partial(windows, config=config))
    padding = {name: tf.zeros([], spec.dtype) for name, spec in sequences.element_spec.items()}
    padding[TIMESTAMPS_KEY] = tf.constant(NEVER, tf.int64)
    positions = config.trainer.batch_positions * num_replicas
    bounds = sorted({min(int(8 * 2 ** (n / 2)), longest) for n in range(40)})
    dataset = parts.bucket_by_sequence_length(
        lambda part: tf.size(part[TIMESTAMPS_KEY]),
        bucket_boundaries=[bound + 1 for bound in bounds[:-1]],
        bucket_batch_sizes=[max(num_replicas, positions // bound) for bound in bounds],
        padded_shapes={name: spec.shape for name, spec in sequences.element_spec.items()},
        padding_values=padding,
    )
    if shuffle_seed is not None:  # short sequences fill their batches last
        dataset = dataset.shuffle(32, seed=shuffle_seed, reshuffle_each_iteration=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def windows(sequence: Batch, seed: tf.Tensor, config: ModelConfig) -> tf.data.Dataset:
    """One sequence → windows of at most H + 1 positions, cut at random places, that hold each of its targets once.

    A cut takes from the first targets after it what is before it, so that over the epochs a target is learned from more
    and from less of its history, and a long user is spread over many batches. A window with fewer than H positions of
    its own is filled up with those before. What is no longer than a window stays whole.
    """
    length, own = _length(sequence), config.max_history
    somewhere = tf.random.stateless_uniform([], tf.stack([seed, 0]), 1, own + 1, tf.int64)
    first_end = tf.where(length <= own + 1, length, somewhere)

    def window(end: tf.Tensor) -> Batch:
        begin = tf.where(end == first_end, tf.constant(0, tf.int64), end - own)
        end = tf.minimum(end, length)
        return _part(sequence, tf.maximum(end - own - 1, 0), begin, end, config)

    return tf.data.Dataset.range(first_end, length + own, own).map(window).filter(_has_target)


def pieces(sequence: Batch, config: ModelConfig) -> tf.data.Dataset:
    """One sequence → pieces of at most 4 H positions that hold each of its targets once, with the H positions before.

    So a sequence costs what it is long, not its square. Pieces without a target are left out.
    """
    own = (PIECE_HISTORIES - 1) * config.max_history

    def piece(start: tf.Tensor) -> Batch:
        begin = tf.where(start == 0, start, start + config.max_history)
        return _part(sequence, start, begin, start + PIECE_HISTORIES * config.max_history, config)

    starts = tf.data.Dataset.range(0, tf.maximum(_length(sequence) - config.max_history, 1), own)
    return starts.map(piece).filter(_has_target)


def _length(sequence: Batch) -> tf.Tensor:
    return tf.size(sequence[TIMESTAMPS_KEY], out_type=tf.int64)


def _part(sequence: Batch, start: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, config: ModelConfig) -> Batch:
    """Positions from `start` up to `end`; targets are those from `begin` on. What describes the user stays whole."""
    of_user = {feature.name for feature in config.features.user}
    part = {name: values if name in of_user else values[start:end] for name, values in sequence.items()}
    is_own = start + tf.range(_length(part)) >= begin
    return {**part, IS_TARGET_KEY: part[IS_TARGET_KEY] & is_own}


def _has_target(part: Batch) -> tf.Tensor:
    return tf.reduce_any(part[IS_TARGET_KEY])


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
