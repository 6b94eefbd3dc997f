"""A figure against its bounds, in one sentence; and all of them together: the verdict."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from components.data_gate.config import Threshold

Decision = Literal["go", "warn", "stop"]
Outcome = Literal["passed", "warned", "failed"]
Unit = Literal["share", "times", "hours", "count", "distance"]

FORMATS: dict[Unit, str] = {"share": "{:.2%}", "times": "{:.2f} times", "hours": "{:,.1f} h", "count": "{:,.0f}",
                            "distance": "{:.3f}"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question that was asked of the data, of one span or (None) of the whole run."""

    name: str
    outcome: Outcome
    sentence: str
    figure: float
    warn: float | None = None
    stop: float | None = None
    unit: Unit = "share"
    at_least: bool = False  # the bounds are lower ones
    span: int | None = None


@dataclass(frozen=True)
class Override:
    """Who accepted a quarantined span, and why."""

    who: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on a run for `span`, the newest; `spans` are those to be learned, with how people call them.

    A failing check of an overridden span stops nothing, nor does one of the whole run where `span` is overridden.
    """

    span: int
    spans: Mapping[int, str]
    checks: tuple[Check, ...]
    overrides: Mapping[int, Override] = field(default_factory=dict)
    fingerprints: Mapping[int, str | None] = field(default_factory=dict)  # of the spans' files

    def __str__(self) -> str:
        """For the person who watches: "span 5: go; 31 checks", then warnings, the first of them."""
        failed, warned = len(self.sentences("failed")), self.sentences("warned")
        counts = [f"{len(self.checks)} checks"]
        counts += [f"{failed} failed"] if failed else []
        counts += [f"warnings: {len(warned)}, such as: {warned[0]}"] if warned else []
        return f"span {self.spans.get(self.span, self.span)}: {self.decision}; {', '.join(counts)}"

    @property
    def decision(self) -> Decision:
        """Stop on a check that failed and is not forgiven; warn where any bound was passed; else go."""
        if any(map(self._stops, self.checks)):
            return "stop"
        return "go" if all(check.outcome == "passed" for check in self.checks) else "warn"

    @property
    def quarantined(self) -> list[int]:
        """On a stop the spans that failing checks name, or all when one of these is about the whole run."""
        named = {check.span for check in self.checks if self._stops(check)}
        return sorted(self.spans) if None in named else sorted(span for span in named if span is not None)

    @property
    def accepted(self) -> list[str]:
        """One sentence for each span that a person accepted although a check failed."""
        forgiven = {
            self._answers_for(check) for check in self.checks if check.outcome == "failed" and not self._stops(check)
        }
        return [
            f"span {self.spans.get(span, span)} was accepted by {self.overrides[span].who}, although checks failed: "
            f"{self.overrides[span].why}"
            for span in sorted(forgiven)
        ]

    def sentences(self, outcome: Outcome) -> list[str]:
        """Of the checks that ended so."""
        return [check.sentence for check in self.checks if check.outcome == outcome]

    def to_json(self) -> dict[str, Any]:
        """The verdict as it stands in `verdict.json`; JSON's keys are strings."""
        return {
            "decision": self.decision,
            "span": self.span,
            "spans": {str(span): label for span, label in self.spans.items()},
            "fingerprints": {str(span): fingerprint for span, fingerprint in self.fingerprints.items()},
            "quarantined": self.quarantined,
            "accepted": self.accepted,
            "reasons": self.sentences("failed"),
            "warnings": self.sentences("warned"),
            "overrides": {str(span): asdict(override) for span, override in self.overrides.items()},
            "checks": [asdict(check) for check in self.checks],
        }

    def _answers_for(self, check: Check) -> int:
        return self.span if check.span is None else check.span

    def _stops(self, check: Check) -> bool:
        return check.outcome == "failed" and self._answers_for(check) not in self.overrides


def ask(
    name: str,
    says: str,
    figure: float,
    bound: Threshold,
    unit: Unit = "share",
    *,
    at_least: bool = False,
    detail: str = "",
    span: int | None = None,
) -> Iterator[Check]:
    """One check, or none where `bound` asks nothing. `says` has the figure; `detail` is said when it does not pass."""
    if bound.warn is None and bound.stop is None:
        return
    outcome: Outcome = "passed"
    if not _holds(figure, bound.stop, at_least):
        outcome = "failed"
    elif not _holds(figure, bound.warn, at_least):
        outcome = "warned"
    sentence = f"{says}; {_allowance(bound, outcome, unit, at_least)}"
    if detail and outcome != "passed":
        sentence += f": {detail}"
    yield Check(
        name=name, outcome=outcome, sentence=sentence, figure=figure, warn=bound.warn, stop=bound.stop, unit=unit,
        at_least=at_least, span=span,
    )  # fmt: skip


def show(value: float | None, unit: Unit) -> str:
    """A figure or a bound for people: 0.0315 of unit "share" is 3.15%."""
    return "–" if value is None or math.isnan(value) else FORMATS[unit].format(value)


def _holds(figure: float, limit: float | None, at_least: bool) -> bool:
    return limit is None or (figure >= limit if at_least else figure <= limit)  # NaN holds nothing


def _allowance(bound: Threshold, outcome: Outcome, unit: Unit, at_least: bool) -> str:
    usual, allowed = (
        "" if limit is None else f"{'at least ' if at_least else ''}{show(limit, unit) if limit else 'none'} is {word}"
        for limit, word in ((bound.warn, "usual"), (bound.stop, "needed" if at_least else "allowed"))
    )
    if outcome == "warned":
        return ", ".join(filter(None, (usual, allowed)))
    return allowed or usual
