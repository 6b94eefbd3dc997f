"""A column of whatever type the file has, as what the contract says it is: text, number, point in time, list."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.contract import InteractionsContract, TimestampUnit
from trainer.features import Feature

PER_SECOND: dict[TimestampUnit, int] = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
EXACT = float(2**53)  # below it a float64 tells every whole number from the next
ISO_8601 = (
    r"^(?P<time>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}(?::\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?)?)"
    r" ?(?P<zone>Z|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)


@dataclass(frozen=True)
class Coded:
    """A text column [N] as codes [N] int32 of its values [V]: what is asked of text is asked once per value."""

    codes: np.ndarray
    values: pa.Array

    def where(self, of_values: np.ndarray) -> np.ndarray:
        """A property of each value [V] → of each row [N]."""
        return of_values[self.codes]

    def matches(self, pattern: str) -> np.ndarray:
        """[N] bool: the whole value matches the regular expression."""
        return self.where(pc.match_substring_regex(self.values, f"^(?:{pattern})$").to_numpy(zero_copy_only=False))

    def is_blank(self) -> np.ndarray:
        """[N] bool: nothing but white space."""
        return self.where(is_blank(self.values))

    def column(self) -> pa.DictionaryArray:
        """For a table."""
        return pa.DictionaryArray.from_arrays(pa.array(self.codes), self.values)


def as_coded(column: pa.ChunkedArray) -> Coded:
    """[N] any type → text in codes; missing (null, NaN) is ''. Raises pa.ArrowInvalid for nested types."""
    array = _one(column)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    values = as_text(array.dictionary)
    if array.null_count:
        values = pa.concat_arrays([values, pa.array([""])])
    codes = array.indices.cast(pa.int32()).fill_null(len(values) - 1)
    return Coded(codes.to_numpy(zero_copy_only=False), values)


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """[N] any type → [N] string without nulls: missing (null, NaN) is ''. Raises pa.ArrowInvalid for nested types.

    Whole numbers are their digits, whatever the type: an id that one file has as 7.0 and the next as 7 is one id.
    """
    array = whole(column)
    if is_nested(array.type):
        raise pa.ArrowInvalid(f"expected one value per row, got {array.type}")
    if pa.types.is_decimal(array.type):  # no cast in pyarrow 10
        array = pa.array([None if value is None else f"{value:f}" for value in array.to_pylist()], type=pa.string())
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array.cast(pa.float64()))
        is_whole = pc.and_(pc.equal(pc.trunc(array), array), pc.less(pc.abs(array), EXACT))
        digits = pc.if_else(is_whole, array, 0.0).cast(pa.int64()).cast(pa.string())
        array = pc.if_else(is_whole, digits, array.cast(pa.string()))
    return array.cast(pa.string()).fill_null("")


def as_numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """[N] any type → [N] float64; NaN where the value is missing or not a number."""
    array = whole(column)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)):
        text = pc.utf8_trim_whitespace(as_text(array))
        array = pc.if_else(pc.equal(text, ""), None, text)
        try:
            array = array.cast(pa.float64())
        except pa.ArrowInvalid:  # Arrow stops at the first bad value; pandas marks them all
            return pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
    return array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


def as_ticks(column: pa.ChunkedArray, contract: InteractionsContract) -> np.ndarray:
    """[N] → [N] float64, time since 1970 (UTC) in the contract's unit (else seconds); NaN where it cannot be read.

    A column that carries its own unit (Parquet's timestamp and date types) is converted, whatever the contract says;
    times without a zone of their own are in the contract's.
    """
    array = whole(column)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _seconds(array, contract.time_zone) * PER_SECOND.get(contract.timestamp_unit, 1)
    if contract.timestamp_pattern is None and contract.timestamp_unit != "iso8601":
        return as_numbers(array)
    text = pc.utf8_trim_whitespace(as_text(array))
    if contract.timestamp_pattern is None:
        return _iso8601(text, contract.time_zone)
    return _seconds(_by_pattern(text, contract.timestamp_pattern), contract.time_zone)


def _seconds(times: pa.Array, zone: str) -> np.ndarray:
    """[N] times or dates → [N] float64 seconds; an hour that a change to summer time skips is the end of the gap."""
    if not pa.types.is_timestamp(times.type) or times.type.tz is None:
        naive = times.cast(pa.timestamp("us"), safe=False)
        times = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest")
    micros = times.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    return as_numbers(micros) / 1_000_000


def _by_pattern(text: pa.Array, pattern: str) -> pa.Array:
    """[N] text → [N] times, in UTC when the pattern has %z, else without a zone; null where it cannot be read."""
    kind = pa.timestamp("us", "UTC" if "%z" in pattern else None)

    def exactly(some: pa.Array) -> pa.Array:  # 20 times as slow as Arrow's
        found = pd.DatetimeIndex(pd.to_datetime(some.to_pandas(), format=pattern, errors="coerce", utc=True))
        return pa.Array.from_pandas(found.tz_localize(None)).cast(kind, safe=False)

    if "%f" in pattern:  # which Arrow does not know
        return exactly(text)
    times = pc.strptime(text, format=pattern, unit="us", error_is_null=True)
    overflown = pc.less_equal(pc.day(times), 3).fill_null(False)  # Arrow takes 31 February for 3 March
    return pc.replace_with_mask(times, overflown, exactly(text.filter(overflown)))


def _iso8601(text: pa.Array, zone: str) -> np.ndarray:
    text = pc.if_else(pc.equal(text, ""), None, text)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return _seconds(text.cast(kind), zone)
        except pa.ArrowInvalid:
            continue  # Arrow stops at the first value that is bad, or has a zone where others have none
    parts = pc.extract_regex(text, ISO_8601)
    wall = pa.Array.from_pandas(pd.to_datetime(parts.field("time").to_pandas(), errors="coerce"))
    zones = as_coded(parts.field("zone"))
    offsets = zones.where(np.array([_offset_seconds(value) for value in zones.values.to_pylist()]))
    return np.where(np.isnan(offsets), _seconds(wall, zone), _seconds(wall, "UTC") - offsets)


def _offset_seconds(zone: str) -> float:
    """Of `Z`, `UTC`, `+05`, `+05:30` or `+0530`; NaN of no zone."""
    if zone in ("", "Z", "UTC"):
        return 0.0 if zone else np.nan
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:] if len(zone) > 3 else 0) * 60
    return float(-seconds if zone[0] == "-" else seconds)


def is_blank(text: pa.Array) -> np.ndarray:
    """[N] string → [N] bool: nothing but white space."""
    return pc.equal(pc.utf8_trim_whitespace(text), "").to_numpy(zero_copy_only=False)


def feature_values(feature: Feature, column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """A feature as the examples hold it, and where it cannot be read.

    [N] → list array [N, 0 or more] of binary (`number`, `vector`: float32), missing is an empty list; and [N] bool,
    true where a value is there but is not a finite number, or not as many as a vector has. `category` and `text` give
    one value, `categories` one per part, `vector` `dim`.
    """
    array = whole(column)
    if feature.type == "number":
        numbers = _as_float32(array)
        present = np.isfinite(numbers)
        bad = ~present & ~is_blank(as_text(array))
        return _one_or_none(pa.array(numbers), present), bad
    if feature.type not in ("categories", "vector"):
        text = as_text(array)
        return _one_or_none(text.cast(pa.binary()), ~is_blank(text)), np.zeros(len(column), dtype=bool)
    if not is_nested(array.type):
        array = pc.split_pattern(as_text(array), pattern=feature.separator)
    if pa.types.is_fixed_size_list(array.type):  # no cast in pyarrow 10, and flattening spells out the missing ones
        there = array.is_valid().to_numpy(zero_copy_only=False)
        array = _lists(there * array.type.list_size, pc.list_flatten(array.filter(pa.array(there))))
    flat, owner = pc.list_flatten(array), pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    if feature.type == "vector":
        numbers = _as_float32(flat)
        is_there = ~is_blank(as_text(flat)) if pa.types.is_string(flat.type) else np.ones(len(flat), dtype=bool)
        counts = np.bincount(owner[is_there], minlength=len(array))
        readable = np.bincount(owner[is_there & np.isfinite(numbers)], minlength=len(array))
        bad = (readable != counts) | ((counts > 0) & (counts != feature.dim))
        kept = is_there & ~bad[owner]
        return _lists(np.where(bad, 0, counts), pa.array(numbers[kept])), bad
    parts = pc.utf8_trim_whitespace(as_text(flat))
    kept = ~is_blank(parts)
    counts = np.bincount(owner[kept], minlength=len(array))
    return _lists(counts, parts.filter(pa.array(kept)).cast(pa.binary())), np.zeros(len(column), dtype=bool)


def is_nested(kind: pa.DataType) -> bool:
    """Whether a row has several values."""
    return pa.types.is_nested(kind) or pa.types.is_fixed_size_list(kind)  # which pyarrow 10 does not count


def _as_float32(column: pa.Array) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return as_numbers(column).astype(np.float32)


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array, dictionaries spelled out."""
    array = _one(column)
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # pyarrow 10 gives back a chunked array when there is no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _one_or_none(values: pa.Array, present: np.ndarray) -> pa.ListArray:
    return _lists(present.astype(np.int64), values.filter(pa.array(present)))


def _lists(counts: np.ndarray, values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
