"""Several that write to one registry: they take turns, in either store."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from serving.errors import RegistryError
from serving.registry import Registry


@pytest.fixture
def registry(registry_url: str) -> Registry:
    """10 is retired, 11 is live, 12 and 13 are being pushed; span 1 is quarantined."""
    registry = Registry(registry_url)
    registry.record_span(1, "quarantined", {}, "run")
    for version in (10, 11, 12, 13):
        registry.begin_push(version, "", {}, {}, {})
        if version < 12:
            registry.finish_push(version, "pipeline", "better")
    return registry


def another(registry: Registry) -> Registry:
    """The same registry with its own connections, as another process has it; it is open."""
    other = Registry(registry.url)
    other.live()
    return other


def states(registry: Registry) -> dict[int, str]:
    return {version.version: version.state for version in registry.versions()}


WRITES: dict[str, Callable[[Registry], object]] = {
    "begin_push": lambda registry: registry.begin_push(14, "", {}, {}, {}),
    "finish_push": lambda registry: registry.finish_push(12, "ann", "good"),
    "abandon_pushes": lambda registry: registry.abandon_pushes(lambda version: True),
    "roll_back": lambda registry: registry.roll_back(11, "ann", "bad", ""),
    "quarantine": lambda registry: registry.quarantine(10, "ann", "bad"),
    "remove": lambda registry: registry.remove([10], "ann", "old"),
    "record_span": lambda registry: registry.record_span(1, "learned", {}, "run"),
    "override_span": lambda registry: registry.override_span(1, "ann", "good"),
}


@pytest.mark.parametrize("write", WRITES)
def test_writers_take_turns(registry: Registry, write: str) -> None:
    other = threading.Thread(target=WRITES[write], args=(another(registry),))
    with registry._transaction(write=True):
        other.start()
        other.join(0.15)
        assert other.is_alive()  # it does not even look before this one is done
    other.join(10)
    assert not other.is_alive()


def test_what_a_write_was_decided_on_is_still_true_when_it_is_written(registry: Registry) -> None:
    other = another(registry)
    with ThreadPoolExecutor() as pool:
        with registry._transaction(write=True) as tx:
            late = pool.submit(other.finish_push, 12, "ann", "good")
            sleep(0.15)
            tx.exec_driver_sql("UPDATE versions SET state = 'retired' WHERE version = 11")
            tx.exec_driver_sql("UPDATE versions SET state = 'live' WHERE version = 13")
        with pytest.raises(RegistryError, match="version 12 cannot go live: 13 is live"):
            late.result(10)
    assert states(registry) == {13: "live", 12: "pushing", 11: "retired", 10: "retired"}


def test_readers_do_not_wait_for_a_writer(registry: Registry) -> None:
    reader = another(registry)
    with registry._transaction(write=True) as tx, ThreadPoolExecutor() as pool:
        tx.exec_driver_sql("UPDATE versions SET state = 'quarantined' WHERE version = 11")
        live = pool.submit(reader.live).result(10)
    assert live.version == 11  # as it was before the write that is not done


def test_a_turn_that_never_comes_is_an_error(registry: Registry) -> None:
    hasty = Registry(registry.url, busy_timeout_seconds=0.2)
    hasty.live()
    with (
        registry._transaction(write=True),
        pytest.raises(RegistryError, match=r"locked|lock timeout.* pg_stat_activity"),
    ):
        hasty.record_span(1, "learned", {}, "run")
    hasty.record_span(1, "learned", {}, "run")  # now it comes


PUSHER = """
import sys
from serving.registry import Registry
from serving.errors import RegistryError
registry = Registry(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    registry.begin_push(7, sys.argv[2], {}, {}, {})
    registry.finish_push(7, sys.argv[2], "first")
    print("pushed")
except RegistryError as error:
    print(error)
"""


def test_processes_that_find_an_empty_database_make_it_once_and_one_of_them_pushes(registry_url: str) -> None:
    command = [sys.executable, "-c", PUSHER, registry_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, name], **pipes) for name in "abc"]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = dict(zip("abc", (process.communicate(timeout=60)[0].strip() for process in processes), strict=True))
    [winner] = [name for name, words in said.items() if words == "pushed"]
    assert all("version 7 is in the registry already" in words for name, words in said.items() if name != winner)
    registry = Registry(registry_url)
    assert [(v.version, v.uri, v.state) for v in registry.versions()] == [(7, winner, "live")]
    assert [line.who for line in registry.audit()] == [winner]


def test_many_writers_lose_nothing_and_leave_one_live_version(
    registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = registry_url
    refused: list[int] = []
    wrong: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", wrong.append)

    def write(first: int) -> None:
        mine = Registry(url)  # its own connections, as another process would have
        for version in range(first, first + 40, 4):
            mine.begin_push(version, "", {}, {}, {})
            try:
                mine.finish_push(version, "writer", "race")
            except RegistryError:  # a higher version went live in between
                refused.append(version)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    found = states(Registry(url))
    assert sorted(found) == list(range(1, 41))  # four writers with ten versions each
    assert [version for version, state in found.items() if state == "live"] == [40]
    assert sorted(v for v, state in found.items() if state == "pushing") == sorted(refused)
