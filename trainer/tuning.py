"""A search for better settings: TFX's `tuner_fn`, with KerasTuner. Each trial is the Trainer's own model and loop.

The configured settings are tried first. What the trials found is in `TrainerTuner.trainings`, in their order. A trial
begins at nothing, whatever `warm_start` says, and is judged as the Trainer judges an epoch: by exact retrieval on the
eval split.
"""

import gc
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
import tensorflow as tf
from keras_tuner.engine.base_tuner import BaseTuner
from pydantic import TypeAdapter

from trainer.config import ModelConfig, TrainerConfig
from trainer.inputs import batches
from trainer.loop import JUDGED_BY, fit, validate
from trainer.run import Sources, convert_no_keras_to_graphs
from trainer.saved import CONFIG, build
from trainer.search_space import TuningConfig, Values, accepted
from trainer.sequences import SequenceTable

log = logging.getLogger("evergreen.tuner")

TUNING = TypeAdapter(TuningConfig)
DIGITS = 3  # significant ones of a number between two ends: what is judged is what is written down
ENCODER, OF_TRANSFORMER = "history_encoder", ("history_blocks", "history_heads")


@dataclass(kw_only=True)
class FnArgs:
    """The part of TFX's `FnArgs` that is used. `custom_config` holds, as the Trainer's (trainer.run.FnArgs):

    config                    ModelConfig as JSON
    tuning                    TuningConfig as JSON
    catalog_files             transformed catalog examples
    catalog_transform_output  the catalog's transform graph
    """

    train_files: list[str]
    eval_files: list[str]
    transform_output: str
    working_dir: str
    custom_config: dict[str, Any]


class TunerFnResult(NamedTuple):
    """As TFX's: `tuner.search(**fit_kwargs)` does the work."""

    tuner: "TrainerTuner"
    fit_kwargs: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training. `values`: the settings of the space; `score`: NDCG@10, None where it failed, and `why`."""

    values: dict[str, Any]
    score: float | None
    seconds: float
    why: str = ""


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """The search over transformed examples, ready to begin."""
    convert_no_keras_to_graphs()
    custom = fn_args.custom_config
    config, tuning = CONFIG.validate_json(custom["config"]), TUNING.validate_json(custom["tuning"])
    sources = Sources(config, fn_args.transform_output, custom["catalog_files"], custom["catalog_transform_output"])
    judged = sources.sequences(fn_args.eval_files, config.trainer.validation_examples)
    tuner = TrainerTuner(sources, tuning, Path(fn_args.working_dir))
    return TunerFnResult(tuner, {"train": sources.sequences(fn_args.train_files), "validation": judged})


class NothingTwice(keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation (a Gaussian process, Snoek et al. 2012) that ends where all combinations are tried.

    KerasTuner's own proposes what it knows over and over where choices are few (1.4.8).
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The values of the next trial; by chance where the process proposes what was tried."""
        proposed: dict[str, Any] = super().populate_space(trial_id)
        tried = [trial.hyperparameters.values for trial in self.trials.values()]
        return self._random_populate_space() if proposed["values"] in tried else proposed


