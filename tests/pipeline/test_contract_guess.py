"""Single guesses of `contract infer`: how times are written, what a column is, which span a path names, and no log."""

from pathlib import Path

import pyarrow as pa
import pytest

from components.errors import DataError
from components.interaction_example_gen.columns import as_coded
from pipeline.contract_infer.guess import Column, guess_feature, guess_time
from pipeline.contract_infer.sample import look
from pipeline.contract_infer.spans import guess_spans, one_glob
from pipeline.contract_infer.write import infer

DAY_SECONDS = 86_400


def column(*values: str) -> Column:
    return Column("x", as_coded(pa.chunked_array([list(values)])))


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (["1709251200", "1709337600"], {"timestamp_unit": "seconds"}),
        (["1709251200123", "1709337600456"], {"timestamp_unit": "milliseconds"}),
        (["1709251200123456", "1709337600456000"], {"timestamp_unit": "microseconds"}),
        (["2024-03-01T10:00:00Z", "2024-03-02T10:00:00+02:00"], {"timestamp_unit": "iso8601"}),
        (["2024-03-01", "2024-03-02"], {"timestamp_unit": "iso8601"}),
        (["12/1/2010 8:26", "12/13/2010 18:26"], {"timestamp_pattern": "%m/%d/%Y %H:%M"}),
        # both orders read it: eleven days in a row, or the 3rd of eleven months
        ([f"03/{day:02}/2024 10:00" for day in range(1, 12)], {"timestamp_pattern": "%m/%d/%Y %H:%M"}),
        (["20240301", "20240302"], {"timestamp_pattern": "%Y%m%d"}),
        (["01.03.2024 10:00:00", "31.03.2024 10:00:00"], {"timestamp_pattern": "%d.%m.%Y %H:%M:%S"}),
    ],
)
def test_how_times_are_written(values: list[str], keys: dict[str, str]) -> None:
    guess = guess_time(column(*values))
    assert guess is not None
    assert guess.keys == keys


@pytest.mark.parametrize(
    "values", [["1", "2"], ["85123", "71053"], ["536365", "536366"], ["17850.0"], ["a", "b"], [""]]
)
def test_what_is_no_time(values: list[str]) -> None:
    assert guess_time(column(*values)) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"{n}.5" for n in range(30)], "number"),
        (["0", "1"] * 20, "category"),
        ([f"{n % 5} of a kind" for n in range(40)], "category"),
        ([" ".join(["0.25", "-1", "3e-2"] * 4 + [str(n)]) for n in range(9)], "vector"),
        (["Drama|War", "War", "Drama", "Comedy|War"], "categories"),
        ([f"Smith{n}, John{n}" for n in range(60)], "text"),  # a comma, but no part comes twice
        ([f"the {n} little pigs went out" for n in range(60)], "text"),
        ([f"{n:032x}" for n in range(500)], None),
        (["same"] * 9, None),
        (["2024-03-01", "2024-03-02"], None),
    ],
)
def test_types_of_features(values: list[str], kind: str | None) -> None:
    guess = guess_feature(column(*values))
    assert (guess.keys or {}).get("type") == kind, guess.why


HOURLY, DAILY = (0.0, 3_000.0), (0.0, 80_000.0)


@pytest.mark.parametrize(
    ("names", "times", "files"),
    [
        (["2011-12-08.csv", "2011-12-09.csv"], DAILY, "{YYYY}-{MM}-{DD}.csv"),
        (["log/20111208_a.csv.gz", "log/20111209_b.csv.gz"], DAILY, "log/{YYYY}{MM}{DD}_*.csv.gz"),
        (["y/2011/12/08/a.csv", "y/2011/12/09/b.csv"], DAILY, "y/{YYYY}/{MM}/{DD}/*.csv"),
        (["2011-12-08-05.csv", "2011-12-08-06.csv"], HOURLY, "{YYYY}-{MM}-{DD}-{HH}.csv"),
        (["2011-12-08-05.csv", "2011-12-08-06.csv"], DAILY, "{YYYY}-{MM}-{DD}-*.csv"),
        (["spans/4/a.csv", "spans/5/b.csv"], DAILY, "spans/{span}/*"),
        (["week_9.csv", "week_10.csv"], DAILY, "week_{span}.csv"),
        (["in/7/part-1.csv", "in/7/part-2.csv", "in/8/part-1.csv"], DAILY, "in/{span}/part-*.csv"),
        (["spans/3/v1/x.csv", "spans/3/v2/x.csv", "spans/4/v1/x.csv"], DAILY, "spans/{span}/v{version}/x.csv"),
        (["spans/3/log.csv"], DAILY, "spans/{span}/log.csv"),
    ],
)
def test_spans_in_paths(names: list[str], times: tuple[float, float], files: str) -> None:
    guess = guess_spans(names, [(n * DAY_SECONDS + times[0], n * DAY_SECONDS + times[1]) for n in range(len(names))])
    assert (guess.files, guess.is_found) == (files, True)


def test_numbers_with_leading_zeros_are_told() -> None:
    """The pipeline does not read them as spans."""
    guess = guess_spans(["day_01.csv", "day_02.csv"], [(0, 1), (DAY_SECONDS, DAY_SECONDS + 1)])
    assert not guess.is_found
    assert "'day_01.csv': numbers with leading zeros are not read" in guess.why


def test_paths_without_span() -> None:
    assert not guess_spans(["events.csv"], [(0, 1)]).is_found
    assert not guess_spans(["part-1.csv", "part-2.csv"], [(5, 6), (5, 6)]).is_found


@pytest.mark.parametrize(
    ("names", "glob"),
    [(["a.csv"], "a.csv"), (["items_1.csv", "items_2.csv"], "items_*.csv"), (["x/a.csv", "y/a.csv"], "*/a.csv")],
)
def test_one_glob_for_several_names(names: list[str], glob: str) -> None:
    assert one_glob(names) == glob


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "name,colour\nlamp,red\n", "no files look like an interaction log"),
        ("x.txt", "a\n", "no file with rows"),
        ("x.csv", "user,time\nu1,2024-01-01\n", "no files look like an interaction log"),
        ("x.csv", "user,shop,time\nu1,s,2024-01-01\nu2,s,2024-01-02\n", "fewer than two columns with several values"),
    ],
)
def test_what_is_no_log_is_refused_in_words(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        infer([tmp_path])
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        infer([tmp_path / "none.csv"])


def test_files_of_one_column_set_are_one(tmp_path: Path) -> None:
    """Also when a later file has a column more: what all have is used."""
    for name, header in {"log-1": "a,b,c", "log-2": "a,b,c,d", "other": "c,b,a", "third": "a,z"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{header}\n")
    found = {sample.files[0].name: (len(sample.files), sample.columns) for sample in look([tmp_path]).samples}
    assert found == {"log-1.csv": (3, ["a", "b", "c"]), "third.csv": (1, ["a", "z"])}
