"""The steps of the Beam pipeline (build.py): each takes one element, a file or a shard, and yields results and Reports.

A DataError becomes an entry in a Report, so that all unusable files are named at once.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.clean import clean, columns_of
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.load import load_items, load_users
from components.interaction_example_gen.order import Log, order, partition
from components.interaction_example_gen.read import read_file
from components.interaction_example_gen.report import Report
from components.interaction_example_gen.sequences import (
    decayed_counts,
    eval_cut,
    newest_sequences,
    split,
)
from components.interaction_example_gen.write import one_each, sequence_batches, split_path, write_records
from trainer.features import ITEM_ID_KEY, POPULARITY_KEY

POPULARITY_HALF_LIFE_SECONDS = 30 * 24 * 3600

Shard = tuple[int, pa.Table]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every step knows. `file_names[i]` is the log's file with index i."""

    contract: DataContract
    config: ExamplesConfig
    span: int
    learned_until_seconds: int
    file_names: list[str]
    examples_uri: str
    catalog_uri: str
    users_uri: str


def _errors_reported(step: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(step)
    def guarded(*args: Any) -> Iterator[Any]:
        try:
            yield from step(*args)
        except DataError as error:
            yield Report(errors=[str(error)])

    return guarded


@_errors_reported
def load_catalog(files: list[SourceFile], inputs: Inputs) -> Iterator[pa.Table | Report]:
    """The catalog's files → one table."""
    table = load_items(files, inputs.contract.items)
    yield table
    yield Report(items=len(table))


@_errors_reported
def load_user_shards(files: list[SourceFile], inputs: Inputs) -> Iterator[Shard | Report]:
    """The users' files → (shard, its users)."""
    if inputs.contract.users is not None:
        yield from partition(load_users(files, inputs.contract.users), inputs.config.num_shards)


@_errors_reported
def read_shards(file: SourceFile, inputs: Inputs, catalog: list[pa.Table]) -> Iterator[Shard | Report]:
    """A file of the log → (shard, its accepted rows). `catalog` is empty when the catalog could not be read."""
    contract = inputs.contract.interactions
    rows = read_file(file, columns_of(contract))
    item_ids = catalog[0][ITEM_ID_KEY].combine_chunks() if catalog else pa.array([], type=pa.string())
    table, report = clean(rows, contract, item_ids)
    yield report
    if len(table):
        yield from partition(table, inputs.config.num_shards)


def order_shard(element: tuple[int, Iterable[pa.Table]], inputs: Inputs) -> Iterator[tuple[int, Log] | Report]:
    """All rows of a shard → its ordered log."""
    shard, tables = element
    log, report = order(list(tables), inputs.file_names)
    kinds = pc.value_counts(log.table["interaction_type"])
    declared = inputs.contract.interactions.types
    yield (shard, log)
    yield report + Report(
        rows_accepted=len(log.table),
        users=len(log.starts) - 1,
        first_timestamp=int(log.timestamps.min()),
        last_timestamp=int(log.timestamps.max()),
        undeclared_types=Counter({k["values"]: k["counts"] for k in kinds.to_pylist() if k["values"] not in declared}),
    )


def newest_timestamps(element: tuple[int, Log], inputs: Inputs) -> Iterator[np.ndarray]:
    """A shard → the timestamps of its interactions in the newest span."""
    _, log = element
    yield log.timestamps[log.table["span"].to_numpy() == inputs.span]


def gather(times: Iterable[np.ndarray]) -> np.ndarray:
    """All timestamps in one array: 8 bytes for each interaction of the newest span."""
    return np.concatenate([np.array([], dtype=np.int64), *times])


def cut_of(times: np.ndarray, eval_fraction: float) -> int | None:
    """The eval cut, None when the newest span has no accepted row."""
    return eval_cut(times, eval_fraction) if len(times) else None


def write_shard(
    element: tuple[int, dict[str, Iterable[Any]]], inputs: Inputs, cut: int | None
) -> Iterator[pa.Table | Report]:
    """A shard's log and users → its files of train, eval and users; yields its part of the items' popularity."""
    shard, parts = element
    logs, users = list(parts["log"]), list(parts["users"])
    if not logs or cut is None:
        return
    log: Log = logs[0]
    config, contract = inputs.config, inputs.contract.interactions
    declared = pa.array(list(contract.types), type=pa.string())
    is_declared = pc.is_in(log.table["interaction_type"], value_set=declared).to_numpy()
    splits = split(
        log.starts,
        log.timestamps,
        is_declared,
        learned_until_seconds=inputs.learned_until_seconds if config.targets == "new" else None,
        cut=cut,
        max_history=config.max_history,
    )
    features = users[0] if users else _no_users(inputs.contract)
    for name, sequences in splits.items():
        path = split_path(inputs.examples_uri, name, shard, config.num_shards)
        if len(sequences):
            write_records(path, sequence_batches(log, sequences, features, contract.context, True))
    newest = newest_sequences(log.starts, config.max_history)
    path = split_path(inputs.users_uri, "all", shard, config.num_shards)
    write_records(path, sequence_batches(log, newest, features, (), False))
    yield Report(
        eval_from=cut,
        train_examples=len(splits["train"]),
        train_targets=int(splits["train"].is_target.sum()),
        eval_examples=len(splits["eval"]),
    )
    yield _popularity(log, (log.timestamps < cut) & is_declared, cut)


def write_catalog(catalog: pa.Table, inputs: Inputs, popularity: list[pa.Table]) -> Iterator[Report]:
    """One example per item, with its popularity: interactions of declared types before the cut, time-decayed."""
    ids = catalog[ITEM_ID_KEY].combine_chunks()
    total = np.zeros(len(ids))
    for part in sorted(popularity, key=lambda part: part["item_id"][0].as_py() if len(part) else ""):
        total[pc.index_in(part["item_id"], value_set=ids).to_numpy()] += part["weight"].to_numpy()
    columns = {ITEM_ID_KEY: one_each(ids.cast(pa.binary()))}
    columns |= {name: catalog[name].combine_chunks() for name in catalog.column_names if name != ITEM_ID_KEY}
    columns[POPULARITY_KEY] = one_each(pa.array(total, type=pa.float32()))
    batches = pa.table(columns).to_batches(max_chunksize=10_000)
    write_records(split_path(inputs.catalog_uri, "all", 0, 1), batches)
    yield Report()


def _popularity(log: Log, counted: np.ndarray, cut: int) -> pa.Table:
    items = pc.dictionary_encode(log.table["item_id"].combine_chunks())
    codes = items.indices.to_numpy()[counted]
    weights = decayed_counts(codes, len(items.dictionary), log.timestamps[counted], cut, POPULARITY_HALF_LIFE_SECONDS)
    return pa.table({"item_id": items.dictionary, "weight": weights})


def _no_users(contract: DataContract) -> pa.Table | None:
    """An empty table of users, so that their features stand in the examples as missing."""
    if contract.users is None:
        return None
    kinds = {f.name: pa.float32() if f.type == "number" else pa.binary() for f in contract.users.features}
    empty = {name: pa.array([], type=pa.list_(kind)) for name, kind in kinds.items()}
    return pa.table({"user_id": pa.array([], type=pa.string()), **empty})
