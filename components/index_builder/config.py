"""The index builder's leaf of the configuration: the index, what is never shown, and the rules of the house."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Boost:
    """Items with this feature value are worth `factor` times as much; below 1 it is a penalty."""

    feature: str
    value: str
    factor: float = Field(gt=0, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cap:
    """No more than `at_most` of an answer's items have one value of this feature, while other candidates are left."""

    feature: str
    at_most: int = Field(ge=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rules:
    """What the house wants, whatever the model says. Items and values that the catalog does not have do nothing."""

    boosts: tuple[Boost, ...] = ()
    caps: tuple[Cap, ...] = ()
    pinned: tuple[str, ...] = ()  # item ids: these come first, in this order, wherever they may be shown
    blocked: tuple[str, ...] = ()  # item ids: never shown

    def __post_init__(self) -> None:
        if both := sorted(set(self.pinned) & set(self.blocked)):
            raise ValueError(f"items {both} are pinned and blocked; an item can be one of both")
        for what, names in (
            ("capped", [cap.feature for cap in self.caps]),
            ("boosted", [f"{boost.feature}={boost.value}" for boost in self.boosts]),
            ("pinned", list(self.pinned)),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} twice: {twice}; say it once")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IndexConfig:
    """How the catalog is indexed, how many items a request retrieves and returns, and what is never among them."""

    top_k: int = Field(default=10, ge=1)  # items per answer
    num_candidates: int = Field(default=200, ge=1)  # items retrieved and ranked per request
    kind: Literal["auto", "exact", "scann", "portable"] = "auto"  # portable: stock TensorFlow Serving serves it
    exact_below_items: int = Field(default=10_000, ge=256)  # of kind auto: smaller catalogs are scored as a whole
    num_leaves: int | None = Field(default=None, ge=1)  # None: √N, and 4 √N where leaves are scored exactly
    min_recall: float = Field(default=0.95, ge=0, le=1)  # of the true top `num_candidates`, on real queries
    exclude_seen: bool | tuple[str, ...] = True  # of a user's own history: all, or only interactions of these types
    rules: Rules = Field(default_factory=lambda: Rules())

    def __post_init__(self) -> None:
        if self.num_candidates < self.top_k:
            raise ValueError(f"num_candidates is {self.num_candidates}; it must be at least top_k ({self.top_k})")
