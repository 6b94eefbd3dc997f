"""The requests of a probe: known and unknown ids, every optional input, ready for a client."""

from dataclasses import dataclass
from typing import Any

from components.servable_validator.config import ServableContract

UNKNOWN_USER = "evergreen-unknown-user"
UNKNOWN_ITEM = "evergreen-unknown-item"

Inputs = dict[str, list[Any]]


@dataclass(frozen=True)
class Requests:
    """What to send to a servable with this contract. The last user and the last item of a batch are unknown."""

    contract: ServableContract

    @property
    def users(self) -> list[str]:
        """[B] user ids."""
        return [*self.contract.canary.user_ids, UNKNOWN_USER]

    @property
    def items(self) -> list[str]:
        """[N] item ids."""
        return [*self.contract.canary.item_ids, UNKNOWN_ITEM]

    def recommend(
        self,
        history: list[str] | None = None,
        exclude: list[list[str]] | None = None,
        allow: str = "",
    ) -> Inputs:
        """All users at once; `history` and `allow` for each of them, `exclude` [B, X] row by row."""
        rows = len(self.users)
        context: dict[str, list[Any]] = {
            feature.name: [0.0 if feature.type == "number" else ""] * rows for feature in self.contract.context
        }
        return {
            "user_id": self.users,
            "history": [history or [""]] * rows,
            "exclude": exclude or [[""]] * rows,
            "allow": [[allow]] * rows,
            **context,
        }

    def long_history(self) -> list[str]:
        """More items than a model looks back on, [max_history + 3]."""
        length, items = self.contract.max_history + 3, self.contract.canary.item_ids
        return [items[position % len(items)] for position in range(length)]

    def of_each_signature(self) -> dict[str, Inputs]:
        """One plain batch for every signature that serves."""
        return {
            "serving_default": {"user_id": self.users},
            "recommend": self.recommend(),
            "similar_items": {"item_id": self.items},
            "rank": {"user_id": self.users, "item_ids": [self.items] * len(self.users)},
            "embed_query": {"user_id": self.users},
            "embed_items": {"item_id": self.items},
        }

    def singles(self) -> dict[str, Inputs]:
        """The same, cut to the first user or item, and without the unknown item: what is timed."""
        known: dict[str, Inputs] = {"rank": {"user_id": self.users, "item_ids": [list(self.contract.canary.item_ids)]}}
        batches = self.of_each_signature() | known
        return {name: {key: rows[:1] for key, rows in inputs.items()} for name, inputs in batches.items()}
