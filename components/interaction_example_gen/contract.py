"""The data contract: which of the user's columns means what. A leaf of the pipeline's configuration."""

from typing import Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from trainer.features import POPULARITY_KEY, STRICT, TITLE_KEY, Feature, Features

TimestampUnit = Literal["seconds", "milliseconds", "microseconds"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InteractionsContract:
    """The interaction log. `files` is a glob below the data root; `{span}` stands for the span's number."""

    files: str = "spans/{span}/*"
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    timestamp_unit: TimestampUnit = "seconds"
    interaction_type: str | None = "interaction_type"  # None: every row is of the one declared type
    types: dict[str, float]  # interaction type → weight in the retrieval loss
    context: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        if "{span}" not in self.files:
            raise ValueError(f"files is {self.files!r}; it must contain {{span}}, for example 'spans/{{span}}/*.csv'")
        if self.interaction_type is None and len(self.types) != 1:
            raise ValueError(f"interaction_type is null, so types must name exactly one type, got {sorted(self.types)}")
        if several := [feature.name for feature in self.context if feature.type == "categories"]:
            raise ValueError(
                f"context features {several} are of type 'categories'; context has one value per interaction: "
                "use 'category', 'number' or 'text'"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ItemsContract:
    """The catalog: one row per item. `title` names the column that people read, if there is one."""

    files: str = "items.csv"
    item_id: str = "item_id"
    title: str | None = None
    features: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        names = {feature.name for feature in self.features}
        if POPULARITY_KEY in names:
            raise ValueError(f"item feature {POPULARITY_KEY!r} is taken by the catalog; rename the column")
        if TITLE_KEY in names and self.title not in (None, TITLE_KEY):
            raise ValueError(
                f"item feature {TITLE_KEY!r} and the title column {self.title!r} would be written under one name; "
                f"rename one, or set title: {TITLE_KEY}"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UsersContract:
    """What is known of users: one row per user."""

    files: str = "users.csv"
    user_id: str = "user_id"
    features: tuple[Feature, ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataContract:
    """Interactions, items and (optionally) users, in the user's own columns."""

    interactions: InteractionsContract
    items: ItemsContract = Field(default_factory=lambda: ItemsContract())
    users: UsersContract | None = None

    def __post_init__(self) -> None:
        self.features()  # refuses clashing names early

    def features(self) -> Features:
        """The same declarations as the trainer sees them."""
        return Features(
            user=self.users.features if self.users else (),
            item=self.items.features,
            context=self.interactions.context,
            interaction_types=dict(self.interactions.types),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExamplesConfig:
    """How interactions become examples."""

    window_spans: int = Field(default=4, ge=1)  # how many spans, the newest last, a run reads
    eval_fraction: float = Field(default=0.1, gt=0, lt=1)  # the newest part of the newest span, by time
    max_history: int = Field(default=50, ge=1)  # interactions a model may look back on
    targets: Literal["new", "window"] = "new"  # learn what production has not learned, or the whole window again
    max_rejected_fraction: float = Field(default=0.01, ge=0, le=1)
    num_shards: int = Field(default=2, ge=1)


def parse_contract(text: str) -> DataContract:
    """From JSON, as a component gets it; raises pydantic's ValidationError, which names the key."""
    return TypeAdapter(DataContract).validate_json(text)


def parse_config(text: str) -> ExamplesConfig:
    """From JSON, as a component gets it; raises pydantic's ValidationError, which names the key."""
    return TypeAdapter(ExamplesConfig).validate_json(text)
