"""All that the gate judges, as read_evidence.py finds it: figures, no files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Distance = Literal["L-infinity", "Jensen-Shannon"]


@dataclass(frozen=True)
class Anomaly:
    """One departure from the schema: what was found in `got`, against what the schema says of the feature."""

    dataset: str
    feature: str
    summary: str
    got: str
    expected: str
    is_error: bool = True


@dataclass(frozen=True)
class Drift:
    """How far one feature moved since the last accepted span; `detail` names the value that moved most, or is ''."""

    dataset: str
    feature: str
    distance: Distance
    value: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class SpanFigures:
    """What was counted in one span. A figure that is None asks no question."""

    fingerprint: str | None = None  # of its files
    rows_read: int | None = None
    rows_accepted: int | None = None
    rows_rejected: int | None = None  # with those of unknown items and those in the future
    rows_duplicated: int | None = None
    rows_unknown_item: int | None = None
    rows_in_future: int | None = None
    rows_out_of_span: int | None = None
    rows_late: int | None = None
    last_timestamp_seconds: int | None = None
    types: Mapping[str, int] = field(default_factory=dict)  # of the accepted rows


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why rows of the run were rejected. `figure`: that of a span which counts them too, as rows_in_future."""

    words: str
    count: int
    samples: tuple[str, ...] = ()
    figure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of the run for `span`, the newest it reads, and of what was learned before.

    datasets: those held against a schema.
    learned: the spans to learn. accepted: those that production has learned.
    labels: how people call a span, where its number says little.
    """

    span: int
    datasets: tuple[str, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    drifts: tuple[Drift, ...] = ()
    learned: Mapping[int, SpanFigures] = field(default_factory=dict)
    accepted: Mapping[int, SpanFigures] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    targets: int | None = None
    users_learned: int | None = None
    users_new: int | None = None
    asked_at_seconds: int = 0  # when the run began, since 1970; 0: freshness is not asked for

    def label(self, span: int) -> str:
        """How people call the span."""
        return self.labels.get(span, str(span))
