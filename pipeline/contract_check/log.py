"""What there is to say about the rows of the log."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import numpy as np

from components.data_gate.config import Threshold
from components.interaction_example_gen.clean import IN_FUTURE, MALFORMED
from components.interaction_example_gen.log import robots
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.config import PipelineConfig
from pipeline.contract_check.line import SAMPLES, Level, Line, level_of, share
from pipeline.contract_check.read import Log

OLDEST = datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp()
UNDECLARED = Threshold(warn=0, stop=0.01)  # share of the rows; a frozen schema refuses any


def log_lines(config: PipelineConfig, log: Log) -> list[Line]:
    """Of a span that has rows."""
    contract = config.contract.interactions
    lines = [
        _refused(
            "lines", log, lambda reason: reason.startswith(MALFORMED), config, "each has as many fields as the header"
        ),
        _times(config, log),
        _refused("users", log, _of(contract.user_id), config, f"{contract.user_id} is there in every row that is kept"),
        _refused("items", log, _of(contract.item_id), config, f"{contract.item_id} is there in every row that is kept"),
    ]
    if contract.interaction_type is not None:
        lines.append(_types(config, log))
    lines.append(_roles(config, log))
    if contract.context:
        names = {feature.name for feature in contract.context}
        sentence = f"{', '.join(sorted(names))} can be read"
        lines.append(_refused("context", log, lambda r: r.split(" is ")[0] in names, config, sentence))
    left_out = log.figure("rows_left_out")
    if left_out:
        whys = "; ".join(f"{count:,} × {reason}" for reason, count in log.report.left_out.counts.most_common())
        level: Level = "FAIL" if left_out == log.read else "PASS"
        lines.append(Line(level, "left out", f"{share(left_out, log.read)} by the contract: {whys}"))
    return [*lines, *_repeats(config, log)]


def _times(config: PipelineConfig, log: Log) -> Line:
    contract, gate = config.contract.interactions, config.gate
    bad = _refused(
        "times", log, lambda r: r == IN_FUTURE or _of(contract.timestamp)(r), config, "", gate.future_fraction
    )
    if bad.level != "PASS" or log.rows is None:
        return bad
    times, zone = log.rows.timestamp, ZoneInfo(contract.time_zone)
    first, last = (f"{datetime.fromtimestamp(int(t), tz=zone):%Y-%m-%d %H:%M}" for t in (times.min(), times.max()))
    sentence = f"{first} to {last} ({contract.time_zone})"
    if times.min() < OLDEST:
        return Line(
            "WARN",
            "times",
            f"{sentence}: {share(int((times < OLDEST).sum()), len(times))} before 1990; is the unit right?",
        )
    bounds = SpanPattern(contract.files).bounds_seconds(log.span, zone)
    if bounds is None:
        return Line("PASS", "times", sentence)
    outside = int(((times < bounds[0]) | (times >= bounds[1])).sum())
    level = level_of(outside / len(times), gate.out_of_span_fraction)
    fix = "" if level == "PASS" else "; is time_zone right, and is each row in the file of its day?"
    return Line(level, "times", f"{sentence}; {share(outside, len(times))} out of the span's date{fix}")


def _types(config: PipelineConfig, log: Log) -> Line:
    contract = config.contract.interactions
    found = _kinds(log)
    declared = {name: found.get(name, 0) for name in contract.weights}
    unknown = {name: count for name, count in found.items() if name not in contract.types}
    empty = _refused("types", log, _of(contract.interaction_type or ""), config, "")
    if empty.level != "PASS":
        return empty
    if unknown:
        shown = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(unknown.items(), key=lambda e: -e[1])[:5])
        total = sum(unknown.values())
        sentence = (
            f"{share(total, log.read)} of types that are not declared: {shown}; declare them in interactions.types"
        )
        return Line(level_of(total / log.read, UNDECLARED), "types", sentence)
    if never := [name for name, count in declared.items() if not count]:
        return Line("WARN", "types", f"no row is of the declared {', '.join(map(repr, never))} in this span")
    return Line("PASS", "types", ", ".join(f"{name} {count:,}" for name, count in declared.items()))


def _roles(config: PipelineConfig, log: Log) -> Line:
    contract = config.contract.interactions
    found = _kinds(log)
    positive = sum(found.get(name, 0) for name in contract.positive_types)
    negative = sum(count for name, count in found.items() if contract.weights.get(name) == 0)
    sentence = f"{positive:,} positive, {negative:,} negative"
    if not positive:
        return Line("FAIL", "roles", f"{sentence}: there is nothing to recommend; which types are positive?")
    return Line("PASS", "roles", sentence)


def _repeats(config: PipelineConfig, log: Log) -> list[Line]:
    if log.rows is None:
        return []
    again, contract = int(log.again.sum()), config.contract.interactions
    same = ", ".join(contract.deduplicate_by) or "user, item, type and time"
    level = level_of(again / log.read, config.gate.duplicate_fraction)
    lines = [Line(level, "duplicates", f"{share(again, log.read)} repeat an earlier one ({same})")]
    if contract.max_events_per_hour is not None:
        robotic = int(robots(log.rows.take(~log.again), contract.max_events_per_hour).sum())
        bound = f"of users with more than {contract.max_events_per_hour:,} in an hour are left out"
        lines.append(
            Line("WARN" if robotic > log.read / 2 else "PASS", "robots", f"{share(robotic, log.read)} {bound}")
        )
    return lines


def _refused(
    what: str,
    log: Log,
    belongs: Callable[[str], bool],
    config: PipelineConfig,
    else_say: str,
    bound: Threshold | None = None,
) -> Line:
    """Rejected rows whose reason belongs here: at least a warning."""
    rejected = log.report.rejected
    counts = Counter({reason: count for reason, count in rejected.counts.items() if count and belongs(reason)})
    if not (total := sum(counts.values())):
        return Line("PASS", what, else_say)
    whys = "; ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())
    samples = [text for reason in counts for _, _, text in rejected.samples.get(reason, ())]
    level = level_of(total / log.read, bound or config.gate.rejected_fraction)
    return Line(
        "FAIL" if level == "FAIL" else "WARN",
        what,
        f"{share(total, log.read)} are rejected: {whys}",
        tuple(samples[:SAMPLES]),
    )


def _of(column: str) -> Callable[[str], bool]:
    """Reasons name their column first."""
    return lambda reason: reason.startswith(f"{column} is ")


def _kinds(log: Log) -> Counter[str]:
    """Accepted rows of each type."""
    if log.rows is None:
        return Counter()
    counts = np.bincount(log.rows.kind, minlength=len(log.rows.kinds))
    return Counter(dict(zip(log.rows.kinds.to_pylist(), map(int, counts), strict=True)))
