"""What every index is: the nearest items of the catalog by inner product, inside the servable's graph."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.errors import BuildError

NOT_FOUND = np.float32(-np.inf)


@dataclass(frozen=True)
class Effort:
    """How hard a search looks: leaves opened, and items scored again exactly; 0 where the index has no such thing."""

    leaves: int = 0
    reordered: int = 0


class Index(tf.Module):
    """Nearest items by inner product. Rows are catalog rows, 1..N."""

    kind: str
    num_items: int
    effort = Effort()

    @abstractmethod
    def search(self, queries: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows and inner products of the nearest items, best first: [B, D] → int64 [B, count], float32 [B, count].

        Where fewer were found, the row is 0 and the product −inf.
        """

    def efforts(self, count: int) -> tuple[Sequence[int], Sequence[int]]:
        """Leaves and reorderings to try for answers of that many items, each from the least to the most."""
        del count
        return (0,), (0,)

    @abstractmethod
    def bytes_read(self, effort: Effort) -> float:
        """Of memory, per query: what a search of that effort costs on any machine, for searches wait for memory."""

    def __str__(self) -> str:
        return self.kind


def checked(embeddings: np.ndarray, ids: Sequence[bytes]) -> np.ndarray:
    """The same embeddings [N, D] of the items `ids` [N].

    Raises:
      BuildError: one is not finite; the message has the first such items.
    """
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        named = ", ".join(ids[row].decode(errors="replace") for row in bad[:5])
        raise BuildError(
            f"{len(bad)} of {len(embeddings)} item embeddings are not finite (first: {named}); the model is broken: "
            "lower its learning rate, or look at the features of these items"
        )
    return embeddings


def best(scores: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows and scores of the best of all items, best first: [B, N + 1] → int64 [B, count], float32 [B, count].

    Column 0 is no item. −inf is never shown: where no more is left, the row is 0 and the score −inf.
    """
    width = scores.shape[1]
    top, rows = tf.math.top_k(scores, k=min(count + 1, width))  # one more, for row 0; a slice would copy all of it
    top, places = tf.math.top_k(tf.where(rows > 0, top, NOT_FOUND), k=min(count, width - 1))
    rows = tf.cast(tf.gather(rows, places, batch_dims=1), tf.int64)
    return padded(tf.where(top > NOT_FOUND, rows, 0), top, count)


def padded(rows: tf.Tensor, scores: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As many columns as asked for: [B, any] each → [B, count], 0 and −inf where there was none."""
    missing = [[0, 0], [0, tf.maximum(count - tf.shape(rows)[1], 0)]]
    wide = tf.pad(rows, missing)[:, :count], tf.pad(scores, missing, constant_values=NOT_FOUND)[:, :count]
    return tf.ensure_shape(wide[0], [None, count]), tf.ensure_shape(wide[1], [None, count])
