"""The laws of the incremental build: a run that reads the state sees what one that reads the window again sees, and
over all runs every interaction is learned once. On random logs with late rows, repeats and models that are not pushed.
"""

import dataclasses
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from components.errors import NothingNew
from components.interaction_example_gen.contract import DataContract, ExamplesConfig, InteractionsContract
from components.interaction_example_gen.learn import examples_of
from components.interaction_example_gen.log import gather, recent
from components.interaction_example_gen.merge import Merged, merge
from components.interaction_example_gen.plan import Learned, ReadPlan, make_plan
from components.interaction_example_gen.sequences import eval_cut
from components.interaction_example_gen.state import read_state, write_state
from tests.components.interaction_example_gen.small_log import (
    CONFIG,
    Record,
    as_csv,
    contract,
    files_of,
    learned_by,
    read,
    run,
    write_data,
)

Row = tuple[int, str, int, str, str]  # span, user, timestamp, item, type

NO_SHRINKING = [Phase.explicit, Phase.generate]  # minutes, for an example that is not much smaller

# A span has ten seconds of its own; some rows come one or two spans late.
USERS, TYPES = st.sampled_from("uvw"), st.sampled_from("xy")
ROWS = st.sets(
    st.tuples(st.integers(0, 4), USERS, st.integers(0, 9), st.sampled_from("abc"), TYPES), min_size=10, max_size=80
).map(lambda rows: [(span, user, 10 * span + time, item, kind) for span, user, time, item, kind in sorted(rows)])
LATE = st.lists(st.tuples(st.integers(1, 4), USERS, st.integers(0, 39), st.just("a"), st.just("x")), max_size=6)
AGAIN = st.lists(st.tuples(st.integers(0, 79), st.integers(1, 2)), max_size=12)  # which row, how many spans later
CONTRACT = DataContract(interactions=InteractionsContract(types={"x": 1.0, "y": 2.0}))
ITEMS = pa.array(["a", "b"])  # c is not in the catalog

# u's interaction at 3 comes again in span 2, past what is not learned yet: no place becomes free for an older one
SENT_AGAIN = [
    *((0, "u", time, item, kind) for time, item, kind in [(3, "c", "x"), (0, "c", "x"), (0, "b", "x"), (1, "a", "y")]),
    *((1, "u", 10, "c", "x"), (1, "u", 11, "b", "x"), (3, "w", 39, "c", "x"), (4, "w", 49, "c", "y")),
]


@dataclass(frozen=True)
class Told:
    contract: DataContract
    config: ExamplesConfig
    plan: ReadPlan
    learned_until_seconds: int
    file_names: list[str]


def table_of(rows: list[Row], span: int) -> pa.Table:
    own = [row for row in rows if row[0] == span]
    _, users, times, items, kinds = zip(*own, strict=True)
    return pa.table(
        {
            **{
                name: pa.array(values).dictionary_encode()
                for name, values in (("user_id", users), ("item_id", items), ("interaction_type", kinds))
            },
            "timestamp": pa.array(times, pa.int64()),
            "line": np.arange(len(own)),
            "span": np.full(len(own), span, np.int32),
            "file": np.full(len(own), span, np.int32),
        }
    )


def plan_of(span: int, window: int, learn: list[int], history: list[int], from_state: list[int]) -> ReadPlan:
    return ReadPlan(
        span=span,
        window_from=max(0, span - window + 1),
        learn=tuple(learn),
        history=tuple(history),
        from_state=tuple(from_state),
        fingerprints={},
        learned={},
        entities="",
        reads_as="",
        num_shards=1,
    )


@dataclass(frozen=True)
class Ran:
    merged: Merged
    examples: dict[str, list[list[tuple[Any, ...]]]]
    state: list[tuple[Any, ...]]
    cut: int
    replayed: Counter[Any]  # targets of `train` that were learned before, and the others
    learned: Counter[Any]


def rows_of(log: Any) -> list[tuple[Any, ...]]:
    users, items, kinds = (column.to_pylist() for column in (log.users, log.items, log.kinds))
    values = zip(log.user, log.timestamp, log.item, log.kind, log.span, strict=True)
    return [(users[u], int(t), items[i], kinds[k], int(s)) for u, t, i, k, s in values]


