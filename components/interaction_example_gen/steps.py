"""The steps of the Beam pipeline (build.py): each takes one element, a file or a shard, and yields results and Reports.

A DataError becomes an entry in a Report, so that all unusable files are named at once.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from components.interaction_example_gen.admit import is_rare, is_unseen, seen_of
from components.interaction_example_gen.clean import clean, columns_of
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.learn import examples_of, popularity_of
from components.interaction_example_gen.load import load_items, load_users
from components.interaction_example_gen.log import Rows, gather, recent
from components.interaction_example_gen.merge import merge
from components.interaction_example_gen.plan import ReadPlan
from components.interaction_example_gen.read import is_empty, read_blocks
from components.interaction_example_gen.rejected import write_rejected
from components.interaction_example_gen.report import Report
from components.interaction_example_gen.sequences import eval_cut, newest_sequences
from components.interaction_example_gen.shards import deal, pack, unpack
from components.interaction_example_gen.state import read_state, state_path, write_state
from components.interaction_example_gen.write import one_each, sequence_batches, split_path, write_records
from trainer.features import ITEM_ID_KEY, POPULARITY_KEY, USER_ID_KEY

LOG, STATE, USERS = "log", "state", "users"
LISTED = "listed_seconds"  # since when the catalog has an item: a column on the way to `write_catalog`

Dealt = tuple[int, tuple[str, bytes]]  # shard, (LOG or USERS, its rows packed)
Times = dict[int, tuple[np.ndarray, np.ndarray]]  # span → its distinct timestamps, ascending, and how often each


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every step knows. `file_names[i]` is the log's file with index i.

    learned_until_seconds: what production has learned of the past, 0 where the whole window is learned again.
    """

    contract: DataContract
    config: ExamplesConfig
    plan: ReadPlan
    learned_until_seconds: int
    file_names: list[str]
    examples_uri: str
    catalog_uri: str
    users_uri: str
    state_uri: str

    @property
    def num_shards(self) -> int:
        return self.plan.num_shards


