"""Retrieval losses and their corrections: pure functions with the papers' symbols."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

SLICE_SCORES = 2**21  # scores at a time, 8 MB: they stay in the processor's cache


def softmax_loss(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    positives: tf.Tensor,
    weights: tf.Tensor,
    *,
    log_q: tf.Tensor | float = 0.0,
    hard_negatives: int | None = None,
    slice_scores: int = SLICE_SCORES,
) -> tf.Tensor:
    """Weighted cross-entropy against distinct candidates: −Σ_t w_t log softmax(s_t)[y_t] / Σ_t w_t, a scalar.

    With s_tc = q_t · c − log Q_c, where Q_c is the probability that c is among the candidates (Jean et al. 2015,
    section 3; Yi et al. 2019, eq. 3): 1, and so `log_q` 0, where every item is one. 0 when nothing weighs anything.

    Loss and gradient are summed up in one pass over slices of the targets, so the scores [T, C] never exist at once:

        ∂/∂q_t = w_t (Σ_c p_tc c − y_t)        ∂/∂c = Σ_t w_t (p_tc − [c = y_t]) q_t

    Args:
      queries: [T, D].
      candidates: [C, D]. None stands for the same item as another, so none is an accidental hit.
      positives: [T] in 0..C-1, which of them is each target's own.
      weights: [T].
      log_q: [C], or 0.
      hard_negatives: of the others, only so many with the highest scores.
      slice_scores: how many scores there are at a time.
    """
    total = tf.reduce_sum(weights)

    @tf.custom_gradient
    def mean_loss(
        queries: tf.Tensor, candidates: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        loss, d_queries, d_candidates = _summed(
            queries, candidates, positives, weights, log_q, hard_negatives, slice_scores
        )

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scale = tf.math.divide_no_nan(upstream, total)
            return scale * d_queries, scale * d_candidates

        return tf.math.divide_no_nan(loss, total), gradient

    return mean_loss(queries, candidates)


def _summed(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    positives: tf.Tensor,
    weights: tf.Tensor,
    log_q: tf.Tensor | float,
    hard_negatives: int | None,
    slice_scores: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """−Σ_t w_t log softmax(s_t)[y_t], and its gradients by queries [T, D] and candidates [C, D]."""
    num_candidates = tf.shape(candidates)[0]
    size = tf.maximum(slice_scores // tf.maximum(num_candidates, 1), 1)
    num_targets = tf.shape(queries)[0]
    num_slices = tf.maximum((num_targets + size - 1) // size, 1)

    def step(
        n: tf.Tensor, loss: tf.Tensor, d_queries: tf.TensorArray, d_candidates: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        part = slice(n * size, (n + 1) * size)
        q, y, w = queries[part], positives[part], weights[part, tf.newaxis]
        scores = tf.matmul(q, candidates, transpose_b=True) - log_q
        own_score = tf.gather(scores, y, batch_dims=1)[:, tf.newaxis]
        if hard_negatives is not None:
            scores = _hardest(scores, y, hard_negatives)
        highest = tf.reduce_max(scores, axis=1, keepdims=True)
        scores = tf.exp(scores - highest)
        sums = tf.reduce_sum(scores, axis=1, keepdims=True)
        loss += tf.reduce_sum(w * (tf.math.log(sums) + highest - own_score))
        d_candidates += tf.matmul(scores, q * (w / sums), transpose_a=True)
        by_query = tf.matmul(scores, candidates) * (w / sums) - w * tf.gather(candidates, y)
        return n + 1, loss, d_queries.write(n, by_query), d_candidates

    slices = tf.TensorArray(tf.float32, num_slices, infer_shape=False, element_shape=[None, queries.shape[1]])
    state = (
        0,
        tf.zeros([]),
        slices,
        -tf.math.unsorted_segment_sum(weights[:, tf.newaxis] * queries, positives, num_candidates),
    )
    _, loss, d_queries, d_candidates = tf.while_loop(lambda n, *_: n < num_slices, step, state, parallel_iterations=1)
    return loss, d_queries.concat(), d_candidates


def _hardest(scores: tf.Tensor, own: tf.Tensor, k: int) -> tf.Tensor:
    """The own score and the k highest of the others; the rest is −∞: [T, C], own [T] → [T, C]."""
    is_own = tf.one_hot(own, tf.shape(scores)[1], on_value=True, off_value=False)
    others = tf.where(is_own, -np.inf, scores)
    least = tf.math.top_k(others, tf.minimum(k, tf.shape(scores)[1])).values[:, -1:]
    return tf.where(is_own | (others >= least), scores, -np.inf)


def mixed_inclusion_probability(frequency: tf.Tensor, num_uniform: tf.Tensor, num_items: int) -> tf.Tensor:
    """How probably an item is among the distinct candidates of a step: sightings per step [C] → [C].

    Mixed negative sampling (Yang et al. 2020, section 3): targets of the batch, where an item comes λ times, and
    `num_uniform` draws, each of which is any of the `num_items` items alike. So it comes λ + B' / N times, and of what
    comes so often by chance (Poisson), 1 − e^−(λ + B' / N) is how probably it comes at all.
    """
    return -tf.math.expm1(-(frequency + tf.cast(num_uniform, tf.float32) / num_items))
