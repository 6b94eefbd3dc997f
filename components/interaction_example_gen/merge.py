"""A shard's rows from everywhere → one log: repeats, robots and unknown items out, and an account of them."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.log import PLAIN, Rows, collapse, ordered, recent, repeats, robots
from components.interaction_example_gen.plan import ReadPlan
from components.interaction_example_gen.report import DUPLICATED, LEFT_OUT, MAX_SAMPLES, REJECTED, Report
from components.interaction_example_gen.shards import OF_STATE

DUPLICATE = "duplicate of an earlier row"


class Told(Protocol):
    """What a merge must be told (of steps.Inputs)."""

    @property
    def contract(self) -> DataContract: ...
    @property
    def config(self) -> ExamplesConfig: ...
    @property
    def plan(self) -> ReadPlan: ...
    @property
    def learned_until_seconds(self) -> int: ...
    @property
    def file_names(self) -> list[str]: ...


@dataclass(frozen=True)
class Merged:
    """all_rows: the past that counts and the new spans, ordered. log: of these, the rows of known items.

    is_new [N of log] bool: of a span being learned. refused: duplicates and rows of unknown items, to be kept.
    """

    all_rows: Rows
    log: Rows
    is_new: np.ndarray
    refused: pa.Table
    report: Report


def merge(rows: Rows, told: Told, item_ids: pa.Array) -> Merged:
    """All rows of a shard [N], in any order → its log. `item_ids` are the catalog's."""
    report, refused = Report(), []
    rows = ordered(rows)
    plan, contract = told.plan, told.contract.interactions

    def refuse(kind: str, reason: str, which: Rows, figure: str | None = None) -> None:
        which = which.take(which.file != OF_STATE)
        for span in np.unique(which.span):
            own = which.take(which.span == span)
            report.refuse(kind, int(span), reason, len(own), _samples(own, told.file_names), figure)
        if kind != LEFT_OUT and len(which):
            refused.append(_table(which, reason, told.file_names))

    again = repeats(rows)
    refuse(DUPLICATED, DUPLICATE, rows.take(again))
    rows = rows.take(~again)
    if contract.max_events_per_hour is not None:
        guilty = robots(rows, contract.max_events_per_hour)
        refuse(LEFT_OUT, f"of a robot: more than {contract.max_events_per_hour} events in an hour", rows.take(guilty))
        rows = rows.take(~guilty)

    is_old = ~np.isin(rows.span, plan.learn)
    if plan.history:  # what a state would hold
        past, _, went = collapse(rows.take(is_old), is_old[is_old])
        refuse(DUPLICATED, DUPLICATE, rows.take(is_old).take(went))
        past = past.take(recent(past, told.learned_until_seconds, told.config.max_history))
        rows = _together(past, rows.take(~is_old))
        is_old = ~np.isin(rows.span, plan.learn)
    before = rows
    rows, is_old, went = collapse(rows, is_old)
    refuse(DUPLICATED, DUPLICATE, before.take(went))

    is_known = pc.is_in(rows.items, value_set=item_ids).to_numpy(zero_copy_only=False)[rows.item]
    unknown = rows.take(~is_known & ~is_old)
    refuse(REJECTED, f"{contract.item_id} is not in the catalog", unknown, "rows_unknown_item")
    new = rows.take(is_known & ~is_old)
    _count(report, new, rows, is_old, item_ids, told)
    table = pa.concat_tables(refused) if refused else _table(rows.take(np.zeros(0, dtype=np.int64)), "", [])
    return Merged(rows, rows.take(is_known), ~is_old[is_known], table, report)


def _together(one: Rows, other: Rows) -> Rows:
    """Two parts of the same rows, ordered again."""
    arrays = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in PLAIN}
    key = None if one.key is None or other.key is None else np.concatenate([one.key, other.key])
    context = {name: pa.concat_arrays([values, other.context[name]]) for name, values in one.context.items()}
    return ordered(replace(one, **arrays, key=key, context=context))


def _count(report: Report, new: Rows, rows: Rows, is_old: np.ndarray, item_ids: pa.Array, told: Told) -> None:
    """Figures of the spans being learned, and of the shard."""
    declared = told.contract.interactions.weights
    names = rows.kinds.to_pylist()
    for span in told.plan.learn:
        kinds = np.bincount(new.kind[new.span == span], minlength=len(names))
        report.types[span] = Counter({name: int(n) for name, n in zip(names, kinds, strict=True) if n})
        report.undeclared_types += Counter({n: c for n, c in report.types[span].items() if n not in declared})
    learned_users = np.unique(rows.user[~is_old])
    report.totals["users"] = len(np.unique(rows.user))
    report.totals["users_learned"] = len(learned_users)
    report.totals["users_new"] = len(np.setdiff1d(learned_users, rows.user[is_old]))
    is_item = pc.is_in(rows.users, value_set=item_ids).to_numpy(zero_copy_only=False)
    report.totals["rows_whose_user_is_an_item"] = int(np.count_nonzero(is_item[rows.user] & ~is_old))


def _samples(rows: Rows, file_names: list[str]) -> list[tuple[int, int, str]]:
    first = rows.take(np.lexsort((rows.line, rows.file))[:MAX_SAMPLES])
    table = _table(first, "", file_names).drop(["reason"]).to_pylist()
    return [
        (
            int(file),
            row["line"],
            f"{row['file']}:{row['line']}: "
            + ", ".join(f"{key}={value!r}" for key, value in row.items() if key not in ("file", "line")),
        )
        for file, row in zip(first.file, table, strict=True)
    ]


def _table(rows: Rows, reason: str, file_names: list[str]) -> pa.Table:
    """Rows as `rejected` keeps them."""
    return pa.table(
        {
            "reason": pa.array([reason] * len(rows), type=pa.string()),
            "file": pa.array([file_names[file] for file in rows.file], type=pa.string()),
            "line": pa.array(rows.line),
            "user_id": rows.users.take(pa.array(rows.user)),
            "item_id": rows.items.take(pa.array(rows.item)),
            "interaction_type": rows.kinds.take(pa.array(rows.kind)),
            "timestamp": pa.array(rows.timestamp),
        }
    )
