"""Names of the features in the examples, the catalog and the user state: the one place where they are spelled.

A *sequence example* (splits `train` and `eval` of the examples) holds one user's interactions, oldest first:

| key | type | shape | meaning |
| --- | --- | --- | --- |
| `user_id` | bytes | [1] | |
| `user` | bytes | [1] | the user's id as a feature, only where the contract says `learn_user_ids` |
| one per user feature | bytes, float | [1], [0] when missing; [dim] for a vector | as the contract declares it |
| `item_ids` | bytes | [L] | |
| `interaction_types` | bytes | [L] | |
| `timestamps` | int64 | [L] | seconds since 1970, UTC, never decreasing |
| one per context feature | bytes, float | [L] | context of each interaction |
| `is_target` | int64 | [L] | 1 where this position is to be learned (`train`) or judged (`eval`) |
| `weights` | float | [L] | only with a half-life: 0.5^((eval cut − timestamp) / half-life), at most 1 |

In `train`, a sequence has many targets. In `eval`, exactly one, the last position, and every earlier position is
strictly older than it. In both, a model may use for a target only positions with a strictly smaller timestamp.
"""

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

USER_ID_KEY = "user_id"
USER_KEY = "user"
ITEM_ID_KEY = "item_id"
ITEM_IDS_KEY = "item_ids"
INTERACTION_TYPES_KEY = "interaction_types"
TIMESTAMPS_KEY = "timestamps"
IS_TARGET_KEY = "is_target"
WEIGHTS_KEY = "weights"

# Of the catalog, beside `item_id` and the item features:
TITLE_KEY = "title"  # what people read
POPULARITY_KEY = "popularity"  # interactions before the eval cut, time-decayed

FeatureType = Literal["category", "categories", "number", "text", "vector"]

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Feature:
    """One column that describes a user, an item or the context of an interaction.

    `category`: one string. `categories`: several strings in one column, split at `separator`. `number`: a float.
    `text`: free text, split into lower-case words. `vector`: `dim` floats, such as an image's embedding: a list in
    the file, or numbers in one text column, split at `separator`. A missing value is an empty list in the example.
    """

    name: str
    type: FeatureType = "category"
    separator: str = "|"
    dim: int | None = None  # of a vector

    def __post_init__(self) -> None:
        if (self.type == "vector") != (self.dim is not None and self.dim > 0):
            raise ValueError(
                f"feature {self.name!r} is of type {self.type!r} with dim {self.dim}; a vector needs its length "
                "(dim: 512), and nothing else has one"
            )

    @property
    def has_vocabulary(self) -> bool:
        """Whether its values become rows of a vocabulary; numbers and vectors are taken as numbers."""
        return self.type in ("category", "categories", "text")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Features:
    """All features that a model may use, by what they describe, and the interaction types by strength."""

    user: tuple[Feature, ...] = ()
    item: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    # name → weight in the retrieval loss; the heaviest is the strongest. 0: negative, in histories and what the ranking
    # head learns against, never what retrieval should find.
    interaction_types: dict[str, float]

    def __post_init__(self) -> None:
        if not self.interaction_types:
            raise ValueError("interaction_types is empty: name at least one, for example {view: 1.0}")
        if min(self.interaction_types.values()) < 0 or max(self.interaction_types.values()) <= 0:
            raise ValueError(
                f"interaction_types need weights of 0 or more, one of them above 0, got {self.interaction_types}"
            )
        names = [f.name for group in (self.user, self.item, self.context) for f in group]
        reserved = {
            USER_ID_KEY,
            ITEM_ID_KEY,
            ITEM_IDS_KEY,
            INTERACTION_TYPES_KEY,
            TIMESTAMPS_KEY,
            IS_TARGET_KEY,
            WEIGHTS_KEY,
        }
        if clash := sorted(reserved & set(names)):
            raise ValueError(f"feature names {clash} are taken by the examples; rename these features")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"feature names {twice} are declared twice; names are shared by users, items and context")

    def seen_types(self, exclude_seen: bool | tuple[str, ...]) -> tuple[bool, ...]:
        """Whether an interaction counts as seen, by its type row [types + 1]; row 0 is a type nobody declared."""
        if isinstance(exclude_seen, bool):
            return (exclude_seen,) * (len(self.interaction_types) + 1)
        return (False, *(name in exclude_seen for name in self.interaction_types))

    @property
    def strongest_type(self) -> str:
        """The interaction type that the ranking head learns to predict: the heaviest; the first of equals."""
        return max(self.interaction_types, key=lambda name: self.interaction_types[name])
