"""The catalog and the users: one row per id, read whole. A bad row is an error, not a count: it would hide an item."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.columns import as_text, feature_values, is_blank
from components.interaction_example_gen.contract import ItemsContract, UsersContract
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.read import FileRows, read_file
from trainer.features import ITEM_ID_KEY, TITLE_KEY, USER_ID_KEY, Feature


def load_items(files: list[SourceFile], contract: ItemsContract) -> pa.Table:
    """The catalog [M]: `item_id` string, then `title` and one list column per feature, as the examples hold them.

    Raises DataError: an unreadable file, no row, an empty or repeated id, a number that is none.
    """
    features = {feature.name: feature for feature in contract.features}
    columns = {name: (name, feature) for name, feature in features.items()}
    if contract.title is not None and TITLE_KEY not in features:
        columns = {TITLE_KEY: (contract.title, Feature(name=contract.title, type="text")), **columns}
    return _load(files, ITEM_ID_KEY, contract.item_id, columns, "item")


def load_users(files: list[SourceFile], contract: UsersContract) -> pa.Table:
    """The users [U]: `user_id` string, then one list column per feature. Raises DataError as `load_items` does."""
    columns = {feature.name: (feature.name, feature) for feature in contract.features}
    return _load(files, USER_ID_KEY, contract.user_id, columns, "user")


def _load(
    files: list[SourceFile], id_key: str, id_column: str, columns: dict[str, tuple[str, Feature]], noun: str
) -> pa.Table:
    """`columns`: name in the result → (column of the files, how to read it)."""
    parts = []
    places: list[str] = []
    for file in files:
        rows = read_file(file, [id_column, *(column for column, _ in columns.values())])
        if rows.malformed:
            line, what = rows.malformed[0]
            raise DataError(
                f"{file.name}:{line}: {what}; {len(rows.malformed)} such lines. Correct them: no {noun} may get lost"
            )
        parts.append(_part(rows, id_key, id_column, columns))
        places += [f"{file.name}:{line}" for line in rows.lines]
    table = pa.concat_tables(parts)
    if not len(table):
        raise DataError(f"{', '.join(file.name for file in files)}: no row; expected one row per {noun}")
    _refuse_repeated(table[id_key], places, noun)
    return table


def _part(rows: FileRows, id_key: str, id_column: str, columns: dict[str, tuple[str, Feature]]) -> pa.Table:
    try:
        ids = as_text(rows.table[id_column])
        values = {name: feature_values(feature, rows.table[column]) for name, (column, feature) in columns.items()}
    except pa.ArrowInvalid as error:
        raise DataError(f"{rows.file.name}: {error}") from error
    if (empty := is_blank(ids)).any():
        line = rows.lines[int(np.flatnonzero(empty)[0])]
        raise DataError(
            f"{rows.file.name}:{line}: column {id_column!r} is empty; {empty.sum()} such rows. Give each an id"
        )
    for name, (_, bad) in values.items():
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            column = columns[name][0]
            raise DataError(
                f"{rows.file.name}:{rows.lines[row]}: column {column!r} is {rows.table[column][row].as_py()!r}; "
                f"expected a number or nothing; {bad.sum()} such rows. Correct them, or declare {column!r} a category"
            )
    return pa.table({id_key: ids, **{name: lists for name, (lists, _) in values.items()}})


def _refuse_repeated(ids: pa.ChunkedArray, places: list[str], noun: str) -> None:
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(repeated):
        return
    shown = []
    for value in repeated.field("values").to_pylist()[:5]:
        where = np.flatnonzero(pc.equal(ids, value).to_numpy())[:3]
        shown.append(f"{value!r} at {', '.join(places[row] for row in where)}")
    raise DataError(f"{len(repeated)} {noun} ids stand more than once: {'; '.join(shown)}. Keep one row per {noun}")
