"""The questions that are asked of each span to learn, so that a bad one is named among good ones."""

from collections.abc import Iterable, Iterator, Mapping
from statistics import median

from components.data_gate.config import GateConfig
from components.data_gate.evidence import Evidence, Reason
from components.data_gate.verdict import Check, ask

MIN_KNOWN_SPANS = 3  # fewer say nothing about what is usual
JUDGED_APART = ("rows_unknown_item", "rows_in_future")  # rejected rows that have a check of their own


def check_span(span: int, evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    """The span's volume, rows and balance; a figure that is None, or a share of nothing, asks no question."""
    yield from _volume(span, evidence, config)
    yield from _rejected(span, evidence, config)
    f, label = evidence.learned[span], evidence.label(span)
    unknown, future = (_quoted(evidence.reasons, config, name) for name in JUDGED_APART)
    for name, count, total, words, bound, detail in (
        ("rows of unknown items", f.rows_unknown_item, f.rows_read, "rows are of items that are not in the catalog",
         config.unknown_item_fraction, unknown),
        ("rows in the future", f.rows_in_future, f.rows_read, "rows have a timestamp later than their file",
         config.future_fraction, future),
        ("duplicated rows", f.rows_duplicated, f.rows_read, "rows repeat an earlier one",
         config.duplicate_fraction, ""),
        ("rows out of the span", f.rows_out_of_span, f.rows_accepted, "accepted rows are not within its date",
         config.out_of_span_fraction, ""),
        ("late rows", f.rows_late, f.rows_accepted, "accepted rows are older than the newest event of the spans before",
         config.late_fraction, ""),
    ):  # fmt: skip
        if count is not None and total:
            says = f"span {label}: {count:,} of {total:,} {words} ({count / total:.2%})"
            yield from ask(name, says, count / total, bound, detail=detail, span=span)
    yield from _balance(span, evidence, config)


def _volume(span: int, evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    rows = evidence.learned[span].rows_read
    before = {**evidence.accepted, **evidence.learned}
    counts = [f.rows_read for number, f in sorted(before.items()) if number < span and f.rows_read is not None]
    counts = counts[-config.volume_spans :]
    if rows is None or len(counts) < MIN_KNOWN_SPANS or not (usual := median(counts)):
        return
    label, rest = evidence.label(span), f"the median of the {len(counts)} spans before it ({usual:,.0f})"
    says = f"span {label}: {rows:,} rows, {rows / usual:.2%} of {rest}"
    yield from ask("too few rows", says, rows / usual, config.min_volume_fraction, at_least=True, span=span)
    says = f"span {label}: {rows:,} rows, {rows / usual:.2f} times {rest}"
    yield from ask("too many rows", says, rows / usual, config.max_volume_fraction, "times", span=span)


def _rejected(span: int, evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    figures = evidence.learned[span]
    if figures.rows_rejected is None or not figures.rows_read:
        return
    count = figures.rows_rejected - sum(getattr(figures, name) or 0 for name in JUDGED_APART)
    fraction = count / figures.rows_read
    says = f"span {evidence.label(span)}: {count:,} of {figures.rows_read:,} rows rejected ({fraction:.2%})"
    detail = _quoted(evidence.reasons, config, None)
    yield from ask("rejected rows", says, fraction, config.rejected_fraction, detail=detail, span=span)


def _balance(span: int, evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    now = _shares(evidence.learned[span].types)
    accepted = {number: f for number, f in evidence.accepted.items() if number != span and f.types}
    if not now or not accepted:
        return
    last = max(accepted)
    before = _shares(accepted[last].types)
    name = max(sorted({**now, **before}), key=lambda kind: abs(now.get(kind, 0) - before.get(kind, 0)))
    change = abs(now.get(name, 0) - before.get(name, 0))
    says = (
        f"span {evidence.label(span)}: {name!r} is {now.get(name, 0):.2%} of the accepted rows, and was "
        f"{before.get(name, 0):.2%} in span {evidence.label(last)}, the last accepted; a change of {change:.2%}"
    )
    yield from ask("label balance", says, change, config.label_balance, span=span)


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def _quoted(reasons: Iterable[Reason], config: GateConfig, figure: str | None) -> str:
    """Reasons of the whole run that `figure` counts, or that no other figure does; the most frequent first."""
    found = sorted((r for r in reasons if r.figure == figure), key=lambda reason: -reason.count)
    words = [
        f"{reason.count:,} × {reason.words}" + (f", such as {reason.samples[0]}" if reason.samples else "")
        for reason in found[: config.quoted_anomalies]
    ]
    if more := len(found) - len(words):
        words.append(f"and {more} more reasons")
    return "; ".join(words)
