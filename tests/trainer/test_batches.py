"""Batches: every target once, whole histories for long sequences, little padding, the same for a seed."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features
from trainer.inputs import batches
from trainer.sequences import NEVER, SequenceTable, dealt, pieces, windows

MAX_HISTORY = 3
FEATURES = Features(
    user=(Feature(name="likes", type="categories"),),
    context=(Feature(name="hour", type="number"),),
    interaction_types={"view": 1.0},
)
LENGTHS = [1, 2, 3, 11, 12, 13, 14, 40, 100]


def config(**settings):
    return ModelConfig(trainer=TrainerConfig(**settings), features=FEATURES, max_history=MAX_HISTORY)


def sequences(lengths=tuple(LENGTHS), is_target=None):
    """Items are places in time, so that what a part holds can be told from its items."""
    starts = np.append(0, np.cumsum(lengths))
    place = np.concatenate([np.arange(length) for length in lengths])
    positions = {
        "item_rows": place + 1000 * np.repeat(np.arange(len(lengths)), lengths),
        "type_rows": np.ones(len(place), np.int64),
        "timestamps": place,
        "is_target": place > 0 if is_target is None else is_target,
        "hour": place.astype(np.float32),
    }
    likes = np.arange(len(lengths))[:, np.newaxis] * [1, 2]
    return SequenceTable(starts=starts, positions=positions, users={"likes": likes})


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
    read = sequences()
    parts = pieces(read, MAX_HISTORY)
    assert max(parts.end - parts.start) == 4 * MAX_HISTORY
    batch = read.padded(parts)
    is_there = batch["timestamps"] != NEVER
    np.testing.assert_array_equal(batch["hour"][is_there], batch["timestamps"][is_there])
    assert not batch["item_rows"][~is_there].any()
    assert not batch["is_target"][~is_there].any()
    np.testing.assert_array_equal(batch["item_rows"][:, 0] // 1000, parts.owner)
    np.testing.assert_array_equal(batch["likes"], parts.owner[:, np.newaxis] * [1, 2])


def test_a_part_without_a_target_is_left_out():
    is_target = np.zeros(100, bool)
    is_target[50] = True
    one = sequences((100,), is_target)
    for parts in (pieces(one, MAX_HISTORY), windows(one, MAX_HISTORY, np.random.default_rng(1))):
        batch = one.padded(parts)
        assert batch["item_rows"][batch["is_target"]].tolist() == [50]
        assert len(parts) == 1
    assert not len(pieces(sequences((100,), np.zeros(100, bool)), MAX_HISTORY))


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
    one = sequences((40,), np.ones(40, bool))
    cuts, newest = set(), set()
    for seed in range(20):
        parts = windows(one, MAX_HISTORY, np.random.default_rng(seed))
        lengths = parts.end - parts.start
        assert max(lengths) <= MAX_HISTORY + 1
        cuts.add(lengths[0])
        newest.add(lengths[-1])
    assert cuts == {1, 2, 3}, "the first window ends after 1 to H positions"
    assert newest == {MAX_HISTORY + 1}, "the newest targets are learned from as much as a window holds"


def test_a_batch_is_of_about_one_length_and_no_larger_than_it_may():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 300)
    made = list(batches(sequences(tuple(lengths)), config(batch_positions=96)))
    assert max(batch["item_rows"].shape.num_elements() for batch in made) <= 96
    padding = sum(int(tf.math.count_nonzero(batch["timestamps"] == NEVER)) for batch in made)
    assert padding < 0.2 * lengths.sum()  # (12 - 1) / 2 a sequence if all shared a batch: 0.85 of it


def test_what_does_not_fill_a_batch_goes_to_the_next_longer_ones():
    made = dealt(np.array([3, 9, 1, 2, 3, 9, 9, 1]), longest=9, positions=18)
    # 9 of at most 2 positions would fit, and there are 3; 4 of at most 4 fit; one is left, for those of 9
    assert sorted(map(len, made)) == [2, 2, 4]
    assert sorted(np.concatenate(made).tolist()) == [*range(8)]
    assert set(made[0].tolist()) <= {0, 2, 3, 4, 7}
    assert dealt(np.zeros(0, np.int64), longest=9, positions=18) == []


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
