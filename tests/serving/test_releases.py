"""The files of versions: complete or absent, never reused, and a rollback that survives being killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serving.errors import RegistryError, ReleaseError
from serving.registry import Registry, Version
from serving.releases import (
    complete_versions,
    next_version,
    publish,
    quarantine,
    quarantine_files,
    quarantined_path,
    rollback,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Something that looks like a SavedModel."""
    folder = tmp_path / "exported"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


@pytest.fixture
def push(source: Path, base_path: Path, tmp_path: Path) -> Callable[[int], Registry]:
    """Pushes a version as the Pusher does, and returns the registry."""
    registry = Registry.at(tmp_path / "registry.sqlite")

    def push_one(version: int, spans: Sequence[int] = ()) -> Registry:
        registry.begin_push(version, str(base_path / str(version)), {"spans": list(spans)}, {}, {})
        publish(source, base_path, version)
        registry.finish_push(version, "pipeline", "better")
        return registry

    return push_one


def test_next_version_is_the_time_or_more(source: Path, base_path: Path) -> None:
    assert next_version(base_path, lambda: 1700.9) == 1700  # the base path is not even there
    publish(source, base_path, 1700)
    assert next_version(base_path, lambda: 1700.9) == 1701  # two pushes in one second
    assert next_version(base_path, lambda: 1.0) == 1701  # a clock that was set back
    quarantine_files(base_path, 1700)
    assert next_version(base_path, lambda: 1700.0) == 1701  # a quarantined number is not used again
    (base_path / ".1750.tmp").mkdir()
    assert next_version(base_path, lambda: 1700.0) == 1751
    assert next_version(base_path, lambda: 1800.0) == 1800


def test_publish_copies_everything_and_leaves_nothing_else_visible(source: Path, base_path: Path) -> None:
    target = publish(source, base_path, 12)
    assert target == base_path / "12"
    assert (target / "variables" / "variables.index").read_bytes() == b"index"
    assert [entry.name for entry in base_path.iterdir() if not entry.name.startswith(".")] == ["12"]
    assert not (base_path / ".12.tmp").exists()


def test_publish_refuses_what_cannot_be_served(source: Path, base_path: Path, tmp_path: Path) -> None:
    publish(source, base_path, 12)
    with pytest.raises(ReleaseError, match=r"version 12 is in .* already"):
        publish(source, base_path, 12)
    with pytest.raises(ReleaseError, match=r"no saved_model.pb"):
        publish(tmp_path / "nothing", base_path, 13)
    assert list(complete_versions(base_path)) == [12]


def test_a_failed_copy_leaves_nothing(source: Path, base_path: Path) -> None:
    os.symlink(source / "nowhere", source / "dangling")  # copytree cannot follow it
    with pytest.raises(ReleaseError, match="version 12 could not be copied"):
        publish(source, base_path, 12)
    assert [entry.name for entry in base_path.iterdir()] == [".publish.lock"]


