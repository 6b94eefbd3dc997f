"""The search behind `evergreen tune`: one build of examples, and trials of the Trainer's own model and loop on them.

one build of the window ─▶ tuner_fn ─▶ as configured, trial 1, 2, … ─▶ Found: all of them, and what to change
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.errors import BuildError
from pipeline.config import PipelineConfig, to_json

if TYPE_CHECKING:
    from trainer.tuning import Training


@dataclass(frozen=True, kw_only=True)
class Found:
    """All trainings: `configured`, the settings as they are, and those of the space, best first, failed ones last."""

    span: str
    configured: "Training"
    trials: list["Training"]

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of the best trial that differ from the configured ones; empty where no trial is better."""
        best = self.trials[0]
        if best.score is None or (self.configured.score is not None and best.score <= self.configured.score):
            return {}
        return {name: value for name, value in best.values.items() if value != self.configured.values[name]}


def worst_last(training: "Training") -> float:
    """Sorts the best first, and what failed behind all others."""
    return 1.0 if training.score is None else -training.score


def search(config: PipelineConfig, *, span: int | None = None) -> Found:
    """Builds the examples and searches; the tuner logs a line per trial. `span`: the newest; None: that there is.

    Raises:
      DataError: the span has no files, or its data cannot be used.
      DataStopped: there is nothing to learn before the eval part.
      BuildError: every trial failed.
    """
    from components.interaction_example_gen.span_pattern import SpanPattern
    from pipeline.examples import newest, prepare  # Beam, TensorFlow and KerasTuner, only where the work is done
    from trainer.tuning import FnArgs, tuner_fn

    span, _ = newest(config, span)
    with TemporaryDirectory(prefix="tune-") as name, _without_epochs():
        folder = Path(name)
        data = prepare(config, replace(config.examples, targets="window"), span, folder)
        tuner, fit_kwargs = tuner_fn(
            FnArgs(
                train_files=data.files("examples", "train"),
                eval_files=data.files("examples", "eval"),
                transform_output=data.graph("examples"),
                working_dir=str(folder),
                custom_config={
                    "config": to_json(config.model),
                    "tuning": to_json(config.tuning),
                    "catalog_files": data.files("catalog", "all"),
                    "catalog_transform_output": data.graph("catalog"),
                },
            )
        )
        try:
            tuner.search(**fit_kwargs)
        except ValueError as error:
            raise BuildError(f"{error}; look at tuning.space, and at the data: evergreen contract check") from error
    trials = sorted(tuner.trainings[1:], key=worst_last)
    label = SpanPattern(config.contract.interactions.files).label(span)
    return Found(span=label, configured=tuner.configured, trials=trials)


@contextmanager
def _without_epochs() -> Iterator[None]:
    """A line per trial, none per epoch: the Trainer's own lines are left out meanwhile."""
    logger = logging.getLogger("evergreen.trainer")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
