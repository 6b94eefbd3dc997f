"""The space of a search: what is refused, in words, before anything runs; what is admitted, and as what."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.config import TrainerConfig
from trainer.search_space import NOT_TUNED, TuningConfig, accepted

TUNING = TypeAdapter(TuningConfig)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            {"learn_rate": {"choices": [1]}},
            r"unknown keys \['learn_rate'\]; known here: batch_positions, .*learning_rate",
        ),
        ({"seed": {"choices": [1, 2]}}, r"unknown keys \['seed'\]"),
        (
            {"history_encoder": {"choices": ["mean", "lstm"]}},
            "space.history_encoder: the Trainer refuses 'lstm': .*'gru'",
        ),
        ({"dropout": {"low": 0, "high": 1}}, "space.dropout: the Trainer refuses 1.0: .*less than 1"),
        ({"history_heads": {"low": 1, "high": 2.5}}, "space.history_heads: the Trainer refuses 2.5: .*integer"),
        ({"history_encoder": {"low": 0, "high": 1}}, "space.history_encoder: the Trainer refuses 0.0"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, "low is 0.5 and high 0.1; low must be below high"),
        ({"learning_rate": {"low": 0, "high": 0.1, "log": True}}, "starts above 0, got low 0"),
        ({"dropout": {"low": 0.1}}, "either choices, .* or both ends"),
        ({"dropout": {"choices": [0.1], "low": 0, "high": 1}}, "either choices, .* or both ends"),
        ({"dropout": {"choices": [0.1], "high": 1}}, "either choices, .* or both ends"),
        ({"dropout": {"choices": []}}, "one value at least"),
        ({"dropout": {"choices": [0.1], "log": True}}, "no log, which is for ranges"),
        ({}, "at least 1 item"),
    ],
)
def test_a_space_that_means_nothing_is_refused_in_words(space, words):
    with pytest.raises(ValidationError, match=words):
        TUNING.validate_python({"space": space})


def test_what_yaml_reads_as_text_is_a_number_where_the_trainer_wants_one():
    tuning = TUNING.validate_python({"space": {"learning_rate": {"choices": ["1e-4", 0.01]}}})
    assert [accepted("learning_rate", value) for value in tuning.space["learning_rate"].choices] == [0.0001, 0.01]


def test_null_is_a_choice_where_the_trainer_takes_it():
    TUNING.validate_python({"space": {"patience_epochs": {"choices": [None, 3]}}})
    with pytest.raises(ValidationError, match=r"space\.epochs: the Trainer refuses None"):
        TUNING.validate_python({"space": {"epochs": {"choices": [None, 3]}}})


def test_the_default_space_is_admitted_and_survives_json():
    tuning = TuningConfig()
    assert TUNING.validate_json(TUNING.dump_json(tuning)) == tuning


def test_what_is_never_tuned_is_a_setting_all_the_same():
    for name in NOT_TUNED:
        assert hasattr(TrainerConfig(), name)
