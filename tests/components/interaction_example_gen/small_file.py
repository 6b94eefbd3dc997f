"""One small file of a log, as a test writes it, read and cleaned as a run does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.interaction_example_gen.blocks import BLOCK_BYTES
from components.interaction_example_gen.clean import Cleaned, clean, columns_of
from components.interaction_example_gen.columns import as_text
from components.interaction_example_gen.contract import DataContract, ExamplesConfig, InteractionsContract
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.log import gather
from components.interaction_example_gen.merge import Merged, merge
from components.interaction_example_gen.plan import ReadPlan
from components.interaction_example_gen.read import FileRows, read_blocks
from components.interaction_example_gen.report import Report
from components.interaction_example_gen.steps import Inputs

COLUMNS = ("user_id", "item_id", "interaction_type", "timestamp")
HEADER = ",".join(COLUMNS) + "\n"
NOW = 1_700_000_000


def log_contract(**settings: Any) -> InteractionsContract:
    return InteractionsContract(**{"types": {"view": 1.0}, **settings})


def source(path: Path, data: bytes | str | pa.Table, *, index: int = 0, written_at_seconds: float = 0) -> SourceFile:
    """Writes the file; of span 1, and of an unknown time unless told."""
    if isinstance(data, pa.Table):
        pq.write_table(data, path, version="2.6")  # the first to keep nanoseconds
    else:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    size = path.stat().st_size
    return SourceFile(
        index=index, path=str(path), name=path.name, size_bytes=size, written_at_seconds=written_at_seconds, span=1
    )


def read_all(file: SourceFile, columns: Sequence[str] = COLUMNS, block_bytes: int = BLOCK_BYTES) -> FileRows:
    """The blocks of a file as one, every column as text."""
    blocks = list(read_blocks(file, columns, block_bytes))
    tables = [pa.table({name: as_text(block.table[name]) for name in columns}) for block in blocks]
    lines = np.concatenate([block.lines for block in blocks])
    return FileRows(file, pa.concat_tables(tables), lines, [line for block in blocks for line in block.malformed])


def clean_file(file: SourceFile, **settings: Any) -> Cleaned:
    """The blocks of a file, cleaned, as one."""
    contract = log_contract(**settings)
    parts = [clean(block, contract) for block in read_blocks(file, columns_of(contract))]
    return Cleaned(
        pa.concat_tables([part.table for part in parts]),
        sum((part.report for part in parts), Report()),
        pa.concat_tables([part.rejected for part in parts]),
    )


def merge_cleaned(cleaned: Sequence[Cleaned], item_ids: Sequence[str], **settings: Any) -> tuple[Merged, Report]:
    """Files of span 1, numbered in turn → its log, and the whole account."""
    contract = DataContract(interactions=log_contract(**settings))
    plan = ReadPlan(
        span=1, window_from=1, learn=(1,), history=(), from_state=(), fingerprints={1: ""}, learned={1: ""},
        entities="", reads_as="", num_shards=1,
    )  # fmt: skip
    names = [f"{number}.csv" for number in range(len(cleaned))]
    told = Inputs(
        contract=contract, config=ExamplesConfig(), plan=plan, learned_until_seconds=0, file_names=names,
        examples_uri="", catalog_uri="", users_uri="", state_uri="",
    )  # fmt: skip
    tables = []
    for number, part in enumerate(cleaned):
        table, size = part.table, len(part.table)
        table = table.append_column("span", pa.array(np.full(size, 1, dtype=np.int32)))
        tables.append(table.append_column("file", pa.array(np.full(size, number, dtype=np.int32))))
    merged = merge(gather(tables), told, pa.array(list(item_ids)))
    return merged, sum((part.report for part in cleaned), merged.report)


def log_of(merged: Merged) -> list[tuple[str, str, str, int]]:
    """(user, item, type, seconds) in the order of the log."""
    log = merged.log
    users, items, kinds = (values.to_pylist() for values in (log.users, log.items, log.kinds))
    return [
        (users[user], items[item], kinds[kind], int(seconds))
        for user, item, kind, seconds in zip(log.user, log.item, log.kind, log.timestamp, strict=True)
    ]
