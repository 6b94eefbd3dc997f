"""The generated log has the shape that the measurements rest on, and is the same every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.make_log import FIRST_SECOND, Log, interactions, write_log

LOG = Log(rows_per_span=20_000, spans=3, users=1_000, items=500)
DAY_SECONDS = 86_400


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def codes(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().dictionary_encode().indices.to_numpy()


def test_the_same_arguments_write_the_same_files_and_another_seed_other_rows(tmp_path: Path) -> None:
    write_log(tmp_path / "once", LOG)
    write_log(tmp_path / "again", LOG)
    once = files_of(tmp_path / "once")
    assert list(once) == ["items.parquet", *(f"spans/{span}/part-000.parquet" for span in (1, 2, 3))]
    assert once == files_of(tmp_path / "again")
    for other in (interactions(replace(LOG, seed=1), 1, 0), interactions(LOG, 2, 0)):
        for name, column in interactions(LOG, 1, 0).to_pydict().items():
            assert other[name].to_pylist() != column, name


def test_a_span_does_not_depend_on_how_many_there_are() -> None:
    assert interactions(replace(LOG, spans=30), 2, 0).equals(interactions(LOG, 2, 0))


@pytest.mark.parametrize(("rows", "files"), [(1, 1), (1_000, 1), (2_500, 3), (3_000, 3)])
def test_files_are_small_and_hold_the_rows_asked_for_in_order_of_time(rows: int, files: int, tmp_path: Path) -> None:
    write_log(tmp_path, Log(rows_per_span=rows, spans=2, users=50, items=20, rows_per_file=1_000))
    for span in (1, 2):
        parts = [pq.read_table(path) for path in sorted(tmp_path.glob(f"spans/{span}/*.parquet"))]
        assert len(parts) == files
        assert sum(map(len, parts)) == rows
        assert max(map(len, parts)) <= 1_000
        times = np.concatenate([part["timestamp"].to_numpy() for part in parts])
        day = FIRST_SECOND + (span - 1) * DAY_SECONDS
        assert np.all(np.diff(times) >= 0)
        assert day <= times[0] <= times[-1] < day + DAY_SECONDS


def test_items_follow_a_power_law_and_users_a_log_normal() -> None:
    table = interactions(replace(LOG, rows_per_span=200_000), 1, 0)
    by_item = np.sort(np.bincount(codes(table["item_id"])))[::-1] / len(table)
    # Zipf with exponent 1: the first item has 1 / (1 + 1/2 + … + 1/500) = 1 / 6.793 of all, the tenth a tenth of that
    assert by_item[0] == pytest.approx(0.147, rel=0.05)
    assert by_item[9] == pytest.approx(0.0147, rel=0.15)
    by_user = np.sort(np.bincount(codes(table["user_id"])))[::-1] / len(table)
    # log-normal, sigma 1: the busiest tenth has Phi(1 − 1.2816) = 0.389 of all; of 1,000 users, give or take
    assert by_user[:100].sum() == pytest.approx(0.389, abs=0.05)


def test_users_come_in_sessions() -> None:
    table = interactions(LOG, 1, 0)
    user, time = codes(table["user_id"]), table["timestamp"].to_numpy()
    by_user = np.lexsort((time, user))
    gaps = np.diff(time[by_user])[np.diff(user[by_user]) == 0]
    # 4 of 5 events of a mean session of 5 have a next one, 1 − e^(−120/40) = 95% of these within 2 minutes: 0.76;
    # by chance alone a user of 20 events a day has 20 · 120 / 86,400 = 3% of them so near
    assert 0.7 < np.mean(gaps < 120) < 0.85
