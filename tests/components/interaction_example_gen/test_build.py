"""The whole Beam build on a small log in files, read back by TensorFlow; formats and shards must not matter."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from components.errors import DataError, NothingNew
from components.interaction_example_gen.contract import ExamplesConfig
from components.interaction_example_gen.judge import judge
from components.interaction_example_gen.plan import make_plan
from tests.components.interaction_example_gen.small_log import (
    CONFIG,
    ITEMS,
    SPAN_2,
    SPLITS,
    as_csv,
    as_csv_gz,
    as_json_lines,
    as_parquet,
    contract,
    read,
    run,
    write_data,
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reference")
    root = write_data(tmp_path_factory.mktemp("data"))
    return out, run(root, out)


def test_the_examples(reference: tuple[Path, dict[str, Any]]) -> None:
    # newest span: times 30 35 40 50 50; floor(0.7 · 5) = 3, the fourth in order: cut 50
    out, _ = reference
    known = {"age": [30.0], "city": ["Rome"], "user_id": ["u1"]}
    nothing = {"age": [], "city": []}
    assert read(out, "examples/Split-eval") == [
        {
            **known,
            "device": ["tv", "tv", "tv"],
            "interaction_types": ["buy", "view", "buy"],
            "is_target": [0, 0, 1],
            "item_ids": ["e3", "e4", "e1"],
            "price": [2.0, 1.0, 5.0],
            "timestamps": [20, 30, 50],
        },
        {
            **nothing,
            "device": ["phone"],
            "interaction_types": ["buy"],
            "is_target": [1],
            "item_ids": ["e1"],
            "price": [4.0],
            "timestamps": [50],
            "user_id": ["u3"],
        },
    ]
    train = read(out, "examples/Split-train")
    found = {(e["user_id"][0], tuple(e["item_ids"]), tuple(e["is_target"]), tuple(e["price"])) for e in train}
    assert found == {
        ("u1", ("e1", "e2"), (1, 1), (1.5, None)),
        ("u1", ("e1", "e2", "e3", "e4"), (0, 0, 1, 1), (1.5, None, 2.0, 1.0)),
        ("u2", ("e1", "e2"), (1, 0), (3.0, 1.0)),  # peek is declared nowhere: history, never a target
        ("u2", ("e1", "e2", "e3"), (0, 0, 1), (3.0, 1.0, None)),
    }
    users = {e["user_id"][0]: (e["item_ids"], e["age"]) for e in read(out, "users/Split-all")}
    assert users == {"u1": (["e4", "e1"], [30.0]), "u2": (["e2", "e3"], []), "u3": (["e1"], [])}


def test_a_user_id_is_a_feature_where_the_contract_says_so(
    reference: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    data = contract(learn_user_ids=True)
    assert [feature.name for feature in data.features().user] == ["user", "age", "city"]
    run(write_data(tmp_path / "data"), tmp_path / "out", data=data)
    for split in (*SPLITS, "users/Split-all"):
        named = read(tmp_path / "out", split)
        if "catalog" not in split:
            assert [example.pop("user") for example in named] == [example["user_id"] for example in named]
        assert named == read(reference[0], split)


def test_the_catalog(reference: tuple[Path, dict[str, Any]]) -> None:
    items = {e["item_id"][0]: e for e in read(reference[0], "catalog/Split-all")}
    assert items["e5"] == {
        "item_id": ["e5"],
        "kinds": ["green"],
        "popularity": [0.0],
        "title": ["Fünf"],
        "weight": [5.0],
    }
    assert (items["e1"]["kinds"], items["e2"]["kinds"], items["e3"]["weight"]) == (["red", "blue"], [], [])
    # e1: views before the cut at 10 and 15; e2: one view at 10, the undeclared peek does not count
    assert items["e1"]["popularity"][0] == pytest.approx(2, abs=1e-3)
    assert items["e2"]["popularity"][0] == pytest.approx(1, abs=1e-3)


def test_the_summary(reference: tuple[Path, dict[str, Any]]) -> None:
    out, summary = reference
    assert json.loads((out / "examples/summary.json").read_text()) == summary
    expected = {
        "spans_read": [1, 2],
        "spans_learned": [1, 2],
        "spans_from_state": [],
        "spans_missing": [],
        "rows_read": 9,
        "rows_accepted": 9,
        "rows_rejected": 0,
        "rows_duplicated": 0,
        "rows_left_out": 0,
        "rejected": {},
        "undeclared_types": {"peek": 1},
        "users": 3,
        "users_learned": 3,
        "users_new": 3,
        "items": 5,
        "first_timestamp_seconds": 10,
        "last_timestamp_seconds": 50,
        "eval_from_seconds": 50,
        "learned_until_seconds": 0,
        "train_examples": 4,
        "train_targets": 6,  # of 7 before the cut, one is undeclared
        "eval_examples": 2,
        "empty_files": [],
        "errors": [],
    }
    assert {name: summary[name] for name in expected} == expected
    figures = summary["figures"]["2"]
    assert (figures["rows_read"], figures["types"]) == (5, {"view": 2, "buy": 2, "peek": 1})
    assert (figures["first_timestamp_seconds"], figures["last_timestamp_seconds"]) == (30, 50)


@pytest.mark.parametrize(("write", "num_shards"), [(as_csv_gz, 1), (as_json_lines, 2), (as_parquet, 3)])
def test_formats_and_shards_change_nothing(
    write: Any, num_shards: int, tmp_path: Path, reference: tuple[Path, dict[str, Any]]
) -> None:
    out, summary = reference
    config = ExamplesConfig(eval_fraction=0.3, max_history=2, num_shards=num_shards)
    again = run(write_data(tmp_path / "data", write), tmp_path, config)
    of_files = ("lineage", "figures")  # they hold fingerprints
    assert {k: v for k, v in again.items() if k not in of_files} == {
        k: v for k, v in summary.items() if k not in of_files
    }
    for split in SPLITS:
        assert read(tmp_path, split) == read(out, split)


def test_one_user_is_enough(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    as_csv(root / "spans/2/log", [("u1", "e1", "view", 100 + n, "", None) for n in range(10)])
    (root / "spans/1/log.csv").unlink()
    summary = run(root, tmp_path)
    assert (summary["users"], summary["train_targets"], summary["eval_examples"]) == (1, 7, 3)


def test_rejected_rows_are_counted_with_their_reasons_and_samples(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    with (root / "spans/2/log.csv").open("a") as log:
        log.write(",e1,view,36,,\nu1,,view,36,,\nu1,e1,,36,,\nu1,e1,view,soon,,\nu1,e1,view,-1,,\n\n")
        log.write("u1,e9,view,36,,\nu1,e1,view,36,,cheap\nu1,e1\nu1,e4,view,30,tv,1\nu1,e1,view,900000000000,,\n")
    summary = run(root, tmp_path / "out")
    assert {reason: found["count"] for reason, found in summary["rejected"].items()} == {
        "who is empty": 1,
        "what is empty": 1,
        "how is empty": 1,
        "when is not a number": 1,
        "when is negative": 1,
        "when is not in seconds": 1,
        "what is not in the catalog": 1,
        "price is not a number": 1,
        "malformed line": 1,
    }
    assert summary["duplicates"]["duplicate of an earlier row"]["count"] == 1
    counts = [summary[f"rows_{name}"] for name in ("read", "accepted", "rejected", "duplicated", "left_out")]
    assert counts == [19, 9, 9, 1, 0]
    assert summary["figures"]["2"]["rows_unknown_item"] == 1
    samples = {reason: found["samples"] for reason, found in summary["rejected"].items()}
    # the log has a header and 5 rows, so the first added line is 7; the blank line is 12
    assert samples["who is empty"][0].startswith("spans/2/log.csv:7: who='', what='e1', how='view', when='36'")
    assert samples["what is not in the catalog"] == [
        "spans/2/log.csv:13: user_id='u1', item_id='e9', interaction_type='view', timestamp=36"
    ]
    assert samples["malformed line"] == ["spans/2/log.csv:15: expected 6 fields, got 2: u1,e1"]
    kept = [gzip.decompress(path.read_bytes()).decode() for path in (tmp_path / "out/examples/rejected").glob("*")]
    lines = [line for text in kept for line in text.splitlines()[1:]]
    assert len(lines) == 10
    assert '"who is empty","spans/2/log.csv",7,"","e1","view","36","",""' in lines
    assert '"what is not in the catalog","spans/2/log.csv",13,"u1","e9","view",36' in lines


def test_all_unusable_files_are_named_at_once(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    (root / "spans/1/log.csv").write_text("who,what,how,when,price\nu1,e1,view,10,\n")
    (root / "items.csv").write_text(ITEMS + "e1,Again,,\n")
    with pytest.raises(DataError) as caught:
        run(root, tmp_path)
    assert "spans/1/log.csv: column 'device' not found; the file has ['how', 'price', 'what', 'when', 'who']" in str(
        caught.value
    )
    assert "1 item ids stand more than once: 'e1' at items.csv:2, items.csv:7" in str(caught.value)


def test_the_plan_changes_with_the_data(tmp_path: Path) -> None:
    root = write_data(tmp_path)

    def plan() -> str:
        return make_plan(str(root), contract(), CONFIG, 2).to_json()

    before = plan()
    assert plan() == before
    items, changed = root / "items.csv", (root / "items.csv").stat().st_mtime
    items.write_text(ITEMS + "e6,Six,,\n")
    os.utime(items, (changed, changed))
    assert plan() != before  # another size
    items.write_text(ITEMS)
    os.utime(items, (changed + 60, changed + 60))
    assert plan() != before  # another time


def test_one_interaction_is_too_little_and_says_so(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    as_csv(root / "spans/2/log", SPAN_2[:1])
    (root / "spans/1/log.csv").unlink()
    with pytest.raises(DataError, match="train split is empty: all 1 interactions are in the eval part"):
        run(root, tmp_path)


def test_a_span_that_production_has_learned_stops_and_is_no_error(reference: tuple[Path, dict[str, Any]]) -> None:
    message = r"nothing new to learn: production has learned until 1970-01-01 00:01:00 UTC \(60\).*targets: window"
    with pytest.raises(NothingNew, match=message):
        judge({**reference[1], "train_targets": 0, "learned_until_seconds": 60}, CONFIG, contract(), 2)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"train_targets": 0}, r"no interaction until 1970.* is of a declared type \(\['buy', 'view'\]\).*'peek': 1"),
        ({"eval_examples": 0}, r"eval split is empty.*undeclared: \{'peek': 1\}; no row was refused. Declare"),
        ({"figures": {"2": {"rows_read": 0}}}, "span 2 has files but no rows"),
        ({"eval_from_seconds": None, "eval_examples": 0}, "span 2 has no accepted row"),
    ],
)
def test_an_empty_split_says_why(found: dict[str, Any], message: str, reference: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(DataError, match=message):
        judge({**reference[1], **found}, CONFIG, contract(), 2)
