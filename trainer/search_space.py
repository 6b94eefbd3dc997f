"""Which settings of the Trainer a tuner may change, and to what: a leaf of the configuration. Free of TensorFlow."""

from dataclasses import fields
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from trainer.config import TrainerConfig
from trainer.features import STRICT

# What no search may choose: luck, who judges, and what no trial does, for each begins at nothing.
NOT_TUNED = ("seed", "validation_examples", "warm_start")
TUNED = tuple(sorted({field.name for field in fields(TrainerConfig)} - set(NOT_TUNED)))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Values:
    """What one setting may be: one of the `choices`, or a number from `low` to `high`, both included.

    `log`: as many trials between 0.001 and 0.01 as between 0.01 and 0.1.
    """

    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        is_range = self.low is not None and self.high is not None
        if (self.choices is None) != is_range or (self.choices is not None and (self.low, self.high) != (None, None)):
            raise ValueError(
                "give either choices, such as {choices: [32, 64]}, or both ends, such as {low: 0, high: 0.5}"
            )
        if self.choices is not None and (not self.choices or self.log):
            raise ValueError("choices need one value at least, and no log, which is for ranges")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low is {self.low:g} and high {self.high:g}; low must be below high")
            if self.log and self.low <= 0:
                raise ValueError(f"a range by logarithms starts above 0, got low {self.low:g}")


def default_space() -> dict[str, Values]:
    """What matters most, and does no harm in any combination."""
    return {
        "learning_rate": Values(low=3e-4, high=1e-2, log=True),
        "embedding_dim": Values(choices=(32, 64, 128)),
        "history_encoder": Values(choices=("mean", "gru", "transformer")),
        "dropout": Values(low=0.0, high=0.5),
    }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TuningConfig:
    """How long `evergreen tune` searches, and where: the Trainer's settings by name."""

    trials: int = Field(default=20, ge=1)  # beside the configured settings, which are tried first
    space: dict[str, Values] = Field(default_factory=default_space, min_length=1)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.space) - set(TUNED)):
            raise ValueError(f"space has unknown keys {unknown}; known here: {', '.join(TUNED)}")
        for name, values in self.space.items():
            ends = [value for value in (values.low, values.high) if value is not None]
            admitted = [accepted(name, value) for value in (ends if values.choices is None else values.choices)]
            if values.choices is None and any(isinstance(value, bool) for value in admitted):
                raise ValueError(f"space.{name} is no number; give its values, such as {{choices: [false, true]}}")


def accepted(name: str, value: Any) -> Any:
    """The value as TrainerConfig takes it: 1e-4, which YAML reads as text, as a number.

    Raises:
      ValueError: it is refused.
    """
    try:
        return getattr(TypeAdapter(TrainerConfig).validate_python({name: value}), name)
    except ValidationError as error:
        why = "; ".join(problem["msg"] for problem in error.errors())
        raise ValueError(f"space.{name}: the Trainer refuses {value!r}: {why}") from error
