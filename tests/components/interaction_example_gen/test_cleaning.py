"""Rows of the log, good and bad: what each becomes, and the words and samples that a person reads of the others."""

import gzip
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from components.errors import DataError
from components.interaction_example_gen.contract import Drop, InteractionType
from components.interaction_example_gen.rejected import write_rejected
from tests.components.interaction_example_gen.small_file import (
    COLUMNS,
    HEADER,
    NOW,
    clean_file,
    log_of,
    merge_cleaned,
    source,
)
from trainer.features import Feature


def times_of(path: Path, values: list[Any], **settings: Any) -> tuple[list[int], dict[str, int]]:
    """A column of timestamps → the accepted seconds, and the rejected rows by reason."""
    rows = "".join(f'u{place},a,view,"{value}"\n' for place, value in enumerate(values))
    cleaned = clean_file(source(path / "log.csv", HEADER + rows), **settings)
    return cleaned.table["timestamp"].to_pylist(), dict(cleaned.report.rejected.counts)


def utc(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=timezone.utc).timestamp())  # type: ignore[misc,arg-type]


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
    values = [(NOW + n) * scale for n in range(3)]
    message = (
        rf"log.csv:2: column 'timestamp' is {NOW * scale}, got 3 of 3 .* expected {unit} .*timestamp_unit: {likely}"
    )
    with pytest.raises(DataError, match=message):
        times_of(tmp_path, values, timestamp_unit=unit)
    assert times_of(tmp_path, values, timestamp_unit=likely) == ([NOW, NOW + 1, NOW + 2], {})
    assert times_of(tmp_path, [*values, NOW * 10**9], timestamp_unit=likely)[1] == {f"timestamp is not in {likely}": 1}


def test_parquet_times_carry_their_own_unit(tmp_path: Path) -> None:
    """Whatever the contract says, and with more digits than it keeps."""
    rest = {"user_id": [7, 7], "item_id": ["a", "b"], "interaction_type": ["view", "view"]}  # ids may be numbers
    for zone in ("UTC", None):
        when = pa.array([NOW * 10**9 + 999_999_999, None], type=pa.timestamp("ns", zone))
        file = source(tmp_path / "log.parquet", pa.table({**rest, "timestamp": when}))
        for setting in ({"timestamp_unit": "milliseconds"}, {"timestamp_pattern": "%d/%m/%Y"}):
            cleaned = clean_file(file, **setting)
            assert (cleaned.table["user_id"].to_pylist(), cleaned.table["timestamp"].to_pylist()) == (["7"], [NOW])
            assert cleaned.report.figures[1]["rows_rejected"] == 1
    days = pa.array([15_192, 15_061], type=pa.date32())  # 2011-08-06 and 2011-03-28, both in summer time
    cleaned = clean_file(
        source(tmp_path / "log.parquet", pa.table({**rest, "timestamp": days})), time_zone="Europe/London"
    )
    assert cleaned.table["timestamp"].to_pylist() == [15_192 * 86_400 - 3_600, 15_061 * 86_400 - 3_600]


ISO_8601 = {
    "2011-12-09T08:26:00Z": utc(2011, 12, 9, 8, 26),
    "2011-12-09 08:26:00.5+00": utc(2011, 12, 9, 8, 26),
    "2011-12-09T08:26:00-05:30": utc(2011, 12, 9, 13, 56),
    "2011-12-09T08:26:00.123+0530": utc(2011, 12, 9, 2, 56),
    "2011-12-09 08:26:00 UTC": utc(2011, 12, 9, 8, 26),
    # in London, an hour ahead in summer:
    "2011-12-09": utc(2011, 12, 9),
    "2011-07-09T08:26": utc(2011, 7, 9, 7, 26),
    "2011-07-09 08:26:30.25": utc(2011, 7, 9, 7, 26, 30),
}


