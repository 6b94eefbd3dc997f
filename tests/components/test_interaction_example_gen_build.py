"""The whole Beam build on a small log in files, read back by TensorFlow; formats and shards must not matter."""

import csv
import gzip
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.errors import DataError, DataStopped
from components.interaction_example_gen.build import Request, build
from components.interaction_example_gen.contract import (
    DataContract,
    ExamplesConfig,
    InteractionsContract,
    ItemsContract,
    UsersContract,
)
from components.interaction_example_gen.files import fingerprint
from components.interaction_example_gen.judge import judge
from trainer.features import Feature

HEADER = ["who", "what", "how", "when", "device", "price"]
Record = tuple[str, str, str, int, str, float | None]

# 3 users, 5 items; e5 is in the catalog and never used; u3 is not among the users; spans 1 and 2.
SPAN_1: list[Record] = [
    ("u1", "e1", "view", 10, "phone", 1.5),
    ("u1", "e2", "view", 10, "", None),
    ("u1", "e3", "buy", 20, "tv", 2.0),
    ("u2", "e1", "buy", 15, "phone", 3.0),
]
SPAN_2: list[Record] = [
    ("u1", "e4", "view", 30, "tv", 1.0),
    ("u2", "e2", "peek", 35, "tv", 1.0),
    ("u2", "e3", "view", 40, "phone", None),
    ("u3", "e1", "buy", 50, "phone", 4.0),
    ("u1", "e1", "buy", 50, "tv", 5.0),
]
ITEMS = "id,name,kinds,weight\ne1,One,red|blue,1\ne2,Two,,2.5\ne3,Three,blue,\ne4,Four,red,4\ne5,Fünf,green,5\n"
USERS = "id,age,city\nu1,30,Rome\nu2,,\nu9,50,Oslo\n"
CONFIG = ExamplesConfig(eval_fraction=0.3, max_history=2, max_rejected_fraction=0.0)


def contract(**interactions: Any) -> DataContract:
    names = {"user_id": "who", "item_id": "what", "interaction_type": "how", "timestamp": "when"}
    context = (Feature(name="device"), Feature(name="price", type="number"))
    return DataContract(
        interactions=InteractionsContract(
            **{**names, "types": {"view": 1.0, "buy": 2.0}, "context": context, **interactions}
        ),
        items=ItemsContract(
            item_id="id",
            title="name",
            features=(Feature(name="kinds", type="categories"), Feature(name="weight", type="number")),
        ),
        users=UsersContract(user_id="id", features=(Feature(name="age", type="number"), Feature(name="city"))),
    )


def as_csv(path: Path, rows: list[Record]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *(["" if v is None else v for v in row] for row in rows)])
    path.with_suffix(".csv").write_text(text.getvalue())


def as_csv_gz(path: Path, rows: list[Record]) -> None:
    as_csv(path, rows)
    plain = path.with_suffix(".csv")
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def as_json_lines(path: Path, rows: list[Record]) -> None:
    lines = [json.dumps({k: v for k, v in zip(HEADER, row, strict=True) if v is not None}) for row in rows]
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def as_parquet(path: Path, rows: list[Record]) -> None:
    pq.write_table(
        pa.table(dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))), path.with_suffix(".parquet")
    )


def write_data(root: Path, write: Callable[[Path, list[Record]], None] = as_csv) -> Path:
    for span, rows in ((1, SPAN_1), (2, SPAN_2)):
        (root / f"spans/{span}").mkdir(parents=True)
        write(root / f"spans/{span}/log", rows)
    (root / "items.csv").write_text(ITEMS)
    (root / "users.csv").write_text(USERS)
    return root


def run(
    root: Path,
    out: Path,
    config: ExamplesConfig = CONFIG,
    learned_until: int = 0,
    data: DataContract | None = None,
    span: int = 2,
) -> dict[str, Any]:
    request = Request(
        data_root=str(root),
        contract=data or contract(),
        config=config,
        span=span,
        learned_until_seconds=learned_until,
        examples_uri=str(out / "examples"),
        catalog_uri=str(out / "catalog"),
        users_uri=str(out / "users"),
    )
    return build(beam.Pipeline(), request)


def read(out: Path, split: str) -> list[dict[str, list[Any]]]:
    """Examples as name → values, NaN as None, in the order of their content."""
    found = []
    files = sorted(str(path) for path in (out / split).glob("*"))
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        example: dict[str, list[Any]] = {}
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            kind = feature.WhichOneof("kind")
            values = getattr(feature, kind).value if kind else []
            plain = [v.decode() if isinstance(v, bytes) else v for v in values]
            example[name] = [None if isinstance(v, float) and math.isnan(v) else v for v in plain]
        found.append(dict(sorted(example.items())))
    return sorted(found, key=repr)


