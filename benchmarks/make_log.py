"""An interaction log of any size, for measuring: power-law items, log-normal users, sessions. One command:

    python benchmarks/make_log.py LOG --rows-per-span 1000000 --spans 4 --users 80000 --items 50000

writes LOG/items.parquet and LOG/spans/<n>/part-<k>.parquet, a span a day. The same arguments give the same rows, and
a span's rows do not depend on how many spans there are. Memory is that of one file of at most 1,000,000 rows.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST_SECOND = 1_704_067_200  # 2024-01-01 00:00 UTC, when span 1 begins
DAY_SECONDS = 24 * 3600
ZIPF_EXPONENT = 1.0  # of the items: the r-th most popular has 1 / r of the first one's interactions
ACTIVITY_SIGMA = 1.0  # of the users' log-normal: the busiest 10% do 39% of everything
EVENTS_PER_SESSION = 5  # mean, geometric
SECONDS_BETWEEN_EVENTS = 40  # mean within a session, exponential
TYPES = ("view", "purchase")
PURCHASES = 0.05  # of all interactions
CATEGORIES = 50


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a log is made of. Spans count from 1."""

    rows_per_span: int
    spans: int
    users: int
    items: int
    seed: int = 0
    rows_per_file: int = 1_000_000

    @property
    def files_per_span(self) -> int:
        return -(-self.rows_per_span // self.rows_per_file)

    @cached_property
    def user_ids(self) -> pa.Array:
        """[users] string."""
        return _ids("u", self.users)

    @cached_property
    def item_ids(self) -> pa.Array:
        """[items] string, in no order of popularity."""
        return _ids("i", self.items)

    @cached_property
    def user_cdf(self) -> np.ndarray:
        """[users] float64: how much of all activity the users up to this one have."""
        return _cdf(np.random.default_rng([self.seed, 1]).lognormal(sigma=ACTIVITY_SIGMA, size=self.users))

    @cached_property
    def item_cdf(self) -> np.ndarray:
        """[items] float64: how much of all interactions the items up to this one have."""
        rank = np.random.default_rng([self.seed, 2]).permutation(self.items) + 1
        return _cdf(rank**-ZIPF_EXPONENT)


def write_log(folder: Path, log: Log) -> None:
    """Writes the catalog and every span below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    category = np.random.default_rng([log.seed, 3]).integers(CATEGORIES, size=log.items)
    items = {"item_id": log.item_ids, "category": pa.array(np.char.mod("c%d", category))}
    pq.write_table(pa.table(items), folder / "items.parquet")
    for span in range(1, log.spans + 1):
        (folder / f"spans/{span}").mkdir(parents=True, exist_ok=True)
        for part in range(log.files_per_span):
            pq.write_table(interactions(log, span, part), folder / f"spans/{span}/part-{part:03d}.parquet")


def interactions(log: Log, span: int, part: int) -> pa.Table:
    """The rows of one file, by time: `user_id`, `item_id`, `interaction_type` string, `timestamp` int64 seconds.

    The files of a span are equal parts of its day.
    """
    parts = log.files_per_span
    first_row, end_row = (log.rows_per_span * k // parts for k in (part, part + 1))
    begin, end = (FIRST_SECOND + (span - 1) * DAY_SECONDS + DAY_SECONDS * k // parts for k in (part, part + 1))
    random = np.random.default_rng([log.seed, 4, span, part])
    user, timestamp = _sessions(random, log, end_row - first_row, begin, end)
    item = _draw(random, log.item_cdf, len(user))
    kind = (random.random(len(user)) < PURCHASES).astype(np.int8)
    order = np.argsort(timestamp, kind="stable")
    columns = {
        "user_id": log.user_ids.take(pa.array(user[order])),
        "item_id": log.item_ids.take(pa.array(item[order])),
        "interaction_type": pa.array(TYPES).take(pa.array(kind[order])),
        "timestamp": pa.array(timestamp[order]),
    }
    return pa.table(columns)


def _sessions(random: np.random.Generator, log: Log, rows: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """User [rows] and time [rows], begin ≤ time < end: one session after another, each of one user."""
    lengths = random.geometric(1 / EVENTS_PER_SESSION, size=rows)  # more than enough
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), rows) + 1]
    first = np.cumsum(lengths) - lengths
    session = np.repeat(np.arange(len(lengths)), lengths)[:rows]
    clock = np.cumsum(random.exponential(SECONDS_BETWEEN_EVENTS, size=rows))
    since_start = clock - clock[first][session]
    start = begin + random.random(len(lengths)) * (end - begin)
    timestamp = np.floor(start[session] + since_start).astype(np.int64)
    return _draw(random, log.user_cdf, len(lengths))[session], begin + (timestamp - begin) % (end - begin)


def _draw(random: np.random.Generator, cdf: np.ndarray, size: int) -> np.ndarray:
    return np.searchsorted(cdf, random.random(size), side="right")


def _cdf(weights: np.ndarray) -> np.ndarray:
    sums = np.cumsum(weights)
    return sums / sums[-1]


def _ids(letter: str, count: int) -> pa.Array:
    return pa.array(np.char.mod(f"{letter}%08d", np.arange(count)))


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rows-per-span", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--spans", default=1, show_default=True, type=click.IntRange(1))
@click.option("--users", default=20_000, show_default=True, type=click.IntRange(1))
@click.option("--items", default=50_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, rows_per_span: int, spans: int, users: int, items: int, seed: int) -> None:
    """Writes the log."""
    write_log(folder, Log(rows_per_span=rows_per_span, spans=spans, users=users, items=items, seed=seed))


if __name__ == "__main__":
    main()
