"""Trials: what of the examples each learns, by hand, and what it is judged by."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.sequences import SequenceTable
from trainer.trial import Trial, Trials, part_of

DAY = 24 * 3600


def test_a_trial_learns_the_targets_of_its_time_from_histories_of_its_time_with_weights_by_age():
    positions = {
        "item_rows": np.array([5, 6, 7, 8, 9]),
        "type_rows": np.array([1, 2, 1, 2, 1]),
        "timestamps": np.array([1, 2, 4, 6, 7]) * DAY,
        "is_target": np.ones(5, bool),
    }
    sequences = SequenceTable(starts=np.array([0, 5]), positions=positions, users={})
    trial = Trial(from_seconds=2 * DAY, until_seconds=6 * DAY, served_from_seconds=0, half_life_days=2.0)
    part = part_of(sequences, trial, cut_seconds=6 * DAY).positions
    assert part["item_rows"].tolist() == [0, 6, 7, 8, 9]  # the first is before the window: unknown
    assert part["type_rows"].tolist() == [0, 2, 1, 2, 1]
    assert part["is_target"].tolist() == [False, True, True, False, False]
    # 5, 4, 2 and 0 days before the cut; what is after it weighs 1
    np.testing.assert_allclose(part["weights"], [2**-2.5, 0.25, 0.5, 1, 1], rtol=1e-6)
    assert part["weights"].dtype == np.float32
    always = Trial(from_seconds=0, until_seconds=8 * DAY, served_from_seconds=0)
    unweighted = part_of(sequences, always, 6 * DAY).positions
    assert "weights" not in unweighted
    for name, value in positions.items():
        np.testing.assert_array_equal(unweighted[name], value)


@pytest.fixture(scope="module")
def trials(world, tmp_path_factory):
    eval_file = tmp_path_factory.mktemp("trials") / "eval.gz"
    with tf.io.TFRecordWriter(str(eval_file), "GZIP") as writer:
        for record in tf.data.TFRecordDataset(world.sequence_files, compression_type="GZIP").as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            targets = example.features.feature["is_target"].int64_list.value
            targets[:] = [0] * (len(targets) - 1) + [1]
            writer.write(example.SerializeToString())
    trainer = TrainerConfig(embedding_dim=4, epochs=3, batch_positions=8)
    return Trials(
        ModelConfig(trainer=trainer, features=world.features, max_history=3),
        train_files=world.sequence_files,
        eval_files=[str(eval_file)],
        transform_graph=world.transform_graph,
        catalog_files=world.catalog_files,
        catalog_transform_graph=world.catalog_transform_graph,
        cut_seconds=400,
        max_judged=9,
    )


def test_trials_take_as_many_steps_whatever_they_learn_and_judge_everyone(trials):
    assert trials.steps == 6  # four users are two steps an epoch
    assert sorted(trials.user_ids.tolist()) == [b"u1", b"u2", b"u3", b"u4"]
    ranks, targets = trials.train_and_judge(Trial(from_seconds=150, until_seconds=300, served_from_seconds=0))
    assert targets == 3  # u2's two of second 150, u1's of second 200
    assert ranks.shape == (4,)
    assert dict(zip(trials.user_ids.tolist(), ranks, strict=True))[b"u3"] == 6  # zz is not in the catalog of five


def test_the_same_trial_gives_the_same_ranks(trials):
    trial = Trial(from_seconds=0, until_seconds=500, served_from_seconds=0)
    np.testing.assert_array_equal(trials.train_and_judge(trial)[0], trials.train_and_judge(trial)[0])


def test_a_trial_without_targets_says_so(trials):
    with pytest.raises(ValueError, match="no position is a target"):
        trials.train_and_judge(Trial(from_seconds=500, until_seconds=600, served_from_seconds=0))


def test_popularity_ranks_leave_out_what_a_user_has_seen(trials):
    ranks = dict(zip(trials.user_ids.tolist(), trials.popularity_ranks().tolist(), strict=True))
    # a 2, b 5, c 0, d 0.5, e 1. u1 saw a, b and takes c, behind e and d; u2 takes b; u4 saw all but e and takes d
    assert ranks == {b"u1": 3, b"u2": 1, b"u3": 6, b"u4": 2}
