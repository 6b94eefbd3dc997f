"""A ScaNN index over item embeddings that lives inside a SavedModel, tuned to its recall on real queries."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from components.errors import BuildError
from components.index_builder.config import IndexConfig

# ScaNN's default start of k-means has no seed: the same embeddings would give another index, and another recall, each
# time. k-means++ gives the same, for 4 s more per 300k items × 64 (550 leaves, 2 cores).
TRAINING_SAMPLE = 100_000

# What to try, cheapest first: (share of the leaves to search, items re-scored exactly per item returned).
LADDER = ((0.02, 2), (0.05, 2), (0.1, 2), (0.2, 3), (0.4, 3), (0.7, 4), (1.0, 4), (1.0, 8))


@dataclass(frozen=True)
class Effort:
    """How hard a search looks: leaves opened, and items scored again exactly. 0 and 0: everything, exactly."""

    leaves: int
    reordered: int


class ScannIndex(tf.Module):
    """Nearest items by inner product. Rows are catalog rows: embedding i has row i + 1."""

    def __init__(self, embeddings: np.ndarray, queries: np.ndarray, config: IndexConfig) -> None:
        """Indexes [N, D] float32 so that searches for queries [Q, D] reach `min_recall` of the true top C.

        Small catalogs, and those where hashing does not reach the bar, are searched exactly (still by ScaNN).

        Raises:
          BuildError: an embedding is not finite; the message has the first such rows.
        """
        super().__init__(name="index")
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            raise BuildError(
                f"{len(bad)} of {len(embeddings)} item embeddings are not finite (catalog rows "
                f"{(bad[:5] + 1).tolist()}); the model is broken: lower its learning rate, "
                "or look at the features of these items"
            )
        self.num_results = min(config.num_candidates, len(embeddings))
        self._num_leaves = config.num_leaves or max(1, round(math.sqrt(len(embeddings))))
        if len(embeddings) < config.hashing_above_items or not self._tune(embeddings, queries, config.min_recall):
            self._build(embeddings, exact=True)
            self._effort, self.recall = Effort(0, 0), 1.0

    @property
    def kind(self) -> str:
        """What the index is, in words."""
        if not self._effort.leaves:
            return "ScaNN, exact"
        return f"ScaNN, {self._effort.leaves} of {self._num_leaves} leaves, {self._effort.reordered} re-scored"

    def search(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows and inner products of the nearest items, best first: [B, D] → int64 [B, C], float32 [B, C].

        Where fewer than C items were found, the row is 0 and the product −inf.
        """
        searcher = scann_ops.searcher_from_module(self._state)
        hard = {"leaves_to_search": self._effort.leaves, "pre_reorder_num_neighbors": self._effort.reordered}
        effort = hard if self._effort.leaves else {}
        found = searcher.search_batched(queries, final_num_neighbors=self.num_results, **effort)
        real = tf.math.is_finite(found.distances)
        rows = tf.where(real, tf.cast(found.indices, tf.int64) + 1, 0)
        products = tf.where(real, found.distances, -np.inf)
        missing = [[0, 0], [0, self.num_results - tf.shape(rows)[1]]]  # ScaNN's answer is as wide as its fullest row
        shape = [None, self.num_results]
        return (
            tf.ensure_shape(tf.pad(rows, missing), shape),
            tf.ensure_shape(tf.pad(products, missing, constant_values=-np.inf), shape),
        )

    def _build(self, embeddings: np.ndarray, exact: bool) -> None:
        builder = scann_ops.builder(embeddings.astype(np.float32), self.num_results, "dot_product")
        if exact:
            builder = builder.score_brute_force()
        else:
            builder = (
                builder.tree(self._num_leaves, self._num_leaves, TRAINING_SAMPLE, random_init=False)
                .score_ah(2, anisotropic_quantization_threshold=0.2)
                .reorder(self.num_results)
            )
        self._state = builder.build().serialize_to_module()

    def _tune(self, embeddings: np.ndarray, queries: np.ndarray, min_recall: float) -> bool:
        """Finds the least effort that reaches `min_recall`; False when none does."""
        self._build(embeddings, exact=False)
        for share, factor in LADDER:
            self._effort = Effort(
                leaves=max(1, math.ceil(share * self._num_leaves)),
                reordered=min(len(embeddings), factor * self.num_results),
            )
            self.recall = recall_of(self, embeddings, queries)
            if self.recall >= min_recall:
                return True
        return False


def recall_of(index: ScannIndex, embeddings: np.ndarray, queries: np.ndarray) -> float:
    """Share of the true nearest C items that the index returns: embeddings [N, D], queries [Q, D] → 0..1."""
    found, _ = index.search(tf.constant(queries, tf.float32))
    true_rows = 1 + np.argpartition(-queries @ embeddings.T, index.num_results - 1, axis=1)[:, : index.num_results]
    hits = [len(np.intersect1d(f, t)) for f, t in zip(found.numpy(), true_rows, strict=True)]
    return float(np.mean(hits)) / index.num_results
