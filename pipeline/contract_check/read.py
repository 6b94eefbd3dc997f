"""One span of the log, read and cleaned as a run would do it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.errors import DataError
from components.interaction_example_gen.clean import clean, columns_of
from components.interaction_example_gen.files import SourceFile
from components.interaction_example_gen.log import Rows, gather, ordered, repeats
from components.interaction_example_gen.read import is_empty, read_blocks
from components.interaction_example_gen.report import Report
from pipeline.config import PipelineConfig
from pipeline.contract_check.line import SAMPLES, Line


@dataclass(frozen=True)
class Log:
    """A span as read: the accepted rows in order (None: there are none), where repeats are, and the account."""

    rows: Rows | None
    again: np.ndarray
    report: Report
    span: int

    def figure(self, name: str) -> int:
        return int(self.report.figures[self.span][name]) if self.span in self.report.figures else 0

    @property
    def read(self) -> int:
        return self.figure("rows_read")


def read_log(config: PipelineConfig, files: list[SourceFile], span: int) -> tuple[Log, list[Line]]:
    """The span as far as it can be read, and what there is to say about its files."""
    contract = config.contract.interactions
    report, tables = Report(), []
    unreadable, unclean, empty = [], [], []
    for file in files:
        try:
            for block in read_blocks(file, columns_of(contract)):
                if is_empty(block):
                    empty.append(f"{file.name}: no row")
                    continue
                try:
                    cleaned = clean(block, contract)
                except DataError as error:
                    unclean.append(str(error))
                    continue
                report += cleaned.report
                size = len(cleaned.table)
                table = cleaned.table.append_column("span", pa.array(np.full(size, span, dtype=np.int32)))
                tables.append(table.append_column("file", pa.array(np.full(size, file.index, dtype=np.int32))))
        except DataError as error:
            unreadable.append(str(error))
    rows = ordered(gather(tables)) if sum(map(len, tables)) else None
    log = Log(rows, repeats(rows) if rows else np.zeros(0, dtype=bool), report, span)
    return log, _file_lines(config, log, len(files), unreadable, unclean, empty)


def _file_lines(
    config: PipelineConfig, log: Log, files: int, unreadable: list[str], unclean: list[str], empty: list[str]
) -> list[Line]:
    lines = []
    if unreadable:
        samples = tuple(unreadable[:SAMPLES])
        lines.append(Line("FAIL", "format", f"{len(unreadable):,} of the files ({files:,}) cannot be read", samples))
    else:
        columns = ", ".join(columns_of(config.contract.interactions))
        lines.append(Line("PASS", "format", f"{log.read:,} rows read; they have the columns {columns}"))
    if unclean:
        lines.append(Line("FAIL", "values", "the contract does not fit what was read", tuple(unclean[:SAMPLES])))
    if empty:
        words = f"{len(empty):,} of the files ({files:,}) are without rows"
        lines.append(Line("WARN" if log.read else "FAIL", "rows", words, tuple(empty[:SAMPLES])))
    return lines
