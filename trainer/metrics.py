"""Ranks of held-out items and what is read off them. Pure functions."""

from collections.abc import Sequence

import tensorflow as tf


def rank_of_target(scores: tf.Tensor, target: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
    """Rank of each target among all items, 1 = best; ties count against us: scores [B, N], target [B], excluded [B, X].

    Rows are catalog rows (1..N; 0 is ignored). Excluded items compete no more, the target always does. An unknown
    target (row 0) has rank N + 1. Returns int32 [B].
    """
    num_items = tf.shape(scores)[1]
    target_column = tf.maximum(target - 1, 0)
    own = tf.gather(scores, target_column, batch_dims=1)[:, tf.newaxis]
    competes = ~rows_mask(excluded, num_items)
    others = tf.range(num_items, dtype=target.dtype)[tf.newaxis, :] != target_column[:, tf.newaxis]
    rank = 1 + tf.reduce_sum(tf.cast((scores >= own) & competes & others, tf.int32), axis=1)
    return tf.where(target > 0, rank, num_items + 1)


def not_competing(rows: tf.Tensor, type_rows: tf.Tensor, is_target: tf.Tensor, seen_types: Sequence[bool]) -> tf.Tensor:
    """What to exclude from the ranking of a sequence's target: its history, as far as that counts as seen.

    Catalog rows and type rows, int64 [B, L] each, and which types count [types + 1] → int64 [B, L], 0 elsewhere.
    """
    return tf.where(tf.gather(tf.constant(list(seen_types)), type_rows) & ~is_target, rows, tf.zeros_like(rows))


def rows_mask(rows: tf.Tensor, num_items: tf.Tensor | int) -> tf.Tensor:
    """Which of the N items are named by catalog rows: int64 [B, X] → bool [B, N]; row 0 names none."""
    shape = tf.shape(rows, out_type=tf.int64)
    users = tf.repeat(tf.range(shape[0])[:, tf.newaxis], shape[1], axis=1)
    index = tf.reshape(tf.stack([users, rows], axis=-1), [-1, 2])
    width = tf.cast(num_items, tf.int64) + 1
    counts = tf.scatter_nd(index, tf.ones(tf.shape(index)[0], tf.int32), tf.stack([shape[0], width]))
    return counts[:, 1:] > 0


def figures_of(ranks: tf.Tensor) -> dict[str, float]:
    """Means over held-out items, as every line of the log has them: int [E] → recall@10, recall@100, ndcg@10."""
    return {
        "recall@10": float(tf.reduce_mean(recall_at_k(ranks, 10))),
        "recall@100": float(tf.reduce_mean(recall_at_k(ranks, 100))),
        "ndcg@10": float(tf.reduce_mean(ndcg_at_k(ranks, 10))),
    }


def recall_at_k(rank: tf.Tensor, k: int) -> tf.Tensor:
    """1 where the held-out item is among the first k, else 0: int [B] → float32 [B]. One relevant item per list."""
    return tf.cast(rank <= k, tf.float32)


def ndcg_at_k(rank: tf.Tensor, k: int) -> tf.Tensor:
    """1 / log2(rank + 1) within the first k, else 0 (Järvelin & Kekäläinen 2002, one relevant item): [B] → [B]."""
    gain = tf.math.log(2.0) / tf.math.log(tf.cast(rank, tf.float32) + 1.0)
    return gain * recall_at_k(rank, k)