class TrainerTuner(BaseTuner):
    """KerasTuner's loop over TrainerConfig."""

    def __init__(self, sources: Sources, tuning: TuningConfig, directory: Path) -> None:
        self._sources, self._tuning = sources, tuning
        trainer = sources.config.trainer
        oracle = NothingTwice(
            objective=keras_tuner.Objective(JUDGED_BY, direction="max"),
            max_trials=tuning.trials,
            hyperparameters=hyperparameters(tuning.space),
            seed=abs(trainer.seed) + 1,  # 0 would be a seed by chance
            max_consecutive_failed_trials=tuning.trials + 1,  # a failed trial is told, and the search goes on
        )
        oracle.verbose = 0
        self.trainings: list[Training] = []
        self._known: dict[TrainerConfig, Training] = {}
        super().__init__(oracle=oracle, directory=str(directory), project_name="tuner", overwrite=True)

    @property
    def configured(self) -> Training:
        """The training with the settings as they are in the configuration."""
        return self.trainings[0]

    def search(self, train: SequenceTable, validation: SequenceTable) -> None:
        """Tries the configured settings, then those that the oracle proposes.

        Raises:
          ValueError: all trials failed.
        """
        trainer = self._sources.config.trainer
        self._tell(self._training(trainer, train, validation, Path(self.project_dir) / "configured"))
        super().search(train=train, validation=validation)
        found = self.trainings[1:]
        if all(training.score is None for training in found):
            raise ValueError(f"all {len(found)} trials failed; the last: {found[-1].why}")
        if len(found) < self._tuning.trials:
            log.info("the space has no more than these %d combinations", len(found))

    def run_trial(self, trial: Any, train: SequenceTable, validation: SequenceTable) -> dict[str, float]:
        """One trial of the oracle: the metric it is judged by."""
        proposed = {name: self._rounded(name, value) for name, value in trial.hyperparameters.values.items()}
        trial.hyperparameters.values = proposed
        settings = {name: decoded(name, self._tuning.space[name], value) for name, value in proposed.items()}
        trainer = replace(self._sources.config.trainer, **settings)
        self._tell(self._training(trainer, train, validation, Path(self.get_trial_dir(trial.trial_id))))
        training = self.trainings[-1]
        if training.score is None:
            raise keras_tuner.errors.FailedTrialError(training.why)
        return {JUDGED_BY: training.score}

    def _training(
        self, trainer: TrainerConfig, train: SequenceTable, validation: SequenceTable, run_path: Path
    ) -> Training:
        """Learns and judges as the Trainer does; settings that were tried before are not tried again."""
        if trainer in self._known:
            return replace(self._known[trainer], seconds=0.0)
        started, score, why = time.perf_counter(), None, ""
        try:
            score = self._score(replace(self._sources.config, trainer=trainer), train, validation, run_path)
        except (ValueError, tf.errors.ResourceExhaustedError) as error:
            why = str(error).split("\n")[0][:300]
        tf.keras.backend.clear_session()
        gc.collect()
        values = {name: getattr(trainer, name) for name in self._tuning.space}
        self._known[trainer] = Training(values=values, score=score, seconds=time.perf_counter() - started, why=why)
        return self._known[trainer]

    def _score(self, config: ModelConfig, train: SequenceTable, validation: SequenceTable, run_path: Path) -> float:
        tf.keras.utils.set_random_seed(config.trainer.seed)
        model = build(config, self._sources.catalog, self._sources.side_vocabularies)
        judged = batches(validation, config)
        fit(model, batches(train, config, shuffle_seed=config.trainer.seed), judged, run_path)
        return validate(model, judged)[JUDGED_BY]

    def _rounded(self, name: str, value: Any) -> Any:
        """A number between two ends with few digits; anything else as it is."""
        low, high = self._tuning.space[name].low, self._tuning.space[name].high
        if low is None or high is None or not isinstance(value, float):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    def _tell(self, training: Training) -> None:
        self.trainings.append(training)
        done, trials = len(self.trainings) - 1, self._tuning.trials
        left_seconds = sum(each.seconds for each in self.trainings) / len(self.trainings) * (trials - done)
        log.info(
            "%s · %s · %s · %.1f s · %.0f s left",
            f"trial {done}/{trials}" if done else "as configured",
            f"{JUDGED_BY} {training.score:.4f}" if training.score is not None else f"failed: {training.why}",
            " · ".join(f"{name} {shown(value)}" for name, value in training.values.items()),
            training.seconds,
            left_seconds,
        )


def hyperparameters(space: Mapping[str, Values]) -> Any:
    """The space as KerasTuner has it. Sizes of the transformer are asked only where the transformer is."""
    found = keras_tuner.HyperParameters()
    for name in sorted(space, key=lambda name: (name in OF_TRANSFORMER, name)):
        if name in OF_TRANSFORMER and ENCODER in space:
            with found.conditional_scope(ENCODER, ["transformer"]):
                _register(found, name, space[name])
        else:
            _register(found, name, space[name])
    return found


def _register(found: Any, name: str, values: Values) -> None:
    if values.choices is not None:
        found.Choice(name, encoded(name, values))
        return
    low, high = accepted(name, values.low), accepted(name, values.high)
    register = found.Int if isinstance(low, int) else found.Float
    register(name, low, high, sampling="log" if values.log else "linear")


def encoded(name: str, values: Values) -> list[Any]:
    """Choices as KerasTuner takes them: numbers, or texts. Others, such as null and 3, as JSON."""
    choices = [accepted(name, value) for value in values.choices or ()]
    return [json.dumps(value) for value in choices] if _as_json(choices) else choices


def decoded(name: str, values: Values, value: Any) -> Any:
    """What a value of KerasTuner's stands for."""
    return json.loads(value) if _as_json([accepted(name, choice) for choice in values.choices or ()]) else value


def _as_json(choices: list[Any]) -> bool:
    return bool(choices) and {type(value) for value in choices} not in ({int}, {float}, {str})


def shown(value: Any) -> str:
    """A setting as a person writes it: 0.002, mean, null."""
    return value if isinstance(value, str) else json.dumps(value)
