"""The index builder's leaf of the configuration."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IndexConfig:
    """How the catalog is indexed, and how many items a request retrieves and returns."""

    top_k: int = Field(default=10, ge=1)  # items per answer
    num_candidates: int = Field(default=200, ge=1)  # items retrieved and ranked per request
    hashing_above_items: int = Field(default=1_000, ge=256)  # smaller catalogs: ScaNN without hashing, exact
    num_leaves: int | None = None  # None: the square root of the number of items
    min_recall: float = Field(default=0.95, ge=0, le=1)  # of the true top `num_candidates`, on real queries; else exact
    exclude_seen: bool = True  # never recommend what is in the user's own history

    def __post_init__(self) -> None:
        if self.num_candidates < self.top_k:
            raise ValueError(f"num_candidates is {self.num_candidates}; it must be at least top_k ({self.top_k})")
