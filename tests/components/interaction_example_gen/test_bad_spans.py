"""Builds on spans with something wrong: the message that stops the run, or the examples that come out all the same."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import DataError
from components.interaction_example_gen.contract import DataContract, ExamplesConfig, ItemsContract, UsersContract
from components.interaction_example_gen.plan import make_plan
from tests.components.interaction_example_gen.small_file import HEADER, NOW, log_contract
from tests.components.interaction_example_gen.small_log import read, run
from trainer.features import Feature

CONTRACT = DataContract(interactions=log_contract())
CONFIG = ExamplesConfig(eval_fraction=0.25, num_shards=2)
ROWS = [(f"u{n % 3}", "abc"[n % 3], "view", NOW + n) for n in range(12)]


def as_csv(rows: list[tuple[Any, ...]]) -> str:
    return HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)


def write_span(root: Path, files: dict[str, str | bytes], span: int = 1) -> Path:
    """Files of a span; a catalog of the items a, b and c."""
    (root / f"spans/{span}").mkdir(parents=True, exist_ok=True)
    (root / "items.csv").write_text("item_id\na\nb\nc\n")
    for name, data in files.items():
        (root / f"spans/{span}/{name}").write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def build(root: Path, out: Path, data: DataContract = CONTRACT, **settings: Any) -> dict[str, Any]:
    return run(root, out, CONFIG, data=data, span=1, **settings)


def test_users_and_items_swapped(tmp_path: Path) -> None:
    root = write_span(tmp_path, {"log.csv": as_csv([(item, user, kind, t) for user, item, kind, t in ROWS])})
    message = (
        r"columns swapped\? of 12 rows 12 have an item \(item_id\) that is not in the catalog, and 12 a user "
        r"\(user_id\) that is; .*Swap user_id and item_id in the data contract"
    )
    with pytest.raises(DataError, match=message):
        build(root, tmp_path / "out")


def test_users_and_times_swapped(tmp_path: Path) -> None:
    root = write_span(tmp_path, {"log.csv": as_csv([(t, item, kind, user) for user, item, kind, t in ROWS])})
    message = (
        r"span 1 has no accepted row; refused: 12 × timestamp is not a number \(spans/1/log.csv:2: "
        rf"user_id='{NOW}', item_id='a', .*timestamp='u0'\)"
    )
    with pytest.raises(DataError, match=message):
        build(root, tmp_path / "out")


def test_empty_files_among_good_ones(tmp_path: Path) -> None:
    empty: dict[str, str | bytes] = {
        "0.csv": "", "1.csv": " \n\n", "2.csv": HEADER, "3.csv.gz": gzip.compress(b""), "4.jsonl": "\n"
    }  # fmt: skip
    root = write_span(tmp_path / "some", {**empty, "log.csv": as_csv(ROWS)})
    nothing = pa.table({name: pa.array([], pa.string()) for name in HEADER.strip().split(",")})
    pq.write_table(nothing, root / "spans/1/5.parquet")
    summary = build(root, tmp_path / "out")
    assert summary["empty_files"] == [f"spans/1/{name}" for name in [*empty, "5.parquet"]]
    assert (summary["rows_read"], summary["train_targets"] + summary["eval_examples"]) == (12, 12)

    root = write_span(tmp_path / "all", empty)
    with pytest.raises(DataError, match=r"span 1 has files but no rows; expected interactions below their headers"):
        build(root, tmp_path / "none")


def test_every_unusable_file_is_named_at_once(tmp_path: Path) -> None:
    packed = gzip.compress(as_csv(ROWS * 99).encode())
    root = write_span(tmp_path, {"0.csv.gz": packed[:-20], "1.parquet": b"PAR1", "2.csv": as_csv(ROWS), "3.txt": "x"})
    with pytest.raises(DataError) as raised:
        build(root, tmp_path / "out")
    lines = str(raised.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["spans/1/0.csv.gz", "spans/1/1.parquet", "spans/1/3.txt"]
    assert ["truncated" in lines[0], "Parquet" in lines[1], "format not known" in lines[2]] == [True] * 3


class Changed(beam.Pipeline):
    """A pipeline during whose run something happens to the files."""

    def __init__(self, change: Callable[[], Any], when: str) -> None:
        super().__init__()
        self._change, self._when = change, when

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if self._when == "before":
            self._change()
        result = super().run(*args, **kwargs)
        if self._when == "after":
            self._change()
        return result


@pytest.mark.parametrize("when", ["planned", "before", "after"])
@pytest.mark.parametrize("change", ["grows", "appears", "goes"])
def test_files_that_change_while_being_read(change: str, when: str, tmp_path: Path) -> None:
    root = write_span(tmp_path, {"log.csv": as_csv(ROWS[:6]), "more.csv": as_csv(ROWS[6:])})

    def happen() -> None:
        if change == "grows":
            with (root / "spans/1/more.csv").open("a") as stream:
                stream.write(f"u1,a,view,{NOW}\n")
        elif change == "appears":
            write_span(root, {"new.csv": as_csv(ROWS)})
        else:
            (root / "spans/1/more.csv").unlink()

    plan = make_plan(str(root), CONTRACT, CONFIG, 1)
    if when == "planned":
        happen()
    names = (
        "spans/1/log.csv, " + {"grows": "spans/1/more", "appears": "spans/1/more.csv, spans/1/new", "goes": ""}[change]
    )
    message = rf"^span 1 changed while it was read: another file.*there now: {names.rstrip(', ')}.*Run again when what"
    with pytest.raises(DataError, match=message):
        build(root, tmp_path / "out", plan=plan, pipeline=Changed(happen, when))


def test_a_user_with_a_hundred_thousand_events(tmp_path: Path) -> None:
    num_rows, max_history = 100_000, 50
    text = "".join(f"whale,{'abc'[n % 3]},view,{NOW + n}\n" for n in range(num_rows))
    root = write_span(tmp_path, {"log.csv": f"{HEADER}u,a,view,{NOW}\n{text}"})
    config = ExamplesConfig(eval_fraction=0.01, max_history=max_history, num_shards=2)
    summary = run(root, tmp_path / "out", config, data=CONTRACT, span=1)
    assert summary["users"] == 2
    train, evaluation = (read(tmp_path / "out", f"examples/Split-{name}") for name in ("train", "eval"))
    targets: Counter[int] = Counter()
    for example in train + evaluation:
        assert len(example["item_ids"]) <= 2 * max_history
        if example["user_id"] == ["whale"]:
            times = example["timestamps"]
            assert times == list(range(times[0], times[0] + len(times)))
            assert example["item_ids"] == ["abc"[(time - NOW) % 3] for time in times]
            learned = [time for time, is_target in zip(times, example["is_target"], strict=True) if is_target]
            targets.update(learned)
            # what a target may look back on is there: as many as max_history, or all that there are
            assert learned[0] - times[0] == min(max_history, learned[0] - NOW)
    assert targets == Counter(range(NOW, NOW + num_rows))
    # num_rows + 1 interactions, of which floor(0.99 · 100,001) = 99,000 are older than the cut: two of them at NOW
    assert len(evaluation) == num_rows + 1 - 99_000
    assert len(train) == 1 + 98_999 // max_history + 1


def test_users_and_items_as_of_their_time(tmp_path: Path) -> None:
    """The newest before the first target of an example; of an item before the cut. What has no row before has none."""
    rows = [
        ("u", "a", "view", NOW + 10),
        ("u", "b", "view", NOW + 20),
        ("v", "a", "view", NOW + 30),
        ("u", "c", "view", NOW + 40),
    ]
    root = write_span(tmp_path, {"log.csv": as_csv(rows)})
    (root / "users.csv").write_text(
        f"user_id,since,age\nu,{NOW + 40},42\nu,{NOW},40\nu,{NOW + 39},41\nv,{NOW + 30},30\n"
    )
    (root / "items.csv").write_text(
        f"item_id,since,price\na,{NOW},1\nb,{NOW + 50},2\na,{NOW + 40},3\na,{NOW + 39},4\nc,{NOW},5\n"
    )
    data = DataContract(
        interactions=log_contract(),
        users=UsersContract(features=(Feature(name="age", type="number"),), timestamp="since"),
        items=ItemsContract(features=(Feature(name="price", type="number"),), timestamp="since"),
    )
    summary = build(root, tmp_path / "out", data)
    assert summary["eval_from_seconds"] == NOW + 40
    train, evaluation, users, catalog = (
        read(tmp_path / "out", split)
        for split in ("examples/Split-train", "examples/Split-eval", "users/Split-all", "catalog/Split-all")
    )
    assert {(example["user_id"][0], *example["age"]) for example in train} == {("u", 40.0), ("v",)}
    assert [example["age"] for example in evaluation] == [[41.0]]
    assert {(example["user_id"][0], *example["age"]) for example in users} == {("u", 42.0), ("v", 30.0)}
    assert {item["item_id"][0]: item["price"] for item in catalog} == {"a": [4.0], "b": [2.0], "c": [5.0]}
