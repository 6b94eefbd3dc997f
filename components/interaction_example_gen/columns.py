"""A column of whatever type the file has, as what the contract says it is: text, number, point in time, list."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.contract import TimestampUnit
from trainer.features import Feature

PER_SECOND: dict[TimestampUnit, int] = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


def as_text(column: pa.ChunkedArray) -> pa.Array:
    """[N] any type → [N] string without nulls: missing (null, NaN) is ''. Raises pa.ArrowInvalid for nested types."""
    array = whole(column)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        raise pa.ArrowInvalid(f"expected one value per row, got {array.type}")
    return array.cast(pa.string()).fill_null("")


def as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[N] any type → [N] float64; NaN where the value is missing or not a number."""
    array = whole(column)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        text = pc.utf8_trim_whitespace(as_text(array))
        array = pc.if_else(pc.equal(text, ""), None, text)
        try:
            array = array.cast(pa.float64())
        except pa.ArrowInvalid:  # Arrow stops at the first bad value; pandas marks them all
            return pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
    return array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


def as_ticks(column: pa.ChunkedArray, unit: TimestampUnit) -> np.ndarray:
    """[N] → [N] float64, time since 1970 (UTC) in `unit`; NaN where it is not a number.

    A column that carries its own unit (Parquet's timestamp and date types) is converted, whatever `unit` says.
    """
    array = whole(column)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        micros = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return as_numbers(micros) * (PER_SECOND[unit] / 1_000_000)
    return as_numbers(array)


def is_blank(text: pa.Array) -> np.ndarray:
    """[N] string → [N] bool: nothing but white space."""
    return pc.equal(pc.utf8_trim_whitespace(text), "").to_numpy(zero_copy_only=False)


def feature_values(feature: Feature, column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """A feature as the examples hold it, and where it cannot be read.

    [N] → list array [N, 0 or more] of binary (`number`: float32), missing is an empty list; and [N] bool, true where
    the value is there but is not a number. `category` and `text` give one value, `categories` one per part.
    """
    fine = np.zeros(len(column), dtype=bool)
    array = whole(column)
    if feature.type == "number":
        numbers = as_numbers(array)
        present = ~np.isnan(numbers)
        bad = ~present & ~is_blank(as_text(array))
        return _one_or_none(pa.array(numbers, type=pa.float32()), present), bad
    if feature.type != "categories":
        text = as_text(array)
        return _one_or_none(text.cast(pa.binary()), ~is_blank(text)), fine
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = pc.split_pattern(as_text(array), pattern=feature.separator)
    parts = pc.utf8_trim_whitespace(as_text(pc.list_flatten(array)))
    owner = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    kept = ~is_blank(parts)
    counts = np.bincount(owner[kept], minlength=len(array))
    return _lists(counts, parts.filter(pa.array(kept)).cast(pa.binary())), fine


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array, dictionaries spelled out."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # pyarrow 10 gives back a chunked array when there is no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _one_or_none(values: pa.Array, present: np.ndarray) -> pa.ListArray:
    return _lists(present.astype(np.int64), values.filter(pa.array(present)))


def _lists(counts: np.ndarray, values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
