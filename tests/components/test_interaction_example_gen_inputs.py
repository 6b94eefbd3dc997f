"""Bad inputs, each with the message that a person reads; and the contract's own refusals."""

import gzip
import json
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import DataError
from components.interaction_example_gen.clean import clean, columns_of
from components.interaction_example_gen.contract import (
    DataContract,
    InteractionsContract,
    ItemsContract,
    parse_config,
    parse_contract,
)
from components.interaction_example_gen.files import (
    SourceFile,
    catalog_files,
    existing_spans,
    fingerprint,
    interaction_files,
    window_spans,
)
from components.interaction_example_gen.load import load_items
from components.interaction_example_gen.order import order
from components.interaction_example_gen.read import FileRows, read_file
from components.interaction_example_gen.report import Report
from trainer.features import Feature

ITEMS = pa.array(["a", "b"])
HEADER = "user_id,item_id,interaction_type,timestamp\n"
NOW = 1_700_000_000


def log_contract(**settings: Any) -> InteractionsContract:
    return InteractionsContract(**{"types": {"view": 1.0}, **settings})


def source(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return SourceFile(index=0, path=str(path), name=path.name, span=1)


def read_log(path: Path, data: bytes | str) -> FileRows:
    return read_file(source(path, data), columns_of(log_contract()))


def clean_log(path: Path, data: bytes | str, **settings: Any) -> tuple[pa.Table, Report]:
    contract = log_contract(**settings)
    return clean(read_file(source(path, data), columns_of(contract)), contract, ITEMS)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv.gz", gzip.compress(HEADER.encode() * 99)[:-9], r"log.csv.gz: truncated or not gzip .*Copy the file"),
        ("log.csv.gz", b"plain text", r"log.csv.gz: truncated or not gzip"),
        ("log.csv", "", r"log.csv: the file is empty; expected the columns \['user_id', 'item_id'"),
        ("log.xlsx", "x", r"log.xlsx: format not known by its name; expected one of .csv, .tsv"),
        ("log.csv", "user_id;item_id\n1;2\n", r"column 'user_id', .* not found; the file has \['user_id;item_id'\]"),
        (
            "log.csv",
            HEADER.encode() + b"u1,caf\xe9,view,1\n",
            r"log.csv:2: not UTF-8 near .*caf\\xe9.*save the file as",
        ),
        ("log.csv", "user_id,user_id,item_id,interaction_type,timestamp\n", r"column 'user_id' stands more than once"),
        ("log.jsonl", '[{"user_id": "u1"}]', r"log.jsonl:1: expected one JSON object per line"),
        ("log.jsonl", '{"user_id": "u1", "item": "a"}', r"'item_id', .* not found; the file has \['item', 'user_id'\]"),
        ("log.parquet", b"PAR1 but not really", r"log.parquet: not readable as Parquet"),
    ],
)
def test_unusable_files(name: str, data: bytes | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_log(tmp_path / name, data)


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": ["u1"]}), path)
    with pytest.raises(DataError, match=r"log.parquet: not readable as Parquet"):
        read_log(path, path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("unit", "scale", "likely"),
    [
        ("seconds", 1_000, "milliseconds"),
        ("seconds", 1_000_000, "microseconds"),
        ("milliseconds", 1, "seconds"),
        ("microseconds", 1, "seconds"),
        ("microseconds", 1_000, "milliseconds"),
    ],
)
def test_the_wrong_unit_names_place_value_and_fix(unit: str, scale: int, likely: str, tmp_path: Path) -> None:
    data = HEADER + "".join(f"u{n},a,view,{(NOW + n) * scale}\n" for n in range(3))
    message = (
        rf"log.csv:2: column 'timestamp' is {NOW * scale}, got 3 of 3 .* expected {unit} .*timestamp_unit: {likely}"
    )
    with pytest.raises(DataError, match=message):
        clean_log(tmp_path / "log.csv", data, timestamp_unit=unit)
    table, report = clean_log(tmp_path / "log.csv", data, timestamp_unit=likely)
    assert table["timestamp"].to_pylist() == [NOW, NOW + 1, NOW + 2]
    assert not report.rejected


def test_parquet_dates_carry_their_own_unit(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    when = pa.array([datetime.fromtimestamp(NOW, tz=timezone.utc), None], type=pa.timestamp("ns", "UTC"))
    ids = pa.array([7, 7])  # ids that are numbers are their digits
    pq.write_table(
        pa.table({"user_id": ids, "item_id": ["a", "b"], "interaction_type": ["view", "view"], "timestamp": when}),
        path,
    )
    table, report = clean_log(path, path.read_bytes(), timestamp_unit="milliseconds")
    assert (table["user_id"].to_pylist(), table["timestamp"].to_pylist()) == (["7"], [NOW])
    assert report.rejected == {"timestamp is not a number": 1}


def test_odd_lines_are_numbered_and_counted(tmp_path: Path) -> None:
    good = {"user_id": "u1", "item_id": "a", "interaction_type": "view", "timestamp": 5}
    lines = [
        json.dumps(good),
        "",
        "{broken",
        json.dumps({**good, "user_id": 7}),
        json.dumps({**good, "timestamp": "x"}),
    ]
    table, report = clean_log(tmp_path / "log.jsonl", "\n".join(lines) + "\n")
    assert table["user_id"].to_pylist() == ["u1", "7"]
    assert table["line"].to_pylist() == [1, 4]
    assert report.rejected == {"malformed line": 1, "timestamp is not a number": 1}
    assert report.samples["malformed line"][0][2].startswith("log.jsonl:3: not JSON")
    assert report.samples["timestamp is not a number"][0][2].startswith("log.jsonl:5: user_id='u1'")
    assert report.rows_read == len(table) + report.rejected.total()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from(["u1", "u2", " ", ""]),
                st.sampled_from(["a", "b", "nowhere", ""]),
                st.sampled_from(["view", "surprise", ""]),
                st.sampled_from(["1", "2", "1e3", "-4", "soon", "", "nan", "inf"]),
            ),
            st.just(("u1", "a")),  # too few fields
        ),
        max_size=20,
    )
)
def test_no_row_is_dropped_without_a_count(rows: list[tuple[str, ...]]) -> None:
    rows = [row for row in rows if any(row)]  # a row without any value is a blank line
    with tempfile.TemporaryDirectory() as folder:
        table, report = clean_log(Path(folder, "log.csv"), HEADER + "".join(",".join(row) + "\n" for row in rows))
    accepted = 0
    if len(table):
        log, more = order([table], ["log.csv"])
        accepted, report = len(log.table), report + more
    assert report.rows_read == len(rows) == accepted + report.rejected.total()
    good = {row for row in rows if len(row) == 4 and row[0].strip() and row[1] in "ab" and row[1] and row[2]}
    assert accepted == len({row for row in good if row[3] in ("1", "2", "1e3")})


