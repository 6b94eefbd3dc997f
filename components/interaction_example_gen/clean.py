"""Interactions, checked: which rows of a file are accepted, and why the others are not. Vectorised over a file."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.columns import PER_SECOND, as_text, as_ticks, feature_values, is_blank
from components.interaction_example_gen.contract import InteractionsContract, TimestampUnit
from components.interaction_example_gen.read import FileRows
from components.interaction_example_gen.report import MAX_SAMPLES, Report

# The year 5138 in seconds, March 1973 in milliseconds: a time of today is below it in one unit, above it in the other.
PLAUSIBLE_SECONDS = 100_000_000_000
MALFORMED = "malformed line"
DUPLICATE = "duplicate of an earlier row (same user, item, type and timestamp)"


def columns_of(contract: InteractionsContract) -> list[str]:
    """The columns of the log that a run reads."""
    names = [contract.user_id, contract.item_id, contract.interaction_type, contract.timestamp]
    return [name for name in names if name is not None] + [feature.name for feature in contract.context]


def clean(rows: FileRows, contract: InteractionsContract, item_ids: pa.Array) -> tuple[pa.Table, Report]:
    """Accepted rows [A] of a file's [N], under our names, and the account of the rest. A row has one reason: the first.

    Table: `user_id`, `item_id`, `interaction_type` string; `timestamp` int64, seconds; `span`, `file` int32; `line`
    int64; one column per context feature: string, or float32 with NaN where missing.

    An interaction type that the contract does not declare is accepted: it stays in histories, where the statistics
    and the schema see it and the gate can say so, but it is never a target.

    Raises DataError when most timestamps are in another unit than the contract says.
    """
    table, names = rows.table, contract
    try:
        user_id, item_id = as_text(table[names.user_id]), as_text(table[names.item_id])
        if names.interaction_type is None:
            kind = pa.array(np.full(len(table), next(iter(names.types)), dtype=object), type=pa.string())
        else:
            kind = as_text(table[names.interaction_type])
        context = {f.name: feature_values(f, table[f.name]) for f in names.context}
        text = {f.name: as_text(table[f.name]) for f in names.context if f.type != "number"}
    except pa.ArrowInvalid as error:
        raise DataError(f"{rows.file.name}: {error}") from error
    ticks = as_ticks(table[names.timestamp], names.timestamp_unit)
    foreign = _check_unit(rows, ticks, names)
    with np.errstate(invalid="ignore"):
        checks: list[tuple[str, np.ndarray]] = [
            (f"{names.user_id} is empty", is_blank(user_id)),
            (f"{names.item_id} is empty", is_blank(item_id)),
            (f"{names.interaction_type} is empty", is_blank(kind)),
            (f"{names.timestamp} is not a number", ~np.isfinite(ticks)),
            (f"{names.timestamp} is negative", ticks < 0),
            (f"{names.timestamp} is not in {names.timestamp_unit}", foreign),
            *((f"{name} is not a number", bad) for name, (_, bad) in context.items()),
            (
                f"{names.item_id} is not in the catalog",
                ~pc.is_in(item_id, value_set=item_ids).to_numpy(zero_copy_only=False),
            ),
        ]
    reason = np.full(len(table), -1, dtype=np.int8)
    for number, (_, fails) in enumerate(checks):
        reason[(reason < 0) & fails] = number

    span = rows.file.span if rows.file.span is not None else 0
    report = Report(rows_per_span=Counter({span: len(table) + len(rows.malformed)}))
    shown = [(rows.file.index, line, f"{rows.file.name}:{line}: {what}") for line, what in rows.malformed[:MAX_SAMPLES]]
    report.reject(MALFORMED, len(rows.malformed), shown)
    for number, (words, _) in enumerate(checks):
        where = np.flatnonzero(reason == number)
        report.reject(words, len(where), [_sample(rows, row, contract) for row in where[:MAX_SAMPLES]])

    kept = reason < 0
    seconds = np.floor(np.where(kept, ticks, 0) / PER_SECOND[names.timestamp_unit]).astype(np.int64)
    columns = {
        "user_id": user_id,
        "item_id": item_id,
        "interaction_type": kind,
        "timestamp": pa.array(seconds),
        "span": pa.array(np.full(len(table), span, dtype=np.int32)),
        "file": pa.array(np.full(len(table), rows.file.index, dtype=np.int32)),
        "line": pa.array(rows.lines),
    }
    for name, (values, _) in context.items():
        columns[f"context:{name}"] = text[name] if name in text else _flat(values)
    return pa.table(columns).filter(pa.array(kept)), report


def _check_unit(rows: FileRows, ticks: np.ndarray, names: InteractionsContract) -> np.ndarray:
    """[N] → [N] bool, true where the time cannot be in the contract's unit.

    One odd value is a bad row; when it is half of the file or more, the contract is wrong: raises DataError.
    """
    unit = names.timestamp_unit
    with np.errstate(invalid="ignore"):
        foreign = (ticks > PLAUSIBLE_SECONDS * PER_SECOND[unit]) & np.isfinite(ticks)
        if unit != "seconds":
            foreign |= (ticks >= 0) & (ticks < PLAUSIBLE_SECONDS / 1_000 * PER_SECOND[unit])
    if not foreign.any() or 2 * foreign.sum() < np.isfinite(ticks).sum():
        return foreign
    row = int(np.flatnonzero(foreign)[0])
    value, line = ticks[row], rows.lines[row]
    likely = _likely_unit(value)
    raise DataError(
        f"{rows.file.name}:{line}: column {names.timestamp!r} is {value:.0f}, got {foreign.sum()} of {len(ticks)} such "
        f"values; expected {unit} since 1970. These look like {likely}: set timestamp_unit: {likely}"
    )


def _likely_unit(value: float) -> TimestampUnit:
    """The unit in which `value` lies between 1973 and 5138."""
    if value <= PLAUSIBLE_SECONDS:
        return "seconds"
    return "milliseconds" if value <= PLAUSIBLE_SECONDS * 1_000 else "microseconds"


def _sample(rows: FileRows, row: int, contract: InteractionsContract) -> tuple[int, int, str]:
    line = int(rows.lines[row])
    values = ", ".join(f"{name}={rows.table[name][int(row)].as_py()!r}" for name in columns_of(contract))
    return rows.file.index, line, f"{rows.file.name}:{line}: {values[:200]}"


def _flat(values: pa.ListArray) -> pa.Array:
    """[N] lists of at most one number → [N] float32, NaN for the empty ones."""
    flat = np.full(len(values), np.nan, dtype=np.float32)
    flat[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)] = pc.list_flatten(values).to_numpy()
    return pa.array(flat)
