"""The catalog and the users: features of every type, as of their time; a bad row is an error that names its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.errors import DataError
from components.interaction_example_gen.columns import feature_values
from components.interaction_example_gen.contract import DataContract, Drop, ItemsContract, UsersContract
from components.interaction_example_gen.load import load_items, load_users
from tests.components.interaction_example_gen.small_file import NOW, log_contract, source
from trainer.features import Feature

PRICE = Feature(name="price", type="number")
VECTOR = Feature(name="image", type="vector", dim=2)


def load(
    path: Path, data: bytes | str | pa.Table, cut: int = 0, log: dict[str, Any] | None = None, **items: Any
) -> Any:
    contract = DataContract(interactions=log_contract(**(log or {})), items=ItemsContract(**items))
    return load_items([source(path, data)], contract, cut).table.to_pylist()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "items.csv: no row; expected one row per item"),
        ("item_id,price\n", "items.csv: no row; expected one row per item"),
        ("item_id,price\na,1\nb,2\na,3\n", "1 item ids stand more than once: 'a' at items.csv:2, items.csv:4.*timest"),
        ("item_id,price\na,1\n,2\n", "items.csv:3: column 'item_id' is empty; 1 such rows"),
        ("item_id,price\na,1\nb\n", "items.csv:3: expected 2 fields, got 1: b; 1 such lines"),
        ("item_id,price\na,1\nb,cheap\n", "items.csv:3: column 'price' is 'cheap'; expected a number or nothing"),
        ("item_id,price\na,1\nb,inf\n", "items.csv:3: column 'price' is 'inf'; expected a number or nothing; 1 such"),
        ("item,price\na,1\n", r"items.csv: column 'item_id' not found; the file has \['item', 'price'\]"),
    ],
)
def test_a_bad_catalog(data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "items.csv", data, features=(PRICE,))


def test_an_item_without_features_stays_an_item(tmp_path: Path) -> None:
    features = (PRICE, VECTOR, Feature(name="kinds", type="categories"), Feature(name="maker"))
    nothing = {"item_id": "a", "title": [], "price": [], "image": [], "kinds": [], "maker": []}
    text = "item_id,name,price,image,kinds,maker\na,,,,,\n"
    assert load(tmp_path / "items.csv", text, features=features, title="name") == [nothing]
    lines = '{"item_id": "a"}\n{"item_id": "b", "name": "B", "price": 1, "image": [1, 2], "kinds": [], "maker": null}\n'
    found = load(tmp_path / "items.jsonl", lines, features=features, title="name")
    assert found[0] == nothing
    assert found[1] == {**nothing, "item_id": "b", "title": [b"B"], "price": [1.0], "image": [1.0, 2.0]}


def test_categories_from_text_and_from_lists_are_the_same(tmp_path: Path) -> None:
    features = (Feature(name="kinds", type="categories"), Feature(name="size", type="number"))
    text = "item_id,kinds,size\na,x| y||,\nb,,0.5\n"
    lists = '{"item_id": "a", "kinds": ["x", "y"]}\n{"item_id": "b", "kinds": [], "size": 0.5}\n'
    odd = '{"item_id": "a", "kinds": ["x", null, "y"]}\n\n{"item_id": "b", "kinds": null, "size": "0.5"}\n'
    expected = [{"item_id": "a", "kinds": [b"x", b"y"], "size": []}, {"item_id": "b", "kinds": [], "size": [0.5]}]
    assert load(tmp_path / "items.csv", text, features=features) == expected
    assert load(tmp_path / "items.jsonl", lists, features=features) == expected
    assert load(tmp_path / "items.jsonl", odd, features=features) == expected


EXPECTED = [[0.5, -2.0], [], [3.0, 4.0]]
VECTORS = [values or None for values in EXPECTED]
IDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("items.parquet", pa.table({"item_id": IDS, "image": VECTORS})),
        ("items.parquet", pa.table({"item_id": IDS, "image": pa.array(VECTORS, pa.large_list(pa.float64()))})),
        ("items.csv", "item_id,image\na,0.5|-2\nb,\nc, 3 | 4 \n"),
        ("items.jsonl", '{"item_id": "a", "image": [0.5, -2]}\n{"item_id": "b"}\n{"item_id": "c", "image": [3, 4]}\n'),
        (
            "items.jsonl",
            '{"item_id": "a", "image": [0.5, -2]}\n{"item_id": "b"}\n{"item_id": "c", "image": [3, "4"]}\n',
        ),
    ],
)
def test_vectors(name: str, data: str | pa.Table, tmp_path: Path) -> None:
    assert [row["image"] for row in load(tmp_path / name, data, features=(VECTOR,))] == EXPECTED


def test_vectors_of_a_fixed_size(tmp_path: Path) -> None:
    """Where some are missing, pyarrow 10 reads them but cannot write them."""
    column = pa.array(VECTORS, pa.list_(pa.float32(), 2))
    lists, bad = feature_values(VECTOR, pa.chunked_array([column]))
    assert (lists.to_pylist(), bad.any()) == (EXPECTED, False)
    assert feature_values(Feature(name="image", type="vector", dim=3), column)[1].tolist() == [True, False, True]
    table = pa.table({"item_id": ["a", "c"], "image": pa.array([VECTORS[0], VECTORS[2]], column.type)})
    found = load(tmp_path / "items.parquet", table, features=(VECTOR,))
    assert [row["image"] for row in found] == [EXPECTED[0], EXPECTED[2]]


@pytest.mark.parametrize("bad", ["1|2|3", "1", "1|x", "1|inf", "1|1e39"])
def test_a_vector_of_another_length_is_refused_with_its_place(bad: str, tmp_path: Path) -> None:
    message = r"items.{}:{}: column 'image' is {}; expected 2 numbers or nothing; 1 such rows"
    with pytest.raises(DataError, match=message.format("csv", 3, f"'{bad}'".replace("|", r"\|"))):
        load(tmp_path / "items.csv", f"item_id,image\na,1|2\nb,{bad}\n", features=(VECTOR,))
    try:
        lists = [[1.0, 2.0], [float(part) for part in bad.split("|")]]
    except ValueError:
        return
    with pytest.raises(DataError, match=message.format("parquet", 2, r"'\[1.0.*\]'")):
        load(tmp_path / "items.parquet", pa.table({"item_id": ["a", "b"], "image": lists}), features=(VECTOR,))


def test_drops_come_first(tmp_path: Path) -> None:
    drop = (Drop(column="state", pattern="deleted"), Drop(column="item_id", pattern=""))
    text = "item_id,price,state\na,1,\na,2,deleted\n,3,\nb,free,deleted\n"
    assert load(tmp_path / "items.csv", text, features=(PRICE,), drop=drop) == [{"item_id": "a", "price": [1.0]}]
    with pytest.raises(DataError, match="no row; expected one row per item"):
        load(tmp_path / "items.csv", "item_id,price,state\na,1,deleted\n", features=(PRICE,), drop=drop)


AS_OF = {"features": (PRICE, Feature(name="maker")), "timestamp": "since"}
CHANGES = "item_id,since,price,maker\nb,300,30,late\na,100,1,\na,250,2,\na,200,,m\nb,400,40,later\n"


def test_items_as_of_the_cut(tmp_path: Path) -> None:
    """Each value the newest before the cut; of what comes later, the first."""
    found = {cut: load(tmp_path / "items.csv", CHANGES, cut, **AS_OF) for cut in (0, 100, 201, 250, 251, 1000)}
    prices = {cut: [row["price"] for row in rows] for cut, rows in found.items()}
    first = [[1.0], [30.0]]
    assert prices == {0: first, 100: first, 201: first, 250: first, 251: [[2.0], [30.0]], 1000: [[2.0], [40.0]]}
    assert [row["item_id"] for row in found[0]] == ["a", "b"]
    assert [row["maker"] for row in found[0]] == [[b"m"], [b"late"]]  # of a, the only one there is
    assert [row["maker"] for row in found[1000]] == [[b"m"], [b"later"]]


def test_times_of_items_are_as_those_of_interactions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items.csv:2: column 'since' is .*expected seconds since 1970.*millis"):
        load(tmp_path / "items.csv", CHANGES.replace("00,", "00000000000,"), **AS_OF)


def test_a_change_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    """Where the log itself describes the items, its odd rows must not stop the run; the gate hears of them as rows."""
    data = CHANGES + "c,soon,1,\n,500,1,\na,500,cheap,\na,500\n"
    contract = DataContract(interactions=log_contract(), items=ItemsContract(**AS_OF))
    loaded = load_items([source(tmp_path / "items.csv", data)], contract, 1000)
    assert loaded.table.to_pylist() == load(tmp_path / "items.csv", CHANGES, 1000, **AS_OF)
    assert loaded.skipped == 4


def test_times_of_items_in_the_pattern_of_the_log(tmp_path: Path) -> None:
    log = {"timestamp_pattern": "%d.%m.%Y", "time_zone": "Europe/Rome"}
    text = "item_id,since,price,maker\na,01.06.2023,1,\na,02.06.2023,2,\n"
    cut = 1_685_656_800 + 1  # 2 June 2023, 00:00 in Rome, is 22:00 UTC of the day before
    assert load(tmp_path / "items.csv", text, cut - 1, log, **AS_OF)[0]["price"] == [1.0]
    assert load(tmp_path / "items.csv", text, cut, log, **AS_OF)[0]["price"] == [2.0]


def test_users_by_id_and_time(tmp_path: Path) -> None:
    users = UsersContract(features=(Feature(name="age", type="number"),), timestamp="since")
    contract = DataContract(interactions=log_contract(timestamp_unit="milliseconds"), users=users)
    text = "user_id,since,age\nv,{2},50\nu,{1},31\nu,{0},30\n"
    data = text.format(*(f"{NOW + n}999" for n in range(3)))
    table = load_users([source(tmp_path / "users.csv", data)], contract).table
    assert table.to_pylist() == [
        {"user_id": "u", "time": NOW, "age": [30.0]},
        {"user_id": "u", "time": NOW + 1, "age": [31.0]},
        {"user_id": "v", "time": NOW + 2, "age": [50.0]},
    ]
    with pytest.raises(
        DataError, match=r"1 user ids stand more than once: 'u' at users.csv:3, users.csv:4.*users.time"
    ):
        load_users(
            [source(tmp_path / "users.csv", data)],
            DataContract(interactions=log_contract(), users=UsersContract()),
        )


def test_ids_of_items_are_text_whatever_their_type(tmp_path: Path) -> None:
    parts = [pa.array([7.0, np.nan]), pa.array([7, 8])]
    table = pa.table({"item_id": parts[1], "price": parts[0]})
    assert load(tmp_path / "items.parquet", table, features=(PRICE,)) == [
        {"item_id": "7", "price": [7.0]},
        {"item_id": "8", "price": []},
    ]
