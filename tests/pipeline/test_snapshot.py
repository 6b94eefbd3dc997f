"""What a run goes by, from data and a registry that are really there."""

from pathlib import Path

import pytest

from components.errors import DataError
from components.interaction_example_gen.contract import DataContract, InteractionsContract
from pipeline.snapshot import NEWEST_SPAN, Snapshot, take_snapshot
from serving.registry import Registry


@pytest.fixture
def contract() -> DataContract:
    return DataContract(interactions=InteractionsContract(files="spans/{span}/*.csv", types={"view": 1.0}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for span in (3, 12):
        (tmp_path / f"spans/{span}").mkdir(parents=True)
        (tmp_path / f"spans/{span}/log.csv").write_text("x")
    (tmp_path / "items.csv").write_text("x")
    return tmp_path


def snapshot(root: Path, contract: DataContract, span: int = NEWEST_SPAN, window: int = 2) -> Snapshot:
    return take_snapshot(contract, str(root), f"sqlite:///{root}/registry.sqlite", span, window)


def test_the_newest_span_is_the_one_with_the_highest_number(root: Path, contract: DataContract) -> None:
    seen = snapshot(root, contract)
    assert (seen.span, seen.window_spans, seen.live_version) == (12, 2, 0)
    assert snapshot(root, contract, span=3).span == 3


def test_what_is_live_is_read_from_the_registry(root: Path, contract: DataContract) -> None:
    registry = Registry(f"sqlite:///{root}/registry.sqlite")
    registry.begin_push(7, "there", {}, {}, {})
    assert snapshot(root, contract).live_version == 0
    registry.finish_push(7, "test", "better")
    assert snapshot(root, contract).live_version == 7


def test_a_new_registry_is_another_even_at_the_same_place(root: Path, contract: DataContract) -> None:
    before = snapshot(root, contract).registry_id
    assert snapshot(root, contract).registry_id == before
    for path in root.glob("registry.sqlite*"):
        path.unlink()
    assert snapshot(root, contract).registry_id != before


def test_the_fingerprint_follows_the_files_of_the_window_alone(root: Path, contract: DataContract) -> None:
    before = snapshot(root, contract, window=2).fingerprint
    assert snapshot(root, contract, window=2).fingerprint == before
    (root / "spans/3/log.csv").write_text("longer")  # ten spans back
    assert snapshot(root, contract, window=2).fingerprint == before
    assert snapshot(root, contract, window=10).fingerprint != before
    (root / "spans/12/log.csv").write_text("longer")
    assert snapshot(root, contract, window=2).fingerprint != before


def test_no_span_at_all_is_told_with_the_place(tmp_path: Path, contract: DataContract) -> None:
    with pytest.raises(DataError, match=r"no span has files: nothing matches 'spans/\{span\}/\*.csv' below '.*'"):
        snapshot(tmp_path, contract)
