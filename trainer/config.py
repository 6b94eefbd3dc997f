"""The trainer's leaf of the configuration: everything that changes what is learned."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT, Features


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainerConfig:
    """Hyper-parameters. The names are the field's own; sizes and rates carry their unit."""

    embedding_dim: int = Field(default=64, ge=2)
    history_encoder: Literal["mean", "gru", "transformer"] = "mean"
    history_blocks: int = Field(default=2, ge=1)  # of the transformer
    history_heads: int = Field(default=2, ge=1)  # of each block; they share embedding_dim
    hidden_ratio: int = Field(default=4, ge=0)  # width of the query's hidden layer in embedding_dims; 0: no such layer
    id_dropout: float = Field(default=0.1, ge=0, lt=1)  # share of items whose id is hidden, so that content learns
    dropout: float = Field(default=0.2, ge=0, lt=1)
    embedding_l2: float = Field(default=0.0, ge=0)  # λ Σ e² of all embedding tables, beside the loss
    kernel_l2: float = Field(default=0.0, ge=0)  # the same of all layers' kernels
    full_softmax_below_items: int = Field(default=20_000, ge=0)  # larger catalogs use sampled negatives
    uniform_negatives: int = Field(default=1_000, ge=0)  # beside the in-batch negatives
    normalized: bool | Literal["queries"] = True  # length 1 of queries and candidates, of queries alone, or of neither
    temperature: float = Field(default=0.12, gt=0)
    hard_negatives: int | None = Field(default=None, ge=1)  # only so many of the sampled ones, the nearest; null: all
    ranking_weight: float = Field(default=1.0, ge=0)  # of the ranking loss beside the retrieval loss
    ranking_negatives: int = Field(default=256, ge=0)  # proposals of retrieval per step that nobody took
    ranking_gradient: float = Field(
        default=0.0, ge=0, le=1
    )  # how much of it reaches the towers; 0: the head reads only
    graded_types: bool = False  # interaction types are grades of one scale, the least first (trainer.ranking)
    epochs: int = Field(default=10, ge=1)  # at most
    patience_epochs: int | None = Field(default=3, ge=1)  # without a better NDCG; null: all epochs, the last kept
    validation_examples: int = Field(default=10_000, ge=1)  # of the eval split, at most, judge an epoch
    warm_start: bool = True
    batch_positions: int = Field(default=2048, ge=1)  # of all sequences of a batch together
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=0, ge=0)  # in which the rate rises from 0; then it falls as a cosine
    mixed_precision: bool = False  # bfloat16 inside of the layers, for GPUs and TPUs; variables and losses stay float32
    seed: int = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """What a saved model is made of: saved as JSON beside its weights, enough to build it again."""

    trainer: TrainerConfig
    features: Features
    max_history: int
    exclude_seen: bool | tuple[str, ...] = True  # of a user's history, by types: it does not compete either

    @property
    def seen_types(self) -> tuple[bool, ...]:
        """As Features.seen_types."""
        return self.features.seen_types(self.exclude_seen)
