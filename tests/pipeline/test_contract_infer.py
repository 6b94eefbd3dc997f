"""`contract infer`: what it writes loads, and says of generated logs what they were made of; guesses say why."""

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import PipelineConfig, read_config
from pipeline.contract_check.check import check
from pipeline.contract_check.line import has_failed, tell
from pipeline.contract_infer.write import infer

DAY_SECONDS = 86_400
START = int(datetime(2024, 3, 1, tzinfo=timezone.utc).timestamp())
WORDS = ["red", "tall", "kettle", "lamp", "blue", "wooden", "chair", "small", "garden", "tea"]

Read = Callable[..., tuple[PipelineConfig, str]]


@pytest.fixture
def inferred(tmp_path: Path) -> Read:
    """Infers a configuration for paths, writes it elsewhere, reads it: what was understood, and the text."""

    def run(*paths: Path) -> tuple[PipelineConfig, str]:
        out = tmp_path / "conf" / "config.yaml"
        out.parent.mkdir(exist_ok=True)
        out.write_text(infer(paths, out), encoding="utf-8")
        return read_config(out), out.read_text(encoding="utf-8")

    return run


def visits(rows: int = 1_500, users: int = 90, items: int = 40, days: int = 4, seed: int = 0) -> pd.DataFrame:
    """A log in order of time: users come in visits of a few minutes; popular items are met at any time."""
    generator = np.random.default_rng(seed)
    visit = np.sort(generator.integers(0, rows // 6, rows))
    begin = np.sort(generator.integers(0, days * DAY_SECONDS - 3_600, rows // 6 + 1))
    user = generator.integers(0, users, rows // 6 + 1)[visit]
    item = (items * generator.power(3, rows)).astype(int)
    seconds = START + begin[visit] + generator.integers(0, 600, rows)
    frame = pd.DataFrame({"user": [f"u{n}" for n in user], "item": [f"i{n}" for n in item], "seconds": seconds})
    return frame.sort_values("seconds", kind="stable").reset_index(drop=True)


def by_day(log: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    return list(log.groupby((log.seconds - START) // DAY_SECONDS))  # type: ignore[call-overload]


def write(frame: pd.DataFrame, path: Path, separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, sep=separator)
    return path


def shop(root: Path) -> Path:
    """Numbered spans of CSV, a catalog of JSON lines with every type of feature, users in Parquet."""
    log, generator = visits(), np.random.default_rng(1)
    log["event_type"] = generator.choice(
        ["view", "addtocart", "purchase", "remove_from_cart"], len(log), p=[0.7, 0.2, 0.06, 0.04]
    )
    log["device"] = generator.choice(["phone", "desktop", ""], len(log), p=[0.6, 0.3, 0.1])
    log["session_token"] = [f"{n:08x}" for n in generator.permutation(len(log))]
    log.loc[len(log) - 1, "session_token"] = log.loc[len(log) - 2, "session_token"]  # sent twice
    named = log.rename(columns={"user": "visitorid", "item": "product_id", "seconds": "ts"})
    for day, part in named.groupby((log.seconds - START) // DAY_SECONDS):
        write(part, root / f"spans/{day + 1}/part-00000.csv")
    rows = [
        {
            "product_id": f"i{n}",
            "name": " ".join(generator.choice(WORDS, 3)),
            "brand": str(generator.choice(["acme", "zeta", "orion"])),
            "tags": "|".join(generator.choice(WORDS, 2, replace=False)),
            "price": round(float(generator.uniform(1, 90)), 2),
            "image": [round(float(x), 3) for x in generator.normal(size=12)],
            "colour": "any",
            "page": f"https://shop.example/p/{n}-{generator.integers(10**9)}",
        }
        for n in range(45)
    ]
    (root / "catalog.jsonl").write_text("\n".join(map(json.dumps, rows)))
    people = pd.DataFrame({"visitorid": [f"u{n}" for n in range(95)]})
    people["country"] = generator.choice(["IT", "FR", "DE"], 95)
    people["age"] = generator.integers(18, 80, 95)
    people.to_parquet(root / "people.parquet")
    return root


def test_a_shop_with_catalog_and_users(inferred: Read, tmp_path: Path) -> None:
    config, text = inferred(shop(tmp_path / "shop"))
    log, items, users = config.contract.interactions, config.contract.items, config.contract.users
    assert Path(config.data_root).resolve() == tmp_path / "shop"
    assert (log.files, log.user_id, log.item_id, log.timestamp) == (
        "spans/{span}/part-*.csv",
        "visitorid",
        "product_id",
        "ts",
    )
    assert (log.timestamp_unit, log.interaction_type) == ("seconds", "event_type")
    roles = {name: log.role(name) for name in log.types}
    assert roles == {
        "view": "positive",
        "addtocart": "positive",
        "purchase": "positive",
        "remove_from_cart": "negative",
    }
    assert log.weights["view"] < log.weights["addtocart"] < log.weights["purchase"]
    assert log.deduplicate_by == ("session_token",)
    assert [feature.name for feature in log.context] == ["device"]  # not the token: it has a value per row
    assert (items.files, items.item_id, items.title) == ("catalog.jsonl", "product_id", "name")
    kinds = {feature.name: (feature.type, feature.dim) for feature in items.features}
    assert kinds == {
        "name": ("text", None),
        "brand": ("category", None),
        "tags": ("categories", None),
        "price": ("number", None),
        "image": ("vector", 12),
    }
    assert users is not None
    assert (users.files, users.user_id) == ("people.parquet", "visitorid")
    assert {feature.name: feature.type for feature in users.features} == {"country": "category", "age": "number"}
    assert "'colour' is not used: the same in all rows" in text
    assert f"{visits().user.nunique()} distinct values in 1,500 rows" in text


def test_every_guess_has_its_reason(inferred: Read, tmp_path: Path) -> None:
    """Each value stands beside a comment, or below one."""
    _, text = inferred(shop(tmp_path / "shop"))
    lines = text.splitlines()
    structure = {"contract:", "examples:", "features:"}
    for above, line in zip(["", *lines], lines, strict=False):
        is_guess = line.strip() and not line.lstrip().startswith("#") and line.strip() not in structure
        assert not is_guess or "  # " in line or above.lstrip().startswith("#"), line
        assert len(line) <= 120


def test_headers_without_meaning_are_told_apart_by_the_values(inferred: Read, tmp_path: Path) -> None:
    """Users come in visits, items do not; milliseconds; a file per hour; items known from the log alone."""
    log = visits(rows=6_000, users=300, items=60)
    log["seconds"] *= 1_000
    log.columns = pd.Index(["a", "b", "c"])
    for hour, part in log.groupby(log.c // 3_600_000):
        moment = datetime.fromtimestamp(int(hour) * 3_600, tz=timezone.utc)
        folder = tmp_path / f"lake/dt={moment:%Y-%m-%d}/hour={moment:%H}"
        folder.mkdir(parents=True)
        part.to_parquet(folder / "x.parquet")
    config, text = inferred(tmp_path / "lake")
    found = config.contract.interactions
    assert (found.user_id, found.item_id, found.timestamp, found.timestamp_unit) == ("a", "b", "c", "milliseconds")
    assert found.files == "dt={YYYY}-{MM}-{DD}/hour={HH}/x.parquet"
    assert (found.interaction_type, found.types) == (None, {"interaction": 1.0})
    items = config.contract.items
    assert (items.files, items.item_id, items.timestamp) == (found.files, "b", "c")
    assert "likeliest by its values" in text


def test_ratings_become_likes_and_dislikes(inferred: Read, tmp_path: Path) -> None:
    """A pattern of day and month; gzip and tabs; a catalog with two authors in a column."""
    log, generator = visits(), np.random.default_rng(2)
    log["rating"] = generator.choice(["1", "2", "3", "4", "5"], len(log))
    log["when"] = pd.to_datetime(log.seconds, unit="s").dt.strftime("%d/%m/%Y %H:%M")
    for day, part in by_day(log):
        moment = datetime.fromtimestamp(START + day * DAY_SECONDS, tz=timezone.utc)
        path = tmp_path / f"books/log/{moment:%Y/%m/%d}.tsv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = part.rename(columns={"user": "reader", "item": "isbn"})[["reader", "isbn", "rating", "when"]]
        path.write_bytes(gzip.compress(columns.to_csv(index=False, sep="\t").encode()))
    books = pd.DataFrame({"isbn": [f"i{n}" for n in range(40)]})
    books["title"] = [" ".join(generator.choice(WORDS, 4)) for _ in range(40)]
    books["authors"] = ["; ".join(generator.choice(["Ann", "Bo", "Cy", "Dee"], 2, replace=False)) for _ in range(40)]
    write(books, tmp_path / "books/books.csv")
    config, _ = inferred(tmp_path / "books")
    found = config.contract.interactions
    assert (found.files, found.timestamp) == ("log/{YYYY}/{MM}/{DD}.tsv.gz", "when")
    assert (found.timestamp_pattern, found.interaction_type) == ("%d/%m/%Y %H:%M", "rating")
    types = {
        name: (found.role(name), kind.pattern) for name, kind in found.types.items() if not isinstance(kind, float)
    }
    assert types == {"like": ("positive", "4|5"), "neutral": ("positive", "3"), "dislike": ("negative", "1|2")}
    kinds = {feature.name: (feature.type, feature.separator) for feature in config.contract.items.features}
    assert kinds == {"title": ("text", "|"), "authors": ("categories", ";")}


def retail(root: Path) -> Path:
    """Invoices as shops export them: C before a cancelled one, a fifth without customer, words in each row."""
    log, generator = visits(rows=4_000, users=120, items=60), np.random.default_rng(3)
    names = [" ".join(generator.choice(WORDS, 3)) for _ in range(60)]
    cancelled = generator.random(len(log)) < 0.03
    number = 500_000 + (log.seconds - START) // 300
    frame = pd.DataFrame(
        {
            "InvoiceNo": np.where(cancelled, "C", "") + number.astype(str),
            "StockCode": log["item"].str[1:].astype(int) + 10_000,
            "Description": [names[int(item[1:])] for item in log["item"]],
            "Quantity": np.where(cancelled, -1, 1) * generator.integers(1, 40, len(log)),
            "InvoiceDate": pd.to_datetime(log.seconds, unit="s").dt.strftime("%Y-%m-%d %H:%M:%S"),
            "CustomerID": np.where(generator.random(len(log)) < 0.2, "", log.user.str[1:] + ".0"),
        }
    )
    for day, part in frame.groupby(frame.InvoiceDate.str[:10]):
        write(part, root / f"{day}.csv")
    return root


def test_a_prefix_with_negative_amounts_is_a_negative_type(inferred: Read, tmp_path: Path) -> None:
    config, text = inferred(retail(tmp_path / "retail"))
    found, items = config.contract.interactions, config.contract.items
    assert (found.user_id, found.item_id, found.timestamp) == ("CustomerID", "StockCode", "InvoiceDate")
    assert (found.timestamp_unit, found.files) == ("iso8601", "{YYYY}-{MM}-{DD}.csv")
    assert found.interaction_type == "InvoiceNo"
    assert {name: found.role(name) for name in found.types} == {"interaction": "positive", "C": "negative"}
    assert "Quantity is negative in 100% of them" in text
    assert [(drop.column, drop.pattern) for drop in found.drop] == [("CustomerID", "")]
    assert items.drop == found.drop
    assert (items.files, items.timestamp, items.title) == (found.files, "InvoiceDate", "Description")
    assert "the times do not say theirs" in text


def test_users_and_items_numbered_alike_are_joined_by_their_headers(inferred: Read, tmp_path: Path) -> None:
    """1 … 60 are users and 1 … 80 are items: the values alone would join items.csv to both."""
    generator = np.random.default_rng(5)
    log = visits()
    log["customer_id"], log["article_id"] = log.user.str[1:].astype(int) % 60 + 1, log["item"].str[1:].astype(int) + 1
    write(log[["customer_id", "article_id", "seconds"]], tmp_path / "in/spans/1/log.csv")
    people = pd.DataFrame({"customer_id": range(1, 61), "nickname": [f"the {n} of {n}" for n in range(60)]})
    write(people, tmp_path / "in/people.csv")
    goods = pd.DataFrame({"article_id": range(1, 81), "weight": generator.uniform(1, 9, 80).round(2)})
    write(goods, tmp_path / "in/goods.csv")
    contract = inferred(tmp_path / "in")[0].contract
    assert (contract.interactions.user_id, contract.interactions.item_id) == ("customer_id", "article_id")
    assert contract.users is not None
    assert (contract.items.files, contract.users.files) == ("goods.csv", "people.csv")


def test_a_catalog_of_changes_may_have_more_rows_than_the_log(inferred: Read, tmp_path: Path) -> None:
    """Prices that change every hour: the newest before the cut holds, so the file is named with its time."""
    log, hours = visits(), range(START, START + 4 * DAY_SECONDS, 3_600)
    write(
        log.rename(columns={"user": "visitor_id", "item": "item_id", "seconds": "at"}), tmp_path / "in/spans/1/log.csv"
    )
    prices = pd.DataFrame([(f"i{n}", hour, (hour // 3_600 + 7 * n) % 50 + 0.99) for hour in hours for n in range(40)])
    prices.columns = pd.Index(["item_id", "at", "price"])
    write(prices, tmp_path / "in/prices.csv")
    assert len(prices) > 2 * len(log)
    contract = inferred(tmp_path / "in")[0].contract
    assert contract.interactions.files == "spans/{span}/log.csv"
    assert (contract.items.files, contract.items.timestamp) == ("prices.csv", "at")
    assert [feature.name for feature in contract.items.features] == ["price"]


@pytest.mark.parametrize("make", [shop, retail])
def test_what_is_inferred_passes_the_check(inferred: Read, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    config, _ = inferred(make(tmp_path / "data"))
    lines = check(config)
    assert not has_failed(lines), tell(lines)


def test_a_log_in_one_file_is_told_where_to_go(inferred: Read, tmp_path: Path) -> None:
    log = visits()
    path = write(log.rename(columns={"seconds": "time"}), tmp_path / "in" / "events.csv")
    config, text = inferred(path)
    assert config.contract.interactions.files == "spans/{span}/*"
    assert "To do: NO SPAN FOUND in 'events.csv'" in text
    assert "spans/1/events.csv" in " ".join(text.replace("#", " ").split())


def test_two_columns_that_could_be_either_are_said_to_be(inferred: Read, tmp_path: Path) -> None:
    """Two columns of the same kind, met at random: there is nothing to tell them apart."""
    generator = np.random.default_rng(4)
    frame = pd.DataFrame({"x": generator.integers(0, 50, 2_000), "y": generator.integers(0, 50, 2_000)})
    frame["t"] = np.sort(START + generator.integers(0, 4 * DAY_SECONDS, 2_000))
    write(frame, tmp_path / "in/spans/1/log.csv")
    _, text = inferred(tmp_path / "in")
    assert "NOT SURE" in text


def test_what_cannot_be_read_is_named_and_left_out(inferred: Read, tmp_path: Path) -> None:
    root = shop(tmp_path / "shop")
    (root / "semicolons.csv").write_text("a;b;c\n1;2;3\n")
    (root / "numbers.csv").write_text("1,242,3,881250949\n2,242,3,881250949\n")
    (root / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 99)[:30])
    (root / "empty.csv").write_bytes(b"")
    config, text = inferred(root)
    assert config.contract.interactions.user_id == "visitorid"
    assert "semicolons.csv: its fields are separated by ';'" in text
    assert "numbers.csv:1: the first line is '1', '242'" in text
    assert "cut.csv.gz: truncated or not gzip" in text
