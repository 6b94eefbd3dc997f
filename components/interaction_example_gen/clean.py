"""Interactions, checked: which rows of a block are accepted, and why the others are not. Vectorised over a block."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.columns import (
    PER_SECOND,
    Coded,
    as_coded,
    as_text,
    as_ticks,
    feature_values,
    is_nested,
)
from components.interaction_example_gen.contract import Drop, InteractionsContract, InteractionType, TimestampUnit
from components.interaction_example_gen.read import FileRows
from components.interaction_example_gen.report import LEFT_OUT, MAX_SAMPLES, REJECTED, Report, Sample

# The year 5138 in seconds, March 1973 in milliseconds: a time of today is below it in one unit, above it in the other.
PLAUSIBLE_SECONDS = 100_000_000_000
CLOCK_SKEW_SECONDS = 300  # between the machine that stamped an event and the one that wrote the file
ENOUGH_ROWS = 10  # that are all unreadable: not the rows are wrong, but what the contract says of them
MALFORMED = "malformed line"


@dataclass(frozen=True)
class Cleaned:
    """A block's accepted rows, the account of the others, and the rejected ones with reason, file and line."""

    table: pa.Table
    report: Report
    rejected: pa.Table


def columns_of(contract: InteractionsContract) -> list[str]:
    """The columns of the log that a run reads."""
    names = [contract.user_id, contract.item_id, contract.interaction_type, contract.timestamp]
    names += [feature.name for feature in contract.context]
    names += [*contract.deduplicate_by, *(drop.column for drop in contract.drop)]
    return [name for name in dict.fromkeys(names) if name is not None]


def clean(rows: FileRows, contract: InteractionsContract) -> Cleaned:
    """Accepted rows [A] of a block's [N], under our names. A row has one reason: the first.

    Table: `user_id`, `item_id`, `interaction_type` dictionaries of string; `timestamp` int64, seconds; `line` int64;
    `key` int64, a hash of the columns of deduplicate_by, when there are some; one column `context:<name>` per context
    feature: string, or float32 with NaN where missing.

    An interaction type that the contract does not declare is accepted: it stays in histories, where the statistics
    and the schema see it and the gate can say so, but it is never a target.

    Raises DataError when most timestamps are in another unit than the contract says, or none can be read.
    """
    table, names = rows.table, contract
    refuse_nested(rows, columns_of(names))
    try:
        user_id, item_id = as_coded(table[names.user_id]), as_coded(table[names.item_id])
        kind = types_of(table, names)
        context = {f.name: feature_values(f, table[f.name]) for f in names.context}
        text = {f.name: as_text(table[f.name]) for f in names.context if f.type != "number"}
        dropped = drops_of(table, names.drop)
        keys = [as_text(table[name]).to_pandas() for name in names.deduplicate_by]
        ticks = as_ticks(table[names.timestamp], names)
    except pa.ArrowException as error:
        raise DataError(f"{rows.file.name}: {error}") from error
    foreign = check_unit(rows, ticks, names)
    unit = PER_SECOND.get(names.timestamp_unit, 1)
    written = rows.file.written_at_seconds
    ignored = np.isin(
        kind.values.to_numpy(zero_copy_only=False), [n for n in names.types if names.role(n) == "ignored"]
    )
    unreadable = f"{names.timestamp} is not {_expected_time(names)}"
    with np.errstate(invalid="ignore"):
        checks: list[tuple[str, str, np.ndarray]] = [
            *((LEFT_OUT, words, mask) for words, mask in dropped),
            (LEFT_OUT, "an ignored interaction type", kind.where(ignored)),
            (REJECTED, f"{names.user_id} is empty", user_id.is_blank()),
            (REJECTED, f"{names.item_id} is empty", item_id.is_blank()),
            (REJECTED, f"{names.interaction_type} is empty", kind.is_blank()),
            (REJECTED, unreadable, ~np.isfinite(ticks)),
            (REJECTED, f"{names.timestamp} is negative", ticks < 0),
            (REJECTED, f"{names.timestamp} is not in {names.timestamp_unit}", foreign),
            (
                REJECTED,
                IN_FUTURE,
                ticks > (written + CLOCK_SKEW_SECONDS) * unit if written else np.zeros(len(table), bool),
            ),
            *((REJECTED, f"{name} is not a number", bad) for name, (_, bad) in context.items()),
        ]
    reason = np.full(len(table), -1, dtype=np.int32)
    for number, (_, _, fails) in enumerate(checks):
        reason[(reason < 0) & fails] = number
    kept = reason < 0
    seconds = np.floor(np.where(kept, ticks, 0) / unit).astype(np.int64)
    columns = {
        "user_id": user_id.column(),
        "item_id": item_id.column(),
        "interaction_type": kind.column(),
        "timestamp": pa.array(seconds),
        "line": pa.array(rows.lines),
    }
    if names.deduplicate_by:
        hashes = pd.util.hash_pandas_object(pd.concat(keys, axis=1), index=False)
        columns["key"] = pa.array(hashes.to_numpy().view(np.int64))
    for name, (values, _) in context.items():
        columns[f"context:{name}"] = text[name] if name in text else _flat(values)
    accepted = pa.table(columns)
    accepted = accepted if kept.all() else accepted.filter(pa.array(kept))
    return Cleaned(accepted, _account(rows, contract, checks, reason), _rejected(rows, contract, checks, reason))


