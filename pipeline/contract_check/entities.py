"""What there is to say about the catalog and the users, and how they fit to the log."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.files import catalog_files, user_files
from components.interaction_example_gen.load import load_items, load_users
from components.interaction_example_gen.log import Rows
from pipeline.config import PipelineConfig
from pipeline.contract_check.line import SAMPLES, Level, Line, level_of, share
from pipeline.contract_check.read import Log
from trainer.features import ITEM_ID_KEY, TITLE_KEY, USER_ID_KEY, Feature


def catalog_lines(config: PipelineConfig, log: Log, window: list[int]) -> list[Line]:
    """`window`: the spans whose files a catalog that belongs to spans is read from."""
    items = config.contract.items
    try:
        files = catalog_files(config.data_root, config.contract, window)
        cut = 1 + int(log.rows.timestamp.max()) if log.rows else 0
        loaded = load_items(files, config.contract, cut)
    except DataError as error:
        return [Line("FAIL", "catalog", str(error))]
    of = f"{len(files):,} files" if len(files) > 1 else files[0].name
    table, skipped = loaded.table, loaded.skipped
    unread = f"; {skipped:,} rows could not be read and are left out" if skipped else ""
    sentence = f"{len(table):,} items, each {items.item_id} once, from {of}{unread}"
    lines = [Line("WARN" if skipped else "PASS", "catalog", sentence)]
    lines += _features("item features", table, items.features, items.title)
    if log.rows is None:
        return lines
    known, users_in = _joined(log.rows, table[ITEM_ID_KEY])
    rows = len(log.rows)
    if 2 * known.sum() < rows and 2 * users_in > rows:
        names = f"{config.contract.interactions.user_id!r} and {config.contract.interactions.item_id!r}"
        sentence = (
            f"{share(users_in, rows)} have their user id in the catalog, {share(int(known.sum()), rows)} their item id"
        )
        return [
            *lines,
            Line("FAIL", "items joined", f"the columns {names} look swapped: {sentence}; swap user_id and item_id"),
        ]
    unknown = rows - int(known.sum())
    level = level_of(unknown / rows, config.gate.unknown_item_fraction)
    counts = np.bincount(log.rows.item[~known], minlength=len(log.rows.items))
    most = np.argsort(-counts, kind="stable")[:SAMPLES]
    samples = tuple(f"{log.rows.items[int(n)].as_py()!r} in {counts[n]:,} rows" for n in most if counts[n])
    sentence = f"{share(unknown, rows)} are of items that are not in the catalog"
    return [*lines, Line(level, "items joined", sentence, samples if level != "PASS" else ())]


def user_lines(config: PipelineConfig, log: Log, window: list[int]) -> list[Line]:
    """None when the contract declares no users."""
    users = config.contract.users
    if users is None:
        return []
    try:
        table = load_users(user_files(config.data_root, config.contract, window), config.contract).table
    except DataError as error:
        return [Line("FAIL", "user features", str(error))]
    lines = _features("user features", table, users.features, None)
    if log.rows is None:
        return lines
    there = pc.is_in(log.rows.users, value_set=table[USER_ID_KEY].combine_chunks()).to_numpy(zero_copy_only=False)
    present = np.unique(log.rows.user)
    joined = int(there[present].sum())
    level: Level = "FAIL" if not joined else "WARN" if 2 * joined < len(present) else "PASS"
    described = len(pc.unique(table[USER_ID_KEY]))
    sentence = f"{joined:,} of the span's {len(present):,} users are among the {described:,} that are described"
    return [*lines, Line(level, "users joined", sentence)]


def _features(what: str, table: pa.Table, features: tuple[Feature, ...], title: str | None) -> list[Line]:
    """How much of each feature is there: all can be read, or loading had failed."""
    named = {feature.name: f"{feature.name} ({feature.type})" for feature in features}
    if title is not None:
        named[TITLE_KEY] = f"title {title}"
    if not named or not len(table):
        return []
    filled = {key: float(pc.mean(pc.greater(pc.list_value_length(table[key]), 0)).as_py()) for key in named}
    shown = ", ".join(f"{words} {100 * filled[key]:.0f}%" for key, words in named.items())
    scarce = [named[key] for key, part in filled.items() if part < 0.5]
    if scarce:
        return [Line("WARN", what, f"mostly empty: {', '.join(scarce)}; filled: {shown}")]
    return [Line("PASS", what, f"features can be read; filled: {shown}")]


def _joined(rows: Rows, item_ids: pa.Array) -> tuple[np.ndarray, int]:
    """[N] bool: the row's item is in the catalog; and how many rows have a user id that is there."""
    is_item, is_user = (
        pc.is_in(values, value_set=item_ids).to_numpy(zero_copy_only=False) for values in (rows.items, rows.users)
    )
    return is_item[rows.item], int(is_user[rows.user].sum())
