"""What is popular: the answer to users of whom nothing is known, and the yardstick beside every model."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.index_builder.context_popularity import ContextPopularity


class Popular(tf.Module):
    """Items by their share of all interactions, as far as known in a context. Rows are catalog rows.

    rows     [W] int64: the most popular items, the most popular first
    scores   [N + 1] float32: logarithm of each item's share; the unknown item, row 0, comes last
    """

    def __init__(self, popularity: np.ndarray, count: int, in_context: ContextPopularity | None = None) -> None:
        """`popularity` [N]: time-decayed interactions of each item; `in_context` is about the first `count` items."""
        super().__init__(name="popular")
        top = rows_of(popularity, count)
        self.rows = tf.Variable(top, trainable=False, name="popular_rows")
        self.scores = tf.Variable(np.log(shares_of(popularity)).astype(np.float32), trainable=False, name="popularity")
        places = np.full(len(popularity) + 1, len(top), np.int32)
        places[top] = np.arange(len(top))
        self._place = tf.Variable(places, trainable=False, name="popular_place")  # [N + 1], W for all others
        in_context = in_context or ContextPopularity({}, np.zeros([1, len(top)], np.float32), {})
        self._first = dict(in_context.first)
        self._table = tf.Variable(np.pad(in_context.table, [[0, 0], [0, 1]]), trainable=False, name="in_context")

    def contexts(self, context: Mapping[str, tf.Tensor], size: tf.Tensor) -> tf.Tensor:
        """Context values [B] each as rows of the table: int64 [B, F], 0 is unknown; `size` is B."""
        rows = [tf.where(context[name] > 0, context[name] + first, 0) for name, first in self._first.items()]
        return tf.stack(rows, axis=1) if rows else tf.zeros([size, 0], tf.int64)

    def of(self, rows: tf.Tensor, contexts: tf.Tensor) -> tf.Tensor:
        """Logarithm of the share of items in contexts: rows [B or 1, C], contexts [B, F] → [B, C]."""
        scores = tf.gather(self.scores, rows)
        if not self._first:
            return scores
        added = tf.reduce_sum(tf.gather(self._table, contexts), axis=1)  # [B, W + 1]
        places = tf.gather(self._place, rows)
        places = tf.broadcast_to(places, [tf.shape(added)[0], tf.shape(places)[1]])
        return scores + tf.gather(added, places, batch_dims=1)


def rows_of(popularity: np.ndarray, count: int) -> np.ndarray:
    """Catalog rows of the most popular items: [N] → int64 [count], the most popular first."""
    return (np.argsort(-popularity, kind="stable")[:count] + 1).astype(np.int64)


def shares_of(popularity: np.ndarray) -> np.ndarray:
    """Each item's share of all interactions, one more for each: [N] → [N + 1]; the unknown item, row 0, comes last."""
    return np.concatenate([[0.5], popularity + 1.0]) / (popularity + 1.0).sum()
