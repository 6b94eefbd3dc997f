"""One input file as Arrow tables, with the line of each row: CSV, TSV, JSON lines or Parquet, plain or `.gz`.

A file comes in blocks, so that a large one does not have to fit into memory. Text formats give every column as text, so
that a bad value can be shown as it stands in the file.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from components.errors import DataError
from components.interaction_example_gen.blocks import BLOCK_BYTES, chunks, delimiter_of, open_file, text_blocks
from components.interaction_example_gen.columns import EXACT
from components.interaction_example_gen.files import SourceFile

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
BLOCK_ROWS = 500_000


@dataclass(frozen=True)
class FileRows:
    """`table` [N rows], `lines` [N] int64 (from 1; in Parquet the row), and the lines that could not be understood."""

    file: SourceFile
    table: pa.Table
    lines: np.ndarray
    malformed: list[tuple[int, str]]  # (line, what is wrong with it)


def read_blocks(file: SourceFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[FileRows]:
    """Reads `columns` of one file, text in blocks of about `block_bytes`.

    Blank lines are not rows; a line that cannot be split into fields is `malformed`. An empty file (no byte, or white
    space) gives one block without rows.
    Raises DataError when the format is unknown, the file is truncated or not UTF-8, or a column is missing.
    """
    suffix = next((s for s in FORMATS if file.path.lower().removesuffix(".gz").endswith(s)), None)
    if suffix is None:
        raise DataError(
            f"{file.name}: format not known by its name; expected one of {', '.join(FORMATS)}, with or without .gz"
        )
    wanted = list(dict.fromkeys(columns))
    blocks: Iterator[FileRows]
    if not file.size_bytes:
        blocks = iter(())
    elif suffix == ".parquet":
        blocks = _parquet(file, wanted)
    elif suffix in (".csv", ".tsv"):
        blocks = _csv(file, wanted, block_bytes)
    else:
        blocks = _json(file, wanted, block_bytes)
    empty = True
    for block in blocks:
        empty = False
        yield block
    if empty:
        nothing = pa.table({name: pa.array([], type=pa.string()) for name in wanted})
        yield FileRows(file, nothing, np.array([], dtype=np.int64), [])


def is_empty(rows: FileRows) -> bool:
    """Whether the block holds nothing at all."""
    return not len(rows.table) and not rows.malformed


def _require(file: SourceFile, have: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in have]:
        raise DataError(
            f"{file.name}: column {', '.join(map(repr, missing))} not found; the file has {sorted(have)}. "
            "Correct the data contract, or the file"
        )
    if twice := sorted({name for name in columns if list(have).count(name) > 1}):
        raise DataError(f"{file.name}: column {', '.join(map(repr, twice))} stands more than once in the header")


def _csv(file: SourceFile, columns: list[str], block_bytes: int) -> Iterator[FileRows]:
    names: list[str] = []
    for first_line, data in text_blocks(file, quoted=True, block_bytes=block_bytes):
        if not names:
            if not data.strip():
                continue
            names, num_lines = _header(file, data)
            _require(file, names, columns)
            first_line += num_lines
            data = b"".join(data.split(b"\n", num_lines)[num_lines:])
        if data.strip():
            yield _csv_block(file, first_line, data, names, columns)


def _header(file: SourceFile, data: bytes) -> tuple[list[str], int]:
    """The names of the columns, and how many lines they take."""
    reader = csv.reader(io.StringIO(data[: 1 << 20].decode("utf-8", "ignore")), delimiter=delimiter_of(file))
    try:
        return next((names for names in reader if names), []), reader.line_num
    except csv.Error as error:  # a lone \r, a NUL
        raise DataError(
            f"{file.name}:1: not readable as CSV ({error}); expected a line of column names that ends in \\n or \\r\\n"
        ) from error


def _csv_block(file: SourceFile, first_line: int, data: bytes, names: list[str], columns: list[str]) -> FileRows:
    skipped: list[tuple[int, str]] = []  # (number of the row, from 0; what is wrong)
    inner_ends: list[int] = []  # in each of them

    def skip(row: Any) -> str:
        what = f"expected {row.expected_columns} fields, got {row.actual_columns}: {row.text[:120]}"
        skipped.append((row.number - 1, what))
        inner_ends.append(row.text.count("\n"))
        return "skip"

    has_quotes = b'"' in data
    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            # numbers of rows need one thread
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=8 << 20, column_names=names),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter_of(file),
                ignore_empty_lines=False,  # else the numbers of later lines are wrong
                newlines_in_values=has_quotes,
                invalid_row_handler=skip,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.name}: not readable as CSV ({error}); expected comma-separated fields") from error
    is_read = np.ones(len(table) + len(skipped), dtype=bool)
    is_read[[number for number, _ in skipped]] = False
    lines = np.arange(first_line, first_line + len(is_read), dtype=np.int64)
    if has_quotes and data.count(b"\n") > len(is_read):  # some values have line ends
        inner = np.zeros(len(is_read), dtype=np.int64)
        inner[~is_read] = inner_ends
        for column in table.columns:
            inner[is_read] += pc.count_substring(column, "\n").to_numpy()
        lines += np.cumsum(inner) - inner
    written = np.zeros(len(table), dtype=bool)
    for column in table.columns:
        if written.all():
            break
        written |= pc.not_equal(column, "").to_numpy()
    malformed = [(int(lines[number]), what) for number, what in skipped]
    table = table.select(columns)
    table = table if written.all() else table.filter(pa.array(written))
    return FileRows(file, table, lines[is_read][written], malformed)


def _json(file: SourceFile, columns: list[str], block_bytes: int) -> Iterator[FileRows]:
    seen: set[str] = set()
    rows_before = False
    malformed: list[tuple[int, str]] = []
    for first_line, data in text_blocks(file, quoted=False, block_bytes=block_bytes):
        if not data.strip():
            continue
        rows = _json_block(file, first_line, data, columns, seen)
        malformed += rows.malformed if not rows_before else []
        rows_before = rows_before or bool(len(rows.table))
        yield rows
    if malformed and not rows_before:
        raise DataError(f"{file.name}:{malformed[0][0]}: {malformed[0][1]}; expected one JSON object per line")


def _json_block(file: SourceFile, first_line: int, data: bytes, columns: list[str], seen: set[str]) -> FileRows:
    body = data.rstrip()
    if not re.search(rb"\n\s*\n", body):  # a blank line
        try:
            table = _arrow_json(body)
            if len(table) == body.count(b"\n") + 1 and not _is_rounded(table):
                lines = np.arange(first_line, first_line + len(table), dtype=np.int64)
                return FileRows(file, _selected(file, table, columns, seen), lines, [])
        except pa.ArrowInvalid:
            pass  # some line is odd: read again line by line, so that it can be named
    return _json_lines(file, first_line, data, columns, seen)


def _arrow_json(body: bytes) -> pa.Table:
    options = pa.json.ReadOptions(block_size=8 << 20)
    table = pa.json.read_json(io.BytesIO(body), read_options=options)
    if dates := [field.name for field in table.schema if pa.types.is_temporal(field.type)]:  # guessed; text stays text
        as_text = pa.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dates]))
        table = pa.json.read_json(io.BytesIO(body), read_options=options, parse_options=as_text)
    return table


def _is_rounded(table: pa.Table) -> bool:
    """Whether Arrow may have taken large whole numbers, such as ids of 64 bits, for floats."""
    floats = [column for column in table.columns if pa.types.is_floating(column.type)]
    return any(pc.any(pc.greater_equal(pc.abs(column), EXACT)).as_py() for column in floats)


def _selected(file: SourceFile, table: pa.Table, columns: list[str], seen: set[str]) -> pa.Table:
    """A key that an earlier block had may be missing in this one."""
    seen |= set(table.column_names)
    _require(file, sorted(seen), columns)
    for name in columns:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
    return table.select(columns)


def _json_lines(file: SourceFile, first_line: int, data: bytes, columns: list[str], seen: set[str]) -> FileRows:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    bad: list[tuple[int, str]] = []
    for number, text in enumerate(data.decode("utf-8").split("\n"), start=first_line):
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
    if rows:
        seen |= {key for row in rows for key in row}
        _require(file, sorted(seen), columns)
    table = pa.table({name: _json_column([row.get(name) for row in rows]) for name in columns})
    return FileRows(file, table, np.array(lines, dtype=np.int64), bad)


def _json_column(values: list[Any]) -> pa.Array:
    """Numbers and lists as they are when all are; everything else as text, as it stands in the file."""
    if any(isinstance(value, list) for value in values):
        lists = [v if isinstance(v, list) else [] if v is None else [v] for v in values]
        return pa.array([[str(v) for v in items if v is not None] for items in lists], type=pa.list_(pa.string()))
    try:
        if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
            return pa.array(values)
    except (pa.ArrowInvalid, OverflowError):
        pass
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], type=pa.string())


def _parquet(file: SourceFile, columns: list[str]) -> Iterator[FileRows]:
    packed = file.path.lower().endswith(".gz")
    with io.BytesIO(b"".join(chunks(file))) if packed else open_file(file) as stream:
        source = _parquet_step(file, lambda: pq.ParquetFile(pa.PythonFile(stream, mode="r")))
        _require(file, source.schema_arrow.names, columns)
        batches = source.iter_batches(batch_size=BLOCK_ROWS, columns=columns, use_threads=False)
        before = 0
        while (batch := _parquet_step(file, lambda: next(batches, None))) is not None:
            lines = np.arange(before + 1, before + 1 + len(batch), dtype=np.int64)
            yield FileRows(file, pa.Table.from_batches([batch]), lines, [])
            before += len(batch)


def _parquet_step(file: SourceFile, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{file.name}: not readable as Parquet ({error}); {file.size_bytes} bytes. Copy the file again"
        ) from error
