"""The evaluator's leaf of the configuration: what a model must reach before it may replace the one in production."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationConfig:
    """Bounds are on the overall slice. A floor always holds; a change bound holds where there is a baseline.

    `max_drop` is relative: 0.05 lets a metric be 5% below the baseline's. `min_lift_over_popularity`: 1.0 asks for
    at least what the most popular items reach.
    """

    floors: dict[str, float] = Field(default_factory=lambda: {"recall@100": 0.01})
    max_drop: dict[str, float] = Field(default_factory=lambda: {"recall@10": 0.05, "ndcg@10": 0.05})
    min_lift_over_popularity: float = Field(default=1.0, ge=0)  # of recall@100
    head_item_fraction: float = Field(default=0.2, gt=0, lt=1)  # the most popular share of the catalog is the head
    new_user_interactions: int = Field(default=5, ge=0)  # users with fewer earlier interactions are new
    bootstrap_resamples: int = Field(default=200, ge=0)  # of users, for the 95% intervals; 0: no intervals
    max_examples: int = Field(default=50_000, ge=1)
