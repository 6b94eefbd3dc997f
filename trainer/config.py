"""The trainer's leaf of the configuration: everything that changes what is learned."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT, Features


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainerConfig:
    """Hyper-parameters. The names are the field's own; sizes and rates carry their unit."""

    embedding_dim: int = Field(default=64, ge=2)
    history_encoder: Literal["mean"] = "mean"
    id_dropout: float = Field(default=0.1, ge=0, lt=1)  # share of items whose id is hidden, so that content learns
    dropout: float = Field(default=0.2, ge=0, lt=1)
    full_softmax_below_items: int = Field(default=20_000, ge=0)  # larger catalogs use sampled negatives
    uniform_negatives: int = Field(default=1_000, ge=0)  # beside the in-batch negatives
    temperature: float = Field(default=1.0, gt=0)
    ranking_weight: float = Field(default=1.0, ge=0)  # of the ranking loss beside the retrieval loss
    epochs: int = Field(default=10, ge=1)
    warm_start: bool = True
    batch_size_users: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    seed: int = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """What a saved model is made of: saved as JSON beside its weights, enough to build it again."""

    trainer: TrainerConfig
    features: Features
    max_history: int
