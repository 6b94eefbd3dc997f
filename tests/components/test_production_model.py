"""ProductionModel: what is live is copied whole, and a run compiled for another production is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import EvergreenError
from components.production_model.look_up import look_up
from serving.registry import Registry

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


def run(root: Path, registry: Registry, live_version: int) -> Path:
    """Looks up into `root/out` and returns it."""
    look_up(registry, root / "serving", root / "releases", live_version, root / "out")
    return root / "out"


def test_before_the_first_push_there_is_nothing_but_the_json(tmp_path: Path, registry: Registry) -> None:
    out = run(tmp_path, registry, 0)
    assert [path.name for path in out.rglob("*")] == ["production.json"]
    assert json.loads((out / "production.json").read_text()) == {
        "version": None,
        "learned_until_seconds": 0,
        "spans": [],
    }


def test_what_is_live_is_copied_and_not_what_was_before(tmp_path: Path, registry: Registry) -> None:
    for version, spans in ((7, [3]), (9, [3, 4])):
        put_files(tmp_path, version)
        registry.begin_push(version, "", MANIFEST | {"spans": spans}, {}, {})
        registry.finish_push(version, "test", "test")
    out = run(tmp_path, registry, 9)
    assert json.loads((out / "production.json").read_text()) == {"version": 9, **MANIFEST}
    files = [path for path in out.rglob("*.*") if path.is_file() and path.name != "production.json"]
    copied = {str(path.relative_to(out)): path.read_text() for path in files}
    assert copied == {
        "servable/saved_model.pb": "serving/9/saved_model.pb",
        "trainer/model.pb": "releases/9/trainer/model.pb",
        "statistics/interactions/Split-train/FeatureStats.pb": (
            "releases/9/statistics/interactions/Split-train/FeatureStats.pb"
        ),
        "statistics/catalog/Split-all/FeatureStats.pb": "releases/9/statistics/catalog/Split-all/FeatureStats.pb",
        "state/lineage.json": "releases/9/state/lineage.json",
    }


def test_a_run_compiled_for_another_production_is_refused(tmp_path: Path, registry: Registry) -> None:
    put_files(tmp_path, 7)
    registry.begin_push(7, "", MANIFEST, {}, {})
    registry.finish_push(7, "test", "test")
    with pytest.raises(EvergreenError, match=r"nothing was live then, version 7 is now\. .*run again"):
        run(tmp_path, registry, 0)
    assert not (tmp_path / "out").exists()


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
