"""Which items a model gets to know: by hand, and in whole builds."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.errors import DataError
from components.interaction_example_gen.admit import Seen, is_rare, is_unseen, seen_of
from tests.components.interaction_example_gen.small_log import CONFIG, contract, learned_by, read, run, write_data

DAY = 24 * 3600


def part(**items: tuple[float, int, int, int]) -> pa.Table:
    columns = dict(
        zip(("weight", "count", "first_seconds", "last_seconds"), zip(*items.values(), strict=True), strict=True)
    )
    return pa.table({"item_id": list(items), **{name: list(values) for name, values in columns.items()}})


def test_shards_add_up_by_hand() -> None:
    parts = [part(b=(1.5, 2, 30, 70), a=(0.5, 1, 50, 50)), part(b=(0.25, 1, 20, 40))]
    seen = seen_of(pa.array(["a", "b", "c"]), parts)
    assert seen.weight.tolist() == [0.5, 1.75, 0.0]
    assert seen.count.tolist() == [1, 3, 0]
    assert seen.last_seconds.tolist() == [50, 70, -1]
    assert seen.since_seconds == 20
    assert seen_of(pa.array(["a"]), []).since_seconds is None


def seen_at(*days: float, since: float = 0) -> Seen:
    """Items touched last on these days, never where it is negative, once each; the log begins on day `since`."""
    last = np.array([int(day * DAY) if day >= 0 else -1 for day in days])
    return Seen(np.ones(len(days)), (last >= 0).astype(int), last, int(since * DAY))


def test_rare_is_less_than_the_least() -> None:
    seen = dataclasses.replace(seen_at(1, 1, 1, -1), count=np.array([4, 5, 6, 0]))
    assert is_rare(seen, 5).tolist() == [True, False, False, True]
    assert not is_rare(seen, 0).any()


def test_unseen_is_untouched_for_longer_than_the_limit() -> None:
    seen = seen_at(89.99, 90, 100, -1)
    assert is_unseen(seen, None, 100 * DAY, 10).tolist() == [True, False, False, True]
    assert not is_unseen(seen, None, 100 * DAY, None).any()


def test_what_was_listed_of_late_is_no_more_unseen_than_what_was_touched() -> None:
    listed = np.array([95, 0, 0, 95]) * DAY
    assert is_unseen(seen_at(50, 50, 95, -1), listed, 100 * DAY, 10).tolist() == [False, True, False, False]


def test_a_log_that_goes_back_too_little_says_of_nothing_that_it_was_unseen() -> None:
    assert not is_unseen(seen_at(95, -1, since=91), None, 100 * DAY, 10).any()
    assert is_unseen(seen_at(95, -1, since=89), None, 100 * DAY, 10).tolist() == [False, True]
    assert not is_unseen(Seen(np.zeros(1), np.zeros(1), np.array([-1]), None), None, 100 * DAY, 10).any()


def ids(out: Path) -> list[str]:
    return sorted(item["item_id"][0] for item in read(out, "catalog/Split-all"))


def test_items_that_are_left_out_are_in_no_catalog_example_and_are_counted(tmp_path: Path) -> None:
    root = write_data(
        tmp_path / "data",
        spans={
            1: [
                (f"u{n}", item, "view", 10 + n, "tv", None)
                for n, item in enumerate(["e1", "e1", "e1", "e2", "e2", "e3"])
            ],
            2: [(f"u{n}", "e1", "view", 5 * DAY + n, "tv", None) for n in range(6)],
        },
    )
    whole = run(root, tmp_path / "whole")
    assert ids(tmp_path / "whole") == ["e1", "e2", "e3", "e4", "e5"]
    assert (whole["items_admitted"], whole["items_rare"], whole["items_unseen"]) == (5, 0, 0)

    some = run(root, tmp_path / "some", dataclasses.replace(CONFIG, min_interactions=2))
    assert ids(tmp_path / "some") == ["e1", "e2"]
    assert (some["items_admitted"], some["items_rare"], some["items_unseen"]) == (2, 3, 0)
    # what happened with an item that is left out is in the sequences all the same
    split = "examples/Split-train"
    assert read(tmp_path / "some", split) == read(tmp_path / "whole", split)
    assert some["train_targets"] == whole["train_targets"]

    late = dataclasses.replace(CONFIG, min_interactions=1, evict_after_days=4)
    evicted = run(root, tmp_path / "late", late)
    assert ids(tmp_path / "late") == ["e1"]  # e2 and e3 were touched five days ago, e4 and e5 never
    assert (evicted["items_admitted"], evicted["items_rare"], evicted["items_unseen"]) == (1, 2, 2)

    with pytest.raises(DataError, match=r"no item is left for the model: of 5 5 have fewer than 99 interactions"):
        run(root, tmp_path / "none", dataclasses.replace(CONFIG, min_interactions=99))


def test_the_state_and_the_window_admit_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    spans = {
        span: [
            (f"u{rng.integers(5)}", f"e{1 + rng.integers(5 - span)}", "view", span * DAY + int(time), "tv", None)
            for time in np.sort(rng.integers(0, DAY, 30))
        ]
        for span in range(3)
    }
    root = write_data(tmp_path / "data", spans=spans)
    config = dataclasses.replace(CONFIG, window_spans=3, max_history=5, min_interactions=2, evict_after_days=1)
    state, learned, until = None, None, 0
    for span in range(3):
        out = tmp_path / f"{span}"
        summary = run(root, out, config, span=span, state=state, learned=learned, learned_until=until)
        if learned is not None:
            anew = dataclasses.replace(learned, reads_as="a contract of before")
            again = run(root, tmp_path / f"again{span}", config, span=span, learned=anew, learned_until=until)
            assert ids(out) == ids(tmp_path / f"again{span}")
            names = ("items_admitted", "items_rare", "items_unseen")
            assert [summary[name] for name in names] == [again[name] for name in names]
        state, learned, until = out / "state", learned_by(summary), summary["eval_from_seconds"]
    assert summary["items_rare"] + summary["items_unseen"] > 0


def test_an_item_that_was_listed_of_late_is_known_before_anybody_touched_it(tmp_path: Path) -> None:
    views = [
        ("u1", "e1", "view", 10, "tv", None),
        *((f"u{n}", "e1", "view", 9 * DAY + n, "tv", None) for n in range(6)),
    ]
    root = write_data(tmp_path / "data", spans={1: views})
    # e2 was changed of late and is old; e3 is new
    rows = [("e1", 0), ("e2", 0), ("e2", 8 * DAY), ("e3", 8 * DAY)]
    (root / "items.csv").write_text(
        "id,name,kinds,weight,at\n" + "".join(f"{item},Name,red,1,{at}\n" for item, at in rows)
    )
    data = dataclasses.replace(contract(), items=dataclasses.replace(contract().items, timestamp="at"))
    config = dataclasses.replace(CONFIG, evict_after_days=4)
    summary = run(root, tmp_path / "out", config, data=data, span=1)
    assert ids(tmp_path / "out") == ["e1", "e3"]
    assert (summary["items_admitted"], summary["items_unseen"]) == (2, 1)
    assert "listed_seconds" not in read(tmp_path / "out", "catalog/Split-all")[0]
