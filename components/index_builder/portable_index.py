"""A partitioned index in plain TensorFlow operations: any TensorFlow serves it, without ScaNN.

Items lie leaf by leaf. A search scores the L centroids, opens the leaves with the greatest products, and scores their
items exactly.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.index_builder.index import Effort, Index, padded
from components.index_builder.partition import partition

LEAVES_PER_ROOT = 4  # of √N: scoring 4 √N centroids costs little, and small leaves waste less


class PortableIndex(Index):
    """Nearest items among those of the opened leaves."""

    kind = "portable"

    def __init__(self, embeddings: np.ndarray, num_leaves: int | None = None) -> None:
        """Packs [N, D] float32, of which row i is catalog row i + 1."""
        super().__init__(name="index")
        self.num_items, self._dim = embeddings.shape
        centroids, leaves = partition(embeddings, num_leaves or round(LEAVES_PER_ROOT * math.sqrt(len(embeddings))))
        order = np.argsort(leaves, kind="stable")
        begins = np.searchsorted(leaves[order], np.arange(len(centroids) + 1))
        self.num_leaves = len(centroids)
        self._centroids = tf.Variable(centroids, trainable=False, name="centroids")  # [L, D]
        self._begins = tf.Variable(begins.astype(np.int32), trainable=False, name="begins")  # [L + 1]
        self._packed = tf.Variable(embeddings[order], trainable=False, name="packed")  # [N, D]
        self._rows = tf.Variable((order + 1).astype(np.int32), trainable=False, name="rows")  # [N]

    def search(self, queries: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """As Index.search; one query after the other, for each opens leaves of its own."""
        spec = (tf.TensorSpec([count], tf.int64), tf.TensorSpec([count], tf.float32))
        return tf.map_fn(lambda query: self._search_one(query, count), queries, fn_output_signature=spec)

    def _search_one(self, query: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        leaves = tf.math.top_k(tf.linalg.matvec(self._centroids, query), k=self.effort.leaves, sorted=False).indices
        places = tf.ragged.range(tf.gather(self._begins, leaves), tf.gather(self._begins, leaves + 1)).values
        products = tf.linalg.matvec(tf.gather(self._packed, places), query)
        top, chosen = tf.math.top_k(products, k=tf.minimum(count, tf.size(products)))
        rows = tf.gather(self._rows, tf.gather(places, chosen))
        rows, top = padded(tf.cast(rows, tf.int64)[tf.newaxis], top[tf.newaxis], count)
        return rows[0], top[0]

    def efforts(self, count: int) -> tuple[Sequence[int], Sequence[int]]:
        """From one leaf to about half of all, each time half as many again."""
        del count
        steps = math.ceil(math.log(max(self.num_leaves / 2, 1), 1.5))
        return sorted({math.ceil(1.5**n) for n in range(steps + 1)}), (0,)

    def bytes_read(self, effort: Effort) -> float:
        """The centroids; of an opened leaf's items, each is read, written and read again."""
        opened = effort.leaves * self.num_items / self.num_leaves
        return 4.0 * self._dim * (self.num_leaves + 3 * opened)

    def __str__(self) -> str:
        return f"portable, {self.effort.leaves} of {self.num_leaves:,} leaves"
