"""The catalog and the users: a row per id, or per change. A bad row is an error, not a count: it would hide an item."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.clean import check_unit, drops_of, refuse_nested
from components.interaction_example_gen.columns import PER_SECOND, as_text, as_ticks, feature_values, is_blank
from components.interaction_example_gen.contract import DataContract, Drop, InteractionsContract
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.read import FileRows, is_empty, read_blocks
from trainer.features import ITEM_ID_KEY, TITLE_KEY, USER_ID_KEY, Feature

TIME = "time"  # of a row of the users: int64 seconds
ALWAYS = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Which columns of the files, and what they become: name in the result → (column, how to read it)."""

    noun: str
    id_key: str
    id_column: str
    columns: dict[str, tuple[str, Feature]]
    timestamp: str | None
    time_format: InteractionsContract  # of the log; its timestamp is ours
    drop: tuple[Drop, ...] = ()

    @property
    def names(self) -> list[str]:
        return [*self.flat_names, *(column for column, _ in self.columns.values())]

    @property
    def flat_names(self) -> list[str]:
        """Those that must have one value per row."""
        several = {column for column, feature in self.columns.values() if feature.type in ("categories", "vector")}
        flat = [column for column, _ in self.columns.values() if column not in several]
        named = [self.id_column, self.timestamp, *flat, *(drop.column for drop in self.drop)]
        return [name for name in named if name is not None]


@dataclass(frozen=True)
class Loaded:
    """The table, and how many rows of changes could not be read and were left out.

    listed_seconds: of items with times, the time of the first row of each [M].
    """

    table: pa.Table
    skipped: int = 0
    listed_seconds: pa.ChunkedArray | None = None


def load_items(files: list[SourceFile], contract: DataContract, cut: int) -> Loaded:
    """The catalog [M]: `item_id` string, then `title` and one list column per feature, as the examples hold them.

    Of an item with several rows, each value is the newest before `cut`; without one, the oldest there is.
    Raises DataError: an unreadable file, no row, an empty or (without timestamp) repeated id, a number that is none.
    """
    items = contract.items
    features = {feature.name: feature for feature in items.features}
    columns = {name: (name, feature) for name, feature in features.items()}
    if items.title is not None and TITLE_KEY not in features:
        columns = {TITLE_KEY: (items.title, Feature(name=items.title, type="text")), **columns}
    wanted = _Wanted(
        noun="item",
        id_key=ITEM_ID_KEY,
        id_column=items.item_id,
        columns=columns,
        timestamp=items.timestamp,
        time_format=replace(contract.interactions, timestamp=items.timestamp or ""),
        drop=items.drop,
    )
    loaded = _load(files, wanted)
    if items.timestamp is None:
        return replace(loaded, table=loaded.table.drop([TIME]))
    listed = loaded.table[TIME].take(pa.array(_begins(loaded.table)))
    return replace(loaded, table=_as_of(loaded.table, cut), listed_seconds=listed)


def load_users(files: list[SourceFile], contract: DataContract) -> Loaded:
    """The users' rows [R], by id and time: `user_id` string, `time` int64, then one list column per feature.

    Raises DataError as `load_items` does.
    """
    users = contract.users
    assert users is not None
    wanted = _Wanted(
        noun="user",
        id_key=USER_ID_KEY,
        id_column=users.user_id,
        columns={feature.name: (feature.name, feature) for feature in users.features},
        timestamp=users.timestamp,
        time_format=replace(contract.interactions, timestamp=users.timestamp or ""),
    )
    return _load(files, wanted)


def _load(files: list[SourceFile], wanted: _Wanted) -> Loaded:
    """All rows, by id and time; without a timestamp one per id."""
    parts, places, read = [], [], 0
    for file in files:
        for rows in read_blocks(file, wanted.names):
            if is_empty(rows):
                continue
            read += len(rows.table) + len(rows.malformed)
            if rows.malformed and wanted.timestamp is None:
                line, what = rows.malformed[0]
                raise DataError(
                    f"{file.name}:{line}: {what}; {len(rows.malformed)} such lines. Correct them: no {wanted.noun} "
                    "may get lost"
                )
            try:
                kept = _without_dropped(rows, wanted.drop)
                read -= len(rows.table) - len(kept.table)
                parts.append(_part(kept, wanted) if wanted.timestamp is None else _changes(kept, wanted))
            except pa.ArrowException as error:
                raise DataError(f"{file.name}: {error}") from error
            if wanted.timestamp is None:
                places += [f"{file.name}:{line}" for line in kept.lines]
    if not sum(len(part) for part in parts):
        raise DataError(f"{', '.join(file.name for file in files)}: no row; expected one row per {wanted.noun}")
    table = pa.concat_tables(parts)
    if wanted.timestamp is None:
        _refuse_repeated(table[wanted.id_key], places, wanted.noun)
        return Loaded(table)
    by = pc.sort_indices(table, [(wanted.id_key, "ascending"), (TIME, "ascending")])
    return Loaded(table.take(by), skipped=read - len(table))