def _publish_and_die(source: Path, base_path: Path) -> None:
    def copy_and_die(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        os.kill(os.getpid(), signal.SIGKILL)  # the instant before it becomes visible

    publish(source, base_path, 12, copy_and_die)


def test_a_push_killed_before_the_rename_is_invisible_and_cleared_away(source: Path, base_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(source, base_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (base_path / ".12.tmp" / "saved_model.pb").exists()  # everything is there …
    assert complete_versions(base_path) == {}  # … and no server takes it
    publish(source, base_path, 13)
    assert not (base_path / ".12.tmp").exists()


def test_complete_versions_are_numbered_folders_with_a_graph(source: Path, base_path: Path) -> None:
    publish(source, base_path, 9)
    publish(source, base_path, 10)
    (base_path / "11").mkdir()  # another tool copies here, its graph comes last
    (base_path / "12x").mkdir()
    (base_path / "13").write_text("a file")
    assert list(complete_versions(base_path)) == [9, 10]  # by number, not by text


def test_rollback_moves_the_files_and_the_registry(push: Callable[[int], Registry], base_path: Path) -> None:
    push(10)
    registry = push(11)
    bad, good = rollback(registry, base_path, "bob", "clicks fell")
    assert (bad.version, bad.state, bad.uri) == (11, "quarantined", str(quarantined_path(base_path) / "11"))
    assert (good.version, good.state) == (10, "live")
    assert list(complete_versions(base_path)) == [10]
    assert (quarantined_path(base_path) / "11" / "saved_model.pb").exists()


def test_spans_that_only_the_quarantined_version_learned_are_pending_again(
    push: Callable[..., Registry], base_path: Path
) -> None:
    registry = push(10, spans=[1])
    push(11, spans=[1, 2])
    for span in (1, 2):
        registry.record_span(span, "learned", {}, run="r")
    rollback(registry, base_path, "bob", "clicks fell")
    assert {record.span: record.state for record in registry.spans()} == {1: "learned", 2: "pending"}


def test_a_condemned_span_is_not_pending_again_after_a_rollback(push: Callable[..., Registry], base_path: Path) -> None:
    registry = push(10, spans=[1])
    push(11, spans=[1, 2, 3])
    for span in (1, 2, 3):
        registry.record_span(span, "learned", {}, run="r")
    registry.condemn_span(2, "ann", "a crawler")
    rollback(registry, base_path, "bob", "it learned from a crawler")
    assert {record.span: record.state for record in registry.spans()} == {1: "learned", 2: "condemned", 3: "pending"}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


class DiesBeforeWriting(Registry):
    """A registry whose process ends just before a rollback is written."""

    def roll_back(self, version: int, who: str, why: str, uri: str, *, action: str = "rollback") -> Version:
        """Never returns."""
        raise KilledError


def test_rollback_killed_after_the_files_is_completed_by_a_second_one(
    push: Callable[[int], Registry], base_path: Path
) -> None:
    for version in (10, 11):
        push(version)
    registry = push(12)
    with pytest.raises(KilledError):
        rollback(DiesBeforeWriting(registry.url), base_path, "bob", "clicks fell")
    assert registry.live().version == 12
    assert list(complete_versions(base_path)) == [10, 11]  # what is bad is out of service already
    bad, good = rollback(registry, base_path, "bob", "again")
    assert (bad.version, good.version) == (12, 11)  # 11, which is good, was not taken out as well
    assert list(complete_versions(base_path)) == [10, 11]


def test_quarantine_of_the_live_version_is_a_rollback_in_other_words(
    push: Callable[..., Registry], base_path: Path
) -> None:
    push(9)
    registry = push(10, spans=[1])
    push(11, spans=[1, 2])
    for span in (1, 2):
        registry.record_span(span, "learned", {}, run="r")
    bad, live = quarantine(registry, base_path, 11, "bob", "clicks fell")
    assert (bad.version, bad.state, bad.uri) == (11, "quarantined", str(quarantined_path(base_path) / "11"))
    assert live.version == registry.live().version == 10
    assert list(complete_versions(base_path)) == [9, 10]
    assert {record.span: record.state for record in registry.spans()} == {1: "learned", 2: "pending"}
    line = registry.audit()[-1]
    assert (line.action, line.from_version, line.to_version) == ("quarantine", 11, 10)


def test_quarantine_of_a_retired_version_leaves_the_live_one_and_its_spans(
    push: Callable[..., Registry], base_path: Path
) -> None:
    push(9)
    registry = push(10, spans=[1])
    push(11)
    registry.record_span(1, "learned", {}, run="r")
    bad, live = quarantine(registry, base_path, 10, "bob", "it learned a crawler")
    assert (bad.version, bad.state, live.version) == (10, "quarantined", 11)
    assert list(complete_versions(base_path)) == [9, 11]
    assert (quarantined_path(base_path) / "10" / "saved_model.pb").exists()
    assert [record.state for record in registry.spans()] == ["learned"]
    assert rollback(registry, base_path, "bob", "clicks fell")[1].version == 9  # not 10


def test_a_quarantine_of_the_live_version_killed_after_the_files_is_completed_by_a_second_one(
    push: Callable[[int], Registry], base_path: Path
) -> None:
    push(10)
    registry = push(11)
    with pytest.raises(KilledError):
        quarantine(DiesBeforeWriting(registry.url), base_path, 11, "bob", "clicks fell")
    assert list(complete_versions(base_path)) == [10]  # what is bad is out of service already
    bad, live = quarantine(registry, base_path, 11, "bob", "again")
    assert (bad.version, live.version) == (11, 10)


class DiesAfterQuarantine(Registry):
    """A registry whose process ends just after a retired version was marked."""

    def quarantine(self, version: int, who: str, why: str, uri: str | None = None) -> None:
        """Never returns."""
        super().quarantine(version, who, why, uri)
        raise KilledError


def test_a_quarantine_of_a_retired_version_killed_before_its_files_is_completed_by_the_next_call(
    push: Callable[[int], Registry], base_path: Path
) -> None:
    for version in (9, 10):
        push(version)
    registry = push(11)
    with pytest.raises(KilledError):
        quarantine(DiesAfterQuarantine(registry.url), base_path, 10, "bob", "a crawler")
    assert registry.newest_retired().version == 9  # nothing goes back to it already …
    assert list(complete_versions(base_path)) == [9, 10, 11]
    bad, live = rollback(registry, base_path, "bob", "clicks fell")  # … and its files do not stand in the way
    assert (bad.version, live.version) == (11, 9)
    assert list(complete_versions(base_path)) == [9]
    assert (quarantined_path(base_path) / "10" / "saved_model.pb").exists()


def test_a_retired_version_whose_files_are_gone_can_be_quarantined_all_the_same(
    push: Callable[[int], Registry], base_path: Path
) -> None:
    push(10)
    registry = push(11)
    shutil.rmtree(base_path / "10")
    bad, _ = quarantine(registry, base_path, 10, "bob", "a crawler")
    assert (bad.state, bad.uri) == ("quarantined", str(base_path / "10"))


def test_rollback_changes_nothing_when_there_is_nothing_to_go_back_to(
    push: Callable[[int], Registry], base_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="no version is live"):
        rollback(Registry.at(tmp_path / "empty.sqlite"), base_path, "bob", "why")
    registry = push(10)
    with pytest.raises(RegistryError, match="nothing to go back to: 10"):
        rollback(registry, base_path, "bob", "why")
    assert list(complete_versions(base_path)) == [10]


def test_rollback_refuses_when_the_files_would_not_follow(
    push: Callable[[int], Registry], source: Path, base_path: Path, tmp_path: Path
) -> None:
    push(10)
    registry = push(12)
    os.rename(base_path / "10", tmp_path / "cleaned")
    with pytest.raises(ReleaseError, match="version 10: its files are not in"):
        rollback(registry, base_path, "bob", "why")
    os.rename(tmp_path / "cleaned", base_path / "10")
    publish(source, base_path, 11)  # put there by hand: servers would take it, the registry does not know it
    with pytest.raises(ReleaseError, match="holds 11, a higher number"):
        rollback(registry, base_path, "bob", "why")
    assert registry.live().version == 12
    assert 12 in complete_versions(base_path)


def test_rollback_of_a_push_that_was_killed_after_its_files_were_in_place(
    push: Callable[[int], Registry], source: Path, base_path: Path
) -> None:
    registry = push(10)
    registry.begin_push(11, str(base_path / "11"), {}, {}, {})
    publish(source, base_path, 11)  # killed here: 11 is being served, the registry says 10
    bad, good = rollback(registry, base_path, "bob", "clicks fell")
    assert (bad.version, good.version) == (11, 10)


@pytest.mark.parametrize("are_files_in_place", [False, True])
def test_a_push_killed_between_begin_and_finish_is_recovered(
    push: Callable[[int], Registry], source: Path, base_path: Path, are_files_in_place: bool
) -> None:
    registry = push(10)
    registry.begin_push(11, str(base_path / "11"), {}, {}, {})
    if are_files_in_place:
        publish(source, base_path, 11)
    registry.abandon_pushes(lambda version: version.version in complete_versions(base_path))
    assert registry.live().version == (11 if are_files_in_place else 10)
    push(12)  # and the next push works either way
    assert registry.live().version == 12
