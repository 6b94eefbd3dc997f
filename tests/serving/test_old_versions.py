"""Which versions are cleaned away, and that none is that is in use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from serving.cleaning import clean, to_remove
from serving.errors import RegistryError
from serving.lineage import Condemned
from serving.registry import Registry
from serving.registry_records import Version
from serving.releases import next_version, quarantine, quarantined_path, rollback


@pytest.fixture
def releases_path(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
def push(registry: Registry, base_path: Path, releases_path: Path) -> Callable[..., None]:
    """Pushes a version that learned spans, and puts a file into both of its folders."""

    def push_one(version: int, spans: Iterable[int] = (), parent: int | None = None) -> None:
        learned = {str(span): f"print {span}" for span in spans}
        manifest = {"spans": list(spans), "lineage": {"learned": learned}, "warm_started_from": parent}
        registry.begin_push(version, str(base_path / str(version)), manifest, {}, {})
        for file in (
            base_path / str(version) / "saved_model.pb",
            releases_path / str(version) / "trainer" / "model.pb",
        ):
            file.parent.mkdir(parents=True)
            file.touch()
        registry.finish_push(version, "pipeline", "better")

    return push_one


def visible(folder: Path) -> list[int]:
    """Versions that have a folder; nothing else is there but locks and marks."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    assert not [name for name in names if name.endswith(".tmp")]
    return sorted(int(name) for name in names if not name.startswith("."))


def states(registry: Registry) -> dict[int, str]:
    return {version.version: version.state for version in registry.versions()}


def test_of_retired_versions_all_but_the_newest_go_with_their_releases(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    for version in (10, 11, 12, 13, 14):
        push(version)
    assert clean(registry, base_path, releases_path, 3, "ann") == [11, 10]  # 14 is live, 13 and 12 are kept
    assert states(registry) == {14: "live", 13: "retired", 12: "retired", 11: "removed", 10: "removed"}
    assert visible(base_path) == visible(releases_path) == [12, 13, 14]
    told = [(line.who, line.action, line.from_version, line.to_version) for line in registry.audit()[-2:]]
    assert told == [("ann", "remove", 11, None), ("ann", "remove", 10, None)]
    assert registry.audit()[-1].why == "of retired and of quarantined versions, the newest 2 keep their files"
    lines = len(registry.audit())
    assert clean(registry, base_path, releases_path, 3, "ann") == []
    assert len(registry.audit()) == lines  # nothing done, nothing said


def test_of_quarantined_versions_as_many_are_kept_and_counted_apart(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    for version in (10, 11, 12, 13, 14, 15):
        push(version)
    for version in (11, 13, 15):
        quarantine(registry, base_path, version, "bob", "a crawler")
    assert states(registry)[14] == "live"
    assert clean(registry, base_path, releases_path, 2, "ann") == [13, 11, 10]
    assert visible(base_path) == [12, 14]
    assert visible(quarantined_path(base_path)) == [15]
    assert visible(releases_path) == [12, 14, 15]
    assert next_version(base_path, lambda: 1.0) == 16  # a number is used once, also where its files are gone


def test_what_the_next_run_starts_from_is_kept_however_old(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    push(10, [1])
    push(11, [1, 2], parent=10)  # span 2 will be condemned: the run after it starts from 10
    for version in (12, 13, 14):
        push(version, [1, 2], parent=version - 1)
    registry.record_span(2, "learned", {"fingerprint": "print 2"}, "run")
    registry.condemn_span(2, "ann", "a crawler")
    assert clean(registry, base_path, releases_path, 2, "ann") == [12, 11]
    assert visible(base_path) == visible(releases_path) == [10, 13, 14]
    registry.override_span(2, "ann", "it was none")
    assert clean(registry, base_path, releases_path, 2, "ann") == [10]  # now 14 is


def test_what_a_rollback_goes_back_to_is_kept(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    for version in (10, 11, 12):
        push(version)
    clean(registry, base_path, releases_path, 2, "ann")
    assert rollback(registry, base_path, "bob", "clicks fell")[1].version == 11
    assert clean(registry, base_path, releases_path, 2, "ann") == []  # 12, just quarantined, is looked into
    with pytest.raises(RegistryError, match="nothing to go back to: 11 is the only version that was ever live and is"):
        rollback(registry, base_path, "bob", "again")  # and not to 10, whose files are gone


def test_no_version_in_use_is_chosen_whatever_is_to_be_kept() -> None:
    """By hand, as the rule has it also for numbers that `clean` refuses."""
    rows = ((14, "live"), (13, "retired"), (12, "retired"), (11, "quarantined"), (10, "retired"))
    manifests = {10: {"spans": [1]}}  # all others know span 2
    versions = [Version(n, state, "", manifests.get(n, {"spans": [1, 2]}), {}, {}, 0.0) for n, state in rows]
    assert to_remove(versions, [], 1) == [12, 11, 10]
    assert to_remove(versions, [Condemned(2, "2", "", "ann", "a crawler")], 1) == [12, 11]
    assert to_remove([], [], 2) == []


def test_fewer_than_two_are_not_kept(registry: Registry, push: Callable[..., None], tmp_path: Path) -> None:
    push(10)
    push(11)
    with pytest.raises(RegistryError, match="cannot keep 1 versions; at least 2 are"):
        clean(registry, tmp_path / "serving" / "recommender", tmp_path / "releases", 1, "ann")
    assert states(registry) == {11: "live", 10: "retired"}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


class DiesAfterRemoving(Registry):
    """A registry whose process ends just after the rows were written."""

    def remove(self, versions: Iterable[int], who: str, why: str) -> None:
        """Never returns."""
        super().remove(versions, who, why)
        raise KilledError


def test_a_call_killed_before_the_files_is_completed_by_the_next(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    for version in (10, 11, 12, 13):
        push(version)
    with pytest.raises(KilledError):
        clean(DiesAfterRemoving(registry.url), base_path, releases_path, 2, "ann")
    assert states(registry)[10] == states(registry)[11] == "removed"
    assert visible(base_path) == visible(releases_path) == [10, 11, 12, 13]
    shutil.move(base_path / "11", base_path / ".11.tmp")  # or killed a step later
    clean(registry, base_path, releases_path, 2, "ann")
    assert visible(base_path) == visible(releases_path) == [12, 13]


def test_a_version_without_a_row_is_nobodys_to_remove(
    registry: Registry, push: Callable[..., None], base_path: Path, releases_path: Path
) -> None:
    for version in (10, 11, 12):
        push(version)
    (base_path / "5").mkdir()  # put there by hand
    clean(registry, base_path, releases_path, 2, "ann")
    assert visible(base_path) == [5, 11, 12]
