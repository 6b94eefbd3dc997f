"""Pusher: a push is whole or not at all, wherever it is killed."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from components.errors import EvergreenError, QuarantinedBefore
from components.pusher.component import Pusher
from components.pusher.push import Parts, Pushed, push
from serving.errors import RegistryError
from serving.registry import Registry
from serving.releases import complete_versions, rollback

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


def push_at(
    second: int, root: Path, registry: Registry, parts: Parts, kill_in_copy: int = 0, **arguments: Any
) -> Pushed:
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
    return push(registry, parts, *paths, 5, run="run", now=lambda: second, copy_tree=copy_tree, **arguments)


def states(registry: Registry) -> dict[int, str]:
    return {version.version: version.state for version in registry.versions()}


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


def test_each_push_cleans_old_versions_away_when_it_is_told_how_many_to_keep(
    tmp_path: Path, registry: Registry, parts: Parts
) -> None:
    for second in (100, 200, 300):
        push_at(second, tmp_path, registry, parts)
    assert set(states(registry).values()) == {"live", "retired"}  # nobody said how many
    push_at(400, tmp_path, registry, parts, keep_versions=2)
    assert states(registry) == {400: "live", 300: "retired", 200: "removed", 100: "removed"}
    assert visible(tmp_path / "serving") == visible(tmp_path / "releases") == {"300", "400"}
    told = [(line.who, line.action, line.from_version) for line in registry.audit()[-2:]]
    assert told == [("pipeline", "remove", 200), ("pipeline", "remove", 100)]


def test_a_push_killed_before_it_cleaned_is_finished_by_the_next(
    tmp_path: Path, registry: Registry, parts: Parts
) -> None:
    class DiesAfterRemoving(Registry):
        def remove(self, versions: Iterable[int], who: str, why: str) -> None:
            super().remove(versions, who, why)
            raise Killed

    push_at(100, tmp_path, registry, parts)
    push_at(200, tmp_path, registry, parts)
    with pytest.raises(Killed):
        push_at(300, tmp_path, DiesAfterRemoving(registry.url), parts, keep_versions=2)
    assert states(registry) == {300: "live", 200: "retired", 100: "removed"}
    assert visible(tmp_path / "releases") == {"100", "200", "300"}
    push_at(400, tmp_path, registry, parts, keep_versions=3)
    assert visible(tmp_path / "serving") == visible(tmp_path / "releases") == {"200", "300", "400"}


def test_a_push_stays_done_where_old_files_cannot_be_removed(
    tmp_path: Path, registry: Registry, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    push_at(100, tmp_path, registry, parts)
    push_at(200, tmp_path, registry, parts)
    (tmp_path / "quarantined").mkdir()
    (tmp_path / "quarantined/.100.tmp").symlink_to(tmp_path)  # rmtree refuses a link, as a volume may refuse anything
    pushed = push_at(300, tmp_path, registry, parts, keep_versions=2)
    assert (pushed.version, registry.live().version) == (300, 300)
    assert "old versions could not be cleaned away, the next push tries again" in caplog.text


def test_a_promoted_version_is_a_copy_under_a_new_number_that_says_so(
    tmp_path: Path, registry: Registry, parts: Parts
) -> None:
    push_at(100, tmp_path, registry, parts, code_version="8c1f00")
    push_at(200, tmp_path, registry, parts)
    old = replace(parts, servable=tmp_path / "serving/100")
    pushed = push_at(300, tmp_path, registry, old, promoted_from=100, who="ann")
    assert pushed.version == 300
    manifest = registry.get(300).manifest
    assert (manifest["promoted_from"], manifest["version"], manifest["code_version"]) == (100, 300, "8c1f00")
    assert json.loads((tmp_path / "serving/300/assets.extra/release.json").read_text()) == manifest
    line = registry.audit()[-1]
    assert (line.action, line.who, line.from_version, line.to_version) == ("promote", "ann", 200, 300)
    # another list of what is available makes a version that nobody promoted
    push_at(400, tmp_path, registry, replace(parts, servable=tmp_path / "serving/300"), copy_of=300)
    assert "promoted_from" not in registry.get(400).manifest


def test_a_person_may_promote_what_was_quarantined_as_a_copy(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    push_at(100, tmp_path, registry, parts)
    push_at(200, tmp_path, registry, parts)
    old = replace(parts, servable=tmp_path / "serving/100")
    push_at(300, tmp_path, registry, old, promoted_from=100)
    rollback(registry, tmp_path / "serving", "bob", "it was the wrong one")
    push_at(400, tmp_path, registry, old, promoted_from=100)
    assert states(registry) == {400: "live", 300: "quarantined", 200: "retired", 100: "retired"}


def test_what_is_no_retired_version_when_its_turn_comes_is_not_promoted(
    tmp_path: Path, registry: Registry, parts: Parts
) -> None:
    push_at(100, tmp_path, registry, parts)
    push_at(200, tmp_path, registry, parts)
    registry.quarantine(100, "bob", "a crawler")  # while its check went on
    with pytest.raises(RegistryError, match="version 100 cannot be promoted: it is quarantined"):
        push_at(300, tmp_path, registry, replace(parts, servable=tmp_path / "serving/100"), promoted_from=100)
    assert states(registry) == {200: "live", 100: "quarantined"}


def test_a_missing_part_is_refused_before_anything_is_written(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    shutil.rmtree(parts.trainer)
    with pytest.raises(EvergreenError, match="nothing was pushed: trainer"):
        push_at(100, tmp_path, registry, parts)
    assert registry.versions() == []
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "releases").exists()


def component(
    root: Path, registry: Registry, parts: Parts, blessed: int | None = 1, is_infra_blessed: int = 1
) -> PushedModel:
    """What the Pusher says of a push."""
    inputs = {
        "model": (Model(), parts.servable),
        "trainer_model": (Model(), parts.trainer),
        "statistics": (ExampleStatistics(), parts.statistics),
        "catalog_statistics": (ExampleStatistics(), parts.catalog_statistics),
        "state": (UserState(), parts.state),
        "examples": (Examples(), root),
        "evaluation": (ModelEvaluation(), parts.evaluation),
        "blessing": (ModelBlessing(), root),
        "infra_blessing": (InfraBlessing(), root),
        "pushed_model": (PushedModel(), root / "pushed"),
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
        serving_path=str(root / "serving"),
        releases_path=str(root / "releases"),
        code_version="8c1f00",
        config=json.dumps({"keep_versions": 2}),
    )
    return artifacts["pushed_model"]


@pytest.mark.parametrize(("blessed", "is_infra_blessed", "pushed"), [(1, 1, 1), (0, 1, 0), (1, 0, 0), (None, 1, 0)])
def test_only_what_is_blessed_twice_is_pushed(
    tmp_path: Path, registry: Registry, parts: Parts, blessed: int | None, is_infra_blessed: int, pushed: int
) -> None:
    told = component(tmp_path, registry, parts, blessed, is_infra_blessed)
    assert told.get_int_custom_property("pushed") == pushed
    live = registry.live()
    assert bool(live) == bool(pushed)
    assert (tmp_path / "serving").exists() == bool(pushed)
    if live:
        assert live.manifest["code_version"] == "8c1f00"
        assert told.get_string_custom_property("pushed_version") == str(live.version)
        assert Path(told.get_string_custom_property("pushed_destination"), "saved_model.pb").is_file()


def test_what_was_taken_out_as_bad_is_not_pushed_once_more(tmp_path: Path, registry: Registry, parts: Parts) -> None:
    """After a rollback its spans are learned anew, and the same data and configuration make the same model."""
    push_at(100, tmp_path, registry, parts, code_version="1a2b3c")
    push_at(200, tmp_path, registry, parts, code_version="8c1f00")
    rollback(registry, tmp_path / "serving", "bob", "clicks fell")
    told = component(tmp_path, registry, parts)
    assert told.get_int_custom_property("pushed") == 0
    said = told.get_string_custom_property("why_not")
    assert "this is version 200 once more, which bob took out as bad: clicks fell. Leave out what it should" in said
    assert states(registry) == {200: "quarantined", 100: "live"}
    assert visible(tmp_path / "serving") == {"100", ".quarantined.200"}

    registry.remove([200], "pipeline", "of quarantined versions, 0 are kept")
    with pytest.raises(QuarantinedBefore):  # its files are gone, what it was is known
        push_at(300, tmp_path, registry, parts, code_version="8c1f00")
    manifest = json.loads((parts.servable / "assets.extra/release.json").read_text())
    (parts.servable / "assets.extra/release.json").write_text(json.dumps(manifest | {"model_sha256": "another"}))
    push_at(300, tmp_path, registry, parts, code_version="8c1f00")
    assert registry.live().version == 300
