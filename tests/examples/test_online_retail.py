"""Online Retail: what is split by day is all there and as it was; the contract reads it as the README says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from click.testing import CliRunner

from pipeline.config import read_config
from pipeline.contract_check.check import check
from pipeline.contract_check.line import Line, has_failed, tell

FOLDER = Path(__file__).parents[2] / "examples" / "online_retail"

# As in UCI's CSV: month first, a Windows pound sign, a customer not known, cancelled goods, postage, a bad debt.
SOURCE = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom
536365,71053,"LANTERN, WHITE METAL",6,12/1/2010 8:26,3.39,17850,United Kingdom
536370,POST,POSTAGE,3,12/1/2010 8:45,18,12583,France
536370,22728,ALARM CLOCK BAKELIKE PINK,24,12/1/2010 8:45,3.75,12583,France
C536391,22728,ALARM CLOCK BAKELIKE PINK,-2,12/1/2010 10:24,3.75,12583,France
536414,22139,,56,12/1/2010 11:52,0,,United Kingdom
537000,gift_0001_20,Dotcomgiftshop Gift Voucher \xa320.00,1,12/13/2010 9:00,16.67,12583,France
537001,71053,WHITE METAL LANTERN,6,12/13/2010 9:05,3.39,17850,United Kingdom
537001,22728,ALARM CLOCK BAKELIKE PINK,4,12/13/2010 9:05,3.75,17850,United Kingdom
537002,22728,ALARM CLOCK BAKELIKE PINK,4,12/13/2010 9:10,3.75,12583,France
A537003,71053,Adjust bad debt,1,12/13/2010 9:30,11062.06,12583,United Kingdom
C537004,71053,WHITE METAL LANTERN,-1,12/13/2010 9:40,3.39,17850,United Kingdom
"""


@pytest.fixture
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", FOLDER / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(prepare: ModuleType, tmp_path: Path) -> Path:
    source = tmp_path / "retail.csv"
    source.write_bytes(SOURCE.encode("cp1252"))
    done = CliRunner().invoke(prepare.main, ["--source", str(source), "--out", str(tmp_path / "data")])
    assert done.output.startswith("12 rows of 2 days (2010-12-01 to 2010-12-13) written to ")
    return tmp_path / "data"


def test_every_row_stands_in_the_file_of_its_day(data: Path) -> None:
    files = sorted((data / "by-day").iterdir())
    assert [path.name for path in files] == ["2010-12-01.csv", "2010-12-13.csv"]
    days = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in files]
    lines = ["|".join(row) for day in days for row in day.to_numpy()]
    assert len(lines) == 12
    assert lines[1] == "536365|71053|LANTERN, WHITE METAL|6|2010-12-01 08:26:00|3.39|17850|United Kingdom"
    assert lines[5] == "536414|22139||56|2010-12-01 11:52:00|0||United Kingdom"
    assert "£20.00" in lines[6]


def test_what_was_split_is_split_the_same(data: Path, prepare: ModuleType, tmp_path: Path) -> None:
    """The days, put together again, are a source too: as the repository that has them by day."""
    files = sorted((data / "by-day").iterdir())
    pd.concat(pd.read_csv(path, dtype=str, keep_default_na=False) for path in files).to_csv(
        tmp_path / "all.csv", index=False
    )
    prepare.split(prepare.read(tmp_path / "all.csv"), tmp_path / "again")
    for path in files:
        assert (tmp_path / "again/by-day" / path.name).read_bytes() == path.read_bytes()


def test_another_file_is_refused(prepare: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Invoice,StockCode\n1,2\n")
    done = CliRunner().invoke(prepare.main, ["--source", str(tmp_path / "x.csv"), "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "has no column InvoiceNo" in done.output
    (tmp_path / "y.csv").write_text(SOURCE.replace("12/1/2010", "1st December"))
    done = CliRunner().invoke(prepare.main, ["--source", str(tmp_path / "y.csv"), "--out", str(tmp_path)])
    assert "InvoiceDate is '1st December 8:26'" in done.output


def test_the_contract_reads_it(data: Path) -> None:
    lines = check(read_config(FOLDER / "config.yaml", str(data)))
    assert not has_failed(lines), tell(lines)
    found: dict[str, Line] = {line.what: line for line in lines}
    # 2010-12-13: three purchases and one cancellation of goods; a voucher is dropped, a bad debt ignored
    assert found["types"].sentence == "purchase 3, cancellation 1"
    assert found["roles"].sentence == "3 positive, 1 negative"
    assert "2 of 6 rows" in found["left out"].sentence
    # of both days; without the voucher, postage, and goods that nobody known bought
    assert found["catalog"].sentence.startswith("3 items")
    assert found["times"].level == "PASS"


def test_the_contract_is_short() -> None:
    lines = (FOLDER / "config.yaml").read_text().splitlines()
    begin = lines.index("contract:")
    assert lines[begin:].index("") < 40