@pytest.mark.parametrize("zoned", ["with", "without", "mixed"])
def test_iso_8601_with_a_zone_and_without(zoned: str, tmp_path: Path) -> None:
    has_zone = {text: text[-1] in "ZC" or "+" in text or "-05" in text for text in ISO_8601}
    some = [text for text in ISO_8601 if zoned == "mixed" or has_zone[text] == (zoned == "with")]
    london = {"timestamp_unit": "iso8601", "time_zone": "Europe/London"}
    assert times_of(tmp_path, some, **london) == ([ISO_8601[text] for text in some], {})
    odd = ["", "soon", "12", "may", "12/09/2011", "2011-02-30", "2011-12-09 25:00", "2011-12-09 08:26 EST"]
    good, rejected = times_of(tmp_path, [*some, *odd], **london)
    assert good == [ISO_8601[text] for text in some]
    assert rejected == {"timestamp is not an ISO 8601 time": len(odd)}
    message = r"log.csv:2: column 'timestamp' is '', and none of 16 values can be read; expected an ISO 8601 time.*Corr"
    with pytest.raises(DataError, match=message):
        times_of(tmp_path, odd * 2, **london)


def test_a_pattern_over_the_change_to_summer_time(tmp_path: Path) -> None:
    london = {"timestamp_pattern": "%d/%m/%Y %H:%M", "time_zone": "Europe/London"}
    # On 27 March 2011 clocks went from 01:00 to 02:00, which was 01:00 UTC; on 30 October from 02:00 back to 01:00.
    read = {
        "27/03/2011 00:59": utc(2011, 3, 27, 0, 59),
        "27/03/2011 01:30": utc(2011, 3, 27, 1, 0),  # never was
        "27/03/2011 02:00": utc(2011, 3, 27, 1, 0),
        "30/10/2011 01:30": utc(2011, 10, 30, 0, 30),  # was twice
        "1/3/2011 9:05": utc(2011, 3, 1, 9, 5),
    }
    odd = ["31/02/2011 08:00", "12/13/2011 08:00", "09/12/2011", "09/12/2011 08:26 or so", ""]
    good, rejected = times_of(tmp_path, [*read, *odd], **london)
    assert good == list(read.values())
    assert rejected == {"timestamp is not a time as '%d/%m/%Y %H:%M'": len(odd)}
    assert times_of(tmp_path, odd, **london)[0] == []  # so few rows may all be odd
    with pytest.raises(
        DataError, match=r"'31/02/2011 08:00', and none of 10 values can be read; expected a time as '%d"
    ):
        times_of(tmp_path, odd * 2, **london)
    precise = {"timestamp_pattern": "%d/%m/%Y %H:%M:%S.%f %z", "time_zone": "Europe/London"}
    assert times_of(tmp_path, ["09/07/2011 08:26:00.250 +0100"], **precise) == ([utc(2011, 7, 9, 7, 26)], {})
    assert times_of(tmp_path, ["09/07/11 08 PM +0100"], timestamp_pattern="%d/%m/%y %I %p %z")[0] == [
        utc(2011, 7, 9, 19)
    ]


def test_clocks_that_differ(tmp_path: Path) -> None:
    """Two servers' files, some seconds apart and out of order; and what is later than its file, beyond five minutes."""
    ahead = source(tmp_path / "0.csv", HEADER + f"u,a,view,{NOW + 7}\nu,b,view,{NOW + 3}\n", written_at_seconds=NOW)
    behind = source(
        tmp_path / "1.csv",
        HEADER + f"u,b,view,{NOW + 300}\nu,a,view,{NOW + 5}\nu,a,view,{NOW + 301}\n",
        written_at_seconds=NOW,
    )
    cleaned = [clean_file(ahead), clean_file(behind)]
    merged, report = merge_cleaned(cleaned, "ab")
    assert [(item, time - NOW) for _, item, _, time in log_of(merged)] == [("b", 3), ("a", 5), ("a", 7), ("b", 300)]
    assert report.figures[1]["rows_in_future"] == 1
    account = report.rejected.to_json()["the timestamp is later than its file"]
    assert account["count"] == 1
    assert account["samples"] == [
        f"1.csv:4: user_id='u', item_id='a', interaction_type='view', timestamp='{NOW + 301}'"
    ]


