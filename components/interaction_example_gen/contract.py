"""The data contract: which of the user's columns means what. A leaf of the pipeline's configuration."""

import math
import re
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from components.interaction_example_gen.span_pattern import SpanPattern
from trainer.features import POPULARITY_KEY, STRICT, TITLE_KEY, USER_KEY, Feature, Features

TimestampUnit = Literal["seconds", "milliseconds", "microseconds", "iso8601"]
Role = Literal["positive", "negative", "ignored"]

DIRECTIVES = set("YymbBdHIpMSfzaA%")  # of strptime: those that mean the same on every machine


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InteractionType:
    """One kind of interaction.

    positive: learned as something to recommend, with its weight. negative: stays in histories, and the ranking head
    learns against it (a cancellation, a dislike). ignored: left out and counted.
    """

    role: Role = "positive"
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # in the retrieval loss; of positive types
    pattern: str | None = None  # RE2, of the whole value; None: the value is the type's name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Drop:
    """Rows whose `column` matches `pattern` (RE2, of the whole value; "" is missing) are left out and counted."""

    column: str
    pattern: str

    def __post_init__(self) -> None:
        check_pattern(self.pattern, f"drop of {self.column!r}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InteractionsContract:
    """The interaction log. `files` is a glob below the data root that says where a span's files are (SpanPattern)."""

    files: str = "spans/{span}/*"
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    timestamp_unit: TimestampUnit = "seconds"
    timestamp_pattern: str | None = None  # strptime's, such as "%d/%m/%Y %H:%M"; replaces timestamp_unit
    time_zone: str = "UTC"  # IANA, of times that do not say theirs
    interaction_type: str | None = "interaction_type"  # None: every row is of the one declared type
    types: dict[str, float | InteractionType]  # a number is the weight of a positive type
    context: tuple[Feature, ...] = ()
    deduplicate_by: tuple[str, ...] = ()  # columns; a user's later rows of a span that repeat them are duplicates
    drop: tuple[Drop, ...] = ()
    learn_user_ids: bool = False  # an embedding per user, beside what the history says
    max_events_per_hour: int | None = Field(default=None, ge=1)  # a user with more is a robot: its span is left out

    def __post_init__(self) -> None:
        SpanPattern(self.files)  # refuses a glob that names no span
        check_time_zone(self.time_zone)
        if self.timestamp_pattern is not None:
            check_timestamp_pattern(self.timestamp_pattern)
            if self.timestamp_unit != "seconds":
                raise ValueError(f"timestamp_pattern and timestamp_unit {self.timestamp_unit!r} are both set; keep one")
        for name, kind in self.types.items():
            if isinstance(kind, InteractionType) and kind.pattern is not None:
                check_pattern(kind.pattern, f"type {name!r}")
            if isinstance(kind, float) and not 0 < kind < math.inf:
                raise ValueError(
                    f"type {name!r} has weight {kind}; expected a number above 0, or role: negative or ignored"
                )
        if self.interaction_type is None and len(self.types) != 1:
            raise ValueError(f"interaction_type is null, so types must name exactly one type, got {sorted(self.types)}")
        if not self.positive_types:
            raise ValueError(f"no type is positive, so there is nothing to recommend; types: {sorted(self.types)}")
        if several := [f.name for f in self.context if f.type not in ("category", "number")]:
            raise ValueError(
                f"context features {several} are of a type that has several values; context has one value per "
                "interaction: use 'category' or 'number'"
            )

    def role(self, name: str) -> Role:
        """Of a declared type."""
        kind = self.types[name]
        return kind.role if isinstance(kind, InteractionType) else "positive"

    @property
    def weights(self) -> dict[str, float]:
        """Type → weight in the retrieval loss, 0 for negative ones; ignored types are not there."""
        kinds = {
            name: k if isinstance(k, InteractionType) else InteractionType(weight=k) for name, k in self.types.items()
        }
        return {
            name: kind.weight if kind.role == "positive" else 0.0
            for name, kind in kinds.items()
            if kind.role != "ignored"
        }

    @property
    def positive_types(self) -> tuple[str, ...]:
        """What is recommended, and judged by."""
        return tuple(name for name, weight in self.weights.items() if weight > 0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ItemsContract:
    """The catalog: one row per item, or, with `timestamp`, one per change. `title` names the column that people read.

    With `timestamp` (written as the interactions' is) each value is the newest one before the eval cut, so that what
    is judged was not described with hindsight; an item that first appears later has its first.
    `files` may name spans, as interactions.files does: then the files of the window are read.
    """

    files: str = "items.csv"
    item_id: str = "item_id"
    title: str | None = None
    features: tuple[Feature, ...] = ()
    timestamp: str | None = None
    drop: tuple[Drop, ...] = ()

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
    """What is known of users: one row per user, or, with `timestamp`, one per change.

    With `timestamp` (written as the interactions' is) an example has the newest row before its first target.
    """

    files: str = "users.csv"
    user_id: str = "user_id"
    features: tuple[Feature, ...] = ()
    timestamp: str | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataContract:
    """Interactions, items and (optionally) users, in the user's own columns."""

    interactions: InteractionsContract
    items: ItemsContract = Field(default_factory=lambda: ItemsContract())
    users: UsersContract | None = None

    def __post_init__(self) -> None:
        self.features()  # refuses clashing names early
        for noun, entity in (("items", self.items), ("users", self.users)):
            if entity and "{" in entity.files and SpanPattern(entity.files).period != self.span_pattern.period:
                raise ValueError(
                    f"{noun}.files is {entity.files!r} and interactions.files {self.interactions.files!r}: their spans "
                    "differ; use the same placeholders in both, or none for the former"
                )

    @property
    def span_pattern(self) -> SpanPattern:
        return SpanPattern(self.interactions.files)

    def features(self) -> Features:
        """The same declarations as the trainer sees them."""
        who = (Feature(name=USER_KEY),) if self.interactions.learn_user_ids else ()
        return Features(
            user=who + (self.users.features if self.users else ()),
            item=self.items.features,
            context=self.interactions.context,
            interaction_types=self.interactions.weights,
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExamplesConfig:
    """How interactions become examples."""

    window_spans: int = Field(default=4, ge=1)  # how many spans, the newest last, histories and targets come from
    eval_fraction: float = Field(default=0.1, gt=0, lt=1)  # the newest part of the newest span, by time
    max_history: int = Field(default=50, ge=1)  # interactions a model may look back on
    targets: Literal["new", "window"] = "new"  # learn what production has not learned, or the whole window again
    half_life_days: float | None = Field(default=None, gt=0)  # a target's weight halves with it; None: all weigh 1
    replay_fraction: float = Field(default=0.0, ge=0, le=1)  # of the learned interactions in the state, once more
    min_interactions: int = Field(default=0, ge=0)  # held of an item, for the model to know it; 0: all of the catalog
    evict_after_days: float | None = Field(default=None, gt=0)  # an item untouched for so long is left out; None: none
    num_shards: int | None = Field(default=None, ge=1)  # files per split; None: by the size of the newest span


def check_pattern(pattern: str, of: str) -> None:
    """Raises ValueError when it is no regular expression of RE2, which knows no look-ahead and no back-reference."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{of}: {pattern!r} is no regular expression of RE2 ({error})") from error


def check_timestamp_pattern(pattern: str) -> None:
    """Raises ValueError when it has unknown directives, or does not say which day."""
    found = set(re.findall(r"%(.?)", pattern))
    if unknown := sorted(found - DIRECTIVES):
        raise ValueError(
            f"timestamp_pattern {pattern!r} has %{', %'.join(unknown)}; known: %{', %'.join(sorted(DIRECTIVES))}"
        )
    if not (found & set("Yy") and found & set("mbB") and "d" in found):
        raise ValueError(f"timestamp_pattern {pattern!r} must say year, month and day, as '%Y-%m-%d %H:%M' does")


def check_time_zone(name: str) -> None:
    """Raises ValueError when no IANA zone has the name."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"time_zone {name!r} is unknown; expected an IANA name such as 'Europe/Rome'") from error


def parse_contract(text: str) -> DataContract:
    """From JSON, as a component gets it; raises pydantic's ValidationError, which names the key."""
    return TypeAdapter(DataContract).validate_json(text)


def parse_config(text: str) -> ExamplesConfig:
    """From JSON, as a component gets it; raises pydantic's ValidationError, which names the key."""
    return TypeAdapter(ExamplesConfig).validate_json(text)
