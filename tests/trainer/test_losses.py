"""Losses against numbers derived by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.losses import mixed_inclusion_probability, softmax_loss

LN = math.log
# q · items is (ln 1, ln 2, ln 5) for the first query and (0, 0, 0) for the second:
# the softmax of the first is (1/8, 2/8, 5/8), of three equal scores 1/3 each
ITEMS = tf.constant([[LN(1), 7.0], [LN(2), 7.0], [LN(5), 7.0]])
QUERIES = tf.constant([[1.0, 0.0], [0.0, 1.0]])


def test_softmax_is_the_weighted_mean_of_minus_log_probability():
    loss = softmax_loss(QUERIES, ITEMS, tf.constant([2, 0]), tf.constant([3.0, 1.0]))
    # (3 · −ln 5/8 + 1 · −ln 1/3) / 4
    assert float(loss) == pytest.approx((3 * LN(8 / 5) + LN(3)) / 4, rel=1e-6)


def test_softmax_ignores_a_target_of_weight_zero():
    loss = softmax_loss(QUERIES, ITEMS, tf.constant([2, 0]), tf.constant([0.0, 2.0]))
    assert float(loss) == pytest.approx(LN(3), rel=1e-6)


def test_softmax_of_no_targets_is_zero_and_not_nan():
    queries = tf.Variable(tf.zeros([0, 2]))
    with tf.GradientTape() as tape:
        loss = softmax_loss(queries.value(), ITEMS, tf.zeros([0], tf.int64), tf.zeros([0]))
    assert float(loss) == 0.0
    assert tape.gradient(loss, queries).shape == [0, 2]


def test_the_gradients_by_hand():
    queries, items = tf.Variable(QUERIES), tf.Variable(ITEMS)
    with tf.GradientTape() as tape:
        loss = 10 * softmax_loss(queries.value(), items.value(), tf.constant([2, 0]), tf.constant([3.0, 1.0]))
    by_query, by_item = tape.gradient(loss, [queries, items])
    # by q_0: 10 · 3/4 · (1/8 · i_0 + 2/8 · i_1 + 5/8 · i_2 − i_2): the second component is 7 − 7
    np.testing.assert_allclose(by_query[0], [7.5 * (2 / 8 * LN(2) - 3 / 8 * LN(5)), 0], atol=1e-5)
    # by i_1: 10 · (3/4 · 2/8 · q_0 + 1/4 · 1/3 · q_1); by i_2: 10 · (3/4 · (5/8 − 1) · q_0 + 1/4 · 1/3 · q_1)
    np.testing.assert_allclose(by_item[1:], [[60 / 32, 10 / 12], [-90 / 32, 10 / 12]], rtol=1e-5)


@pytest.mark.parametrize("num_targets", [1, 4, 5, 11])  # of slices of 4
def test_slices_change_nothing(num_targets):
    """Against TensorFlow's own softmax and its gradients, with scores too large for exp without care."""
    rng = np.random.default_rng(num_targets)
    queries, items = (tf.Variable(rng.normal(scale=9, size=(n, 3)), dtype=tf.float32) for n in (num_targets, 7))
    positives, weights = tf.constant(rng.integers(0, 7, num_targets)), tf.constant(rng.random(num_targets), tf.float32)

    def plain():
        scores = tf.matmul(queries, items, transpose_b=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(positives, scores)
        return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)

    def sliced():
        return softmax_loss(queries.value(), items.value(), positives, weights, slice_scores=4 * 7)

    for ours in (sliced, tf.function(sliced)):
        with tf.GradientTape() as tape:
            expected = plain()
        expected = [expected, *tape.gradient(expected, [queries, items])]
        with tf.GradientTape() as tape:
            found = ours()
        found = [found, *tape.gradient(found, [queries, items])]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_candidate_that_comes_seldom_stands_for_more_items_by_hand():
    # e^s is (1, 2, 5); divided by Q = (1/2, 1, 1/5) it is (2, 2, 25): the target's share is 2 / 29
    log_q = tf.math.log([0.5, 1.0, 0.2])
    loss = softmax_loss(QUERIES[:1], ITEMS, tf.constant([0]), tf.constant([1.0]), log_q=log_q)
    assert float(loss) == pytest.approx(LN(29 / 2), rel=1e-6)


def test_hard_negatives_are_the_highest_of_the_others_by_hand():
    for own, hardest, share in ((0, 1, 1 / 6), (2, 1, 5 / 7), (1, 2, 2 / 8), (1, 9, 2 / 8)):
        queries = tf.Variable(QUERIES[:1])
        with tf.GradientTape() as tape:
            loss = softmax_loss(queries.value(), ITEMS, tf.constant([own]), tf.constant([1.0]), hard_negatives=hardest)
        assert float(loss) == pytest.approx(-LN(share), rel=1e-6)
        assert np.isfinite(tape.gradient(loss, queries)).all()


def test_a_mixed_candidate_is_there_if_a_target_or_a_draw_is_it():
    q = mixed_inclusion_probability(tf.constant([0.0, LN(2) - 0.5, 20.0]), tf.constant(6), num_items=12)
    # it comes 6 / 12, ln 2 and 20.5 times: 1 − e^−½, 1 − 1/2, almost surely
    np.testing.assert_allclose(q, [1 - math.exp(-0.5), 0.5, 1.0], rtol=1e-6)
    drawn = np.random.default_rng(1).integers(0, 12, (100_000, 6))
    assert (drawn == 3).any(axis=1).mean() == pytest.approx(float(q[0]), rel=0.04)  # six draws are not quite Poisson
