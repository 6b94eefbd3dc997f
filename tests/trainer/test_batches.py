"""Batches: every target once, whole histories for long sequences, little padding, the same for a seed."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features
from trainer.inputs import NEVER, batches, pieces, windows

MAX_HISTORY = 3
FEATURES = Features(
    user=(Feature(name="likes", type="categories"),),
    context=(Feature(name="hour", type="number"),),
    interaction_types={"view": 1.0},
)
LENGTHS = [1, 2, 3, 11, 12, 13, 14, 40, 100]


def config(**settings):
    return ModelConfig(trainer=TrainerConfig(**settings), features=FEATURES, max_history=MAX_HISTORY)


def sequence(user, length, is_target=None):
    """Items are places in time, so that what a piece holds can be told from its items."""
    return {
        "item_rows": np.arange(length) + 1000 * user,
        "type_rows": np.ones(length, np.int64),
        "timestamps": np.arange(length),
        "is_target": np.arange(length) > 0 if is_target is None else np.asarray(is_target),
        "likes": np.arange(length),  # as long as the sequence, and no position of it
        "hour": np.arange(length, dtype=np.float32),
    }


def sequences(lengths=tuple(LENGTHS)):
    made = [sequence(user, length) for user, length in enumerate(lengths)]
    signature = {name: tf.TensorSpec([None], value.dtype) for name, value in made[0].items()}
    return tf.data.Dataset.from_generator(lambda: iter(made), output_signature=signature)


def targets_of(dataset):
    """Item and known history of every target: the last H strictly older items of its row."""
    found = Counter()
    for batch in dataset:
        rows, times, is_target = (batch[name].numpy() for name in ("item_rows", "timestamps", "is_target"))
        for row, time, targets in zip(rows, times, is_target, strict=True):
            for place in np.flatnonzero(targets):
                found[row[place], tuple(row[time < time[place]][-MAX_HISTORY:])] += 1
    return found


@pytest.mark.parametrize("positions", [1, 24, 10_000])
def test_every_target_comes_once_with_the_whole_history_before_it(positions):
    expected = Counter(
        (1000 * user + place, tuple(1000 * user + np.arange(max(0, place - MAX_HISTORY), place)))
        for user, length in enumerate(LENGTHS)
        for place in range(1, length)
    )
    assert targets_of(batches(sequences(), config(batch_positions=positions))) == expected


def test_pieces_are_short_and_leave_the_user_whole():
    for length in LENGTHS:
        one = {name: tf.constant(value) for name, value in sequence(1, length).items()}
        for piece in pieces(one, config()):
            assert len(piece["item_rows"]) == len(piece["hour"]) <= 4 * MAX_HISTORY
            np.testing.assert_array_equal(piece["hour"], piece["timestamps"])
            assert piece["likes"].shape == [length]


def test_a_piece_without_a_target_is_left_out():
    is_target = np.zeros(100, bool)
    is_target[50] = True
    one = {name: tf.constant(value) for name, value in sequence(1, 100, is_target).items()}
    (piece,) = pieces(one, config())
    assert piece["item_rows"][piece["is_target"]].numpy().tolist() == [1050]
    assert not list(pieces({**one, "is_target": tf.zeros([100], tf.bool)}, config()))


def test_learning_sees_every_target_once_with_some_of_what_came_right_before_it():
    learned = batches(sequences(), config(batch_positions=24), shuffle_seed=5)
    epochs = [targets_of(learned) for _ in range(5)]
    assert not any(first == second for first, second in pairwise(epochs)), "cut at other places"
    for found in epochs:
        assert Counter(target for target, _ in found.elements()) == Counter(
            1000 * user + place for user, length in enumerate(LENGTHS) for place in range(1, length)
        )
        for target, history in found:
            assert history == tuple(range(target - len(history), target)), "no gap before the target"
            is_short = LENGTHS[target // 1000] <= MAX_HISTORY + 1
            assert len(history) == target % 1000 or not is_short, "a user that fits into a window is not cut"


def test_the_next_epoch_of_data_that_repeat_is_cut_anew():
    """As the loop reads them. One user in batches of one: a batch is a window, and nothing else changes."""
    one_user = batches(sequences((40,)), config(batch_positions=1), shuffle_seed=5)
    windows_of = [batch["item_rows"].numpy().tolist() for batch in one_user.repeat(4)]
    assert len({tuple(rows) for (rows,) in windows_of}) > len(list(one_user)) + 1


def test_windows_are_cut_anywhere_and_filled_up_with_what_was_before():
    one = {name: tf.constant(value) for name, value in sequence(1, 40, np.ones(40, bool)).items()}
    cuts, newest = set(), set()
    for seed in range(20):
        made = list(windows(one, tf.constant(seed, tf.int64), config()))
        cuts.add(len(made[0]["item_rows"]))
        for window in made:
            assert len(window["item_rows"]) == len(window["hour"]) <= MAX_HISTORY + 1
            assert window["likes"].shape == [40]
        newest.add(len(made[-1]["item_rows"]))
    assert cuts == {1, 2, 3}, "the first window ends after 1 to H positions"
    assert newest == {MAX_HISTORY + 1}, "the newest targets are learned from as much as a window holds"


def test_a_batch_is_of_about_one_length_and_no_larger_than_it_may():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 300)
    made = list(batches(sequences(tuple(lengths)), config(batch_positions=96)))
    assert max(batch["item_rows"].shape.num_elements() for batch in made) <= 96
    padding = sum(int(tf.math.count_nonzero(batch["timestamps"] == NEVER)) for batch in made)
    assert padding < 0.3 * lengths.sum()  # 1 to 8 share a bucket: (12 - 1) / 2 a sequence if all shared one


def test_a_seed_gives_an_order_that_changes_with_every_epoch():
    def order(dataset):
        return [batch["item_rows"].numpy().tolist() for batch in dataset]

    shuffled = batches(sequences(), config(batch_positions=24), shuffle_seed=5)
    first, second = order(shuffled), order(shuffled)
    assert first != second
    again = batches(sequences(), config(batch_positions=24), shuffle_seed=5)
    assert [order(again), order(again)] == [first, second]


def test_two_replicas_get_twice_the_positions_and_at_least_a_sequence_each():
    for batch in batches(sequences((12,) * 8), config(batch_positions=12), num_replicas=2):
        assert batch["item_rows"].shape == [2, 12]
    assert [len(b["item_rows"]) for b in batches(sequences((12,) * 4), config(batch_positions=1), 2)] == [2, 2]
