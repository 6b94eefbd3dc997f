"""What was read, refused and written: counted in parts by the steps, added up, saved as `summary.json`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_SAMPLES = 5
MAX_NAMES = 20

Sample = tuple[int, int, str]  # index of the file, line, what the row says

REJECTED, DUPLICATED, LEFT_OUT = "rejected", "duplicated", "left_out"


@dataclass(kw_only=True)
class Account:
    """Rows that did not become interactions, by reason, with the first of them; `figures`: where a span counts them."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, count: int, samples: Iterable[Sample]) -> None:
        self.counts[reason] += count
        self.samples[reason] = sorted([*self.samples.get(reason, ()), *samples])[:MAX_SAMPLES]

    def __add__(self, other: "Account") -> "Account":
        figures = {**self.figures, **other.figures}
        both = Account(counts=Counter(self.counts), samples=dict(self.samples), figures=figures)
        for reason, count in other.counts.items():
            both.add(reason, count, other.samples.get(reason, ()))
        return both

    def to_json(self) -> dict[str, Any]:
        return {
            reason: {
                "count": count,
                "samples": [text for _, _, text in self.samples.get(reason, ())],
                **({"figure": self.figures[reason]} if reason in self.figures else {}),
            }
            for reason, count in sorted(self.counts.items())
        }


@dataclass(kw_only=True)
class Report:
    """A part of the account; `+` adds two parts, in any order to the same sum.

    The law: of every span, rows_read = rows_accepted + rows_rejected + rows_duplicated + rows_left_out.
    """

    figures: dict[int, Counter[str]] = field(default_factory=dict)  # of each span that was read
    types: dict[int, Counter[str]] = field(default_factory=dict)  # of each span's accepted rows
    totals: Counter[str] = field(default_factory=Counter)
    rejected: Account = field(default_factory=Account)
    duplicated: Account = field(default_factory=Account)
    left_out: Account = field(default_factory=Account)
    undeclared_types: Counter[str] = field(default_factory=Counter)
    empty_files: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def count(self, span: int, **figures: int) -> None:
        """Adds to the figures of a span."""
        self.figures.setdefault(span, Counter()).update(figures)

    def refuse(
        self, kind: str, span: int, reason: str, count: int, samples: Iterable[Sample], figure: str | None = None
    ) -> None:
        """Counts `count` rows of `span` that are REJECTED, DUPLICATED or LEFT_OUT, and in `figure`, if that is one."""
        if count:
            self.count(span, **{f"rows_{kind}": count})
            account: Account = getattr(self, kind)
            account.add(reason, count, samples)
            if figure:
                self.count(span, **{figure: count})
                account.figures[reason] = figure

    def __add__(self, other: "Report") -> "Report":
        return Report(
            figures=_merged(self.figures, other.figures),
            types=_merged(self.types, other.types),
            totals=self.totals + other.totals,
            rejected=self.rejected + other.rejected,
            duplicated=self.duplicated + other.duplicated,
            left_out=self.left_out + other.left_out,
            undeclared_types=self.undeclared_types + other.undeclared_types,
            empty_files=sorted({*self.empty_files, *other.empty_files}),
            errors=sorted({*self.errors, *other.errors}),
        )


def _merged(one: dict[int, Counter[str]], other: dict[int, Counter[str]]) -> dict[int, Counter[str]]:
    return {span: one.get(span, Counter()) + other.get(span, Counter()) for span in {**one, **other}}
