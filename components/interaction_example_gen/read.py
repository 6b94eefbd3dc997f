"""One input file as an Arrow table, with the line of each row: CSV, TSV, JSON lines or Parquet, plain or `.gz`.

Text formats give every column as text, so that a bad value can be shown as it stands in the file.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.errors import DataError
from components.interaction_example_gen.files import SourceFile

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class FileRows:
    """`table` [N rows], `lines` [N] int64 (from 1; in Parquet the row), and the lines that could not be understood."""

    file: SourceFile
    table: pa.Table
    lines: np.ndarray
    malformed: list[tuple[int, str]]  # (line, what is wrong with it)


def read_file(file: SourceFile, columns: Sequence[str]) -> FileRows:
    """Reads `columns` of one file. Blank lines are not rows; a line that cannot be split into fields is `malformed`.

    Raises DataError when the format is unknown, the file is truncated, empty or not UTF-8, or a column is missing.
    """
    suffix = next((s for s in FORMATS if file.path.lower().removesuffix(".gz").endswith(s)), None)
    if suffix is None:
        raise DataError(
            f"{file.name}: format not known by its name; expected one of {', '.join(FORMATS)}, with or without .gz"
        )
    data = _bytes(file)
    if not data.strip():
        raise DataError(f"{file.name}: the file is empty; expected the columns {list(columns)}")
    if suffix == ".parquet":
        return _read_parquet(file, data, columns)
    _check_utf8(file, data)
    if suffix in (".csv", ".tsv"):
        return _read_csv(file, data, columns, "\t" if suffix == ".tsv" else ",")
    return _read_json(file, data, columns)


def _bytes(file: SourceFile) -> bytes:
    with FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        data: bytes = stream.read()
    if not file.path.lower().endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{file.name}: truncated or not gzip ({error}); {len(data)} bytes read. Copy the file again, or remove it"
        ) from error


def _check_utf8(file: SourceFile, data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = data[max(0, error.start - 20) : error.start + 10]
        raise DataError(f"{file.name}:{line}: not UTF-8 near {shown!r}; save the file as UTF-8") from error


def _require(file: SourceFile, have: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in have]:
        raise DataError(
            f"{file.name}: column {', '.join(map(repr, missing))} not found; the file has {sorted(have)}. "
            "Correct the data contract, or the file"
        )
    if twice := sorted({name for name in columns if list(have).count(name) > 1}):
        raise DataError(f"{file.name}: column {', '.join(map(repr, twice))} stands more than once in the header")


def _read_csv(file: SourceFile, data: bytes, columns: Sequence[str], delimiter: str) -> FileRows:
    names = next(csv.reader(io.StringIO(data[:BLOCK_BYTES].decode("utf-8-sig", "ignore")), delimiter=delimiter), [])
    _require(file, names, columns)
    bad: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        bad.append(
            (
                row.number,
                f"expected {row.expected_columns} fields, got {row.actual_columns}: {row.text[:120]}",
            )
        )
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),  # numbers need one thread
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter,
                ignore_empty_lines=False,  # else the numbers of later lines are wrong
                newlines_in_values=b'"' in data,
                invalid_row_handler=skip,
            ),
            convert_options=pa.csv.ConvertOptions(column_types={name: pa.string() for name in names}),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.name}: not readable as CSV ({error}); expected comma-separated fields") from error
    skipped = np.array([number for number, _ in bad], dtype=np.int64)
    lines = np.setdiff1d(np.arange(2, 2 + len(table) + len(skipped), dtype=np.int64), skipped, assume_unique=True)
    written = np.zeros(len(table), dtype=bool)
    for column in table.columns:
        if written.all():
            break
        written |= pc.not_equal(column, "").to_numpy()
    table = table.select(list(dict.fromkeys(columns)))
    return FileRows(file, table.filter(pa.array(written)), lines[written], bad)


def _read_json(file: SourceFile, data: bytes, columns: Sequence[str]) -> FileRows:
    body = data.rstrip()
    if not re.search(rb"^\s*$", body, re.MULTILINE):
        try:
            table = pa.json.read_json(io.BytesIO(body), read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES))
            if not any(
                pa.types.is_temporal(field.type) for field in table.schema
            ):  # Arrow guesses dates; text stays text
                _require(file, table.column_names, columns)
                lines = np.arange(1, len(table) + 1, dtype=np.int64)
                return FileRows(file, table.select(list(dict.fromkeys(columns))), lines, [])
        except pa.ArrowInvalid:
            pass  # some line is odd: read again line by line, so that it can be named
    return _read_json_lines(file, data, columns)


def _read_json_lines(file: SourceFile, data: bytes, columns: Sequence[str]) -> FileRows:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    bad: list[tuple[int, str]] = []
    for number, text in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            bad.append((number, f"not JSON ({error}): {text[:120]}"))
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            bad.append((number, f"expected one JSON object per line: {text[:120]}"))
    if not rows:
        raise DataError(f"{file.name}:{bad[0][0]}: {bad[0][1]}; expected one JSON object per line")
    _require(file, sorted({key for row in rows for key in row}), columns)
    table = pa.table({name: _json_column([row.get(name) for row in rows]) for name in dict.fromkeys(columns)})
    return FileRows(file, table, np.array(lines, dtype=np.int64), bad)


def _json_column(values: list[Any]) -> pa.Array:
    """Numbers and lists of text as they are when all are; everything else as text, as it stands in the file."""
    if any(isinstance(value, list) for value in values):
        lists = [v if isinstance(v, list) else [] if v is None else [v] for v in values]
        return pa.array([[str(item) for item in items] for items in lists], type=pa.list_(pa.string()))
    try:
        if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
            return pa.array(values)
    except (pa.ArrowInvalid, OverflowError):
        pass
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], type=pa.string())


def _read_parquet(file: SourceFile, data: bytes, columns: Sequence[str]) -> FileRows:
    try:
        source = pq.ParquetFile(pa.BufferReader(data))
        _require(file, source.schema_arrow.names, columns)
        table = source.read(columns=list(dict.fromkeys(columns)), use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{file.name}: not readable as Parquet ({error}); {len(data)} bytes. Copy the file again"
        ) from error
    return FileRows(file, table, np.arange(1, len(table) + 1, dtype=np.int64), [])
