"""A ScaNN index (Guo et al. 2020) that lives inside a SavedModel: tree, anisotropic hashing, exact reordering."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from components.errors import BuildError
from components.index_builder.index import Effort, Index, padded

# ScaNN's default start of k-means has no seed: the same embeddings would give another index, and another recall, each
# time. k-means++ gives the same, for 4 s more per 300k items × 64 (550 leaves, 2 cores).
TRAINING_SAMPLE = 100_000
DIMENSIONS_PER_BLOCK = 2  # which 4 bits stand for
LEAST_ITEMS = 16


class ScannIndex(Index):
    """Nearest items as ScaNN finds them. Serving it needs ScaNN's ops."""

    kind = "scann"

    def __init__(self, embeddings: np.ndarray, num_leaves: int | None = None) -> None:
        """Hashes [N, D] float32, of which row i is catalog row i + 1.

        Raises:
          BuildError: there are fewer items than ScaNN learns its codes from.
        """
        super().__init__(name="index")
        self.num_items, self._dim = embeddings.shape
        if self.num_items < LEAST_ITEMS:
            raise BuildError(
                f"ScaNN learns its codes from {LEAST_ITEMS} items at least, and the catalog has {self.num_items}; "
                "let index.kind be auto or exact"
            )
        self.num_leaves = min(num_leaves or round(math.sqrt(self.num_items)), self.num_items)
        builder = (
            scann_ops.builder(embeddings.astype(np.float32), 1, "dot_product")
            .tree(self.num_leaves, self.num_leaves, TRAINING_SAMPLE, random_init=False)
            .score_ah(DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=0.2)
            .reorder(1)
        )
        self._state = builder.build().serialize_to_module()

    def search(self, queries: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """As Index.search."""
        found = scann_ops.searcher_from_module(self._state).search_batched(
            queries,
            final_num_neighbors=count,
            leaves_to_search=self.effort.leaves,
            pre_reorder_num_neighbors=max(count, self.effort.reordered),
        )
        is_real = tf.math.is_finite(found.distances)  # ScaNN's answer is as wide as its fullest row
        rows = tf.where(is_real, tf.cast(found.indices, tf.int64) + 1, 0)
        return padded(rows, tf.where(is_real, found.distances, -np.inf), count)

    def efforts(self, count: int) -> tuple[Sequence[int], Sequence[int]]:
        """Leaves from one to all, reorderings from what the answer has to sixteen times that."""
        steps = math.ceil(math.log(max(self.num_leaves, 1), 1.5))
        leaves = sorted({min(self.num_leaves, math.ceil(1.5**n)) for n in range(steps + 1)})
        return leaves, sorted({min(self.num_items, count * factor) for factor in (1, 2, 3, 4, 6, 8, 16)})

    def bytes_read(self, effort: Effort) -> float:
        """The centroids, the codes of the opened leaves, the vectors that are scored again."""
        opened = effort.leaves * self.num_items / self.num_leaves
        code = self._dim / DIMENSIONS_PER_BLOCK / 2
        return 4.0 * self._dim * (self.num_leaves + effort.reordered) + code * opened

    def __str__(self) -> str:
        return f"ScaNN, {self.effort.leaves} of {self.num_leaves:,} leaves, {self.effort.reordered:,} scored again"
