"""MovieLens: two sources, one output; what is spoiled is spoiled and nothing else. No network: made-up sources."""

import csv
import importlib.util
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from components.interaction_example_gen.sequences import eval_cut

FOLDER = Path(__file__).parents[2] / "examples" / "movielens"

# The same three films and two users, as each source has them.
GROUPLENS = {
    "u.data": "2\t3\t5\t881250949\n1\t1\t3\t874724710\n1\t3\t4\t881250949\n",
    "u.item": "1|Misérables, Les (1995)|20-Oct-1995||url|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
    "2|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "3|Land Before Time III (1995) (V)|01-Jan-1995||url|0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}
RECBOLE = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t3\t4\t881250949\n2\t3\t5\t881250949\n1\t1\t3\t874724710\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tMisérables, Les\t1995\tDrama Musical\n2\tunkonwn\tunkonwn\tunknown\n"
    "3\tLand Before Time III (1995)\tV\tAnimation Children's\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
}


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules: prepare.py imports its neighbour fetch.py, as it does when it is run."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules = {}
        for name in ("fetch", "prepare", "spoil"):
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[name])
        yield modules
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("fetch", "prepare", "spoil"):
            sys.modules.pop(name, None)


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_both_sources_give_the_same_files(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    fetch, prepare = scripts["fetch"], scripts["prepare"]
    prepare.write(fetch.parse_grouplens(lambda name: GROUPLENS[name].encode("latin-1")), tmp_path / "one")
    prepare.write(fetch.parse_recbole(lambda name: RECBOLE[name].encode()), tmp_path / "two")
    files = files_of(tmp_path / "one")
    assert files == files_of(tmp_path / "two")
    assert files["items.csv"] == (
        "item_id,title,year,genres\n1,Les Misérables,1995,Drama|Musical\n2,unknown,,\n"
        "3,Land Before Time III,1995,Animation|Children's\n"
    )
    assert files["spans/1/interactions.csv"].splitlines()[1:] == ["1,1,watch,874724710"]
    assert files["spans/2/interactions.csv"].splitlines()[1:] == ["1,3,like,881250949", "2,3,like,881250949"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Empire Strikes Back, The (1980)", ("The Empire Strikes Back", "1980")),
        ("Star Maker, The (Uomo delle stelle, L') (1995)", ("The Star Maker (L'Uomo delle stelle)", "1995")),
        ("Good, The Bad and The Ugly, The (1966)", ("The Good, The Bad and The Ugly", "1966")),
        ("Paris, Texas (1984)", ("Paris, Texas", "1984")),
        ("187 (1997)", ("187", "1997")),
    ],
)
def test_titles_as_people_write_them(text: str, expected: tuple[str, str], scripts: dict[str, ModuleType]) -> None:
    assert scripts["prepare"].title_and_year(text) == expected


def test_a_second_call_does_nothing_until_a_file_changes(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    prepare = scripts["prepare"]
    raw = scripts["fetch"].parse_recbole(lambda name: RECBOLE[name].encode())
    assert prepare.prepared_rows(tmp_path) is None
    assert prepare.write(raw, tmp_path) == {"1": 1, "2": 2}
    assert prepare.prepared_rows(tmp_path) == {"1": 1, "2": 2}
    result = CliRunner().invoke(prepare.main, ["--out", str(tmp_path)])
    assert result.output.endswith("in spans 1: 1, 2: 2; nothing to do\n")
    (tmp_path / "items.csv").write_text("else")
    assert prepare.prepared_rows(tmp_path) is None


def test_scramble_keeps_counts_and_the_eval_part(scripts: dict[str, ModuleType]) -> None:
    generator = np.random.default_rng(0)
    times = generator.integers(0, 50, 200)
    rows = [{"user_id": str(n % 7), "item_id": str(n % 11), "timestamp": str(t)} for n, t in enumerate(times)]
    before = [dict(row) for row in rows]
    changed = scripts["spoil"].scramble(rows, 0.1, random.Random(1))
    cut = eval_cut(*np.unique(times, return_counts=True), 0.1)
    assert changed > 100
    assert Counter(row["item_id"] for row in rows) == Counter(row["item_id"] for row in before)
    same = [one == other for one, other in zip(rows, before, strict=True)]
    assert all(kept for kept, time in zip(same, times, strict=True) if time >= cut)
    assert changed == same.count(False)


def test_spoil_copies_once_and_refuses_foreign_folders(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    scripts["prepare"].write(scripts["fetch"].parse_recbole(lambda name: RECBOLE[name].encode()), data)

    def spoil(*arguments: str) -> str:
        return CliRunner().invoke(scripts["spoil"].main, ["--data", str(data), "--how", "schema", *arguments]).output

    assert "span 2 spoiled (schema): 2 of 2 rows changed" in spoil("--span", "2", "--out", str(out))
    assert "nothing to do" in spoil("--span", "2", "--out", str(out))
    with (out / "spans/2/interactions.csv").open() as stream:
        assert {row["interaction_type"] for row in csv.DictReader(stream)} == {"thumbs_up"}
    unchanged = ("items.csv", "users.csv", "spans/1/interactions.csv")
    assert all((out / name).read_text() == (data / name).read_text() for name in unchanged)
    assert "holds something else" in spoil("--span", "2", "--out", str(data))
    assert "spans there: ['1', '2']" in spoil("--span", "9", "--out", str(tmp_path / "nine"))
