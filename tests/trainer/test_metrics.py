"""Ranks and what is read off them, by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.metrics import ndcg_at_k, rank_of_target, recall_at_k, rows_mask


def rank(scores, target, excluded=()):
    return rank_of_target(
        tf.constant([scores]), tf.constant([target], tf.int64), tf.constant([[*excluded, 0]], tf.int64)
    )[0].numpy()


def test_rank_counts_the_better_items():
    assert [rank([0.1, 0.9, 0.5, 0.3], target) for target in (1, 2, 3, 4)] == [4, 1, 2, 3]


def test_ties_count_against_us():
    assert rank([0.5, 0.9, 0.5, 0.5], 3) == 4  # one better, two equal
    assert rank([1.0, 1.0, 1.0], 1) == 3  # a model that says nothing is last, not first


def test_excluded_items_compete_no_more_but_the_target_always_does():
    assert rank([0.1, 0.9, 0.5, 0.3], 1, excluded=[2, 4]) == 2  # only item 3 is left above it
    assert rank([0.1, 0.9, 0.5, 0.3], 3, excluded=[3]) == 2  # excluding the target itself changes nothing


def test_an_unknown_target_is_behind_every_item():
    assert rank([0.1, 0.9, 0.5, 0.3], 0) == 5


def test_each_row_of_a_batch_has_its_own_target_and_exclusions():
    scores = tf.constant([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    ranks = rank_of_target(scores, tf.constant([3, 3], tf.int64), tf.constant([[1, 2], [0, 1]], tf.int64))
    assert ranks.numpy().tolist() == [1, 2]


def test_rows_mask_names_items_by_catalog_row_and_row_0_names_none():
    mask = rows_mask(tf.constant([[2, 2, 0], [0, 0, 0], [3, 1, 0]], tf.int64), 3)
    assert mask.numpy().tolist() == [[False, True, False], [False] * 3, [True, False, True]]


def test_rows_mask_of_no_rows_is_empty():
    assert not np.any(rows_mask(tf.zeros([2, 0], tf.int64), 3))


def test_recall_and_ndcg_at_k():
    ranks = tf.constant([1, 3, 10, 11])
    assert recall_at_k(ranks, 10).numpy().tolist() == [1, 1, 1, 0]
    # 1/log2(2) = 1, 1/log2(4) = 1/2, 1/log2(11), beyond k: 0
    assert ndcg_at_k(ranks, 10).numpy() == pytest.approx([1, 0.5, 1 / math.log2(11), 0])
