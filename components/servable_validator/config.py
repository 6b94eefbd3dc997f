"""What a servable must do to be blessed: a leaf of the configuration, and what the servable says of itself."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT

TOLERANT = ConfigDict(extra="ignore")  # the contract is written for others too


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidatorConfig:
    """Bounds of the probe. Latencies are of single requests by gRPC, seen by the client, in milliseconds."""

    max_p50_ms: float = Field(default=50.0, gt=0)
    requests_per_signature: int = Field(default=20, ge=1)
    load_timeout_seconds: float = Field(default=120.0, gt=0)


@dataclass(frozen=True, kw_only=True, config=TOLERANT)
class ContextFeature:
    """One further input [B] of `recommend`."""

    name: str
    type: Literal["category", "number", "text"] = "category"


@dataclass(frozen=True, kw_only=True, config=TOLERANT)
class Canary:
    """Ids that the servable knows; `allow` is a `feature=value` that some items have, '' without item features."""

    user_ids: tuple[str, ...] = Field(min_length=1)
    item_ids: tuple[str, ...] = Field(min_length=2)
    allow: str = ""


@dataclass(frozen=True, kw_only=True, config=TOLERANT)
class ServableContract:
    """`assets.extra/contract.json` of the servable: the sizes of its answers, and what to ask it."""

    top_k: int = Field(ge=1)
    embedding_dim: int = Field(ge=1)
    max_history: int = Field(ge=1)
    is_ordered_by_score: bool = True  # not where rules pin items or cap what is among the K
    context: tuple[ContextFeature, ...] = ()
    canary: Canary