def test_types_by_pattern_and_role(tmp_path: Path) -> None:
    types = {
        "purchase": InteractionType(weight=3, pattern="purchase [0-9]+"),
        "cancellation": InteractionType(role="negative", pattern="C.*"),
        "ping": InteractionType(role="ignored"),
        "v.ew": 1.0,  # a name, not a pattern
    }
    written = ["purchase 12", "C536379", "ping", "v.ew", "view", "purchase", "a purchase 1", "", "CC\n1"]
    rows = "".join(f'u,a,"{kind}",{place}\n' for place, kind in enumerate(written))
    merged, report = merge_cleaned(
        [clean_file(source(tmp_path / "log.csv", HEADER + rows), types=types)], "a", types=types
    )
    assert [kind for _, _, kind, _ in log_of(merged)] == [
        "purchase", "cancellation", "v.ew", "view", "purchase", "a purchase 1", "CC\n1"
    ]  # fmt: skip
    # "purchase" alone does not match the pattern, but stands there under a declared name
    assert report.undeclared_types == {"view": 1, "a purchase 1": 1, "CC\n1": 1}
    assert dict(report.left_out.counts) == {"an ignored interaction type": 1}
    assert dict(report.rejected.counts) == {"interaction_type is empty": 1}
    no_type = source(tmp_path / "log.csv", "user_id,item_id,timestamp\nu1,a,1\n")
    assert clean_file(no_type, interaction_type=None).table["interaction_type"].to_pylist() == ["view"]


def test_drops_are_left_out_and_not_rejected(tmp_path: Path) -> None:
    drop = (
        Drop(column="user_id", pattern=""),
        Drop(column="user_id", pattern="test.*|qa"),
        Drop(column="x", pattern="1"),
    )
    text = HEADER.strip() + ",x\n,a,view,1,\ntester,a,view,2,\nqa,a,view,3,\nqa1,a,view,4,\nu,,view,5,\nv,a,view,6,1\n"
    cleaned = clean_file(source(tmp_path / "log.csv", text), drop=drop)
    assert cleaned.table["user_id"].to_pylist() == ["qa1"]
    account = cleaned.report.left_out.to_json()
    assert {reason: found["count"] for reason, found in account.items()} == {
        "user_id is 'test.*|qa' (drop)": 2, "user_id is empty (drop)": 1, "x is '1' (drop)": 1
    }  # fmt: skip
    assert account["user_id is empty (drop)"]["samples"][0].startswith("log.csv:2: user_id='', item_id='a'")
    assert dict(cleaned.report.rejected.counts) == {"item_id is empty": 1}
    assert cleaned.rejected["line"].to_pylist() == [6]
    many = tuple(Drop(column="user_id", pattern=str(number)) for number in range(200))  # each reason has its number
    assert clean_file(source(tmp_path / "log.csv", HEADER + "199,a,view,1\n"), drop=many).report.left_out.counts == {
        "user_id is '199' (drop)": 1
    }


def test_duplicates_by_key_and_robots(tmp_path: Path) -> None:
    rows = ["u,a,view,9,k1", "u,b,view,5,k1", "v,a,view,5,k1", "u,a,view,9,k2"]  # by time: u's b is the first of k1
    rows += [f"robot,a,view,{3600 + minute * 60},r{minute}" for minute in range(4)]
    settings: dict[str, Any] = {"deduplicate_by": ("event",), "max_events_per_hour": 3}
    file = source(tmp_path / "log.csv", HEADER.strip() + ",event\n" + "\n".join(rows))
    merged, report = merge_cleaned([clean_file(file, **settings)], "ab", **settings)
    assert log_of(merged) == [("u", "b", "view", 5), ("v", "a", "view", 5)]
    # u's second a at 9 equals the first, whatever its key
    assert report.duplicated.counts.total() == 2
    assert dict(report.left_out.counts) == {"of a robot: more than 3 events in an hour": 4}
    assert report.figures[1] == {"rows_read": 8, "rows_duplicated": 2, "rows_left_out": 4}


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        ("user_id", {}),
        ("timestamp", {}),
        ("x", {"deduplicate_by": ("x",)}),
        ("x", {"drop": (Drop(column="x", pattern=""),)}),
        ("x", {"context": (Feature(name="x"),)}),
    ],
)
def test_several_values_where_one_is_expected(column: str, settings: dict[str, Any], tmp_path: Path) -> None:
    table = {**{name: ["1"] for name in COLUMNS}, column: [[1, 2]]}
    for kind in (pa.list_(pa.int64()), pa.list_(pa.int64(), 2)):
        file = source(tmp_path / "log.parquet", pa.table({**table, column: pa.array([[1, 2]], type=kind)}))
        with pytest.raises(DataError, match=rf"log.parquet: column '{column}' is .*list.*; expected one value per row"):
            clean_file(file, **settings)


