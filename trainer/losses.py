"""Retrieval losses and their corrections: pure functions with the papers' symbols."""

from collections.abc import Callable

import tensorflow as tf

SLICE_SCORES = 2**21  # scores at a time, 8 MB: they stay in the processor's cache


def full_softmax_loss(
    queries: tf.Tensor,
    items: tf.Tensor,
    positives: tf.Tensor,
    weights: tf.Tensor,
    slice_scores: int = SLICE_SCORES,
) -> tf.Tensor:
    """Weighted cross-entropy against every item: queries [T, D], items [N, D], positives [T] in 0..N-1, weights [T].

    −Σ_t w_t log softmax(q_t · items)[y_t] / Σ_t w_t, a scalar; 0 when nothing weighs anything. Loss and gradient are
    summed up in one pass over slices of the targets, so the scores [T, N] never exist at once:

        ∂/∂q_t = w_t (Σ_i p_ti items_i − items_yt)        ∂/∂items_i = Σ_t w_t (p_ti − [i = y_t]) q_t
    """
    total = tf.reduce_sum(weights)

    @tf.custom_gradient
    def mean_loss(queries: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        loss, d_queries, d_items = _summed(queries, items, positives, weights, slice_scores)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scale = tf.math.divide_no_nan(upstream, total)
            return scale * d_queries, scale * d_items

        return tf.math.divide_no_nan(loss, total), gradient

    return mean_loss(queries, items)


def _summed(
    queries: tf.Tensor, items: tf.Tensor, positives: tf.Tensor, weights: tf.Tensor, slice_scores: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """−Σ_t w_t log softmax(q_t · items)[y_t], and its gradients by queries [T, D] and items [N, D]."""
    num_items = tf.shape(items)[0]
    size = tf.maximum(slice_scores // num_items, 1)
    num_targets = tf.shape(queries)[0]
    num_slices = tf.maximum((num_targets + size - 1) // size, 1)

    def step(n: tf.Tensor, loss: tf.Tensor, d_queries: tf.TensorArray, d_items: tf.Tensor) -> tuple[tf.Tensor, ...]:
        part = slice(n * size, (n + 1) * size)
        q, w = queries[part], weights[part, tf.newaxis]
        own = tf.gather(items, positives[part])
        scores = tf.matmul(q, items, transpose_b=True)
        highest = tf.reduce_max(scores, axis=1, keepdims=True)
        scores = tf.exp(scores - highest)
        sums = tf.reduce_sum(scores, axis=1, keepdims=True)
        loss += tf.reduce_sum(w * (tf.math.log(sums) + highest - tf.reduce_sum(q * own, axis=1, keepdims=True)))
        d_items += tf.matmul(scores, q * (w / sums), transpose_a=True)
        d_queries = d_queries.write(n, tf.matmul(scores, items) * (w / sums) - w * own)
        return n + 1, loss, d_queries, d_items

    slices = tf.TensorArray(tf.float32, num_slices, infer_shape=False, element_shape=[None, queries.shape[1]])
    state = (
        0,
        tf.zeros([]),
        slices,
        -tf.math.unsorted_segment_sum(weights[:, tf.newaxis] * queries, positives, num_items),
    )
    _, loss, d_queries, d_items = tf.while_loop(lambda n, *_: n < num_slices, step, state, parallel_iterations=1)
    return loss, d_queries.concat(), d_items


def mixed_sampling_probability(frequency: tf.Tensor, num_uniform: tf.Tensor, num_items: int) -> tf.Tensor:
    """How often items are expected among the candidates of a step: sightings per step [C] → [C].

    Mixed negative sampling (Yang et al. 2020, eq. 4): in-batch candidates come as often as targets do, and of the
    `num_uniform` added ones each is any of the `num_items` items alike, so λ + B' / N. A softmax does not feel the
    factor that makes it a probability. Its logarithm is the logQ correction of Yi et al. 2019, eq. 3.
    """
    return frequency + tf.cast(num_uniform, tf.float32) / num_items
