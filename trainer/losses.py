"""Retrieval losses and their corrections: pure functions with the papers' symbols."""

import tensorflow as tf


def full_softmax_loss(scores: tf.Tensor, positives: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted cross-entropy against every item: scores [T, N], positives [T] in 0..N-1, weights [T] → scalar.

    −Σ_t w_t log softmax(s_t)[y_t] / Σ_t w_t; 0 when there are no targets.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positives, logits=scores)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def mixed_sampling_probability(popularity: tf.Tensor, num_positives: tf.Tensor, num_uniform: tf.Tensor) -> tf.Tensor:
    """How often each item is expected among the negatives of a step, as a share: popularity [N] (any scale) → [N].

    Mixed negative sampling (Yang et al. 2020, eq. 4): in-batch negatives follow the unigram distribution p, the
    added ones the uniform one, so q = (B·p + B'·1/N) / (B + B'). Its logarithm is the logQ correction of
    Yi et al. 2019, eq. 3.
    """
    num_positives, num_uniform = tf.cast(num_positives, tf.float32), tf.cast(num_uniform, tf.float32)
    size = tf.cast(tf.shape(popularity)[0], tf.float32)
    unigram = (popularity + 1.0) / tf.reduce_sum(popularity + 1.0)
    return (num_positives * unigram + num_uniform / size) / (num_positives + num_uniform)