def test_a_csv_with_quotes_a_mark_and_more_than_one_block(tmp_path: Path) -> None:
    rows = [f'"u,{n}",a,view,{n}' for n in range(50_000)]
    rows[40_000] = "short"
    table, report = clean_log(tmp_path / "log.csv", "\ufeff" + HEADER + "\n".join(rows) + "\n")
    assert table["user_id"][39_999].as_py() == "u,39999"
    assert report.samples["malformed line"][0][2] == "log.csv:40002: expected 4 fields, got 1: short"
    assert table["line"][40_000].as_py() == 40_003


def test_a_log_without_types_has_the_one_declared(tmp_path: Path) -> None:
    table, _ = clean_log(tmp_path / "log.csv", "user_id,item_id,timestamp\nu1,a,1\n", interaction_type=None)
    assert table["interaction_type"].to_pylist() == ["view"]


def test_a_missing_span_names_those_that_exist(tmp_path: Path) -> None:
    contract = DataContract(interactions=log_contract(files="log/{span}/*.csv"))
    for span in (3, 12):
        (tmp_path / f"log/{span}").mkdir(parents=True)
        (tmp_path / f"log/{span}/_SUCCESS").touch()
        (tmp_path / f"log/{span}/x.csv").touch()
    root = str(tmp_path)
    assert existing_spans(root, contract) == [3, 12]
    assert [file.name for file in interaction_files(root, contract, [2, 3])] == ["log/3/x.csv"]
    with pytest.raises(DataError, match=r"span 4 has no file: nothing matches 'log/4/\*.csv' below .*: \[3, 12\]"):
        fingerprint(root, contract, window_spans(4, 3))
    (tmp_path / "things.csv").touch()
    with pytest.raises(DataError, match=r"nothing matches 'items.csv' below .*there: \['things.csv'\].*items.files"):
        catalog_files(root, contract)