def _errors_reported(step: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(step)
    def guarded(*args: Any) -> Iterator[Any]:
        try:
            yield from step(*args)
        except DataError as error:
            yield Report(errors=[str(error)])

    return guarded


@_errors_reported
def load_catalog(files: list[SourceFile], inputs: Inputs, cut: int | None) -> Iterator[pa.Table | Report]:
    """The catalog's files → one table, as of the eval cut."""
    loaded = load_items(files, inputs.contract, 0 if cut is None else cut)
    listed = loaded.listed_seconds
    yield loaded.table if listed is None else loaded.table.append_column(LISTED, listed)
    report = Report()
    report.totals.update(items=len(loaded.table), catalog_rows_skipped=loaded.skipped)
    yield report


def deal_source(source: tuple[str, Any], inputs: Inputs) -> Iterator[Dealt | Times | Report]:
    """A file of the log, a file of the state in production, or all files of the users → their rows by shard."""
    kind, read = source
    yield from {LOG: deal_log, STATE: deal_state, USERS: deal_users}[kind](read, inputs)


@_errors_reported
def deal_users(files: list[SourceFile], inputs: Inputs) -> Iterator[Dealt | Report]:
    """The users' files → their rows by shard."""
    if inputs.contract.users is None:
        return
    table = load_users(files, inputs.contract).table
    ids = pc.dictionary_encode(table[USER_ID_KEY].combine_chunks())
    table = table.set_column(0, USER_ID_KEY, ids)
    for shard, part in deal(table, inputs.num_shards):
        yield shard, (USERS, pack(part))


def deal_state(path: str, inputs: Inputs) -> Iterator[Dealt]:
    """A file of the state in production → its rows by shard."""
    table = read_state(path, inputs.plan.window_from, bool(inputs.contract.interactions.deduplicate_by))
    if len(table):
        for shard, part in deal(table, inputs.num_shards):
            yield shard, (LOG, pack(part))


@_errors_reported
def deal_log(file: SourceFile, inputs: Inputs) -> Iterator[Dealt | Times | Report]:
    """A file of the log → its accepted rows by shard, and how many there are at which time."""
    contract = inputs.contract.interactions
    for number, rows in enumerate(read_blocks(file, columns_of(contract))):
        if is_empty(rows):
            yield Report(empty_files=[file.name])
            continue
        cleaned = clean(rows, contract)
        yield cleaned.report
        write_rejected(f"{inputs.examples_uri}/rejected/file-{file.index:05d}-{number:04d}.csv.gz", cleaned.rejected)
        table = cleaned.table
        if not len(table):
            continue
        yield {file.span: np.unique(table["timestamp"].to_numpy(), return_counts=True)}
        table = table.append_column("span", pa.array(np.full(len(table), file.span, dtype=np.int32)))
        table = table.append_column("file", pa.array(np.full(len(table), file.index, dtype=np.int32)))
        for shard, part in deal(table, inputs.num_shards):
            yield shard, (LOG, pack(part))


def add_times(parts: Iterable[Times]) -> Times:
    """Several counts of the same spans → one."""
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for part in parts:
        for span, counted in part.items():
            found.setdefault(span, []).append(counted)
    total: Times = {}
    for span, pieces in found.items():
        times, place = np.unique(np.concatenate([times for times, _ in pieces]), return_inverse=True)
        counts = np.zeros(len(times), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([counts for _, counts in pieces]))
        total[span] = (times, counts)
    return total


def cut_of(times: Times, inputs: Inputs) -> int | None:
    """The eval cut, None when the newest span has no accepted row. Never before what production has learned."""
    span, config = inputs.plan.span, inputs.config
    return max(eval_cut(*times[span], config.eval_fraction), inputs.learned_until_seconds) if span in times else None


@_errors_reported
def write_shard(
    element: tuple[int, Iterable[tuple[str, bytes]]], inputs: Inputs, cut: int | None, catalog: list[pa.Table]
) -> Iterator[pa.Table | Report]:
    """All of a shard → its files of examples, users, state and rejected rows; yields its part of the popularity."""
    shard, packed = element
    parts: dict[str, list[pa.Table]] = {LOG: [], USERS: []}
    for kind, data in packed:
        parts[kind].append(unpack(data))
    if not parts[LOG] or not catalog or cut is None:
        return
    merged = merge(gather(parts[LOG]), inputs, catalog[0][ITEM_ID_KEY].combine_chunks())
    yield merged.report
    parts[LOG].clear()
    num_shards, max_history = inputs.num_shards, inputs.config.max_history
    write_rejected(f"{inputs.examples_uri}/rejected/shard-{shard:05d}.csv.gz", merged.refused)
    kept = merged.all_rows.take(recent(merged.all_rows, cut, max_history))
    write_state(state_path(inputs.state_uri, shard, num_shards), kept)
    log: Rows = merged.log
    if not len(log):
        return
    users = parts[USERS][0] if parts[USERS] else _no_users(inputs.contract)
    report = Report()
    context, with_user = inputs.contract.interactions.context, inputs.contract.interactions.learn_user_ids
    for name, (sequences, weights) in examples_of(log, merged.is_new, inputs, cut).items():
        path = split_path(inputs.examples_uri, name, shard, num_shards)
        batches = sequence_batches(
            log, sequences, users, context, with_targets=True, with_user=with_user, weights=weights
        )
        if len(sequences):
            write_records(path, batches)
        report.totals[f"{name}_examples"] = len(sequences)
        targets = sequences.rows[sequences.is_target]
        replayed = ~merged.is_new[targets] & (log.timestamp[targets] < inputs.learned_until_seconds)
        report.totals[f"{name}_replayed"] = int(replayed.sum())
        report.totals[f"{name}_targets"] = len(targets) - int(replayed.sum())
    yield report
    newest = newest_sequences(log.starts, max_history)
    path = split_path(inputs.users_uri, "all", shard, num_shards)
    write_records(path, sequence_batches(log, newest, users, (), with_targets=False, with_user=with_user))
    yield popularity_of(log, inputs.contract.interactions.positive_types, cut)


@_errors_reported
def write_catalog(catalog: pa.Table, inputs: Inputs, cut: int | None, popularity: list[pa.Table]) -> Iterator[Report]:
    """One example per admitted item, with its popularity: positive interactions before the cut, time-decayed."""
    ids, config = catalog[ITEM_ID_KEY].combine_chunks(), inputs.config
    seen = seen_of(ids, popularity)
    listed = catalog[LISTED].to_numpy() if LISTED in catalog.column_names else None
    rare = is_rare(seen, config.min_interactions)
    unseen = is_unseen(seen, listed, cut or 0, config.evict_after_days) & ~rare
    admitted = ~rare & ~unseen
    report = Report()
    report.totals.update(items_admitted=int(admitted.sum()), items_rare=int(rare.sum()), items_unseen=int(unseen.sum()))
    yield report
    if len(ids) and popularity and not admitted.any():
        raise DataError(
            f"no item is left for the model: of {len(ids)} {report.totals['items_rare']} have fewer than "
            f"{config.min_interactions} interactions, and {report.totals['items_unseen']} were not seen for "
            f"{config.evict_after_days} days; lower examples.min_interactions, or raise examples.evict_after_days"
        )
    columns = {ITEM_ID_KEY: one_each(ids.cast(pa.binary()))}
    others = [name for name in catalog.column_names if name not in (ITEM_ID_KEY, LISTED)]
    columns |= {name: catalog[name].combine_chunks() for name in others}
    columns[POPULARITY_KEY] = one_each(pa.array(seen.weight, type=pa.float32()))
    batches = pa.table(columns).filter(pa.array(admitted)).to_batches(max_chunksize=10_000)
    write_records(split_path(inputs.catalog_uri, "all", 0, 1), batches)


def _no_users(contract: DataContract) -> pa.Table | None:
    """An empty table of users, so that their features stand in the examples as missing."""
    if contract.users is None:
        return None
    kinds = {f.name: pa.float32() if f.type in ("number", "vector") else pa.binary() for f in contract.users.features}
    empty = {name: pa.array([], type=pa.list_(kind)) for name, kind in kinds.items()}
    return pa.table({"user_id": pa.array([], type=pa.string()), "time": pa.array([], type=pa.int64()), **empty})
