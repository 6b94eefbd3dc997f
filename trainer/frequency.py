"""How often each item comes among the targets of a step, estimated while the steps go by.

Yi et al. 2019 (Sampling-Bias-Corrected Neural Modeling, algorithm 2): the moving average B of the steps between two
sightings of an item gives its frequency, 1 / B, however the stream of batches drifts. An item that comes m times in one
step after δ steps came every δ / m steps, so a frequency is an expected number of sightings per step and may pass 1.
"""

import numpy as np
import tensorflow as tf

RATE = 0.05  # of the moving average: α in the paper


def next_interval(interval: tf.Tensor, steps_since: tf.Tensor, sightings: tf.Tensor) -> tf.Tensor:
    """B ← (1 − α) B + α δ / m of items seen now: intervals [V] in steps, steps since the last time [V], times [V]."""
    return (1.0 - RATE) * interval + RATE * steps_since / sightings


class Frequency(tf.Module):
    """The estimate of N items; with several replicas, each of its own batches, which are what it samples from."""

    def __init__(self, popularity: np.ndarray, sightings_per_step: int) -> None:
        """Begins where `popularity` [N] puts each item, at any scale, one more to all."""
        super().__init__(name="frequency")
        expected = sightings_per_step * (popularity + 1.0) / (popularity + 1.0).sum()
        self._interval = _of_this_replica((1.0 / expected).astype(np.float32), "interval")
        self._seen_at = _of_this_replica(np.zeros(len(popularity), np.float32), "seen_at")
        self._step = _of_this_replica(np.zeros((), np.float32), "step")

    def see(self, items: tf.Tensor) -> None:
        """Counts the targets of one step: places [T] in 0..N-1."""
        self._step.assign_add(1.0)
        seen, _, sightings = tf.unique_with_counts(items)
        steps_since = self._step - tf.gather(self._seen_at, seen)
        interval = next_interval(tf.gather(self._interval, seen), steps_since, tf.cast(sightings, tf.float32))
        at = seen[:, tf.newaxis]
        self._interval.assign(tf.tensor_scatter_nd_update(self._interval, at, interval))
        self._seen_at.assign(tf.tensor_scatter_nd_update(self._seen_at, at, tf.fill(tf.shape(seen), self._step)))

    def per_step(self, items: tf.Tensor) -> tf.Tensor:
        """Expected sightings in a step: places [...] → [...]."""
        return 1.0 / tf.gather(self._interval, items)


def _of_this_replica(value: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(
        value,
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # a mean would wait for workers that do not save
    )
