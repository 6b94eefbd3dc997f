"""One measurement in a process of its own: seconds without imports, CPU seconds, and the peak of memory."""

import logging
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Work = Callable[[], int]  # → rows read
Prepare = Callable[..., Work]  # (out, *args): imports, and returns the Work that writes below `out`


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One call of a Work. A MB is 2^20 bytes."""

    rows: int
    seconds: float
    cpu_seconds: float  # user and system, of all threads
    peak_mb: float
    imports_mb: float  # the peak before the work began
    out_mb: float


@dataclass(frozen=True)
class Runs:
    """The same thing, measured several times."""

    runs: list[Measured]

    def median(self, figure: str) -> float:
        """Of a field of Measured."""
        return statistics.median(getattr(run, figure) for run in self.runs)

    def rate(self, of: str = "seconds") -> float:
        """Rows per second, or per CPU second."""
        return self.runs[0].rows / self.median(of)

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(run) for run in self.runs]


def interleaved(
    contenders: Mapping[Name, tuple[Prepare, tuple[Any, ...]]], out: Path, repeats: int
) -> dict[Name, Runs]:
    """One of each, then again. A contender is its Prepare with the arguments; what it writes is removed."""
    found: dict[Name, Runs] = {name: Runs([]) for name in contenders}
    for _ in range(repeats):
        for name, (prepare, args) in contenders.items():
            found[name].runs.append(in_fresh_process(prepare, out, *args))
            shutil.rmtree(out)
    return found


def in_fresh_process(prepare: Prepare, out: Path, *args: Any) -> Measured:
    """Prepares and measures in a new interpreter.

    Keep the parent small: the peak of a child begins with what its parent holds.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(_measure, prepare, out, args).result()


def _measure(prepare: Prepare, out: Path, args: tuple[Any, ...]) -> Measured:
    logging.disable(logging.WARNING)
    work = prepare(out, *args)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = work()
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return Measured(
        rows=rows,
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mb=after.ru_maxrss / 1024,  # Linux counts in KiB
        imports_mb=before.ru_maxrss / 1024,
        out_mb=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20,
    )
