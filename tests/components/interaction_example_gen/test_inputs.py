"""Files as they come, good and bad: the rows that are read and their lines, or the message that a person reads."""

import gzip
import json
import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from components.errors import DataError
from components.interaction_example_gen.read import read_blocks
from tests.components.interaction_example_gen.small_file import (
    COLUMNS,
    HEADER,
    clean_file,
    log_of,
    merge_cleaned,
    read_all,
    source,
)

GOOD = {"user_id": "u1", "item_id": "a", "interaction_type": "view", "timestamp": 5}
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "log.csv.gz",
            gzip.compress(HEADER.encode() * 99, mtime=0)[:-9],
            r"log.csv.gz: truncated or not gzip .*Copy the file",
        ),
        ("log.csv.gz", b"plain text", r"log.csv.gz: truncated or not gzip"),
        ("log.xlsx", "x", r"log.xlsx: format not known by its name; expected one of .csv, .tsv"),
        ("log.csv", "user_id;item_id\n1;2\n", r"column 'user_id', .* not found; the file has \['user_id;item_id'\]"),
        (
            "log.csv",
            HEADER.encode() + b"u1,caf\xe9,view,1\n",
            r"log.csv:2: not UTF-8 near .*caf\\xe9.*save the file as",
        ),
        ("log.csv", HEADER.encode("utf-16"), r"log.csv:1: not UTF-8 near b'\\xff\\xfeu.*save the file as UTF-8"),
        ("log.csv", "user_id,user_id,item_id,interaction_type,timestamp\n", r"column 'user_id' stands more than once"),
        ("log.csv", HEADER.replace("\n", "\r") + "u1,a,view,1\r", r"log.csv:1: not readable as CSV .*ends in \\n or"),
        ("log.csv", HEADER + 'u1,a,view,1\n"u2,a,view,2\nu3,a,view,3\n', r"log.csv:3: a double quote opens .*Close"),
        ("log.jsonl", '[{"user_id": "u1"}]', r"log.jsonl:1: expected one JSON object per line"),
        ("log.jsonl", json.dumps(GOOD, indent=1), r"log.jsonl:1: not JSON .*expected one JSON object per line"),
        ("log.jsonl", '{"user_id": "u1", "item": "a"}', r"'item_id', .* not found; the file has \['item', 'user_id'\]"),
        ("log.parquet", b"PAR1 but not really", r"log.parquet: not readable as Parquet .*; 19 bytes. Copy the file"),
    ],
)
def test_unusable_files(name: str, data: bytes | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_all(source(tmp_path / name, data))


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    source(path, pa.table({name: ["x"] for name in COLUMNS}))
    with pytest.raises(DataError, match=r"log.parquet: not readable as Parquet .* bytes. Copy the file again"):
        read_all(source(path, path.read_bytes()[:-20]))


def test_a_truncated_gzip_is_told_after_its_good_blocks(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 10**9, (20_000, 2))
    text = HEADER + "".join(f"u{user},i{item},view,1\n" for user, item in noise)
    packed = gzip.compress(text.encode())
    blocks = read_blocks(source(tmp_path / "log.csv.gz", packed[: len(packed) // 2]), COLUMNS, block_bytes=100_000)
    assert next(blocks).table["user_id"][0].as_py() == f"u{noise[0, 0]}"
    with pytest.raises(DataError, match=rf"log.csv.gz: truncated or not gzip .*; {len(packed) // 2} bytes"):
        list(blocks)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.jsonl", "log.jsonl.gz"])
@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_of_windows(name: str, mark: bytes, end: str, tmp_path: Path) -> None:
    if "json" in name:
        lines = [json.dumps(GOOD), "", "{broken", json.dumps({**GOOD, "user_id": "u2"})]
    else:
        lines = [HEADER.strip(), "u1,a,view,5", "", "u1,a", '"u2",a,view,5']
        lines = [line.replace(",", "\t") for line in lines] if "tsv" in name else lines
    data = mark + (end.join(lines) + end).encode()
    rows = read_all(source(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data))
    first = 1 if "json" in name else 2
    assert rows.table["user_id"].to_pylist() == ["u1", "u2"]
    assert rows.table["timestamp"].cast(pa.string()).to_pylist() == ["5", "5"]
    assert rows.lines.tolist() == [first, first + 3]
    assert [line for line, _ in rows.malformed] == [first + 2]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log.csv", ""),
        ("log.csv", BOM),
        ("log.csv", " \n\r\n\t\n"),
        ("log.csv", HEADER),
        ("log.csv", HEADER.strip()),
        ("log.csv.gz", gzip.compress(b"", mtime=0)),
        ("log.jsonl", "\n\n"),
        ("log.parquet", ""),
        ("log.parquet", pa.table({name: pa.array([], pa.string()) for name in COLUMNS})),
    ],
)
def test_a_file_without_rows_is_read_as_such(name: str, data: bytes | str | pa.Table, tmp_path: Path) -> None:
    rows = read_all(source(tmp_path / name, data))
    assert rows.table.column_names == list(COLUMNS)
    assert (len(rows.table), len(rows.lines), rows.malformed) == (0, 0, [])


def test_odd_lines_are_numbered_and_counted(tmp_path: Path) -> None:
    lines = [
        json.dumps(GOOD),
        "",
        "{broken",
        json.dumps({**GOOD, "user_id": 7}),
        json.dumps({**GOOD, "timestamp": "x"}),
    ]
    cleaned = clean_file(source(tmp_path / "log.jsonl", "\n".join(lines) + "\n"))
    table, account = cleaned.table, cleaned.report.rejected
    assert table["user_id"].to_pylist() == ["u1", "7"]
    assert table["line"].to_pylist() == [1, 4]
    assert account.counts == {"malformed line": 1, "timestamp is not a number": 1}
    assert account.samples["malformed line"][0][2].startswith("log.jsonl:3: not JSON")
    assert account.samples["timestamp is not a number"][0][2].startswith("log.jsonl:5: user_id='u1'")
    kept = cleaned.rejected.select(["reason", "file", "line", "user_id", "timestamp"]).to_pylist()
    assert kept[0] == {
        "reason": "timestamp is not a number", "file": "log.jsonl", "line": 5, "user_id": "u1", "timestamp": "x"
    }  # fmt: skip
    assert kept[1]["reason"].startswith("malformed line: not JSON")
    assert (kept[1]["line"], kept[1]["user_id"]) == (3, "")


def test_an_id_is_one_id_whatever_its_type_in_a_file(tmp_path: Path) -> None:
    rest = {"item_id": ["a"], "interaction_type": ["view"]}
    number = 12_345_678_901
    ids = [pa.array([number]), pa.array([str(number)]), pa.array([float(number)]), pa.array([Decimal(number)])]
    files = [
        source(tmp_path / f"{place}.parquet", pa.table({"user_id": values, **rest, "timestamp": [place]}))
        for place, values in enumerate([*ids, pa.array([str(number)]).dictionary_encode()])
    ]
    odd = json.dumps({**GOOD, "user_id": number}) + "\n" + json.dumps({**GOOD, "user_id": str(number), "timestamp": 6})
    files.append(source(tmp_path / "mixed.jsonl", odd))
    merged, _ = merge_cleaned([clean_file(file) for file in files], "a")
    assert log_of(merged) == [(str(number), "a", "view", seconds) for seconds in range(7)]


def test_json_numbers_and_times_stay_as_they_are_written(tmp_path: Path) -> None:
    """Arrow would take 64-bit ids for floats, and text that looks like a time for a time."""
    ids = [2**64 - 1, 2**64 - 2, 7]
    for user in ids[:2], ids:
        text = "".join(json.dumps({**GOOD, "user_id": u, "timestamp": "2011-12-09T08:26:00Z"}) + "\n" for u in user)
        cleaned = clean_file(source(tmp_path / "log.jsonl", text), timestamp_unit="iso8601")
        assert cleaned.table["user_id"].to_pylist() == [str(u) for u in user]
    rows = read_all(source(tmp_path / "log.jsonl", '{"t": "2011-12-09T08:26:00Z"}\n'), ["t"])
    assert rows.table["t"].to_pylist() == ["2011-12-09T08:26:00Z"]


def test_a_json_key_may_be_missing_in_later_blocks(tmp_path: Path) -> None:
    file = source(tmp_path / "log.jsonl", '{"t": 1, "x": "y"}\n{"t": 2}\n{"t": 3, "x": null}\n')
    assert read_all(file, ["t", "x"], block_bytes=10).table["x"].to_pylist() == ["y", "", ""]


def test_two_objects_in_a_line_are_not_two_rows(tmp_path: Path) -> None:
    rows = read_all(source(tmp_path / "log.jsonl", '{"t": 1}{"t": 2}\n{"t": 3}\n'), ["t"])
    assert (rows.table["t"].to_pylist(), rows.lines.tolist()) == (["3"], [2])
    assert rows.malformed[0][0] == 1


def test_line_ends_in_quotes(tmp_path: Path) -> None:
    """And quotes that are only text, and a header of two lines."""
    text = '\n"user_id","the\nitem"\nu1,"a\nb"\nu2,5" screen\nu3\nu4,"say ""hi""\r\n\n"\n\n"u5",x"y"\nu6,"z"\n'
    expected = [
        (4, "u1", "a\nb"), (6, "u2", '5" screen'), (8, "u4", 'say "hi"\r\n\n'), (12, "u5", 'x"y"'), (13, "u6", "z")
    ]  # fmt: skip
    for block_bytes in (7, 20, 1000):
        rows = read_all(source(tmp_path / "log.csv", text), ["user_id", "the\nitem"], block_bytes)
        users, items = rows.table["user_id"].to_pylist(), rows.table["the\nitem"].to_pylist()
        assert list(zip(rows.lines.tolist(), users, items, strict=True)) == expected
        assert rows.malformed == [(7, "expected 2 fields, got 1: u3")]


def test_a_packed_parquet_file(tmp_path: Path) -> None:
    source(tmp_path / "log.parquet", pa.table({name: ["x"] for name in COLUMNS}))
    packed = gzip.compress((tmp_path / "log.parquet").read_bytes())
    assert read_all(source(tmp_path / "log.parquet.gz", packed)).table["user_id"].to_pylist() == ["x"]


def test_a_large_csv(tmp_path: Path) -> None:
    rows = [f'"u,{n}",a,view,{n}' for n in range(50_000)]
    rows[40_000] = "short"
    read = read_all(source(tmp_path / "log.csv", HEADER + "\n".join(rows) + "\n"), block_bytes=100_000)
    assert read.table["user_id"][39_999].as_py() == "u,39999"
    assert read.malformed == [(40_002, "expected 4 fields, got 1: short")]
    assert read.lines[40_000] == 40_003


VALUES = st.sampled_from(["u", '"', ",", "\n", "é", " ", '""', "a,b\n", "7"])


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.lists(st.tuples(*[st.lists(VALUES, max_size=4).map("".join)] * 2, st.booleans()), max_size=8), st.data())
def test_blocks_of_any_size_give_the_same_rows(rows: list[tuple[str, str, bool]], data: st.DataObject) -> None:
    """CSV with every field quoted, or only where it must be; JSON lines, some of them broken."""

    def written(value: str, all_quoted: bool) -> str:
        must = all_quoted or value.startswith('"') or any(letter in value for letter in ",\n")
        return '"' + value.replace('"', '""') + '"' if must else value

    lines = [",".join(written(value, quoted) for value in (one, two)) for one, two, quoted in rows]
    as_json = [json.dumps({"x": one, "y": two}) if ok else one.replace("\n", " ") for one, two, ok in rows]
    block_bytes = data.draw(st.integers(10, 60))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("log.csv", ["x,y", *lines]), ("log.jsonl", ['{"x": "", "y": ""}', *as_json])):
            file = source(Path(folder, name), "\n".join(text))
            whole, parts = read_all(file, ["x", "y"]), read_all(file, ["x", "y"], block_bytes)
            assert whole.table.to_pylist() == parts.table.to_pylist()
            assert whole.lines.tolist() == parts.lines.tolist()
            assert whole.malformed == parts.malformed
            if name == "log.csv":
                kept = [{"x": one, "y": two} for one, two, _ in rows if one or two]
                assert whole.table.to_pylist() == kept
