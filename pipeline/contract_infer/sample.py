"""What `contract infer` looks at: the files below some paths, those of the same columns together, a part of each."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import DataError
from components.interaction_example_gen.blocks import open_file, text_blocks
from components.interaction_example_gen.columns import Coded, as_coded, whole
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.read import FORMATS, read_blocks

MAX_ROWS_PER_FILE = 50_000
MAX_FILES = 500  # of one set, evenly spread
MAX_ROWS = 2_000_000  # of one set
JSON_LINES = 1_000  # whose keys are a file's columns


@dataclass(kw_only=True)
class Sample:
    """Rows [N] of files that have the same columns.

    coded: column → text in codes. nested: column → list array [N]. odd: column → why it cannot be used. `of_file` [N]
    is each row's place in `looked_at`.
    """

    files: list[SourceFile]
    looked_at: list[SourceFile]
    columns: list[str]
    coded: dict[str, Coded] = field(default_factory=dict)
    nested: dict[str, pa.Array] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    native_times: set[str] = field(default_factory=set)  # columns that the file itself calls times
    of_file: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))
    is_whole: bool = True

    @property
    def rows(self) -> int:
        return len(self.of_file)

    @property
    def name(self) -> str:
        """For a sentence."""
        rest = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.files[0].name}{rest}"


@dataclass(kw_only=True)
class Found:
    """All that lies below the paths. `problems`: what could not be read, in words."""

    root: Path
    samples: list[Sample]
    problems: list[str]


def look(paths: Sequence[Path]) -> Found:
    """Reads a sample of every file below the paths, grouped by columns.

    Raises DataError when a path does not exist, or nothing below them can be read.
    """
    for path in paths:
        if not path.exists():
            raise DataError(
                f"{path} does not exist; name files, or folders of files, that hold the log and the catalog"
            )
    folders = [(path if path.is_dir() else path.parent).absolute() for path in paths]
    root = Path(os.path.commonpath(folders))
    files = list(_files(root, paths))
    columns: dict[str, list[str]] = {}
    problems: list[str] = []
    for file in files:
        try:
            columns[file.name] = columns_of_file(file)
        except DataError as error:
            problems.append(str(error))
    samples = []
    for group in _groups([file for file in files if columns.get(file.name)], columns):
        shared = [name for name in columns[group[0].name] if all(name in columns[file.name] for file in group)]
        if (sample := _read(group, shared, problems)).rows:
            samples.append(sample)
    if not samples:
        raise DataError(
            f"nothing below {', '.join(map(str, paths))} can be used: "
            f"{'; '.join(problems[:5]) or 'no file with rows'}. Expected files named {', '.join(FORMATS)}, or the same "
            "with .gz, with a line of column names"
        )
    return Found(root=root, samples=sorted(samples, key=lambda sample: -sample.rows), problems=problems)


def columns_of_file(file: SourceFile) -> list[str]:
    """The names that the file gives its columns; none when it is empty. Raises DataError when it cannot be read."""
    kind = file.path.lower().removesuffix(".gz")
    if not file.size_bytes:
        return []
    if kind.endswith(".parquet"):
        try:
            with open_file(file) as stream:
                return list(pq.read_schema(pa.PythonFile(stream, mode="r")).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file.name}: not readable as Parquet ({error})") from error
    is_table = kind.endswith((".csv", ".tsv"))
    _, data = next(text_blocks(file, quoted=is_table), (1, b""))
    return _header(file, data, "\t" if kind.endswith(".tsv") else ",") if is_table else _keys(file, data)


def _header(file: SourceFile, data: bytes, delimiter: str) -> list[str]:
    if not data.strip():
        return []
    names = next(csv.reader(io.StringIO(data[: 1 << 20].decode("utf-8", "ignore")), delimiter=delimiter))
    shown = ", ".join(map(repr, names[:8]))
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise DataError(
            f"{file.name}: its fields are separated by {other!r}; expected {delimiter!r}. Save it so (.tsv: tabs)"
        )
    if any(re.fullmatch(r"-?[\d.]*\d", name.strip()) for name in names) or len(set(names)) < len(names):
        raise DataError(
            f"{file.name}:1: the first line is {shown}; expected a name for each column. Write one above the rows"
        )
    return names


def _keys(file: SourceFile, data: bytes) -> list[str]:
    """Of the objects in the first lines, in order of appearance; a line that is none is told when the file is read."""
    keys: dict[str, None] = {}
    for line in data.split(b"\n", JSON_LINES)[:JSON_LINES]:
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError:
            continue
        if isinstance(row, dict):
            keys |= dict.fromkeys(row)
    if not keys and data.strip():
        raise DataError(f"{file.name}: no JSON object in its first lines; expected one JSON object per line")
    return list(keys)


def _files(root: Path, paths: Sequence[Path]) -> Iterator[SourceFile]:
    found = {path.absolute() for path in paths if path.is_file()}
    found |= {below.absolute() for path in paths if path.is_dir() for below in path.rglob("*") if below.is_file()}
    named = [(path.relative_to(root).as_posix(), path) for path in found]
    visible = [
        (name, path)
        for name, path in sorted(named)
        if name.lower().removesuffix(".gz").endswith(FORMATS)
        and not any(part.startswith((".", "_")) for part in name.split("/"))
    ]
    for index, (name, path) in enumerate(visible):
        facts = path.stat()
        yield SourceFile(
            index=index, path=str(path), name=name, size_bytes=facts.st_size, written_at_seconds=facts.st_mtime
        )


def _groups(files: list[SourceFile], columns: dict[str, list[str]]) -> list[list[SourceFile]]:
    """Files of the same columns; and of names that differ in figures alone, when they share half of their columns."""
    groups: list[tuple[set[str], list[SourceFile]]] = []
    for file in files:
        names, form = set(columns[file.name]), re.sub(r"\d+", "#", file.name)
        for shared, group in groups:
            is_alike = form == re.sub(r"\d+", "#", group[0].name) and 2 * len(shared & names) >= len(shared | names)
            if shared == names or is_alike:
                shared &= names
                group.append(file)
                break
        else:
            groups.append((names, [file]))
    return [group for _, group in groups]


def _read(files: list[SourceFile], columns: list[str], problems: list[str]) -> Sample:
    spread = np.unique(np.linspace(0, len(files) - 1, min(len(files), MAX_FILES)).astype(int))
    sample = Sample(files=files, looked_at=[files[n] for n in spread], columns=columns)
    sample.is_whole = len(spread) == len(files)
    parts: dict[str, list[pa.Array]] = {name: [] for name in columns}
    lengths = []
    most = min(MAX_ROWS_PER_FILE, MAX_ROWS // len(spread))
    for file in sample.looked_at:
        rows = 0
        try:
            for block in read_blocks(file, columns):
                table = block.table.slice(0, most - rows)
                sample.is_whole &= len(table) == len(block.table)
                for name in columns:
                    parts[name].append(whole(table[name]))
                rows += len(table)
                if rows >= most:
                    break
        except DataError as error:
            problems.append(str(error))
        lengths.append(rows)
    sample.of_file = np.repeat(np.arange(len(lengths)), lengths)
    for name, arrays in parts.items():
        _keep(sample, name, arrays)
    return sample


def _keep(sample: Sample, name: str, arrays: list[pa.Array]) -> None:
    """Files may disagree about a type: text is what all of them can be."""
    kinds = {array.type for array in arrays if len(array)}
    try:
        if any(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) for kind in kinds):
            lists = [a.cast(pa.list_(a.type.value_type)) if pa.types.is_fixed_size_list(a.type) else a for a in arrays]
            sample.nested[name] = pa.concat_arrays([array for array in lists if len(array)])
        elif kinds:
            if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in kinds):
                sample.native_times.add(name)
            coded = [as_coded(pa.chunked_array([array])) for array in arrays]
            sample.coded[name] = as_coded(pa.chunked_array([c.column() for c in coded]).unify_dictionaries())
    except pa.ArrowInvalid as error:
        sample.odd[name] = str(error)