def ran(tables: list[pa.Table], told: Told, newest: pa.Table, state_path: Path) -> Ran:
    times = np.unique(newest["timestamp"].to_numpy(), return_counts=True)
    cut = max(eval_cut(*times, 0.3), told.learned_until_seconds)
    merged = merge(gather(tables), told, ITEMS)
    examples, replayed, learned = {}, Counter(), Counter()
    for name, (sequences, _) in examples_of(merged.log, merged.is_new, told, cut).items():
        rows = [row[:4] for row in rows_of(merged.log)]
        pairs = [(rows[row], bool(target)) for row, target in zip(sequences.rows, sequences.is_target, strict=True)]
        for row in sequences.rows[sequences.is_target] if name == "train" else ():
            is_old = not merged.is_new[row] and merged.log.timestamp[row] < told.learned_until_seconds
            (replayed if is_old else learned)[rows[row]] += 1
        examples[name] = [pairs[a:b] for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]
    kept = merged.all_rows.take(recent(merged.all_rows, cut, told.config.max_history))
    write_state(str(state_path), kept)
    return Ran(merged, examples, rows_of(kept), cut, replayed, learned)


@settings(max_examples=150, deadline=None, derandomize=True, phases=NO_SHRINKING)
@example(SENT_AGAIN, [], [(0, 2)], 2, 5, [True] * 5, 0.0)
@example(SENT_AGAIN, [], [(0, 2)], 2, 5, [True] * 5, 1.0)
@given(
    ROWS,
    LATE,
    AGAIN,
    st.integers(1, 4),
    st.integers(2, 5),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_state_and_the_window_give_the_same(rows, late, again, max_history, window, pushes, replay):
    sent_again = {(min(4, rows[place % len(rows)][0] + later), *rows[place % len(rows)][1:]) for place, later in again}
    rows = sorted({*rows, *sent_again, *(row for row in late if row[2] < 10 * row[0] + 10)})
    spans = sorted({row[0] for row in rows})
    config = ExamplesConfig(max_history=max_history, window_spans=window, replay_fraction=replay)
    without_replay = dataclasses.replace(config, replay_fraction=0.0)
    learned: list[int] = []
    learned_until, state = 0, None
    targets: Counter[Any] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for span, is_pushed in zip(spans, pushes, strict=False):
            in_window = [s for s in spans if span - window < s <= span]
            learn, past = [s for s in in_window if s not in learned], [s for s in in_window if s in learned]
            tables = {s: table_of(rows, s) for s in in_window}
            told = Told(CONTRACT, config, plan_of(span, window, learn, past, []), learned_until, list("01234"))
            rebuilt = ran(list(tables.values()), told, tables[span], folder / "rebuilt.parquet")
            if replay:
                plainly = dataclasses.replace(told, config=without_replay)
                plain = ran(list(tables.values()), plainly, tables[span], folder / "plain.parquet")
                assert rebuilt.learned == plain.learned  # what is new is learned as it would be without a replay
                assert not plain.replayed
            seen = zip(rows_of(rebuilt.merged.log), rebuilt.merged.is_new, strict=True)
            old = Counter(row[:4] for row, is_new in seen if not is_new and row[1] < learned_until)
            assert rebuilt.replayed <= old
            assert replay < 1 or rebuilt.replayed == old
            assert not all(pushes) or rebuilt.replayed.keys() <= targets.keys()  # nothing is replayed unlearned
            if state is not None:
                plan = plan_of(span, window, learn, [], past)
                (folder / "live.parquet").write_bytes(state)
                held = read_state(str(folder / "live.parquet"), plan.window_from, False)
                new = [held, *(tables[s] for s in learn)]
                incremental = ran(new, dataclasses.replace(told, plan=plan), tables[span], folder / "new.parquet")
                assert incremental.examples == rebuilt.examples
                assert incremental.state == rebuilt.state
                assert (folder / "new.parquet").read_bytes() == (folder / "rebuilt.parquet").read_bytes()
            if is_pushed:
                learned += learn
                learned_until, state = rebuilt.cut, (folder / "rebuilt.parquet").read_bytes()
                targets.update(rebuilt.learned)
    if all(pushes) and spans[-1] - spans[0] < window:  # nothing leaves the window before it is learned
        # of known items, each once; the eval part of the last run waits for the next
        known = {row[1:] for row in rows if row[3] != "c" and row[2] < learned_until}
        assert set(targets) == known
        assert late or again or targets == Counter(known)


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_the_next_span_reads_the_state_and_itself_alone_and_gives_the_same_files(tmp_path: Path, replay: float) -> None:
    root = write_data(tmp_path / "data", spans={span: records(span) for span in range(5)})
    config = dataclasses.replace(CONFIG, window_spans=3, max_history=5, replay_fraction=replay)
    state, learned, until = None, None, 0
    for span in range(5):
        out = tmp_path / f"out{span}"
        summary = run(root, out, config, span=span, state=state, learned=learned, learned_until=until)
        if learned is not None:
            assert (summary["spans_read"], summary["spans_learned"]) == ([span], [span])
            assert summary["spans_from_state"] == list(range(max(0, span - 2), span))
            again = tmp_path / f"again{span}"
            unknown = dataclasses.replace(learned, reads_as="a contract of before")
            rebuilt = run(root, again, config, span=span, learned=unknown, learned_until=until)
            assert (rebuilt["spans_read"], rebuilt["spans_from_state"]) == (list(range(max(0, span - 2), span + 1)), [])
            assert files_of(out) == files_of(again)
            assert len(files_of(out)) == 9  # of two shards: train, eval, users, state; and the catalog
            assert (summary["train_replayed"] > 0) == (replay > 0)
        state, learned, until = out / "state", learned_by(summary), summary["eval_from_seconds"]


def records(span: int) -> list[Record]:
    rng = np.random.default_rng(span)
    times = np.sort(100 * span + rng.integers(0, 100, 60)).tolist()
    return [
        (f"u{rng.integers(7)}", f"e{1 + rng.integers(5)}", ("view", "buy")[rng.integers(2)], time, "tv", float(time))
        for time in times
    ]


def test_a_rejected_model_is_followed_by_a_run_that_learns_both_spans(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", spans={span: records(span) for span in range(3)})
    first = run(root, tmp_path / "0", span=0)
    until = first["eval_from_seconds"]
    plan = make_plan(str(root), contract(), CONFIG, 2, learned=learned_by(first))
    assert (plan.learn, plan.history, plan.from_state) == ((1, 2), (), (0,))
    both = run(root, tmp_path / "2", plan=plan, state=tmp_path / "0/state", learned_until=until)
    # every row since the first cut and before the second is a target: spans 1, 2, and the eval part of span 0
    rows = {row[:4] for span in range(3) for row in records(span)}
    expected = {row for row in rows if until <= row[3] < both["eval_from_seconds"]}
    assert both["train_targets"] == len(expected)


def test_a_quarantined_span_is_left_out_until_it_is_corrected(tmp_path: Path) -> None:
    root = write_data(tmp_path, spans={span: records(span) for span in range(3)})
    seen = make_plan(str(root), contract(), CONFIG, 2).fingerprints[1]
    assert make_plan(str(root), contract(), CONFIG, 2, quarantined={1: seen}).learn == (0, 2)
    assert make_plan(str(root), contract(), CONFIG, 1, quarantined={1: seen}).learn == (0, 1)  # asked for: judged anew
    assert make_plan(str(root), contract(), CONFIG, 2, quarantined={1: "of other files"}).learn == (0, 1, 2)


def test_a_corrected_and_a_late_span_are_picked_up(tmp_path: Path) -> None:
    data = contract(files="spans/{span}/v{version}/*")
    for span, version in ((0, 1), (2, 1), (3, 1)):
        as_csv(made(tmp_path / f"spans/{span}/v{version}/log"), records(span))
    write_data(tmp_path, spans={})
    plan = make_plan(str(tmp_path), data, CONFIG, 2)
    learned = Learned(spans=plan.fingerprints, in_state=(0, 2), reads_as=plan.reads_as)
    assert plan.learn == (0, 2)

    def then() -> tuple[tuple[int, ...], ...]:
        plan = make_plan(str(tmp_path), data, CONFIG, 3, learned=learned)
        return plan.learn, plan.history, plan.from_state

    assert then() == ((3,), (), (0, 2))
    as_csv(made(tmp_path / "spans/1/v1/log"), records(1))  # late
    assert then() == ((1, 3), (), (0, 2))
    known = dataclasses.replace(learned, spans={**learned.spans, **plan_of_newest(tmp_path, data)}, in_state=(0, 2, 3))
    late = make_plan(str(tmp_path), data, CONFIG, 3, learned=known)
    assert (late.learn, late.history, late.from_state) == ((1,), (0, 2, 3), ())  # the eval part wants all of span 3
    as_csv(made(tmp_path / "spans/2/v2/log"), records(2)[:-1])  # corrected: the state has what was wrong
    assert then() == ((1, 2, 3), (0,), ())
    summary = run(tmp_path, tmp_path / "out", data=data, span=3, learned=learned, learned_until=250)
    assert summary["figures"]["2"]["rows_read"] == 59


def plan_of_newest(root: Path, data: DataContract) -> dict[int, str]:
    return {3: make_plan(str(root), data, CONFIG, 3).fingerprints[3]}


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def test_nothing_new_is_told_before_anything_runs(tmp_path: Path) -> None:
    root = write_data(tmp_path)
    plan = make_plan(str(root), contract(), CONFIG, 2)
    learned = Learned(spans=plan.fingerprints, in_state=(1, 2), reads_as=plan.reads_as)
    with pytest.raises(NothingNew, match=r"production has learned every span of the window from 1 to 2; .*targets: w"):
        make_plan(str(root), contract(), CONFIG, 2, learned=learned)
    again = dataclasses.replace(CONFIG, targets="window")
    assert make_plan(str(root), contract(), again, 2, learned=learned).learn == (1, 2)


def test_a_larger_window_reads_what_the_state_does_not_hold(tmp_path: Path) -> None:
    root = write_data(tmp_path, spans={span: records(span) for span in range(4)})
    prints = make_plan(str(root), contract(), CONFIG, 3).fingerprints
    plan = make_plan(str(root), contract(), CONFIG, 3)
    learned = Learned(spans={s: prints[s] for s in (0, 1, 2)}, in_state=(1, 2), reads_as=plan.reads_as)
    narrow = dataclasses.replace(CONFIG, window_spans=3)
    assert make_plan(str(root), contract(), narrow, 3, learned=learned).from_state == (1, 2)
    assert make_plan(str(root), contract(), CONFIG, 3, learned=learned).history == (0, 1, 2)


def test_what_comes_late_alone_is_learned_and_judged_by_what_was_held_out_before(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", spans={0: records(0), 1: [("u1", "e1", "view", 5, "tv", None)]})
    first = run(root, tmp_path / "0", span=0)
    until, learned = first["eval_from_seconds"], learned_by(first)
    then = run(root, tmp_path / "1", span=1, state=tmp_path / "0/state", learned=learned, learned_until=until)
    assert (then["train_targets"], then["eval_from_seconds"], then["eval_examples"]) == (
        1,
        until,
        first["eval_examples"],
    )
    assert then["figures"]["1"]["rows_late"] == 1


def test_a_replay_draws_its_share_anew_each_run_and_the_same_one_again(tmp_path: Path) -> None:
    """Of 600 interactions that were learned before, 10 of each of 60 users."""
    rows = [(0, f"user{n % 60}", n // 60, "ab"[n % 2], "x") for n in range(600)] + [(1, "user1", 20, "a", "x")]
    another = (0, "another user", 3, "a", "x")
    config = ExamplesConfig(max_history=10, window_spans=4, replay_fraction=0.25)

    def drawn(span: int, rows: list[Row] = rows) -> set[Any]:
        tables = [table_of(rows, 0), table_of(rows, 1)]
        plan = dataclasses.replace(plan_of(1, 4, [1], [0], []), span=span)
        told = Told(CONTRACT, config, plan, 15, list("01"))
        return set(ran(tables, told, tables[1], tmp_path / "state.parquet").replayed)

    first, second = drawn(1), drawn(2)
    assert drawn(1) == first == drawn(1, [another, *rows]) - {another[1:]}  # whoever else is in the shard
    # binomial: 600 · 0.25 = 150 ± 10.6; of two draws that know nothing of each other 600 / 16 = 37.5 ± 5.9 are in both
    assert abs(len(first) - 150) < 4 * 10.6
    assert abs(len(second) - 150) < 4 * 10.6
    assert abs(len(first & second) - 37.5) < 4 * 5.9
    assert len({user for user, *_ in first}) > 50  # no user is drawn as a whole


def test_a_replayed_target_weighs_by_its_age(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", spans={span: records(span) for span in range(2)})
    config = dataclasses.replace(CONFIG, half_life_days=10 / 86400, replay_fraction=1.0)  # ten seconds
    first = run(root, tmp_path / "0", config, span=0)
    until = first["eval_from_seconds"]
    then = run(root, tmp_path / "1", config, span=1, state=tmp_path / "0/state", learned=learned_by(first),
               learned_until=until)  # fmt: skip
    found = [
        (time, weight)
        for sequence in read(tmp_path / "1", "examples/Split-train")
        for time, weight, is_target in zip(
            sequence["timestamps"], sequence["weights"], sequence["is_target"], strict=True
        )
        if is_target
    ]
    old = [(time, weight) for time, weight in found if time < until]
    assert len(old) == then["train_replayed"] > 10
    assert len(found) == then["train_replayed"] + then["train_targets"]
    for time, weight in old:
        assert weight == pytest.approx(0.5 ** ((then["eval_from_seconds"] - time) / 10))


def test_a_half_life_gives_weights(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", spans={0: records(0)})
    summary = run(root, tmp_path, dataclasses.replace(CONFIG, half_life_days=10 / 86400), span=0)  # ten seconds
    cut = summary["eval_from_seconds"]
    for split in ("examples/Split-train", "examples/Split-eval"):
        for found in read(tmp_path, split):
            expected = [0.5 ** (max(cut - time, 0) / 10) for time in found["timestamps"]]
            assert found["weights"] == pytest.approx(expected)