def types_of(table: pa.Table, contract: InteractionsContract) -> Coded:
    """[N] the interaction type of each row, by the types' patterns; what matches none stands as it is in the file."""
    if contract.interaction_type is None:
        name = pa.array([next(iter(contract.types))])
        return Coded(np.zeros(len(table), dtype=np.int32), name)
    found = as_coded(table[contract.interaction_type])
    patterns = {
        n: k.pattern for n, k in contract.types.items() if isinstance(k, InteractionType) and k.pattern is not None
    }
    if not patterns:
        return found
    values = found.values
    named = values.to_numpy(zero_copy_only=False).astype(object)
    left = np.ones(len(values), dtype=bool)
    for name in contract.types:
        hit = left & Coded(np.arange(len(values)), values).matches(patterns.get(name, _literally(name)))
        named[hit] = name
        left &= ~hit
    names, of_values = np.unique(named.astype(str), return_inverse=True)
    return Coded(of_values.astype(np.int32)[found.codes], pa.array(names, type=pa.string()))


def drops_of(table: pa.Table, drops: tuple[Drop, ...]) -> list[tuple[str, np.ndarray]]:
    """In words and as [N] bool: which rows each drop leaves out."""
    found = []
    for drop in drops:
        words = f"{drop.column} is {repr(drop.pattern) if drop.pattern else 'empty'} (drop)"
        found.append((words, as_coded(table[drop.column]).matches(drop.pattern)))
    return found


def _literally(name: str) -> str:
    return "".join(rf"\x{{{ord(letter):x}}}" for letter in name)


def _expected_time(contract: InteractionsContract) -> str:
    if contract.timestamp_pattern is not None:
        return f"a time as {contract.timestamp_pattern!r}"
    return "an ISO 8601 time" if contract.timestamp_unit == "iso8601" else "a number"


IN_FUTURE = "the timestamp is later than its file"


def _account(
    rows: FileRows, contract: InteractionsContract, checks: list[tuple[str, str, np.ndarray]], reason: np.ndarray
) -> Report:
    report, span = Report(), rows.file.span
    report.count(span, rows_read=len(reason) + len(rows.malformed))
    shown = [(rows.file.index, line, f"{rows.file.name}:{line}: {what}") for line, what in rows.malformed[:MAX_SAMPLES]]
    report.refuse(REJECTED, span, MALFORMED, len(rows.malformed), shown)
    counts = np.bincount(reason + 1, minlength=len(checks) + 1)[1:]
    for number, (kind, words, _) in enumerate(checks):
        if not counts[number]:
            continue
        where = np.flatnonzero(reason == number)
        samples = [_sample(rows, row, contract) for row in where[:MAX_SAMPLES]]
        report.refuse(kind, span, words, len(where), samples, "rows_in_future" if words == IN_FUTURE else None)
    return report


def _rejected(
    rows: FileRows, contract: InteractionsContract, checks: list[tuple[str, str, np.ndarray]], reason: np.ndarray
) -> pa.Table:
    is_rejected = np.append(np.array([kind == REJECTED for kind, _, _ in checks], dtype=bool), False)
    where = np.flatnonzero(is_rejected[reason])
    words = [checks[number][1] for number in reason[where]] + [f"{MALFORMED}: {what}" for _, what in rows.malformed]
    lines = np.append(rows.lines[where], np.array([line for line, _ in rows.malformed], dtype=np.int64))
    columns = [
        pa.array(words, type=pa.string()),
        pa.array([rows.file.name] * len(words), type=pa.string()),
        pa.array(lines),
    ]
    picked, names = rows.table.take(pa.array(where)), columns_of(contract)
    nothing = pa.array([""] * len(rows.malformed), type=pa.string())
    columns += [pa.concat_arrays([as_text(picked[name]), nothing]) for name in names]
    return pa.Table.from_arrays(columns, ["reason", "file", "line", *names])  # a file may have such columns too


def refuse_nested(rows: FileRows, columns: Iterable[str]) -> None:
    """Raises DataError when one of the columns has several values in a row."""
    for name in columns:
        if is_nested(kind := rows.table[name].type):
            raise DataError(
                f"{rows.file.name}: column {name!r} is {kind}; expected one value per row. Write the part that is "
                "meant as a column of its own, or correct the data contract"
            )


def check_unit(rows: FileRows, ticks: np.ndarray, names: InteractionsContract) -> np.ndarray:
    """[N] → [N] bool, true where the time cannot be in the contract's unit.

    One odd value is a bad row; when it is half of the block or more, the contract is wrong: raises DataError.
    """
    unit = names.timestamp_unit
    finite = np.isfinite(ticks)
    if names.timestamp_pattern is not None or unit == "iso8601":
        if len(ticks) >= ENOUGH_ROWS and not finite.any():
            raise DataError(
                f"{rows.file.name}:{rows.lines[0]}: column {names.timestamp!r} is "
                f"{rows.table[names.timestamp][0].as_py()!r}, and none of {len(ticks)} values can be read; expected "
                f"{_expected_time(names)}. Correct timestamp_pattern or timestamp_unit"
            )
        return np.zeros(len(ticks), dtype=bool)
    with np.errstate(invalid="ignore"):
        foreign = (ticks > PLAUSIBLE_SECONDS * PER_SECOND[unit]) & finite
        if unit != "seconds":
            foreign |= (ticks >= 0) & (ticks < PLAUSIBLE_SECONDS / 1_000 * PER_SECOND[unit])
    if not foreign.any() or 2 * foreign.sum() < finite.sum():
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


def _sample(rows: FileRows, row: int, contract: InteractionsContract) -> Sample:
    line = int(rows.lines[row])
    values = ", ".join(f"{name}={rows.table[name][int(row)].as_py()!r}" for name in columns_of(contract))
    return rows.file.index, line, f"{rows.file.name}:{line}: {values[:200]}"


def _flat(values: pa.ListArray) -> pa.Array:
    """[N] lists of at most one number → [N] float32, NaN for the empty ones."""
    flat = np.full(len(values), np.nan, dtype=np.float32)
    flat[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)] = pc.list_flatten(values).to_numpy()
    return pa.array(flat)
