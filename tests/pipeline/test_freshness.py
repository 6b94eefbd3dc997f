"""`check-freshness`: silence is measured from the newest event that a run would accept, at a time that is given."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import DataError
from pipeline.config import PipelineConfig, read_config
from pipeline.freshness import check_freshness

NEWEST = datetime(2011, 12, 9, 12, 50, tzinfo=timezone.utc)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    for span, rows in {
        3: ["u1,i1,2011-12-08 09:00:00,buy"],
        4: ["u1,i1,2011-12-09 12:50:00,buy", "u2,i2,2011-12-09 12:10:00,buy", ",i3,2011-12-09 12:55:00,buy"],
    }.items():
        put(tmp_path, span, rows)
    return configured(tmp_path)


def configured(folder: Path, **gate: Any) -> PipelineConfig:
    log = {"types": {"buy": 1.0}, "timestamp_unit": "iso8601"}
    tree = {"name": "tiny", "data_root": ".", "contract": {"interactions": log}, "gate": gate}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return read_config(folder / "config.yaml")


def put(root: Path, span: int, rows: list[str]) -> None:
    folder = root / f"spans/{span}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,interaction_type", *rows]) + "\n")


def test_the_newest_accepted_event_counts(config: PipelineConfig) -> None:
    """Not the one of 12:55, which has no user."""
    found = check_freshness(config, NEWEST + timedelta(minutes=12), 60)
    assert not found.is_silent
    assert found.sentence == ("newest event 2011-12-09 12:50 UTC, 12 minutes ago; 60 minutes of silence are allowed")


@pytest.mark.parametrize(("minutes", "is_silent"), [(0, False), (59, False), (60, False), (60.5, True), (9_000, True)])
def test_the_bound_itself_is_allowed(config: PipelineConfig, minutes: float, is_silent: bool) -> None:
    assert check_freshness(config, NEWEST + timedelta(minutes=minutes), 60).is_silent == is_silent


def test_the_bound_is_the_gates(config: PipelineConfig, tmp_path: Path) -> None:
    now = NEWEST + timedelta(hours=23)
    assert not check_freshness(config, now).is_silent  # 1440 minutes are a day
    assert check_freshness(configured(tmp_path, max_silence_minutes=30), now).is_silent


def test_an_empty_newest_span_does_not_hide_the_one_before(config: PipelineConfig, tmp_path: Path) -> None:
    put(tmp_path, 5, [])
    assert "2011-12-09 12:50 UTC" in check_freshness(config, NEWEST, 60).sentence


def test_a_clock_that_runs_ahead_is_no_silence(config: PipelineConfig) -> None:
    found = check_freshness(config, NEWEST - timedelta(minutes=3), 1)
    assert (found.is_silent, ", 0 minutes ago" in found.sentence) == (False, True)


def test_no_files_and_no_events_are_silence(tmp_path: Path) -> None:
    config = configured(tmp_path)
    found = check_freshness(config, NEWEST, 60)
    assert found.is_silent
    assert "no files match 'spans/{span}/*'" in found.sentence
    put(tmp_path, 7, [])
    found = check_freshness(config, NEWEST, 60)
    assert found.is_silent
    assert "no event in the newest spans with files: 7" in found.sentence


def test_a_file_that_cannot_be_read_is_an_error(config: PipelineConfig, tmp_path: Path) -> None:
    (tmp_path / "spans/4/log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="column 'user_id'"):
        check_freshness(config, NEWEST)


@pytest.mark.parametrize(
    ("minutes", "words"), [(1, "1 minute ago"), (119, "119 minutes ago"), (120, "2 hours ago"), (4_320, "3 days ago")]
)
def test_silence_in_words(config: PipelineConfig, minutes: int, words: str) -> None:
    assert words in check_freshness(config, NEWEST + timedelta(minutes=minutes)).sentence
