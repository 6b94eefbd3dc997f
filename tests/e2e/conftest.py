"""A planted world: who goes where is known, so a recommendation can be wrong. Column names are nobody's defaults.

60 users (36 in group A, 24 in group B), 30 items (17 of set A, 12 of set B, one that nobody touches). Group A walks
its items in a circle, group B its own backwards; neither ever touches the other's. Nothing in the catalog tells the
sets apart. A user of A makes 5 steps a span, one of B makes 3: after two spans at least 7 items of A, and 6 of B, are
new to their users, so that 5 answers exist that are both new and right.
"""

import csv
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.story import story  # noqa: F401  a fixture

SET_A = [f"a{number:02}" for number in range(17)]
SET_B = [f"b{number:02}" for number in range(12)]
UNTOUCHED = "x99"
GROUP_A = [f"ann{number:02}" for number in range(36)]
GROUP_B = [f"bob{number:02}" for number in range(24)]
STEPS = {"a": 5, "b": 3}  # per span
SPAN_SECONDS = 30 * 86_400
BEGIN_SECONDS = 1_600_000_000

CONFIG = """
name: planted
data_root: data
contract:
  interactions:
    files: log/part-{span}.csv
    user_id: who
    item_id: what
    timestamp: when_ms
    timestamp_unit: milliseconds
    interaction_type: did
    types: {seen: 0.5, bought: 1.0}
    context:
      - {name: device}
  items:
    files: goods.csv
    item_id: code
    title: label
    features:
      - {name: kind}
      - {name: price, type: number}
examples: {window_spans: 3, eval_fraction: 0.15, max_history: 10}
trainer: {embedding_dim: 16, epochs: 20, batch_positions: 128, learning_rate: 0.02, id_dropout: 0.0, dropout: 0.0}
index: {top_k: 5, num_candidates: 20}
evaluation:
  floors: {recall@10: 0.1}
  max_drop: {}
  min_lift_over_popularity: 0.0
  bootstrap_resamples: 0
validator: {max_p50_ms: 1000, requests_per_signature: 3}
"""


@dataclass(frozen=True)
class Planted:
    """Where the planted data and its configuration are, and what is true of them."""

    path: Path
    group_a: tuple[str, ...] = tuple(GROUP_A)
    group_b: tuple[str, ...] = tuple(GROUP_B)
    set_a: frozenset[str] = frozenset(SET_A)
    set_b: frozenset[str] = frozenset(SET_B)
    untouched: str = UNTOUCHED
    span_seconds: int = SPAN_SECONDS
    begin_seconds: int = BEGIN_SECONDS

    @property
    def config(self) -> Path:
        return self.path / "planted.yaml"

    def history(self, user: str, spans: int) -> list[str]:
        """What the user touched in the first spans, oldest first."""
        return [walk(user, step) for step in range(spans * STEPS[user[0]])]

    def next_items(self, user: str, spans: int) -> list[str]:
        """The two items that come next on the user's walk; which of the two is first, a small model may confuse."""
        taken = spans * STEPS[user[0]]
        return [walk(user, taken), walk(user, taken + 1)]


def walk(user: str, step: int) -> str:
    """The item of a user's step: forward through A, backward through B, each user from an own start."""
    number = int(user[3:])
    if user.startswith("ann"):
        return SET_A[(5 * number + step) % len(SET_A)]
    return SET_B[(7 * number - step) % len(SET_B)]


def log_rows(span: int) -> Iterable[dict[str, object]]:
    """The log of a span, by time. Both groups are at it until the end, so that both are in the eval part."""
    chance = random.Random(span)
    rows = []
    for user in GROUP_A + GROUP_B:
        steps = STEPS[user[0]]
        for step in range(steps):
            seconds = BEGIN_SECONDS + (span - 1) * SPAN_SECONDS + (step + chance.random()) * SPAN_SECONDS / steps
            rows.append(
                {
                    "when_ms": int(seconds * 1000),
                    "what": walk(user, (span - 1) * steps + step),
                    "did": chance.choice(["seen", "seen", "bought"]),
                    "who": user,
                    "device": chance.choice(["phone", "desk"]),
                }
            )
    return sorted(rows, key=lambda row: row["when_ms"])


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Two sound spans and a third in which four rows of five name a type that nobody declared."""
    path = tmp_path_factory.mktemp("planted")
    path.joinpath("planted.yaml").write_text(CONFIG)
    chance = random.Random(0)
    items = [*SET_A, *SET_B, UNTOUCHED]
    chance.shuffle(items)  # the catalog's order says nothing either
    write(
        path / "data" / "goods.csv",
        (
            {
                "label": f"Goods {item}",
                "price": round(chance.uniform(1, 9), 2),
                "code": item,
                "kind": chance.choice("rgb"),
            }
            for item in items
        ),
    )
    for span in (1, 2):
        write(path / "data" / "log" / f"part-{span}.csv", log_rows(span))
    bad = (row | ({"did": "glanced"} if number % 5 else {}) for number, row in enumerate(log_rows(3)))
    write(path / "data" / "log" / "part-3.csv", bad)
    return Planted(path)
