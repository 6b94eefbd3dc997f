"""Point in time: the law of the examples, against an oracle that goes row by row, on random logs with many ties."""

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from components.interaction_example_gen.log import Rows, gather, ordered
from components.interaction_example_gen.sequences import (
    Sequences,
    decayed_counts,
    eval_cut,
    halved_by_age,
    newest_sequences,
    split,
)
from components.interaction_example_gen.shards import deal, pack, unpack

Row = tuple[str, int, str, str]  # user, timestamp, item, type: sorted, this is the order of a log
DECLARED = {"view", "buy"}

ROWS = st.sets(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3"]),
        st.integers(0, 9),  # few times and many rows: ties
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["view", "buy", "surprise"]),
    ),
    min_size=1,
    max_size=60,
)


def table_of(rows: list[Row], file: int = 0) -> pa.Table:
    users, times, items, kinds = zip(*rows, strict=True)
    size = len(rows)
    return pa.table(
        {
            "user_id": pa.array(users).dictionary_encode(),
            "item_id": pa.array(items).dictionary_encode(),
            "interaction_type": pa.array(kinds).dictionary_encode(),
            "timestamp": pa.array(times, type=pa.int64()),
            "line": np.arange(2, 2 + size),
            "span": np.zeros(size, np.int32),
            "file": np.full(size, file, np.int32),
        }
    )


def log_of(rows: list[Row]) -> Rows:
    return ordered(gather([table_of(rows)]))


def rows_of(log: Rows) -> list[Row]:
    values = zip(log.user, log.timestamp, log.item, log.kind, strict=True)
    users, items, kinds = (column.to_pylist() for column in (log.users, log.items, log.kinds))
    return [(users[user], int(time), items[item], kinds[kind]) for user, time, item, kind in values]


def examples_of(log: Rows, sequences: Sequences) -> list[list[tuple[Row, bool]]]:
    rows, bounds = rows_of(log), sequences.offsets
    pairs = [(rows[row], bool(target)) for row, target in zip(sequences.rows, sequences.is_target, strict=True)]
    return [pairs[begin:end] for begin, end in itertools.pairwise(bounds)]


def split_log(log: Rows, learned_until: int | None, cut: int, max_history: int) -> dict[str, Sequences]:
    declared = np.isin(np.array(log.kinds.to_pylist()), sorted(DECLARED))[log.kind]
    return split(
        log.starts,
        log.timestamp,
        is_learned=declared & (log.timestamp >= (learned_until or 0)),
        is_judged=declared,
        cut=cut,
        max_history=max_history,
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ROWS, st.integers(0, 10), st.one_of(st.none(), st.integers(0, 10)), st.integers(1, 5), st.randoms())
def test_every_interaction_is_learned_or_judged_once_and_nothing_sees_its_future(rows, cut, learned_until, h, shuffle):
    shuffled = sorted(rows)
    shuffle.shuffle(shuffled)
    log = log_of(shuffled)
    assert rows_of(log) == sorted(rows)
    splits = split_log(log, learned_until, cut, h)

    train = examples_of(log, splits["train"])
    targets = Counter(row for example in train for row, is_target in example if is_target)
    is_new = {row for row in rows if row[3] in DECLARED and (learned_until or 0) <= row[1] < cut}
    assert targets == Counter(is_new)
    for example in train:
        members = [row for row, _ in example]
        assert len({row[0] for row in members}) == 1
        assert any(is_target for _, is_target in example)
        assert members == sorted(members)
        assert len(members) <= 2 * h
        assert all(row[1] < cut for row in members)
        own = sorted(row for row in rows if row[0] == members[0][0])
        for place, (row, is_target) in enumerate(example):
            if is_target:
                visible = {other for other in members[:place] if other[1] < row[1]}
                before = own[max(0, own.index(row) - h) : own.index(row)]
                assert visible >= {other for other in before if other[1] < row[1]}

    judged = {}
    for example in examples_of(log, splits["eval"]):
        *history, (last, is_target) = example
        assert is_target
        assert not any(target for _, target in history)
        assert last not in judged
        judged[last] = [row for row, _ in history]
    assert judged.keys() == {row for row in rows if row[3] in DECLARED and row[1] >= cut}
    for row, history in judged.items():
        older = [other for other in sorted(rows) if other[0] == row[0] and other[1] < row[1]]
        assert history == older[-h:]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ROWS, st.integers(1, 5), st.integers(1, 5))
def test_shards_change_nothing(rows, num_shards, h):
    whole = log_of(sorted(rows))
    expected = {name: examples_of(whole, s) for name, s in split_log(whole, 2, 6, h).items()}
    expected["users"] = examples_of(whole, newest_sequences(whole.starts, h))
    found: dict[str, list[list[tuple[Row, bool]]]] = {name: [] for name in expected}
    shards = [(shard, unpack(pack(table))) for shard, table in deal(table_of(sorted(rows)), num_shards)]
    assert sum(len(table) for _, table in shards) == len(rows)
    for shard, table in shards:
        assert 0 <= shard < num_shards
        log = ordered(gather([table]))
        for name, sequences in split_log(log, 2, 6, h).items():
            found[name] += examples_of(log, sequences)
        found["users"] += examples_of(log, newest_sequences(log.starts, h))
    assert {name: sorted(examples) for name, examples in found.items()} == {
        name: sorted(examples) for name, examples in expected.items()
    }


def test_a_long_user_in_chunks():
    rows = [("u", time, "a", "view") for time in range(7)]
    log = log_of(rows)
    train = examples_of(log, split_log(log, 2, 7, 2)["train"])
    # learned until 2: targets are 2..6, two per chunk, each chunk after the two before it
    assert [[(row[1], target) for row, target in example] for example in train] == [
        [(0, False), (1, False), (2, True), (3, True)],
        [(2, False), (3, False), (4, True), (5, True)],
        [(4, False), (5, False), (6, True)],
    ]


def test_the_users_state_is_the_newest_part_eval_included():
    rows = [("u", time, "a", "view") for time in range(5)] + [("v", 0, "b", "buy")]
    log = log_of(rows)
    state = examples_of(log, newest_sequences(log.starts, 2))
    assert [[row[:2] for row, _ in example] for example in state] == [[("u", 3), ("u", 4)], [("v", 0)]]


def test_the_eval_cut_keeps_ties_together():
    # 10 rows; (1 - 0.3) · 10 = 7 → the eighth in order of time, 5; its two equals go with it: 4 of 10 rows are eval
    times, counts = np.unique([5, 1, 1, 2, 2, 3, 5, 5, 4, 6], return_counts=True)
    assert eval_cut(times, counts, 0.3) == 5
    assert eval_cut(np.array([7]), np.array([1]), 0.1) == 7


def test_popularity_halves_with_the_half_life():
    # item 0: now and one half-life ago = 1 + 0.5; item 1: never; item 2: two half-lives ago = 0.25
    counts = decayed_counts(np.array([0, 0, 2]), 3, np.array([100, 90, 80]), 100, 10)
    np.testing.assert_allclose(counts, [1.5, 0, 0.25])
    np.testing.assert_allclose(halved_by_age(np.array([80, 100, 130]), 100, 10), [0.25, 1, 1])  # no more than 1
