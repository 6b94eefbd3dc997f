"""Pusher: a push is whole or not at all, wherever it is killed."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import (
    Examples,
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
)

from components.artifacts import UserState
from components.errors import EvergreenError
from components.pusher.component import Pusher
from components.pusher.push import Parts, Pushed, push
from serving.registry import Registry
from serving.releases import complete_versions

MANIFEST = {"learned_until_seconds": 1_700_000_000, "spans": [5]}
VERDICT = {
    "is_blessed": True,
    "sentences": ["recall@10 +4%", "no slice fell"],
    "metrics": {"recall_at_10": 0.31, "recall_at_50": float("nan")},
}


class Killed(BaseException):
    """Stands for SIGKILL: no `except` of the code under test may see it."""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry in which span 5 waits for its push, as the gate leaves it."""
    registry = Registry.at(tmp_path / "registry.sqlite")
    registry.record_span(5, "pending", {}, "gate")
    return registry


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """The outputs of one run; each file holds its own name."""
    files = {
        "servable/saved_model.pb": "graph",
        "servable/assets.extra/release.json": json.dumps(MANIFEST),
        "trainer/model.pb": "trainer",
        "statistics/Split-train/FeatureStats.pb": "interactions",
        "catalog_statistics/Split-all/FeatureStats.pb": "catalog",
        "state/lineage.json": "{}",
        "evaluation/verdict.json": json.dumps(VERDICT),
    }
    for name, text in files.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = ("servable", "trainer", "statistics", "catalog_statistics", "state", "evaluation")
    return Parts(**{name: tmp_path / "run" / name for name in names})


def push_at(second: int, root: Path, registry: Registry, parts: Parts, kill_in_copy: int = 0) -> Pushed:
    """Pushes at a second; killed half-way through the n-th copied folder, if that is not 0."""
    copied = 0

    def copy_tree(source: Path, target: Path) -> None:
        nonlocal copied
        copied += 1
        if copied == kill_in_copy:
            target.mkdir(parents=True)
            (target / "half").touch()
            raise Killed
        shutil.copytree(source, target)

    paths = (root / "serving", root / "releases")
    return push(registry, parts, *paths, 5, run="run", now=lambda: second, copy_tree=copy_tree)