SPLITS = ("examples/Split-train", "examples/Split-eval", "users/Split-all", "catalog/Split-all")


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
    assert summary == {
        "spans_read": [1, 2],
        "spans_missing": [],
        "rows_read": 9,
        "rows_accepted": 9,
        "rows_rejected": 0,
        "rejected": {},
        "rows_per_span": {"1": 4, "2": 5},
        "undeclared_types": {"peek": 1},
        "users": 3,
        "items": 5,
        "first_timestamp_seconds": 10,
        "last_timestamp_seconds": 50,
        "eval_from_seconds": 50,
        "learned_until_seconds": 0,
        "train_examples": 4,
        "train_targets": 6,  # of 7 before the cut, one is undeclared
        "eval_examples": 2,
        "errors": [],
    }


@pytest.mark.parametrize(("write", "num_shards"), [(as_csv_gz, 1), (as_json_lines, 2), (as_parquet, 3)])
def test_formats_and_shards_change_nothing(
    write: Any, num_shards: int, tmp_path: Path, reference: tuple[Path, dict[str, Any]]
) -> None:
    out, summary = reference
    config = ExamplesConfig(eval_fraction=0.3, max_history=2, max_rejected_fraction=0.0, num_shards=num_shards)
    assert run(write_data(tmp_path / "data", write), tmp_path, config) == summary
    for split in SPLITS:
        assert read(tmp_path, split) == read(out, split)


def test_what_production_has_learned_is_context_only(tmp_path: Path) -> None:
    summary = run(write_data(tmp_path / "data"), tmp_path, learned_until=30)
    assert (summary["train_targets"], summary["learned_until_seconds"]) == (2, 30)  # 30 and 40; 35 is undeclared
    train = read(tmp_path, "examples/Split-train")
    # u1: the two before its target; u2: one before, and the undeclared one between
    assert [(e["item_ids"], e["is_target"]) for e in train if e["user_id"] == ["u1"]] == [
        (["e2", "e3", "e4"], [0, 0, 1])
    ]
    assert [(e["item_ids"], e["is_target"]) for e in train if e["user_id"] == ["u2"]] == [
        (["e1", "e2", "e3"], [0, 0, 1])
    ]


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
    lax = ExamplesConfig(eval_fraction=0.3, max_history=2, max_rejected_fraction=0.9)
    summary = run(root, tmp_path, lax)
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
        "duplicate of an earlier row (same user, item, type and timestamp)": 1,
    }
    assert (summary["rows_read"], summary["rows_accepted"], summary["rows_rejected"]) == (19, 9, 10)
    samples = {reason: found["samples"] for reason, found in summary["rejected"].items()}
    # the log has a header and 5 rows, so the first added line is 7; the blank line is 12
    assert samples["who is empty"][0].startswith("spans/2/log.csv:7: who='', what='e1', how='view', when='36'")
    assert samples["what is not in the catalog"][0].startswith("spans/2/log.csv:13: ")
    assert samples["malformed line"] == ["spans/2/log.csv:15: expected 6 fields, got 2: u1,e1"]
    with pytest.raises(DataStopped, match=r"10 of 19 rows rejected \(52.63%\).*0.00%.*\n.*1 × .*\n +spans/2/log.csv:"):
        judge(summary, CONFIG, 2, contract().interactions.types)


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


def test_the_fingerprint_changes_with_the_data(tmp_path: Path) -> None:
    root = write_data(tmp_path)
    before = fingerprint(str(root), contract(), [1, 2])
    assert fingerprint(str(root), contract(), [1, 2]) == before
    assert fingerprint(str(root), contract(), [1]) != before
    items, changed = root / "items.csv", (root / "items.csv").stat().st_mtime
    items.write_text(ITEMS + "e6,Six,,\n")
    os.utime(items, (changed, changed))
    assert fingerprint(str(root), contract(), [1, 2]) != before  # another size
    items.write_text(ITEMS)
    os.utime(items, (changed + 60, changed + 60))
    assert fingerprint(str(root), contract(), [1, 2]) != before  # another time


def test_one_interaction_is_too_little_and_says_so(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    as_csv(root / "spans/2/log", SPAN_2[:1])
    (root / "spans/1/log.csv").unlink()
    with pytest.raises(DataError, match="train split is empty: all 1 interactions are in the eval part"):
        run(root, tmp_path)


def test_a_span_that_production_has_learned_stops_and_is_no_error(reference: tuple[Path, dict[str, Any]]) -> None:
    message = r"nothing new to learn: production has learned until 1970-01-01 00:01:00 UTC \(60\).*targets: window"
    with pytest.raises(DataStopped, match=message):
        judge({**reference[1], "train_targets": 0, "learned_until_seconds": 60}, CONFIG, 2, {"view": 1.0, "buy": 2.0})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"train_targets": 0}, r"no interaction from 1970.* is of a declared type \(\['buy', 'view'\]\).*'peek': 1"),
        ({"eval_examples": 0}, r"eval split is empty.*undeclared: \{'peek': 1\}. Declare"),
        ({"rows_per_span": {"1": 4}}, "span 2 has files but no rows"),
        ({"eval_from_seconds": None, "eval_examples": 0}, "span 2 has no accepted row"),
    ],
)
def test_an_empty_split_says_why(found: dict[str, Any], message: str, reference: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(DataError, match=message):
        judge({**reference[1], **found}, CONFIG, 2, {"view": 1.0, "buy": 2.0})
