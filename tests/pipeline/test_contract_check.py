"""`contract check`: sound data pass; each thing that can be wrong has its FAIL or WARN, in words, with rows."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError, PipelineConfig, read_config
from pipeline.contract_check.check import check
from pipeline.contract_check.line import Line, has_failed, tell

Check = Callable[..., list[Line]]
HOUR = 3_600
NOON = 1_709_294_400  # 2024-03-01 12:00 UTC
LOG, ITEMS, USERS = "log/2024-03-01.csv", "items.csv", "users.csv"

CONTRACT: dict[str, Any] = {
    "interactions": {
        "files": "log/{YYYY}-{MM}-{DD}.csv",
        "user_id": "user",
        "item_id": "item",
        "timestamp": "time",
        "interaction_type": "kind",
        "types": {"view": 1.0, "buy": 2.0, "return": {"role": "negative"}, "ping": {"role": "ignored"}},
        "context": [{"name": "hour", "type": "number"}],
        "drop": [{"column": "user", "pattern": "test.*"}],
        "max_events_per_hour": 100,
    },
    "items": {"title": "name", "features": [{"name": "price", "type": "number"}]},
    "users": {"features": [{"name": "age", "type": "number"}]},
}


def log_rows(count: int = 200) -> list[str]:
    """Users u0 … u9, items i0 … i6; three minutes apart, around noon; mostly views."""
    kinds = ["view"] * 16 + ["buy", "buy", "return", "ping"]
    return [f"u{n % 10},i{n % 7},{NOON - 5 * HOUR + 180 * n},{kinds[n % 20]},{n % 24}" for n in range(count - 1)] + [
        f"test-1,i1,{NOON},view,12"
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "log").mkdir(parents=True)
    put(root / LOG, log_rows())
    (root / ITEMS).write_text("item_id,name,price\n" + "".join(f"i{n},Item {n},{n}.5\n" for n in range(7)))
    (root / USERS).write_text("user_id,age\n" + "".join(f"u{n},{20 + n}\n" for n in range(12)))
    return root


def put(path: Path, rows: list[str], header: str = "user,item,time,kind,hour") -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


def changed(path: Path, edit: Callable[[str], str], every: int = 1) -> None:
    """Edits every n-th row."""
    header, *rows = path.read_text().splitlines()
    put(path, [edit(row) if n % every == 0 else row for n, row in enumerate(rows)], header)


@pytest.fixture
def checked(data: Path, tmp_path: Path) -> Check:
    def run(label: str | None = None, **interactions: Any) -> list[Line]:
        return check(config_of(tmp_path, **interactions), label)

    return run


def config_of(folder: Path, **interactions: Any) -> PipelineConfig:
    contract = CONTRACT | {"interactions": CONTRACT["interactions"] | interactions}
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": "tiny", "data_root": "data", "contract": contract}))
    return read_config(folder / "config.yaml")


def one(lines: list[Line], what: str) -> Line:
    """The line about it: the worst when there are several."""
    found = [line for line in lines if line.what == what]
    assert found, f"no line about {what!r}: {[line.what for line in lines]}"
    return max(found, key=lambda line: ["PASS", "WARN", "FAIL"].index(line.level))


def test_sound_data_pass(checked: Check) -> None:
    lines = checked()
    assert {line.level for line in lines} == {"PASS"}, tell(lines)
    assert not has_failed(lines)
    assert "span 2024-03-01: log/2024-03-01.csv" in one(lines, "files").sentence
    # 200 rows: one of a test account, every 20th of 199 a ping
    assert "10 of 200 rows (5.00%)" in one(lines, "left out").sentence
    assert "9 × an ignored interaction type" in one(lines, "left out").sentence
    assert one(lines, "roles").sentence == "180 positive, 10 negative"
    assert one(lines, "times").sentence.startswith("2024-03-01 07:00 to 2024-03-01 16:54 (UTC)")
    assert "10 of the span's 10 users are among the 12" in one(lines, "users joined").sentence


def test_lines_line_up_and_end_in_a_verdict(checked: Check, data: Path) -> None:
    assert tell(checked()).splitlines()[-1] == f"READY: {len(checked())} of {len(checked())} checks passed"
    changed(data / LOG, lambda row: row.replace("u1,", ",", 1), every=7)
    text = tell(checked()).splitlines()
    assert text[-1].startswith("NOT READY: 1 of ")
    sentences = [line for line in text[:-1] if line[:4] in ("PASS", "WARN", "FAIL")]
    starts = {line.index(line[6:].split("  ")[-1].strip()) for line in sentences if "  " in line[6:]}
    assert len(starts) == 1
    fail = next(n for n, line in enumerate(text) if line.startswith("FAIL"))
    assert "log/2024-03-01.csv:23: user=''" in text[fail + 1]  # row 21 stands in line 23, the first of u1 that is a 7th


Spoil = Callable[[Path], Any]


def edited(name: str, edit: Callable[[str], str], every: int = 1) -> Spoil:
    return lambda data: changed(data / name, edit, every)


def without(field: int) -> Callable[[str], str]:
    def edit(row: str) -> str:
        fields = row.split(",")
        return ",".join([*fields[:field], "", *fields[field + 1 :]])

    return edit


def bytes_of(name: str, content: bytes) -> Spoil:
    return lambda data: (data / name).write_bytes(content)


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda row: row.replace(old, new)


IN_A_HURRY = [f"u1,i{n % 7},{NOON + 10 * n},view,1" for n in range(150)]  # 25 minutes
SPOILED: dict[str, tuple[Spoil, str, str, str]] = {
    "no file": (lambda data: (data / LOG).unlink(), "FAIL", "files", "has no file"),
    "no header": (lambda data: put(data / LOG, log_rows(), "a,b,c,d,e"), "FAIL", "format", "column 'user'"),
    "empty": (bytes_of(LOG, b""), "FAIL", "rows", "log/2024-03-01.csv: no row"),
    "not UTF-8": (bytes_of(LOG, b"user,item,time,kind,hour\n\xff\xfe,i,1,view,1\n"), "FAIL", "format", "not UTF-8"),
    "fields": (edited(LOG, lambda row: f"{row},x", 9), "FAIL", "lines", "expected 5 fields, got 6"),
    "users": (edited(LOG, without(0), 9), "FAIL", "users", "user is empty"),
    "one user": (edited(LOG, without(0), 199), "WARN", "users", "2 of 200 rows (1.00%)"),
    "items": (edited(LOG, without(1), 9), "FAIL", "items", "item is empty"),
    "times": (edited(LOG, swap(",17", ",x17"), 9), "FAIL", "times", "time is not a number"),
    "unit": (edited(LOG, swap(",view", "000,view")), "FAIL", "values", "milliseconds"),
    "future": (edited(LOG, swap(",17", ",39"), 9), "FAIL", "times", "later than its file"),
    "date": (edited(LOG, swap(",17092", ",17082"), 3), "FAIL", "times", "out of the span's date"),
    "1970": (edited(LOG, swap(",1709", ",9"), 9), "WARN", "times", "22 of 190 rows (11.58%) before 1990"),
    "types": (edited(LOG, swap("view", "thumbs_up"), 9), "FAIL", "types", "'thumbs_up' (1"),
    "never": (edited(LOG, swap("buy", "view")), "WARN", "types", "declared 'buy'"),
    "type": (edited(LOG, without(3), 9), "FAIL", "types", "kind is empty"),
    "roles": (edited(LOG, lambda r: swap("view", "return")(swap("buy", "return")(r))), "FAIL", "roles", "0 positive"),
    "context": (edited(LOG, lambda row: f"{row}h", 9), "FAIL", "context", "hour is not a number"),
    "twice": (lambda data: put(data / LOG, log_rows() * 2), "FAIL", "duplicates", "(user, item, type and time)"),
    "tests": (edited(LOG, lambda row: f"test{row}"), "FAIL", "left out", "200 of 200 rows"),
    "robots": (lambda data: put(data / LOG, IN_A_HURRY), "WARN", "robots", "150 of 150 rows"),
    "catalog": (lambda data: (data / ITEMS).unlink(), "FAIL", "catalog", "nothing matches 'items.csv'"),
    "item": (edited(ITEMS, swap("i3", "i2")), "FAIL", "catalog", "'i2' at items.csv:4, items.csv:5"),
    "price": (edited(ITEMS, lambda row: f"{row} EUR", 3), "FAIL", "catalog", "column 'price' is '0.5 EUR'"),
    "scarce": (edited(ITEMS, without(2)), "WARN", "item features", "mostly empty: price (number)"),
    "unknown": (
        edited(ITEMS, lambda r: swap("i4", "x4")(swap("i5", "x5")(r))),
        "FAIL",
        "items joined",
        "not in the catalog",
    ),
    "strangers": (edited(USERS, lambda row: f"v{row}"), "FAIL", "users joined", "0 of the span's 10 users"),
    "ages": (edited(USERS, swap(",2", ",old")), "FAIL", "user features", "column 'age' is 'old0'"),
}


@pytest.mark.parametrize(("spoil", "level", "what", "words"), SPOILED.values(), ids=SPOILED)
def test_what_is_wrong_is_said(checked: Check, data: Path, spoil: Spoil, level: str, what: str, words: str) -> None:
    spoil(data)
    found = one(lines := checked(), what)
    assert found.level == level, tell(lines)
    assert words in " ".join([found.sentence, *found.samples]), tell(lines)
    assert has_failed(lines) == (level == "FAIL")


def test_unknown_items_are_named_with_the_most_frequent_first(checked: Check, data: Path) -> None:
    """i4 stands in two of seven rows, i6 in one."""
    changed(data / LOG, lambda row: row.replace("i5", "i4"))
    changed(data / ITEMS, lambda row: row.replace("i4", "x4").replace("i6", "x6"))
    samples = one(checked(), "items joined").samples
    assert [sample.split()[0] for sample in samples] == ["'i4'", "'i6'"]


def test_swapped_columns_are_recognised(checked: Check) -> None:
    """Most item ids are unknown, while the user ids stand in the catalog."""
    line = one(checked(user_id="item", item_id="user", drop=[]), "items joined")
    assert line.level == "FAIL"
    assert "look swapped" in line.sentence


def test_a_wrong_zone_shows_in_the_date(checked: Check) -> None:
    """In Auckland the day ends at 11:00 UTC: what is later is of the day after."""
    assert one(checked(time_zone="Pacific/Auckland"), "times").level == "FAIL"


def test_a_truncated_gzip_is_named(checked: Check, data: Path) -> None:
    whole = gzip.compress((data / LOG).read_bytes())
    (data / LOG).unlink()
    (data / f"{LOG}.gz").write_bytes(whole[: len(whole) // 2])
    line = one(checked(files="log/{YYYY}-{MM}-{DD}.csv.gz"), "format")
    assert line.level == "FAIL"
    assert "truncated or not gzip" in line.samples[0]


def test_the_newest_span_or_the_one_asked_for(checked: Check, data: Path) -> None:
    put(data / "log/2024-03-02.csv", [row.replace("view", "thumbs_up") for row in log_rows()])
    assert one(checked(), "files").sentence.startswith("span 2024-03-02")
    assert not has_failed(checked("2024-03-01"))
    assert one(checked("2023-01-01"), "files").level == "FAIL"
    with pytest.raises(ConfigError, match="neither a number nor a date"):
        checked("yesterday")


def test_versions_are_told(checked: Check, data: Path) -> None:
    for version in (1, 2):
        path = data / f"v{version}/{LOG}"
        path.parent.mkdir(parents=True)
        put(path, log_rows())
        os.utime(path)
    line = one(checked(files="v{version}/log/{YYYY}-{MM}-{DD}.csv"), "files")
    assert "v2/log/2024-03-01.csv of version 2" in line.sentence