def visible(folder: Path) -> set[str]:
    """Every entry but the locks of the serving folder."""
    return {entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock")}


def test_a_push_puts_files_registry_and_span_in_place(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    pushed = push_at(100, tmp_path, registry, parts)
    live = registry.live()
    assert live is not None
    assert pushed == Pushed(100, str(tmp_path / "serving/100"), "recall@10 +4%")
    told = {"version": 100, "why": "recall@10 +4%", "metrics": {"recall_at_10": 0.31, "recall_at_50": None}}
    assert (live.version, live.manifest) == (100, MANIFEST | told)
    assert live.metrics == told["metrics"]
    assert json.loads((tmp_path / "serving/100/assets.extra/release.json").read_text()) == MANIFEST | told
    assert list(complete_versions(tmp_path / "serving")) == [100]
    files = [path for path in tmp_path.glob("releases/**/*.*") if path.is_file()]
    kept = {str(path.relative_to(tmp_path / "releases")): path.read_text() for path in files}
    assert kept == {
        "100/trainer/model.pb": "trainer",
        "100/statistics/interactions/Split-train/FeatureStats.pb": "interactions",
        "100/statistics/catalog/Split-all/FeatureStats.pb": "catalog",
        "100/state/lineage.json": "{}",
    }
    assert [record.state for record in registry.spans()] == ["learned"]
    assert registry.audit()[-1].why == "recall@10 +4%"


def test_two_pushes_at_once_take_turns(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    """A release by hand while a run pushes: neither takes the other for one that was killed."""
    copies: list[str] = []
    pushed: list[int] = []

    def copy_slowly(source: Path, target: Path) -> None:
        copies.append(threading.current_thread().name)
        time.sleep(0.1)  # the other begins meanwhile
        shutil.copytree(source, target)

    def push_one(second: int) -> None:
        own = Registry.at(tmp_path / "registry.sqlite")
        paths = (tmp_path / "serving", tmp_path / "releases")
        pushed.append(push(own, parts, *paths, 5, run="run", now=lambda: second, copy_tree=copy_slowly).version)

    threads = [threading.Thread(target=push_one, args=(second,), name=str(second)) for second in (100, 200)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert copies == ["100"] * 5 + ["200"] * 5
    assert pushed == [100, 200]
    assert [(v.version, v.state) for v in registry.versions()] == [(200, "live"), (100, "retired")]


# Copies in order: trainer, two statistics, state, servable.
@pytest.mark.parametrize("kill_in_copy", [1, 4, 5])
def test_a_killed_push_leaves_the_old_version_live_and_the_next_call_recovers(
    tmp_path: Path, registry: Registry, parts: Parts, kill_in_copy: int
) -> None:
    push_at(100, tmp_path, registry, parts)
    with pytest.raises(Killed):
        push_at(200, tmp_path, registry, parts, kill_in_copy)
    assert list(complete_versions(tmp_path / "serving")) == [100]
    assert registry.get(100).state == "live"

    push_at(300, tmp_path, registry, parts)
    states = {version.version: version.state for version in registry.versions()}
    assert states == {300: "live", 100: "retired"}
    assert visible(tmp_path / "serving") == visible(tmp_path / "releases") == {"100", "300"}


def test_a_push_killed_after_its_files_were_in_place_is_finished(
    tmp_path: Path, registry: Registry, parts: Parts
) -> None:
    class DiesBeforeLive(Registry):
        def finish_push(self, version: int, who: str, why: str) -> None:
            raise Killed

    with pytest.raises(Killed):
        push_at(100, tmp_path, DiesBeforeLive(registry.url), parts)
    assert registry.live() is None
    push_at(200, tmp_path, registry, parts)
    assert {v.version: v.state for v in registry.versions()} == {200: "live", 100: "retired"}
    learned = [record.verdict["version"] for record in registry.span_records() if record.state == "learned"]
    assert learned == [100, 200]  # the killed push had taught the span as well


def test_a_missing_part_is_refused_before_anything_is_written(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    shutil.rmtree(parts.trainer)
    with pytest.raises(EvergreenError, match="nothing was pushed: trainer"):
        push_at(100, tmp_path, registry, parts)
    assert registry.versions() == []
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize(("blessed", "is_infra_blessed", "pushed"), [(1, 1, 1), (0, 1, 0), (1, 0, 0), (None, 1, 0)])
def test_only_what_is_blessed_twice_is_pushed(
    tmp_path: Path, registry: Registry, parts: Parts, blessed: int | None, is_infra_blessed: int, pushed: int
) -> None:
    inputs = {
        "model": (Model(), parts.servable),
        "trainer_model": (Model(), parts.trainer),
        "statistics": (ExampleStatistics(), parts.statistics),
        "catalog_statistics": (ExampleStatistics(), parts.catalog_statistics),
        "state": (UserState(), parts.state),
        "examples": (Examples(), tmp_path),
        "evaluation": (ModelEvaluation(), parts.evaluation),
        "blessing": (ModelBlessing(), tmp_path),
        "infra_blessing": (InfraBlessing(), tmp_path),
        "pushed_model": (PushedModel(), tmp_path / "pushed"),
    }
    artifacts = {}
    for name, (artifact, path) in inputs.items():
        artifact.uri = str(path)
        artifacts[name] = artifact
    if blessed is not None:
        artifacts["blessing"].set_int_custom_property("blessed", blessed)
    artifacts["infra_blessing"].set_int_custom_property("blessed", is_infra_blessed)
    Pusher.test_call(
        **artifacts,
        span=5,
        registry_url=registry.url,
        serving_path=str(tmp_path / "serving"),
        releases_path=str(tmp_path / "releases"),
    )
    told = artifacts["pushed_model"]
    assert told.get_int_custom_property("pushed") == pushed
    live = registry.live()
    assert bool(live) == bool(pushed)
    assert (tmp_path / "serving").exists() == bool(pushed)
    if live:
        assert told.get_string_custom_property("pushed_version") == str(live.version)
        assert Path(told.get_string_custom_property("pushed_destination"), "saved_model.pb").is_file()
