"""The tuner: trials that fail, settings that were tried before, and settings as KerasTuner carries them."""

import json
import logging

import keras_tuner
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from trainer.config import ModelConfig, TrainerConfig
from trainer.search_space import TuningConfig, Values
from trainer.tuning import CONFIG, TUNING, FnArgs, NothingTwice, decoded, encoded, hyperparameters, tuner_fn

TOO_FAST = 1e30  # a rate at which no loss stays finite


@pytest.fixture(scope="module")
def eval_file(world, tmp_path_factory):
    """The world's sequences, the last of each held out: it is learned too, so a training that learns finds it."""
    path = str(tmp_path_factory.mktemp("tuning") / "eval.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for record in tf.data.TFRecordDataset(world.sequence_files, compression_type="GZIP").as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            targets = example.features.feature["is_target"].int64_list.value
            targets[:] = [0] * (len(targets) - 1) + [1]
            writer.write(example.SerializeToString())
    return path


@pytest.fixture
def ready(world, eval_file, tmp_path):
    """(space, **trainer settings) → the tuner, and what it searches with."""

    def make(space, trials=3, **settings):
        defaults = {"embedding_dim": 4, "epochs": 2, "batch_positions": 64, "dropout": 0.0, "id_dropout": 0.0}
        trainer = TrainerConfig(**(defaults | settings))
        config = ModelConfig(trainer=trainer, features=world.features, max_history=3)
        custom = {
            "config": CONFIG.dump_json(config).decode(),
            "tuning": TUNING.dump_json(TypeAdapter(TuningConfig).validate_python({"trials": trials, "space": space})),
            "catalog_files": world.catalog_files,
            "catalog_transform_output": world.catalog_transform_graph,
        }
        return tuner_fn(
            FnArgs(
                train_files=world.sequence_files,
                eval_files=[eval_file],
                transform_output=world.transform_graph,
                working_dir=str(tmp_path),
                custom_config=custom,
            )
        )

    return make


def test_a_trial_that_fails_is_told_and_where_all_fail_the_search_does(ready, caplog):
    tuner, fit_kwargs = ready({"learning_rate": {"choices": [TOO_FAST]}}, trials=5)
    with (
        caplog.at_level(logging.INFO, logger="evergreen.tuner"),
        pytest.raises(ValueError, match="all 1 trials failed; the last: the loss became infinite or not a number"),
    ):
        tuner.search(**fit_kwargs)
    assert tuner.configured.score > 0
    lines = [record.getMessage() for record in caplog.records if record.name == "evergreen.tuner"]
    assert lines[0].startswith("as configured · ndcg@10 0.")
    assert "learning_rate 0.002" in lines[0]
    assert lines[1].startswith("trial 1/5 · failed: the loss became infinite or not a number")
    assert "learning_rate 1e+30" in lines[1]


def test_numbers_have_few_digits_and_what_was_tried_is_not_trained_again(ready):
    rate, space = 0.0123456, {"learning_rate": {"low": 0.0123456, "high": 0.0123457}}
    tuner, fit_kwargs = ready(space, trials=2, epochs=1, learning_rate=rate)
    tuner.search(**fit_kwargs)
    # 0.0123 is below both ends, so the lower end is what every trial is judged with.
    assert [each.values for each in tuner.trainings] == [{"learning_rate": rate}] * 3
    assert [trial.hyperparameters.values for trial in tuner.oracle.trials.values()] == [{"learning_rate": rate}] * 2
    assert tuner.configured.seconds > 0
    assert [(each.score, each.seconds) for each in tuner.trainings[1:]] == [(tuner.configured.score, 0.0)] * 2


def test_few_combinations_are_tried_once_each(tmp_path):
    """Scores without trainings: the oracle alone, asked more often than there are combinations."""
    space = {"epochs": Values(choices=(1, 2)), "history_encoder": Values(choices=("mean", "gru", "transformer"))}
    oracle = NothingTwice(
        objective=keras_tuner.Objective("ndcg@10", direction="max"),
        max_trials=20,
        hyperparameters=hyperparameters(space),
        num_initial_points=2,
        seed=1,
    )
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "oracle")
    tried = []
    while (trial := oracle.create_trial("one")).status == "RUNNING":
        tried.append(tuple(trial.hyperparameters.values.values()))
        oracle.update_trial(trial.trial_id, {"ndcg@10": 0.1 * len(tried)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert sorted(tried) == sorted((epochs, encoder) for epochs in (1, 2) for encoder in ("gru", "mean", "transformer"))


def test_sizes_of_the_transformer_are_asked_where_there_is_one():
    space = {
        "history_blocks": Values(low=1, high=3),
        "history_encoder": Values(choices=("mean", "transformer")),
        "epochs": Values(low=2, high=9),
    }
    found = hyperparameters(space)
    kinds = {each.name: type(each) for each in found.space}
    assert kinds["history_blocks"] is kinds["epochs"] is keras_tuner.engine.hyperparameters.Int
    blocks = next(each for each in found.space if each.name == "history_blocks")
    assert not found.is_active(blocks)  # the default is the first choice, mean
    found.values["history_encoder"] = "transformer"
    assert found.is_active(blocks)
    alone = hyperparameters({"history_blocks": Values(low=1, high=3)})
    assert alone.is_active(alone.space[0])


@pytest.mark.parametrize(
    ("name", "choices", "carried"),
    [
        ("embedding_dim", (32, 64), [32, 64]),
        ("dropout", (0, 0.5, "1e-1"), [0.0, 0.5, 0.1]),
        ("history_encoder", ("gru", "mean"), ["gru", "mean"]),
        ("patience_epochs", (None, 3), ["null", "3"]),
    ],
)
def test_choices_come_back_as_the_trainer_takes_them(name, choices, carried):
    values = Values(choices=choices)
    assert encoded(name, values) == carried
    registered = hyperparameters({name: values}).space[0]
    back = [decoded(name, values, value) for value in registered.values]
    assert back == [getattr(TypeAdapter(TrainerConfig).validate_python({name: choice}), name) for choice in choices]
    json.dumps(registered.get_config())
