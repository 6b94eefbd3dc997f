"""Adam that goes on where an earlier training ended.

Adam (Kingma & Ba 2015, algorithm 1) keeps two moments of every variable's gradient, m and v, which begin at zero, and
corrects for that by the number t of steps that made them: m / (1 − β₁ᵗ), v / (1 − β₂ᵗ). So moments that come along
bring their t; corrected as if they were those of a first step, they would move a weight by a third of what they should
(√(1 − β₂) / (1 − β₁) = 0.32).

The learning rate's schedule begins anew: it is planned over the steps of one run, and where it has ended nothing more
would be learned. Hence two counts: Adam's goes on from `steps`, the schedule's is what came since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Moments:
    """What Adam knows after `steps`: m and v, one array for each of a model's trainable variables, in their order."""

    steps: int
    first: tuple[np.ndarray, ...]
    second: tuple[np.ndarray, ...]

    def save(self, path: Path) -> None:
        """Writes one .npz file, not compressed: moments are noise to a compressor."""
        arrays = {f"{name}/{n}": a for name in ("first", "second") for n, a in enumerate(getattr(self, name))}
        np.savez(path, steps=np.int64(self.steps), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Moments":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            of_each = range((len(arrays.files) - 1) // 2)
            first, second = (tuple(arrays[f"{name}/{n}"] for n in of_each) for name in ("first", "second"))
            return cls(int(arrays["steps"]), first, second)


@tf.keras.utils.register_keras_serializable("evergreen")
class Since(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that begins at step `begin` of the optimizer."""

    def __init__(self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, begin: int) -> None:
        self.schedule, self.begin = schedule, begin

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.schedule(tf.maximum(step - self.begin, 0))

    def get_config(self) -> dict[str, object]:
        return {"schedule": self.schedule, "begin": self.begin}


def adam(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
    variables: Sequence[tf.Variable],
    moments: Moments | None = None,
) -> tf.keras.optimizers.Optimizer:
    """Adam for these variables, beginning with `moments` where there are some. Call it in the strategy's scope."""
    if moments is None:
        return tf.keras.optimizers.Adam(schedule)
    optimizer = tf.keras.optimizers.Adam(Since(schedule, moments.steps))
    optimizer.build(variables)
    optimizer.iterations.assign(moments.steps)
    for slots, values in zip(_slots(optimizer), (moments.first, moments.second), strict=True):
        for slot, value in zip(slots, values, strict=True):
            slot.assign(value)
    return optimizer


def moments_of(model: tf.keras.Model) -> Moments | None:
    """What the optimizer of a model knows; None where it has learned nothing."""
    optimizer = getattr(model, "optimizer", None)
    steps = 0 if optimizer is None else int(optimizer.iterations.numpy())
    if not steps:
        return None
    first, second = (tuple(slot.numpy() for slot in slots) for slots in _slots(optimizer))
    return Moments(steps, first, second)


def _slots(optimizer: tf.keras.optimizers.Optimizer) -> tuple[list[tf.Variable], list[tf.Variable]]:
    """m and v, in the order of the model's trainable variables: Adam's own are its count, then m and v by turns."""
    _, *slots = optimizer.variables
    return slots[::2], slots[1::2]