@pytest.mark.parametrize("root", ["lake://bucket/log", "s3://bucket/log"])
def test_a_store_that_cannot_be_listed_is_told(root):
    """An unknown scheme, and one without credentials here."""
    contract = DataContract(interactions=InteractionsContract(types={"view": 1.0}))
    with pytest.raises(DataError, match=rf"'{root}/.*cannot be listed: .*data_root.*kubeflow\.secrets"):
        existing_spans(root, contract)


def test_the_window() -> None:
    assert window_spans(5, 3) == (3, 4, 5)
    assert window_spans(1, 4) == (0, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("item_id,price\n", "items.csv: no row; expected one row per item"),
        ("item_id,price\na,1\nb,2\na,3\n", "1 item ids stand more than once: 'a' at items.csv:2, items.csv:4"),
        ("item_id,price\na,1\n,2\n", "items.csv:3: column 'item_id' is empty; 1 such rows"),
        ("item_id,price\na,1\nb\n", "items.csv:3: expected 2 fields, got 1: b; 1 such lines"),
        ("item_id,price\na,1\nb,cheap\n", "items.csv:3: column 'price' is 'cheap'; expected a number or nothing"),
        ("item,price\na,1\n", r"items.csv: column 'item_id' not found; the file has \['item', 'price'\]"),
    ],
)
def test_a_bad_catalog(data: str, message: str, tmp_path: Path) -> None:
    contract = ItemsContract(features=(Feature(name="price", type="number"),))
    with pytest.raises(DataError, match=message):
        load_items([source(tmp_path / "items.csv", data)], contract)


def test_categories_from_text_and_from_lists_are_the_same(tmp_path: Path) -> None:
    contract = ItemsContract(features=(Feature(name="kinds", type="categories"), Feature(name="size", type="number")))
    text = source(tmp_path / "items.csv", "item_id,kinds,size\na,x| y||,\nb,,0.5\n")
    lists = source(
        tmp_path / "items.jsonl",
        '{"item_id": "a", "kinds": ["x", "y"]}\n{"item_id": "b", "kinds": [], "size": 0.5}\n',
    )
    expected = [{"item_id": "a", "kinds": [b"x", b"y"], "size": []}, {"item_id": "b", "kinds": [], "size": [0.5]}]
    assert load_items([text], contract).to_pylist() == expected
    assert load_items([lists], contract).to_pylist() == expected


def test_the_contract_refuses_early() -> None:
    with pytest.raises(ValidationError, match="one value per interaction"):
        log_contract(context=(Feature(name="tags", type="categories"),))
    with pytest.raises(ValidationError, match="'popularity' is taken"):
        ItemsContract(features=(Feature(name="popularity", type="number"),))
    with pytest.raises(ValidationError, match="title column 'name'"):
        ItemsContract(title="name", features=(Feature(name="title", type="text"),))
    with pytest.raises(ValidationError, match="max_histori"):
        parse_config('{"max_histori": 3}')
    contract = parse_contract('{"interactions": {"types": {"view": 1}, "context": [{"name": "device"}]}}')
    assert contract.interactions == log_contract(context=(Feature(name="device"),))
