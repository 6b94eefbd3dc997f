"""What was read, refused and written: counted in parts by the steps, added up, saved as `summary.json`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MAX_SAMPLES = 5
MAX_NAMES = 20

Sample = tuple[int, int, str]  # index of the file, line, what the row says


@dataclass(kw_only=True)
class Report:
    """A part of the account; `+` adds two parts, in any order to the same sum.

    The law: `rows_read == rows_accepted + sum(rejected.values())`, so no row is dropped without a count.
    """

    rows_per_span: Counter[int] = field(default_factory=Counter)
    rows_accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    undeclared_types: Counter[str] = field(default_factory=Counter)
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    users: int = 0
    items: int = 0
    train_examples: int = 0
    train_targets: int = 0
    eval_examples: int = 0
    eval_from: int | None = None
    errors: list[str] = field(default_factory=list)

    def reject(self, reason: str, count: int, samples: list[Sample]) -> None:
        """Counts `count` rows refused for `reason`, with the first of them."""
        if count:
            self.rejected[reason] += count
            self.samples[reason] = sorted(self.samples.get(reason, []) + samples)[:MAX_SAMPLES]

    def __add__(self, other: "Report") -> "Report":
        samples = {
            reason: sorted(self.samples.get(reason, []) + other.samples.get(reason, []))[:MAX_SAMPLES]
            for reason in {**self.samples, **other.samples}
        }
        return Report(
            rows_per_span=self.rows_per_span + other.rows_per_span,
            rows_accepted=self.rows_accepted + other.rows_accepted,
            rejected=self.rejected + other.rejected,
            samples=samples,
            undeclared_types=self.undeclared_types + other.undeclared_types,
            first_timestamp=_chosen(min, self.first_timestamp, other.first_timestamp),
            last_timestamp=_chosen(max, self.last_timestamp, other.last_timestamp),
            users=self.users + other.users,
            items=self.items + other.items,
            train_examples=self.train_examples + other.train_examples,
            train_targets=self.train_targets + other.train_targets,
            eval_examples=self.eval_examples + other.eval_examples,
            eval_from=_chosen(max, self.eval_from, other.eval_from),
            errors=sorted({*self.errors, *other.errors}),
        )

    @property
    def rows_read(self) -> int:
        return sum(self.rows_per_span.values())

    def summary(self, *, spans: tuple[int, ...], learned_until_seconds: int) -> dict[str, Any]:
        """The account as JSON. `spans` are the window's; one without rows is missing when an older one has some."""
        first = min(self.rows_per_span, default=0)
        return {
            "spans_read": [span for span in spans if span in self.rows_per_span],
            "spans_missing": [span for span in spans if span > first and span not in self.rows_per_span],
            "rows_read": self.rows_read,
            "rows_accepted": self.rows_accepted,
            "rows_rejected": self.rejected.total(),
            "rejected": {
                reason: {"count": count, "samples": [text for _, _, text in self.samples.get(reason, [])]}
                for reason, count in sorted(self.rejected.items())
            },
            "rows_per_span": {str(span): count for span, count in sorted(self.rows_per_span.items())},
            "undeclared_types": dict(self.undeclared_types.most_common(MAX_NAMES)),
            "users": self.users,
            "items": self.items,
            "first_timestamp_seconds": self.first_timestamp,
            "last_timestamp_seconds": self.last_timestamp,
            "eval_from_seconds": self.eval_from,
            "learned_until_seconds": learned_until_seconds,
            "train_examples": self.train_examples,
            "train_targets": self.train_targets,
            "eval_examples": self.eval_examples,
            "errors": self.errors,
        }


def _chosen(choose: Any, one: int | None, other: int | None) -> int | None:
    present = [value for value in (one, other) if value is not None]
    return choose(present) if present else None
