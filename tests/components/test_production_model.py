"""ProductionModel: what is live is copied whole, and a run compiled for another production is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from components.errors import EvergreenError
from components.production_model.look_up import look_up
from serving.cleaning import clean
from serving.registry import Registry
from serving.registry_records import Version

MANIFEST = {"learned_until_seconds": 1_700_000_000, "spans": [3, 4]}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry.at(tmp_path / "registry.sqlite")


def put_files(root: Path, version: int) -> None:
    """A complete version: each file holds its own place, so that a copy to the wrong place shows."""
    for place in (
        f"serving/{version}/saved_model.pb",
        f"releases/{version}/trainer/model.pb",
        f"releases/{version}/statistics/interactions/Split-train/FeatureStats.pb",
        f"releases/{version}/statistics/catalog/Split-all/FeatureStats.pb",
        f"releases/{version}/state/lineage.json",
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(place)


def run(root: Path, registry: Registry, live_version: int, start_version: int | None = None) -> Path:
    """Looks up into `root/out` and returns it; the run goes on from what is live where nothing else is said."""
    start = live_version if start_version is None else start_version
    look_up(registry, root / "serving", root / "releases", live_version, start, root / "out")
    return root / "out"


def push(root: Path, registry: Registry, version: int, spans: list[int]) -> None:
    put_files(root, version)
    lineage = {"learned": {str(span): f"print {span}" for span in spans}}
    registry.begin_push(version, "", MANIFEST | {"spans": spans, "lineage": lineage}, {}, {})
    registry.finish_push(version, "test", "test")


def copied(out: Path) -> dict[str, str]:
    files = [path for path in out.rglob("*.*") if path.is_file() and path.name != "production.json"]
    return {str(path.relative_to(out)): path.read_text() for path in files}


def test_before_the_first_push_there_is_nothing_but_the_json(tmp_path: Path, registry: Registry) -> None:
    out = run(tmp_path, registry, 0)
    assert [path.name for path in out.rglob("*")] == ["production.json"]
    assert json.loads((out / "production.json").read_text()) == {
        "version": None,
        "start_version": None,
        "start_because": "",
        "learned_until_seconds": 0,
        "spans": [],
    }


def test_what_is_live_is_copied_and_not_what_was_before(tmp_path: Path, registry: Registry) -> None:
    for version, spans in ((7, [3]), (9, [3, 4])):
        push(tmp_path, registry, version, spans)
    out = run(tmp_path, registry, 9)
    told = {"version": 9, "start_version": 9, "start_because": ""}
    assert json.loads((out / "production.json").read_text()) == {**told, **MANIFEST}
    assert copied(out) == {
        "servable/saved_model.pb": "serving/9/saved_model.pb",
        "trainer/model.pb": "releases/9/trainer/model.pb",
        "statistics/interactions/Split-train/FeatureStats.pb": (
            "releases/9/statistics/interactions/Split-train/FeatureStats.pb"
        ),
        "statistics/catalog/Split-all/FeatureStats.pb": "releases/9/statistics/catalog/Split-all/FeatureStats.pb",
        "state/lineage.json": "releases/9/state/lineage.json",
    }


def test_a_run_goes_on_from_the_newest_version_that_learned_nothing_condemned(
    tmp_path: Path, registry: Registry
) -> None:
    for version, spans in ((7, [3]), (8, [3, 4]), (9, [3, 4, 5])):
        push(tmp_path, registry, version, spans)
    registry.record_span(4, "learned", {"fingerprint": "print 4"}, "run")
    registry.condemn_span(4, "ann", "a crawler")
    out = run(tmp_path, registry, 9, start_version=7)
    assert json.loads((out / "production.json").read_text()) == {
        "version": 9,
        "start_version": 7,
        "start_because": "version 9 learned span 4, condemned by ann: a crawler",
        "learned_until_seconds": 1_700_000_000,
        "spans": [3],
    }
    found = copied(out)
    assert found.pop("servable/saved_model.pb") == "serving/9/saved_model.pb"  # still the baseline
    assert {text.split("/")[1] for text in found.values()} == {"7"}
    assert len(found) == 4


def test_where_every_version_learned_it_a_run_has_a_baseline_and_begins_from_nothing(
    tmp_path: Path, registry: Registry
) -> None:
    push(tmp_path, registry, 9, [4])
    registry.record_span(4, "learned", {"fingerprint": "print 4"}, "run")
    registry.condemn_span(4, "ann", "a crawler")
    out = run(tmp_path, registry, 9, start_version=0)
    assert copied(out) == {"servable/saved_model.pb": "serving/9/saved_model.pb"}
    told = json.loads((out / "production.json").read_text())
    assert (told["version"], told["start_version"], told["learned_until_seconds"], told["spans"]) == (9, None, 0, [])


def test_a_run_compiled_before_a_span_was_condemned_is_refused(tmp_path: Path, registry: Registry) -> None:
    push(tmp_path, registry, 9, [4])
    registry.record_span(4, "learned", {"fingerprint": "print 4"}, "run")
    registry.condemn_span(4, "ann", "a crawler")
    with pytest.raises(EvergreenError, match=r"gone on from version 9, and is to go on from nothing\. .*run again"):
        run(tmp_path, registry, 9, start_version=9)
    assert not (tmp_path / "out").exists()


def test_a_run_compiled_for_another_production_is_refused(tmp_path: Path, registry: Registry) -> None:
    put_files(tmp_path, 7)
    registry.begin_push(7, "", MANIFEST, {}, {})
    registry.finish_push(7, "test", "test")
    with pytest.raises(EvergreenError, match=r"nothing was live then, version 7 is now\. .*run again"):
        run(tmp_path, registry, 0)
    assert not (tmp_path / "out").exists()


def test_what_is_copied_is_not_cleaned_away_meanwhile(tmp_path: Path, registry: Registry) -> None:
    waited: list[bool] = []

    class Watched(Registry):
        """What to copy is being decided: whoever wants to clean now waits."""

        def versions(self) -> list[Version]:
            cleaning.start()
            cleaning.join(0.2)
            waited.append(cleaning.is_alive())
            return super().versions()

    for version in (7, 8, 9):
        push(tmp_path, registry, version, [3])
    places = (tmp_path / "serving", tmp_path / "releases")
    cleaning = threading.Thread(target=clean, args=(Registry(registry.url), *places, 2, "ann"))
    out = run(tmp_path, Watched(registry.url), 9)
    assert waited == [True]
    cleaning.join(10)
    assert len(copied(out)) == 5
    assert registry.get(7).state == "removed"


def test_a_push_killed_before_its_last_step_is_finished_first(tmp_path: Path, registry: Registry) -> None:
    put_files(tmp_path, 7)
    registry.begin_push(7, "", MANIFEST, {}, {})
    out = run(tmp_path, registry, 7)
    assert (out / "servable/saved_model.pb").is_file()
    assert registry.get(7).state == "live"


def test_files_that_are_gone_are_named(tmp_path: Path, registry: Registry) -> None:
    put_files(tmp_path, 7)
    registry.begin_push(7, "", MANIFEST, {}, {})
    registry.finish_push(7, "test", "test")
    (tmp_path / "releases/7/trainer").rename(tmp_path / "elsewhere")
    with pytest.raises(EvergreenError, match="releases/7/trainer"):
        run(tmp_path, registry, 7)
