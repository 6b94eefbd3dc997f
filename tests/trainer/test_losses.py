"""Losses against numbers derived by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.losses import full_softmax_loss, mixed_sampling_probability

LN = math.log
# softmax of (ln 1, ln 2, ln 5) is (1/8, 2/8, 5/8); of three equal scores, 1/3 each
SCORES = tf.constant([[LN(1), LN(2), LN(5)], [7.0, 7.0, 7.0]])


def test_full_softmax_is_the_weighted_mean_of_minus_log_probability():
    loss = full_softmax_loss(SCORES, tf.constant([2, 0]), tf.constant([3.0, 1.0]))
    # (3 · −ln 5/8 + 1 · −ln 1/3) / 4
    assert float(loss) == pytest.approx((3 * LN(8 / 5) + LN(3)) / 4, rel=1e-6)


def test_full_softmax_ignores_a_target_of_weight_zero():
    loss = full_softmax_loss(SCORES, tf.constant([2, 0]), tf.constant([0.0, 2.0]))
    assert float(loss) == pytest.approx(LN(3), rel=1e-6)


def test_full_softmax_of_no_targets_is_zero_and_not_nan():
    loss = full_softmax_loss(tf.zeros([0, 3]), tf.zeros([0], tf.int64), tf.zeros([0]))
    assert float(loss) == 0.0


def test_mixed_sampling_probability_mixes_unigram_and_uniform():
    q = mixed_sampling_probability(tf.constant([0.0, 1.0, 4.0]), tf.constant(6), tf.constant(2))
    # unigram of (0, 1, 4) + 1: 1/8, 2/8, 5/8; uniform 1/3; (6 · unigram + 2/3) / 8
    expected = [(6 / 8 + 2 / 3) / 8, (12 / 8 + 2 / 3) / 8, (30 / 8 + 2 / 3) / 8]
    np.testing.assert_allclose(q, expected, rtol=1e-6)
    assert float(tf.reduce_sum(q)) == pytest.approx(1.0)


def test_mixed_sampling_probability_without_uniform_negatives_is_the_unigram():
    q = mixed_sampling_probability(tf.constant([0.0, 1.0, 4.0]), tf.constant(6), tf.constant(0))
    np.testing.assert_allclose(q, [1 / 8, 2 / 8, 5 / 8], rtol=1e-6)


def test_an_item_without_interactions_can_still_be_a_negative():
    q = mixed_sampling_probability(tf.constant([0.0, 1000.0]), tf.constant(5), tf.constant(0))
    assert float(q[0]) > 0  # its logarithm is the correction: it must be finite