def _without_dropped(rows: FileRows, drop: tuple[Drop, ...]) -> FileRows:
    kept = np.ones(len(rows.table), dtype=bool)
    for _, mask in drops_of(rows.table, drop):
        kept &= ~mask
    return rows if kept.all() else FileRows(rows.file, rows.table.filter(pa.array(kept)), rows.lines[kept], [])


def _part(rows: FileRows, wanted: _Wanted) -> pa.Table:
    name, table = rows.file.name, rows.table
    refuse_nested(rows, wanted.flat_names)
    ids = as_text(table[wanted.id_column])
    values = {key: feature_values(feature, table[column]) for key, (column, feature) in wanted.columns.items()}
    if (empty := is_blank(ids)).any():
        line = rows.lines[int(np.flatnonzero(empty)[0])]
        raise DataError(
            f"{name}:{line}: column {wanted.id_column!r} is empty; {empty.sum()} such rows. Give each an id"
        )
    for key, (_, bad) in values.items():
        if bad.any():
            row, (column, feature) = int(np.flatnonzero(bad)[0]), wanted.columns[key]
            expected = f"{feature.dim} numbers or nothing" if feature.type == "vector" else "a number or nothing"
            raise DataError(
                f"{name}:{rows.lines[row]}: column {column!r} is {str(table[column][row].as_py())[:120]!r}; "
                f"expected {expected}; {bad.sum()} such rows. Correct them, or declare {column!r} a category"
            )
    return _table(ids, np.full(len(table), ALWAYS), values, wanted)


def _changes(rows: FileRows, wanted: _Wanted) -> pa.Table:
    """Rows that say since when they hold: one that cannot be read is one change less, and is left out."""
    table = rows.table
    refuse_nested(rows, wanted.flat_names)
    ids = as_text(table[wanted.id_column])
    values = {key: feature_values(feature, table[column]) for key, (column, feature) in wanted.columns.items()}
    ticks = as_ticks(table[wanted.timestamp], wanted.time_format)
    unusable = ~np.isfinite(ticks) | check_unit(rows, ticks, wanted.time_format) | is_blank(ids)
    for _, bad in values.values():
        unusable |= bad
    seconds = np.floor(np.where(unusable, 0, ticks) / PER_SECOND.get(wanted.time_format.timestamp_unit, 1))
    return _table(ids, seconds.astype(np.int64), values, wanted).filter(pa.array(~unusable))


def _table(
    ids: pa.Array, times: np.ndarray, values: dict[str, tuple[pa.Array, np.ndarray]], wanted: _Wanted
) -> pa.Table:
    return pa.table({wanted.id_key: ids, TIME: times, **{key: lists for key, (lists, _) in values.items()}})


def _as_of(table: pa.Table, cut: int) -> pa.Table:
    """Rows [R] by id and time → one row per id; each value the newest that is there before `cut`, else the oldest."""
    begins = _begins(table)
    place, size = np.arange(len(table)), len(table)
    known = table[TIME].to_numpy() < cut
    columns = {ITEM_ID_KEY: table[ITEM_ID_KEY].combine_chunks().take(pa.array(begins))}
    for name in table.column_names:
        if name in (ITEM_ID_KEY, TIME):
            continue
        lists = table[name].combine_chunks()
        there = pc.list_value_length(lists).to_numpy() > 0
        newest = np.maximum.reduceat(np.where(there & known, place, -1), begins)
        oldest = np.minimum.reduceat(np.where(there, place, size), begins)
        chosen = np.where(newest >= 0, newest, np.where(oldest < size, oldest, begins))
        columns[name] = lists.take(pa.array(chosen))
    return pa.table(columns)


def _begins(table: pa.Table) -> np.ndarray:
    """The first row of each item, of rows by id."""
    ids = pc.dictionary_encode(table[ITEM_ID_KEY].combine_chunks())
    return np.flatnonzero(np.diff(ids.indices.to_numpy(), prepend=-1))


def _refuse_repeated(ids: pa.ChunkedArray, places: list[str], noun: str) -> None:
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(repeated):
        return
    shown = []
    for value in repeated.field("values").to_pylist()[:5]:
        where = np.flatnonzero(pc.equal(ids, value).to_numpy())[:3]
        shown.append(f"{value!r} at {', '.join(places[row] for row in where)}")
    raise DataError(
        f"{len(repeated)} {noun} ids stand more than once: {'; '.join(shown)}. Keep one row per {noun}, or name the "
        f"column that says since when a row holds: {noun}s.timestamp"
    )
