"""A shard's log: its order, what repeats, robots, and the bytes in which rows travel."""

import dataclasses

import numpy as np
import pyarrow as pa

from components.interaction_example_gen.contract import DataContract, ExamplesConfig, InteractionsContract
from components.interaction_example_gen.log import gather, ordered, recent, repeats, robots
from components.interaction_example_gen.merge import merge
from components.interaction_example_gen.shards import deal, pack, unpack
from tests.components.interaction_example_gen.test_incremental import Told, plan_of, rows_of

Row = tuple[str, int, str]  # user, timestamp, item


def table_of(rows: list[Row], file: int = 0, span: int = 0, key: list[int] | None = None) -> pa.Table:
    users, times, items = zip(*rows, strict=True)
    columns = {
        "user_id": pa.array(users).dictionary_encode(),
        "item_id": pa.array(items).dictionary_encode(),
        "interaction_type": pa.array(["view"] * len(rows)).dictionary_encode(),
        "timestamp": pa.array(times, pa.int64()),
        "line": np.arange(2, 2 + len(rows)),
        "span": np.full(len(rows), span, np.int32),
        "file": np.full(len(rows), file, np.int32),
    }
    return pa.table(columns | ({"key": np.array(key)} if key else {}))


def told(**interactions: object) -> Told:
    contract = DataContract(interactions=InteractionsContract(types={"view": 1.0}, **interactions))
    return Told(contract, ExamplesConfig(max_history=3), plan_of(0, 1, [0], [], []), 0, ["one.csv", "two.csv"])


def test_many_users_over_a_long_time_are_in_order() -> None:
    """20,000 users over four days: a place for each pair of them is past what 32 bits hold."""
    rng = np.random.default_rng(1)
    times = rng.integers(0, 345_600, 20_000)
    rows = [(f"u{user:05d}", int(time), "a") for user, time in zip(rng.permutation(20_000), times, strict=True)]
    log = ordered(gather([table_of(rows + [(user, time + 1, item) for user, time, item in rows])]))
    assert len(log.starts) == 20_001
    assert [row[:2] for row in rows_of(log)] == sorted((user, time + n) for user, time, _ in rows for n in (0, 1))


def test_the_first_of_equal_rows_stays_and_the_others_are_kept_with_their_place() -> None:
    row = ("u", 1, "a")
    tables = [table_of([row, ("u", 1, "b")], file=1), table_of([row], file=0)]
    merged = merge(gather(tables), told(), pa.array(["a", "b"]))
    assert (len(merged.log), merged.log.file.tolist()) == (2, [0, 1])
    assert merged.report.duplicated.counts == {"duplicate of an earlier row": 1}
    assert merged.refused.select(["reason", "file", "line"]).to_pylist() == [
        {"reason": "duplicate of an earlier row", "file": "two.csv", "line": 2}
    ]


def test_a_repeated_key_is_a_duplicate_of_its_user_alone() -> None:
    rows = [("u", 1, "a"), ("u", 2, "b"), ("v", 2, "a"), ("u", 3, "a")]
    log = ordered(gather([table_of(rows, key=[7, 7, 7, 8])]))
    assert [row[:2] for row in rows_of(log.take(repeats(log)))] == [("u", 2)]  # the first by time stays
    other = ordered(gather([table_of(rows[:1], key=[7]), table_of(rows[1:2], file=1, span=1, key=[7])]))
    assert not repeats(other).any()  # another span


def test_a_robot_is_left_out_for_its_span() -> None:
    hour = 3600
    busy = [("robot", hour + n, "a") for n in range(5)] + [("robot", 9 * hour, "b")]
    calm = [("u", hour - 2 + n, "a") for n in range(5)]  # two before the hour is full, three after
    log = ordered(gather([table_of(busy + calm), table_of([("robot", 10 * hour, "a")], file=1, span=1)]))
    found = rows_of(log.take(robots(log, 4)))
    assert {row[0] for row in found} == {"robot"}
    assert [row[4] for row in found] == [0] * 6  # the next span is judged by itself
    merged = merge(gather([table_of(busy + calm)]), told(max_events_per_hour=4), pa.array(["a", "b"]))
    assert merged.report.left_out.counts == {"of a robot: more than 4 events in an hour": 6}
    assert len(merged.log) == 5


def test_what_is_kept_of_the_past() -> None:
    rows = [("u", time, "a") for time in range(10)] + [("v", 0, "a")]
    log = ordered(gather([table_of(rows)]))
    # of u 8 and 9 are not learned yet: they and the three before them; of v all there is
    assert [row[:2] for row in rows_of(log.take(recent(log, 8, 3)))] == [*(("u", t) for t in (5, 6, 7, 8, 9)), ("v", 0)]
    late = gather([table_of([("u", 2, "a"), ("u", 5, "a")], span=1), table_of([("u", 1, "b")], file=1, span=2)])
    kept = ordered(late)
    assert [row[1] for row in rows_of(kept.take(recent(kept, 100, 2)))] == [1, 5]  # what came late counts as new


def test_rows_travel_as_they_are() -> None:
    rows = [(f"u{n % 7}", 10**15 * (-1) ** n + n, "ab"[n % 2]) for n in range(50)]
    table = table_of(rows)
    parts = dict(deal(table, 3))
    assert unpack(pack(table)).equals(table)
    assert sum(len(part) for part in parts.values()) == 50
    users = [set(part["user_id"].to_pylist()) for part in parts.values()]
    assert sum(map(len, users)) == 7  # each in one shard
    for part in parts.values():
        assert set(part["user_id"].chunk(0).dictionary.to_pylist()) == set(part["user_id"].to_pylist())
    again = dataclasses.replace(ordered(gather([unpack(pack(part)) for part in parts.values()])), line=np.zeros(50))
    assert rows_of(again) == rows_of(ordered(gather([table])))
