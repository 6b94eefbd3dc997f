"""Retrieval metrics as Keras metrics over the rank of the held-out item, for TFMA: y_pred is the rank, 1 = best.

One item is relevant per example, so recall@k is a hit rate, and NDCG@k and MRR need no normalisation.
"""

from typing import Any

import tensorflow as tf
import tf_keras


class _RankMetric(tf_keras.metrics.Mean):
    """Mean over examples of a value read off the rank."""

    def __init__(self, name: str, k: int = 0, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._k = k

    def value(self, rank: tf.Tensor) -> tf.Tensor:
        """Value of each rank: [B] → [B]."""
        raise TypeError(f"{type(self).__name__} does not say what it reads off the rank")

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and TFMA calls it a thousand times
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Takes ranks [B] or [B, 1] as predictions; labels are not looked at."""
        rank = tf.reshape(tf.cast(y_pred, tf.float32), [-1])
        weight = None if sample_weight is None else tf.reshape(sample_weight, [-1])
        return super().update_state(self.value(rank), weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, so that TFMA can build the metric in a worker."""
        return {**super().get_config(), "k": self._k}


class RecallAtK(_RankMetric):
    """1 where the held-out item is among the first k."""

    def value(self, rank: tf.Tensor) -> tf.Tensor:
        """[B] → [B]."""
        return tf.cast(rank <= self._k, tf.float32)


class NDCGAtK(_RankMetric):
    """1 / log2(rank + 1) among the first k, else 0 (Järvelin & Kekäläinen 2002)."""

    def value(self, rank: tf.Tensor) -> tf.Tensor:
        """[B] → [B]."""
        return tf.where(rank <= self._k, tf.math.log(2.0) / tf.math.log(rank + 1.0), 0.0)


class MRR(_RankMetric):
    """1 / rank (Voorhees 1999)."""

    def value(self, rank: tf.Tensor) -> tf.Tensor:
        """[B] → [B]."""
        return 1.0 / rank
