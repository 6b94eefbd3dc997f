"""What a run goes by, from data and a registry that are really there."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from components.data_gate.config import GateConfig
from components.errors import DataError, NothingNew
from components.interaction_example_gen.contract import DataContract, ExamplesConfig, InteractionsContract
from components.interaction_example_gen.plan import parse_plan
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


def snapshot(root: Path, contract: DataContract, span: int = NEWEST_SPAN, window: int = 2, **gate: Any) -> Snapshot:
    return take_snapshot(
        contract,
        ExamplesConfig(window_spans=window),
        TypeAdapter(GateConfig).validate_python(gate),
        str(root),
        f"sqlite:///{root}/registry.sqlite",
        span,
        now=lambda: 1000.5,
    )


def test_the_newest_span_is_the_one_with_the_highest_number(root: Path, contract: DataContract) -> None:
    seen = snapshot(root, contract)
    assert (seen.span, parse_plan(seen.plan).learn, seen.live_version) == (12, (12,), 0)
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


def test_the_plan_follows_the_files_of_the_window_alone(root: Path, contract: DataContract) -> None:
    before = snapshot(root, contract, window=2).plan
    assert snapshot(root, contract, window=2).plan == before
    (root / "spans/3/log.csv").write_text("longer")  # ten spans back
    assert snapshot(root, contract, window=2).plan == before
    assert snapshot(root, contract, window=10).plan != before
    (root / "spans/12/log.csv").write_text("longer")
    assert snapshot(root, contract, window=2).plan != before


def test_no_span_at_all_is_told_with_the_place(tmp_path: Path, contract: DataContract) -> None:
    with pytest.raises(DataError, match=r"no span has files: nothing matches 'spans/\{span\}/\*.csv' below '.*'"):
        snapshot(tmp_path, contract)


def test_what_production_learned_is_not_learned_again(root: Path, contract: DataContract) -> None:
    plan = parse_plan(snapshot(root, contract, span=3).plan)
    registry = Registry(f"sqlite:///{root}/registry.sqlite")
    lineage = {"learned": {"3": plan.fingerprints[3]}, "in_state": [3], "reads_as": plan.reads_as}
    registry.begin_push(7, "there", {"lineage": lineage}, {}, {})
    registry.finish_push(7, "test", "better")
    plan = parse_plan(snapshot(root, contract, window=10).plan)
    assert (plan.learn, plan.history, plan.from_state) == ((12,), (), (3,))
    (root / "spans/3/log.csv").write_text("corrected")
    plan = parse_plan(snapshot(root, contract, window=10).plan)
    assert (plan.learn, plan.history, plan.from_state) == ((3, 12), (), ())


def test_a_quarantined_span_is_left_out_until_a_person_accepts_it(root: Path, contract: DataContract) -> None:
    registry = Registry(f"sqlite:///{root}/registry.sqlite")
    fingerprint = parse_plan(snapshot(root, contract, window=10).plan).fingerprints[3]
    registry.record_span(3, "quarantined", {"fingerprint": fingerprint}, "run")
    assert parse_plan(snapshot(root, contract, window=10).plan).learn == (12,)
    registry.override_span(3, "ada", "a holiday")
    seen = snapshot(root, contract, window=10)
    assert parse_plan(seen.plan).learn == (3, 12)
    assert json.loads(seen.overrides) == {"3": {"who": "ada", "why": "a holiday"}}
    (root / "spans/3/log.csv").write_text("not what she saw")
    assert json.loads(snapshot(root, contract, window=10).overrides) == {}


def test_a_condemned_span_is_left_out_and_the_run_goes_on_from_before_it(root: Path, contract: DataContract) -> None:
    (root / "spans/13").mkdir()
    (root / "spans/13/log.csv").write_text("x")
    registry = Registry(f"sqlite:///{root}/registry.sqlite")
    seen = parse_plan(snapshot(root, contract, window=20).plan)
    for version, learned in ((7, (3,)), (8, (3, 12))):
        lineage = {"learned": {str(s): seen.fingerprints[s] for s in learned}, "in_state": learned}
        registry.begin_push(version, "there", {"lineage": lineage | {"reads_as": seen.reads_as}}, {}, {})
        registry.finish_push(version, "test", "better")
    registry.record_span(12, "learned", {"fingerprint": seen.fingerprints[12]}, "run")
    usual = snapshot(root, contract, window=20)
    assert (usual.start_version, parse_plan(usual.plan).learn) == (8, (13,))

    registry.condemn_span(12, "ada", "a crawler")
    then = snapshot(root, contract, window=20)
    plan = parse_plan(then.plan)
    assert (then.live_version, then.start_version) == (8, 7)
    assert (plan.learn, plan.history, plan.from_state) == ((13,), (), (3,))
    assert plan.learned.keys() == {3, 13}  # so what is pushed from it has no stain
    with pytest.raises(NothingNew, match=r"span 12, condemned by ada: a crawler; its files are as they were\. Correct"):
        snapshot(root, contract, span=12, window=20)

    (root / "spans/12/log.csv").write_text("corrected")
    plan = parse_plan(snapshot(root, contract, window=20).plan)
    assert (plan.learn, plan.from_state) == ((12, 13), (3,))
    registry.override_span(12, "ada", "it was no crawler")
    assert snapshot(root, contract, window=20).start_version == 8


def test_where_all_that_is_known_is_condemned_a_run_begins_from_nothing(root: Path, contract: DataContract) -> None:
    registry = Registry(f"sqlite:///{root}/registry.sqlite")
    seen = parse_plan(snapshot(root, contract, window=20).plan)
    lineage = {"learned": {"3": seen.fingerprints[3]}, "in_state": [3], "reads_as": seen.reads_as}
    registry.begin_push(7, "there", {"lineage": lineage}, {}, {})
    registry.finish_push(7, "test", "better")
    registry.record_span(3, "learned", {"fingerprint": seen.fingerprints[3]}, "run")
    registry.condemn_span(3, "ada", "a crawler")
    then = snapshot(root, contract, window=20)
    assert (then.live_version, then.start_version) == (7, 0)
    assert (parse_plan(then.plan).learn, parse_plan(then.plan).from_state) == ((12,), ())


def test_the_time_is_told_only_where_freshness_is_asked(root: Path, contract: DataContract) -> None:
    assert snapshot(root, contract).asked_at_seconds == 0
    assert snapshot(root, contract, max_staleness_hours=2).asked_at_seconds == 1000
