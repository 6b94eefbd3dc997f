"""The contract: what it refuses, in words, before anything is read; and which files are of which span."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from components.errors import DataError
from components.interaction_example_gen.contract import (
    DataContract,
    Drop,
    ExamplesConfig,
    InteractionsContract,
    InteractionType,
    ItemsContract,
    UsersContract,
    parse_config,
    parse_contract,
)
from components.interaction_example_gen.files import catalog_files, existing_spans, interaction_files, window_of
from components.interaction_example_gen.plan import make_plan
from components.interaction_example_gen.span_pattern import SpanPattern
from tests.components.interaction_example_gen.small_file import log_contract
from trainer.features import Feature


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": (Feature(name="tags", type="categories"),)}, "one value per interaction"),
        ({"interaction_type": None, "types": {"a": 1, "b": 1}}, r"must name exactly one type, got \['a', 'b'\]"),
        ({"types": {"a": {"role": "negative"}, "b": {"role": "ignored"}}}, r"no type is positive.*\['a', 'b'\]"),
        ({"types": {}}, "no type is positive"),
        ({"types": {"view": 0}}, "type 'view' has weight 0.0; expected a number above 0, or role: negative or ignored"),
        ({"types": {"view": float("inf")}}, "type 'view' has weight inf; expected a number above 0"),
        ({"types": {"view": {"weight": -1}}}, "greater than 0"),
        ({"types": {"view": {"weight": float("inf")}}}, "finite"),
        ({"types": {"view": {"role": "bad"}}}, "'positive', 'negative' or 'ignored'"),
        ({"types": {"view": {"pattern": "(x"}}}, r"type 'view': '\(x' is no regular expression"),
        ({"types": {"view": {"pattern": "(?!x)y"}}}, r"type 'view': '\(\?!x\)y' is no regular expression of RE2"),
        ({"drop": [{"column": "user_id", "pattern": "*"}]}, r"drop of 'user_id': '\*' is no regular expression"),
        ({"drop": [{"column": "user_id", "pattern": r"(x)\1"}]}, "is no regular expression of RE2"),
        ({"time_zone": "Rome"}, "time_zone 'Rome' is unknown; expected an IANA name such as 'Europe/Rome'"),
        ({"time_zone": ""}, "time_zone '' is unknown"),
        ({"timestamp_unit": "hours"}, "'seconds', 'milliseconds', 'microseconds' or 'iso8601'"),
        ({"timestamp_unit": "iso8601", "timestamp_pattern": "%Y-%m-%d"}, "'iso8601' are both set; keep one"),
        ({"timestamp_pattern": "%Y-%m-%d %T"}, r"timestamp_pattern '%Y-%m-%d %T' has %T; known: %%, %A, .*%z"),
        ({"timestamp_pattern": "%H:%M"}, r"timestamp_pattern '%H:%M' must say year, month and day"),
        ({"max_events_per_hour": 0}, "greater than or equal to 1"),
        ({"files": "log/*.csv"}, r"files is 'log/\*.csv', which names no placeholder; it must say which span"),
        ({"files": "log/{span}/{DD}/*"}, r"which names \['DD', 'span'\]; it must say"),
        ({"files": "log/{YYYY}/{MM}/*"}, r"which names \['MM', 'YYYY'\]; it must say"),
        ({"files": "log/{day}/*"}, r"which names \['day'\]; it must say"),
        ({"file": "log/{span}/*"}, "file"),
    ],
)
def test_what_an_interactions_contract_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        log_contract(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"items": {"features": [{"name": "popularity", "type": "number"}]}}, "'popularity' is taken"),
        ({"items": {"title": "name", "features": [{"name": "title", "type": "text"}]}}, "title column 'name'"),
        ({"items": {"features": [{"name": "user_id"}]}}, r"feature names \['user_id'\] are taken"),
        (
            {"items": {"features": [{"name": "a"}]}, "users": {"features": [{"name": "a"}]}},
            r"\['a'\] are declared twice",
        ),
        ({"items": {"features": [{"name": "a", "type": "vector"}]}}, r"a vector needs its length \(dim: 512\)"),
        ({"items": {"features": [{"name": "a", "dim": 3}]}}, "nothing else has one"),
        ({"items": {"files": "{day}.csv"}}, r"files is '\{day\}.csv', which names \['day'\]"),
        (
            {"items": {"files": "{YYYY}-{MM}-{DD}.csv"}},
            r"items.files is .* and interactions.files .*spans differ; use the",
        ),
        (
            {"users": {"files": "{YYYY}-{MM}-{DD}.csv"}},
            r"users.files is .* and interactions.files .*spans differ; use the",
        ),
    ],
)
def test_what_a_data_contract_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(DataContract).validate_python({"interactions": {"types": {"view": 1}}, **settings})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"max_histori": 3}', "max_histori"),
        ('{"max_rejected_fraction": 0.1}', "max_rejected_fraction"),
        ('{"max_history": 0}', "greater than or equal to 1"),
        ('{"eval_fraction": 1}', "less than 1"),
        ('{"half_life_days": 0}', "greater than 0"),
        ('{"targets": "all"}', "'new' or 'window'"),
    ],
)
def test_what_the_configuration_of_examples_refuses(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_config(text)


def test_contracts_survive_json() -> None:
    contract = parse_contract('{"interactions": {"types": {"view": 1}, "context": [{"name": "device"}]}}')
    assert contract.interactions == log_contract(context=(Feature(name="device"),))
    full = DataContract(
        interactions=InteractionsContract(
            files="log/{YYYY}/{MM}/{DD}/v{version}/*",
            timestamp_pattern="%d/%m/%Y %H:%M",
            time_zone="Europe/London",
            types={
                "buy": InteractionType(weight=2, pattern="buy .*"),
                "no": InteractionType(role="negative"),
                "view": 1.0,
            },
            deduplicate_by=("event",),
            drop=(Drop(column="user_id", pattern=""),),
            max_events_per_hour=100,
        ),
        items=ItemsContract(features=(Feature(name="image", type="vector", dim=3),), timestamp="since"),
        users=UsersContract(files="users/{YYYY}-{MM}-{DD}.csv"),
    )
    assert parse_contract(TypeAdapter(DataContract).dump_json(full).decode()) == full
    config = ExamplesConfig(half_life_days=7, num_shards=3)
    assert parse_config(TypeAdapter(ExamplesConfig).dump_json(config).decode()) == config


def test_types_and_their_weights() -> None:
    ignored, negative = InteractionType(role="ignored"), InteractionType(role="negative", weight=5)
    contract = log_contract(types={"view": 1.0, "buy": InteractionType(weight=2), "return": negative, "ping": ignored})
    assert contract.weights == {"view": 1.0, "buy": 2.0, "return": 0.0}
    assert contract.positive_types == ("view", "buy")
    assert [contract.role(name) for name in contract.types] == ["positive", "positive", "negative", "ignored"]


@pytest.mark.parametrize(
    ("files", "name", "parsed", "label"),
    [
        ("spans/{span}/*", "spans/12/a.csv", (12, 0), "12"),
        ("spans/{span}/*", "spans/12/more/a.csv", None, ""),
        ("spans/{span}/*", "spans/012/a.csv", None, ""),  # the glob of span 12 would not find it
        ("spans/{span}/**", "spans/0/more/a.csv", (0, 0), "0"),
        ("{span}/part-[0-9]?.[!x]sv", "3/part-07.csv", (3, 0), "3"),
        ("{span}/part-[0-9]?.[!x]sv", "3/part-07.xsv", None, ""),
        ("{span}/v{version}/*", "3/v12/a", (3, 12), "3"),
        ("{YYYY}-{MM}-{DD}.csv", "1970-02-01.csv", (31, 0), "1970-02-01"),
        ("{YYYY}-{MM}-{DD}.csv", "2011-02-30.csv", None, ""),
        ("{YYYY}/{MM}/{DD}/{HH}/*", "1970/01/02/05/x", (29, 0), "1970-01-02T05"),
        ("{YYYY}/{MM}/{DD}/{HH}/*", "1970/01/02/24/x", None, ""),
        ("{YYYY}/{YYYY}-{MM}-{DD}_{version}.csv", "1970/1970-01-02_3.csv", (1, 3), "1970-01-02"),
        ("{YYYY}/{YYYY}-{MM}-{DD}_{version}.csv", "1971/1970-01-02_3.csv", None, ""),
    ],
)
def test_which_span_a_file_is_of(files: str, name: str, parsed: tuple[int, int] | None, label: str) -> None:
    pattern = SpanPattern(files)
    assert pattern.parse(name) == parsed
    if parsed:
        assert pattern.label(parsed[0]) == label
        assert pattern.number(label) == pattern.number(str(parsed[0])) == parsed[0]
        assert pattern.parse(pattern.glob(parsed[0]).replace("*", "7").replace("[0-9]?.[!x]", "07.c")) is not None


def test_names_of_spans_that_are_none() -> None:
    for label in ("yesterday", "2011-02-30", "2011-12-09T08:00+01:00"):
        with pytest.raises(ValueError, match="is neither a number nor a date such as 2011-12-09"):
            SpanPattern("{YYYY}-{MM}-{DD}.csv").number(label)
    with pytest.raises(ValueError, match="span '2011-12-09' is no number"):
        SpanPattern("{span}.csv").number("2011-12-09")


def test_the_highest_version_of_a_day_is_read(tmp_path: Path) -> None:
    contract = DataContract(interactions=log_contract(files="{YYYY}-{MM}-{DD}/v{version}/*.csv"))
    names = ["1970-01-02/v9/a.csv", "1970-01-02/v10/b.csv", "1970-01-02/v10/c.csv", "1970-01-03/v1/a.csv"]
    for name in [*names, "1970-01-02/v11/.hidden.csv", "1970-02-30/v1/a.csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    assert existing_spans(root, contract) == [1, 2]
    assert [(file.span, file.name) for file in interaction_files(root, contract, [1, 2])] == [
        (1, names[1]), (1, names[2]), (2, names[3])
    ]  # fmt: skip


def test_a_missing_span_names_those_that_exist(tmp_path: Path) -> None:
    contract = DataContract(interactions=log_contract(files="log/{span}/*.csv"))
    for span in (3, 12):
        (tmp_path / f"log/{span}").mkdir(parents=True)
        (tmp_path / f"log/{span}/_SUCCESS").touch()
        (tmp_path / f"log/{span}/x.csv").touch()
    root = str(tmp_path)
    assert existing_spans(root, contract) == [3, 12]
    assert [file.name for file in interaction_files(root, contract, [2, 3])] == ["log/3/x.csv"]
    with pytest.raises(DataError, match=r"span 4 has no file: nothing matches 'log/4/\*.csv' below .*: 3, 12. Put the"):
        make_plan(root, contract, ExamplesConfig(), 4)
    (tmp_path / "things.csv").touch()
    with pytest.raises(DataError, match=r"nothing matches 'items.csv' below .*there: \['things.csv'\].*items.files"):
        catalog_files(root, contract, [3])


@pytest.mark.parametrize("root", ["lake://bucket/log", "s3://bucket/log"])
def test_a_store_that_cannot_be_listed_is_told(root: str) -> None:
    """An unknown scheme, and one without credentials here."""
    contract = DataContract(interactions=log_contract())
    with pytest.raises(DataError, match=rf"'{root}/.*cannot be listed: .*data_root.*kubeflow\.secrets"):
        existing_spans(root, contract)


def test_the_window() -> None:
    assert list(window_of(5, 3)) == [3, 4, 5]
    assert list(window_of(1, 4)) == [0, 1]
