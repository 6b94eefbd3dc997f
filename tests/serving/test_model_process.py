"""A version in a process of its own answers as one in this process does, and goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.errors import InvalidInput, ModelBroken, ModelFailed
from serving.model import load_model
from serving.model_config import ModelSettings
from serving.model_process import ModelProcess, load_apart
from serving.releases import publish
from serving.watcher import Watcher

BOB = {"user_id": np.array([b"bob"], object)}


@pytest.fixture
def apart(models: Callable[[int], Path]) -> Iterator[ModelProcess]:
    model = load_apart(models(7), 7, calls=2)
    assert isinstance(model, ModelProcess)
    yield model
    model.close()


def test_it_answers_as_the_same_model_in_this_process(apart: ModelProcess, models: Callable[[int], Path]) -> None:
    here = load_model(models(7), 7)
    assert apart.signatures == here.signatures
    assert apart.signature_defs == here.signature_defs
    for name, inputs in (("serving_default", BOB), ("echo_bytes", {"image": np.array([b"\xff", b""], object)})):
        answer, expected = apart.predict(name, inputs), here.predict(name, inputs)
        assert answer.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(answer[key], value)
    assert apart.predict("serving_default", BOB, ["scores"]).keys() == {"scores"}
    apart.warm_up()


def test_its_errors_are_the_same(apart: ModelProcess, broken_model: Path, unreadable_model: Path) -> None:
    with pytest.raises(InvalidInput, match="lookup_by_number"):
        apart.predict("lookup_by_number", {"x": np.array([99.0], np.float32)})
    with pytest.raises(InvalidInput, match="not found in signature def"):
        apart.predict("nothing", BOB)
    with pytest.raises(ModelBroken, match="version 8 cannot be loaded"):
        load_apart(unreadable_model, 8)
    broken = load_apart(broken_model, 9)
    with pytest.raises(ModelBroken, match="version 9 fails its warm-up"):
        broken.warm_up()
    broken.close()
    assert not broken.is_alive


def test_many_threads_may_call_it(apart: ModelProcess) -> None:
    answers: list[float] = []

    def call(number: float) -> None:
        for _ in range(20):
            answer = apart.predict("half_plus_three", {"x": np.array([number], np.float32)})["y"][0]
            answers.append(float(answer) - number / 2)

    threads = [threading.Thread(target=call, args=(float(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [3.0] * 160


def test_what_loads_or_ends_gives_way_and_what_answers_does_not(models: Callable[[int], Path]) -> None:
    with policies() as loading:
        model = load_apart(models(7), 7)
    assert os.SCHED_IDLE in loading
    model.warm_up()
    assert isinstance(model, ModelProcess)
    before = threads_of(pid := model._process.pid)
    for _ in range(100):
        model.predict("serving_default", BOB)
    worked = {policy for thread, (policy, spent) in threads_of(pid).items() if spent > before.get(thread, (0, 0))[1]}
    assert worked == {os.SCHED_OTHER}
    with policies() as ending:
        model.close()
    assert os.SCHED_IDLE in ending


@contextmanager
def policies() -> Iterator[set[int]]:
    """The scheduling policies of all threads of child processes, while this is open."""
    seen: set[int] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            for process in psutil.Process().children(recursive=True):
                seen.update(policy for policy, _ in threads_of(process.pid).values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def threads_of(pid: int) -> dict[str, tuple[int, int]]:
    """By thread: its scheduling policy, and the nanoseconds that it has run."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # it has ended
            policy = int((task / "stat").read_text().rsplit(")", 1)[1].split()[38])
            found[task.name] = (policy, int((task / "schedstat").read_text().split()[0]))
    return found


def test_one_that_dies_is_said_and_started_again(models: Callable[[int], Path], base_path: Path) -> None:
    watcher = Watcher(ModelSettings("recommender", base_path), load_apart)
    publish(models(7), base_path, 7)
    watcher.poll()
    with watcher.lease() as model:
        assert isinstance(model, ModelProcess)
        os.kill(model._process.pid or 0, signal.SIGKILL)
        with pytest.raises(ModelFailed, match="version 7 has ended; it is started again"):
            model.predict("serving_default", BOB)
    watcher.poll()
    with watcher.lease() as model:
        assert model.predict("serving_default", BOB)["scores"].shape == (1, 2)
    watcher.retire_all()


def test_one_that_dies_in_its_warm_up_is_broken(apart: ModelProcess) -> None:
    os.kill(apart._process.pid or 0, signal.SIGKILL)
    with pytest.raises(ModelBroken, match="version 7 ended its process in its warm-up"):
        apart.warm_up()
    assert not apart.is_alive


def test_it_ends_with_its_parent(models: Callable[[int], Path]) -> None:
    code = f"""
import time
from pathlib import Path
from serving.model_process import load_apart
if __name__ == "__main__":
    model = load_apart(Path({str(models(7))!r}), 7)
    print(model._process.pid, flush=True)
    time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
