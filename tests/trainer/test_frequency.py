"""The streaming estimate of how often items come: against arithmetic, and on a stream that changes its mind."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.frequency import Frequency, next_interval


def test_the_moving_average_by_hand():
    # 0.95 · 10 + 0.05 · 4 / 1, and 0.95 · 2 + 0.05 · 6 / 3: three sightings in one step count as one every two steps
    found = next_interval(tf.constant([10.0, 2.0]), tf.constant([4.0, 6.0]), tf.constant([1.0, 3.0]))
    np.testing.assert_allclose(found, [9.7, 2.0])


def test_it_begins_where_popularity_puts_each_item():
    frequency = Frequency(np.array([0.0, 1.0, 4.0]), sightings_per_step=16)
    # (0, 1, 4) + 1 over 8, of 16 sightings
    np.testing.assert_allclose(frequency.per_step(tf.constant([0, 1, 2])), [2.0, 4.0, 10.0], rtol=1e-6)


def test_it_finds_how_often_items_come_and_follows_when_that_changes():
    frequency = Frequency(np.zeros(3), sightings_per_step=3)
    see = tf.function(frequency.see, input_signature=[tf.TensorSpec([None], tf.int64)])
    for step in range(1, 401):  # item 0 three times a step, item 1 every fourth step, item 2 never
        see(tf.constant([0, 0, 0] + [1] * (step % 4 == 0), tf.int64))
    per_step = frequency.per_step(tf.range(3)).numpy()
    assert per_step[:2] == pytest.approx([3.0, 0.25], rel=0.02)
    assert per_step[2] == pytest.approx(1.0)  # as it began
    for _ in range(200):
        see(tf.constant([1], tf.int64))
    assert float(frequency.per_step(tf.constant(1))) == pytest.approx(1.0, rel=0.02)


def test_nothing_seen_changes_nothing():
    frequency = Frequency(np.array([3.0, 1.0]), sightings_per_step=6)
    before = frequency.per_step(tf.range(2)).numpy()
    frequency.see(tf.zeros([0], tf.int64))
    np.testing.assert_array_equal(frequency.per_step(tf.range(2)), before)
