"""What every row of quality.py can be told on the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from trainer.config import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """`judged`: which split the figures are of. Choose on validation; test is for the report, once."""

    judged: str = "test"
    seeds: tuple[int, ...] = (1,)
    epochs: int | None = None
    minutes: float | None = None
    is_learned: bool = True  # False: baselines alone
    has_features: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = sorted(f.name for f in fields(TrainerConfig))
        if extra := sorted(set(self.overrides) - set(known)):
            raise ValueError(f"unknown keys {extra}; known: {known}")

    def config(self, record: TrainerConfig, seed: int) -> TrainerConfig:
        """A record with what was told instead.

        Raises ValueError where the test would choose the epoch: a record without patience has nothing else to judge by.
        """
        told = {"seed": seed, **({"epochs": self.epochs} if self.epochs else {}), **self.overrides}
        if self.judged == "test" and record.patience_epochs is None and told.get("patience_epochs") is not None:
            raise ValueError("patience_epochs would choose the epoch by the test; choose it with --judged validation")
        return replace(record, **told)
