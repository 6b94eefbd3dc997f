"""Which version is in service: new, quarantined, broken, half-copied ones, and calls under a switch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.errors import ModelBroken, ModelNotFound
from serving.model import Model, load_model
from serving.model_config import ModelSettings
from serving.releases import publish, quarantine_files
from serving.watcher import Watcher


class Loads:
    """Loads models, and remembers which versions it was asked for and which were ended."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.ended: list[int] = []

    def __call__(self, path: Path, version: int) -> Model:
        self.versions.append(version)
        model = load_model(path, version)
        model.close = lambda: self.ended.append(version)  # type: ignore[method-assign]
        return model


@pytest.fixture
def loads() -> Loads:
    """The seam between the watcher and TensorFlow."""
    return Loads()


@pytest.fixture
def watcher(base_path: Path, loads: Loads) -> Watcher:
    """A watcher that looks only when it is told to."""
    return Watcher(ModelSettings("recommender", base_path), loads)


def states(watcher: Watcher) -> dict[int, str]:
    return {status.version: status.state for status in watcher.statuses()}


def test_nothing_to_serve_is_not_found(watcher: Watcher) -> None:
    watcher.poll()
    assert watcher.statuses() == []
    with pytest.raises(ModelNotFound), watcher.lease():
        pass


def test_the_highest_number_is_served(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], loads: Loads
) -> None:
    publish(models(7), base_path, 9)
    publish(models(8), base_path, 10)  # as text, "9" would be higher
    watcher.poll()
    with watcher.lease() as model:
        assert model.version == 10
    assert loads.versions == [10]  # and the other is not even loaded
    watcher.poll()
    assert loads.versions == [10]


def test_a_new_version_is_served_and_the_old_one_unloaded(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path]
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    publish(models(8), base_path, 2)
    watcher.poll()
    assert states(watcher) == {2: "AVAILABLE", 1: "END"}
    with pytest.raises(ModelNotFound, match=r"Specific\(recommender, 1\)"), watcher.lease(1):
        pass


def test_a_version_in_use_is_drained_before_it_is_unloaded(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], loads: Loads
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    with watcher.lease() as old:
        publish(models(8), base_path, 2)
        watcher.poll()
        assert states(watcher) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert loads.ended == []
        answer = old.predict("serving_default", {"user_id": np.array([b"bob"], dtype=object)})
        assert answer["item_ids"].tolist() == [[b"7/2", b"7/4"]]  # the call that it was leased for still works
    watcher.poll()
    assert states(watcher) == {2: "AVAILABLE", 1: "END"}
    assert loads.ended == [1]


def test_a_quarantined_version_gives_way_to_the_one_before(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], tmp_path: Path
) -> None:
    publish(models(7), base_path, 1)
    publish(models(8), base_path, 2)
    watcher.poll()
    quarantine_files(base_path, 2)
    watcher.poll()
    assert states(watcher) == {2: "END", 1: "AVAILABLE"}


def test_a_version_brought_back_while_it_drains_stays_available(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], tmp_path: Path
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    with watcher.lease():
        publish(models(8), base_path, 2)
        watcher.poll()
        quarantine_files(base_path, 2)
        watcher.poll()
    watcher.poll()
    assert states(watcher) == {2: "END", 1: "AVAILABLE"}


def test_the_last_good_version_stays_when_the_base_path_vanishes(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path]
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    shutil.rmtree(base_path)
    watcher.poll()
    with watcher.lease() as model:
        assert model.version == 1


def test_a_version_that_cannot_be_read_ends_with_its_error_and_is_not_tried_again(
    watcher: Watcher,
    base_path: Path,
    models: Callable[[int], Path],
    unreadable_model: Path,
    loads: Loads,
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    broken = publish(unreadable_model, base_path, 2)
    watcher.poll()
    watcher.poll()
    assert states(watcher) == {2: "END", 1: "AVAILABLE"}
    error = watcher.statuses()[0].error
    assert error.startswith("version 2 cannot be loaded: ")
    assert str(base_path) not in error
    assert loads.versions == [1, 2]
    shutil.copy(models(8) / "saved_model.pb", broken / "saved_model.pb")  # repaired: its files changed
    watcher.poll()
    assert states(watcher) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_fails_its_warm_up_never_serves(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], broken_model: Path, loads: Loads
) -> None:
    publish(models(7), base_path, 1)
    watcher.poll()
    publish(broken_model, base_path, 2)
    watcher.poll()
    assert states(watcher) == {2: "END", 1: "AVAILABLE"}
    assert "fails its warm-up" in watcher.statuses()[0].error
    assert "the index is empty" in watcher.statuses()[0].error
    assert loads.ended == [2]


def test_a_restart_over_a_broken_newest_version_serves_the_last_good_one(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], broken_model: Path
) -> None:
    publish(models(7), base_path, 1)
    publish(broken_model, base_path, 2)
    watcher.poll()
    assert states(watcher) == {2: "END", 1: "AVAILABLE"}


def test_what_is_being_copied_is_not_touched(
    watcher: Watcher, base_path: Path, models: Callable[[int], Path], loads: Loads
) -> None:
    shutil.copytree(models(7), base_path / ".5.tmp")  # complete, but not published
    shutil.copytree(models(7), base_path / "6", ignore=shutil.ignore_patterns("saved_model.pb"))
    watcher.poll()
    assert loads.versions == []
    assert watcher.statuses() == []
    os.rename(base_path / ".5.tmp", base_path / "5")
    watcher.poll()
    assert states(watcher) == {5: "AVAILABLE"}


def test_a_folder_that_holds_no_model_says_so_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ModelBroken, match="version 3 cannot be loaded") as broken:
        load_model(tmp_path, 3)
    assert str(tmp_path) not in str(broken.value)