def test_context_numbers_and_columns_called_as_ours(tmp_path: Path) -> None:
    context = (Feature(name="reason"), Feature(name="line", type="number"))
    text = HEADER.strip() + ",reason,line\nu,a,view,1,gift,2.5\nu,a,view,2,,\nu,a,view,3,sale,inf\nu,a,view,4,sale,x\n"
    cleaned = clean_file(source(tmp_path / "log.csv", text), context=context)
    assert cleaned.table["context:reason"].to_pylist() == ["gift", ""]
    assert str(cleaned.table["context:line"].to_pylist()) == "[2.5, nan]"
    assert dict(cleaned.report.rejected.counts) == {"line is not a number": 2}
    write_rejected(str(tmp_path / "rejected.csv.gz"), cleaned.rejected)
    written = gzip.decompress((tmp_path / "rejected.csv.gz").read_bytes()).decode().splitlines()
    assert written[0].replace('"', "") == "reason,file,line,user_id,item_id,interaction_type,timestamp,reason,line"
    assert written[1].replace('"', "") == "line is not a number,log.csv,4,u,a,view,3,sale,inf"


ODD = st.one_of(
    st.tuples(
        st.sampled_from(["u1", "u2", "bot", "test", " ", "", "ü", '"q"']),
        st.sampled_from(["a", "b", "nowhere", "", "a\nb"]),
        st.sampled_from(["view", "buy 1", "C7", "ping", "surprise", ""]),
        st.sampled_from(
            ["1", "2", "3", "3700", "1e3", "-4", "soon", "", "nan", "inf", "1e12", str(NOW), str(NOW + 400)]
        ),
        st.sampled_from(["k1", "k2", ""]),
        st.sampled_from(["0.5", "", "x", "1e40"]),
    ),
    st.just(("u1", "a")),  # too few fields
)


@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    st.lists(st.lists(ODD, max_size=12), min_size=1, max_size=3), st.sampled_from(["seconds", "iso8601", "%Y-%m-%d"])
)
def test_no_row_is_lost_without_a_count(files: list[list[tuple[str, ...]]], how: str) -> None:
    """Of every file that can be read: rows read = accepted + rejected + duplicated + left out. Else a DataError."""
    contract: dict[str, Any] = {
        "types": {
            "view": 1.0,
            "buy": InteractionType(pattern="buy [0-9]"),
            "C": InteractionType(role="negative", pattern="C.*"),
            "ping": InteractionType(role="ignored"),
        },
        "context": (Feature(name="price", type="number"),),
        "deduplicate_by": ("key",),
        "drop": (Drop(column="user_id", pattern="test"),),
        "max_events_per_hour": 4,
        **({"timestamp_pattern": how} if how.startswith("%") else {"timestamp_unit": how}),
    }
    cleaned, num_rows = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number, rows in enumerate(files):
            written = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in rows]
            text = HEADER.strip() + ",key,price\n" + "\n".join(written)
            file = source(Path(folder, f"{number}.csv"), text, index=number, written_at_seconds=NOW)
            try:
                cleaned.append(clean_file(file, **contract))
            except DataError:
                continue
            num_rows += sum(any(row) for row in rows)  # a row without any value is a blank line
    if not any(len(part.table) for part in cleaned):
        return
    merged, report = merge_cleaned(cleaned, "ab", **contract)
    figures = report.figures[1]
    refused = sum(figures[f"rows_{kind}"] for kind in ("rejected", "duplicated", "left_out"))
    assert figures["rows_read"] == num_rows == refused + len(log_of(merged))
    accounts = (report.rejected, report.duplicated, report.left_out)
    assert refused == sum(account.counts.total() for account in accounts)
    kept = sum(len(part.rejected) for part in cleaned) + len(merged.refused)
    assert kept == figures["rows_rejected"] + figures["rows_duplicated"]
    assert all(user in ("u1", "u2", "bot", "ü", '"q"') and item in "ab" for user, item, _, _ in log_of(merged))
