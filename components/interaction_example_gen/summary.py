"""The account of a run as `summary.json`, and what the next run and the gate want to know of its spans: the lineage."""

from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from components.interaction_example_gen.contract import DataContract
from components.interaction_example_gen.plan import ReadPlan
from components.interaction_example_gen.report import MAX_NAMES, Report
from components.interaction_example_gen.span_pattern import SpanPattern

Times = dict[int, tuple[np.ndarray, np.ndarray]]
FIGURES = ("rows_read", "rows_accepted", "rows_rejected", "rows_duplicated", "rows_left_out")
IN_LINEAGE = ("fingerprint", "rows_read", "rows_accepted", "types", "last_timestamp_seconds")


def summarize(
    report: Report,
    times: Times,
    *,
    plan: ReadPlan,
    contract: DataContract,
    before: dict[str, Any],
    cut: int | None,
    learned_until_seconds: int,
) -> dict[str, Any]:
    """The account. `times`: of each span that was read, its timestamps and how often each; `before`: the lineage of the
    state that was read, empty without one.
    """
    figures = {str(span): _of_span(span, report, times, plan, contract, before) for span in plan.read}
    total = {name: sum(of_span[name] for of_span in figures.values()) for name in FIGURES}
    firsts = [f["first_timestamp_seconds"] for f in figures.values() if f["first_timestamp_seconds"] is not None]
    lasts = [f["last_timestamp_seconds"] for f in figures.values() if f["last_timestamp_seconds"] is not None]
    present = {span for span in plan.read if figures[str(span)]["rows_read"]} | set(plan.from_state)
    return {
        "spans_read": list(plan.read),
        "spans_learned": list(plan.learn),
        "labels": {
            str(span): SpanPattern(contract.interactions.files).label(span) for span in sorted(plan.fingerprints)
        },
        "spans_from_state": list(plan.from_state),
        "lineage": {
            "learned": {str(span): seen for span, seen in plan.learned.items()},
            "in_state": sorted(present),
            "reads_as": plan.reads_as,
        },
        "spans_missing": [s for s in range(min(present, default=plan.span), plan.span + 1) if s not in present],
        **total,
        "rejected": report.rejected.to_json(),
        "duplicates": report.duplicated.to_json(),
        "left_out": report.left_out.to_json(),
        "figures": figures,
        "undeclared_types": dict(report.undeclared_types.most_common(MAX_NAMES)),
        "empty_files": report.empty_files,
        "first_timestamp_seconds": min(firsts, default=None),
        "last_timestamp_seconds": max(lasts, default=None),
        "eval_from_seconds": cut,
        "learned_until_seconds": learned_until_seconds,
        **{
            name: report.totals[name]
            for name in (
                "users",
                "users_learned",
                "users_new",
                "items",
                "items_admitted",
                "items_rare",
                "items_unseen",
                "catalog_rows_skipped",
                "rows_whose_user_is_an_item",
            )
        },
        **{
            name: report.totals[name] for name in ("train_examples", "train_targets", "train_replayed", "eval_examples")
        },
        "errors": report.errors,
    }


def lineage_of(summary: dict[str, Any], plan: ReadPlan, before: dict[str, Any]) -> dict[str, Any]:
    """What stands beside the new state: the spans that it holds, with the figures that the gate compares."""
    known = {number: facts for number, facts in before.get("spans", {}).items() if int(number) >= plan.window_from}
    read = {
        number: {name: figures[name] for name in IN_LINEAGE if name in figures}
        for number, figures in summary["figures"].items()
    }
    spans = {**known, **read}
    held = {str(span) for span in (*plan.read, *plan.from_state)}
    return {
        "spans": {number: spans[number] for number in sorted(spans, key=int) if number in held},
        "reads_as": plan.reads_as,
        "learned_until_seconds": summary["eval_from_seconds"],
    }


def _of_span(
    span: int, report: Report, times: Times, plan: ReadPlan, contract: DataContract, before: dict[str, Any]
) -> dict[str, Any]:
    counted = report.figures.get(span, Counter())
    read, refused = counted.get("rows_read", 0), {name: counted.get(name, 0) for name in FIGURES[2:]}
    seconds, counts = times.get(span, (np.array([], dtype=np.int64), np.array([], dtype=np.int64)))
    bounds = SpanPattern(contract.interactions.files).bounds_seconds(span, ZoneInfo(contract.interactions.time_zone))
    outside = (seconds < bounds[0]) | (seconds >= bounds[1]) if bounds else np.zeros(len(seconds), dtype=bool)
    newest = [int(seen[-1]) for number, (seen, _) in times.items() if number < span]
    newest += [f["last_timestamp_seconds"] for n, f in before.get("spans", {}).items() if int(n) in plan.from_state]
    late = seconds < max((t for t in newest if t is not None), default=0)
    return {
        "fingerprint": plan.fingerprints[span],
        "rows_read": read,
        "rows_accepted": read - sum(refused.values()),
        **refused,
        "rows_unknown_item": counted.get("rows_unknown_item", 0),
        "rows_in_future": counted.get("rows_in_future", 0),
        **({"rows_out_of_span": int(counts[outside].sum())} if bounds else {}),
        "rows_late": int(counts[late].sum()),
        "first_timestamp_seconds": int(seconds[0]) if len(seconds) else None,
        "last_timestamp_seconds": int(seconds[-1]) if len(seconds) else None,
        "types": dict(report.types.get(span, {})),
    }
