"""A running server while versions come and go, and the command that starts it."""

from __future__ import annotations

import gc
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from serving.client import Client
from serving.errors import RequestFailed, ServingError, StartFailed
from serving.registry import Registry
from serving.releases import complete_versions, publish, rollback
from serving.server import RunningServer, ServerConfig, main, start

Serve = Callable[[Path], RunningServer]
Models = Callable[[int], Path]


def client_of(server: RunningServer) -> Client:
    return Client("127.0.0.1", server.port, server.rest_api_port)


def marks_in(answer: dict) -> set[int]:
    """The versions that an answer speaks of: '7/2' and 7.2 are both of mark 7 (an item adds 0.4 at most)."""
    texts = {int(item.decode().split("/")[0]) for item in answer["item_ids"].ravel()}
    return texts | {int(score) for score in answer["scores"].ravel()}


def test_an_empty_base_path_waits_for_the_first_version(serve: Serve, models: Models, base_path: Path) -> None:
    server = serve(base_path)
    with pytest.raises(ServingError, match=r"no version of recommender in service; .* is watched"):
        server.wait_until_ready(0.1)
    with client_of(server) as client:
        with pytest.raises(RequestFailed, match="NOT_FOUND: Servable not found"):
            client.predict("serving_default", {"user_id": ["bob"]})
        with pytest.raises(RequestFailed, match="NOT_FOUND: Could not find any versions"):
            client.versions()
        publish(models(7), base_path, 70)
        assert server.wait_until_ready(30) == 70
        assert marks_in(client.predict("serving_default", {"user_id": ["bob"]})) == {7}


def test_a_push_and_a_rollback_reach_clients_without_a_restart(
    serve: Serve, models: Models, base_path: Path, tmp_path: Path
) -> None:
    registry = Registry.at(tmp_path / "registry.sqlite")
    server = serve(base_path)
    with client_of(server) as client:
        for version in (7, 8):
            registry.begin_push(version, str(base_path / str(version)), {}, {}, {})
            publish(models(version), base_path, version)
            registry.finish_push(version, "pipeline", "better")
            assert server.wait_until_ready(30, version) == registry.live().version
            assert marks_in(client.predict_rest("serving_default", {"user_id": ["bob"]})) == {version}
        rollback(registry, base_path, "bob", "clicks fell")
        assert server.wait_until_ready(30, 7) == registry.live().version
        assert marks_in(client.predict("serving_default", {"user_id": ["bob"]})) == {7}


def test_a_broken_push_is_seen_in_the_status_and_not_in_the_answers(
    serve: Serve, models: Models, base_path: Path, broken_model: Path
) -> None:
    publish(models(7), base_path, 7)
    server = serve(base_path)
    server.wait_until_ready(30)
    publish(broken_model, base_path, 8)
    with pytest.raises(ServingError, match=r"version 8 not of recommender in service: .* fails its warm-up"):
        server.wait_until_ready(30, version=8)
    with client_of(server) as client:
        assert client.versions() == {8: "END", 7: "AVAILABLE"}
        assert marks_in(client.predict("serving_default", {"user_id": ["bob"]})) == {7}


def test_a_hundred_switches_under_load_lose_no_call_and_mix_no_versions(
    serve: Serve, models: Models, base_path: Path
) -> None:
    marks = range(10, 20)  # version 101 is of mark 11, and so on; 110 of 10 again
    for mark in marks:
        models(mark)
    publish(models(10), base_path, 100)
    server = serve(base_path)
    server.wait_until_ready(30)
    is_over, failures, seen = threading.Event(), [], {"predict": [], "predict_rest": []}
    users = ["ann", "bob", "x"] * 12  # more than a batch holds: made in two parts

    def call_until_over(method: str) -> None:
        with client_of(server) as client:
            while not is_over.is_set():
                try:
                    answer = getattr(client, method)("serving_default", {"user_id": users})
                    seen[method].append(marks_in(answer))
                except ServingError as error:
                    failures.append(str(error))

    threads = [threading.Thread(target=call_until_over, args=(method,)) for method in seen]
    gc.freeze()  # as run_server does
    for thread in threads:
        thread.start()
    for version in range(101, 201):
        publish(models(marks[version % 10]), base_path, version)
        server.wait_until_ready(30, version)
    is_over.set()
    for thread in threads:
        thread.join()
    gc.unfreeze()
    assert failures == []
    for answers in seen.values():
        assert all(len(marks) == 1 for marks in answers)  # every answer is of one version
        spoke = [marks.pop() for marks in answers]
        steps = [(after - before) % 10 for before, after in pairwise(spoke)]
        assert max(steps) < 5  # and no answer of an old version comes after one of a newer
        assert sum(step > 0 for step in steps) > 50  # the load did meet the switches


def test_a_killed_push_does_not_disturb_the_server(
    serve: Serve, models: Models, base_path: Path, tmp_path: Path
) -> None:
    registry = Registry.at(tmp_path / "registry.sqlite")
    publish(models(7), base_path, 7)
    server = serve(base_path)
    server.wait_until_ready(30)
    registry.begin_push(8, str(base_path / "8"), {}, {}, {})
    publish(models(8), base_path, 8)  # … and killed before finish_push
    server.wait_until_ready(30, 8)
    registry.abandon_pushes(lambda version: version.version in complete_versions(base_path))
    assert registry.live().version == 8  # the registry says what clients see
    with client_of(server) as client:
        assert client.versions()[8] == "AVAILABLE"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that something else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_one_clear_line(base_path: Path, taken_port: int) -> None:
    for ports in {"port": taken_port, "rest_api_port": 0}, {"port": 0, "rest_api_port": taken_port}:
        with pytest.raises(StartFailed, match=rf"cannot listen on 127.0.0.1:{taken_port}: it is in use") as error:
            start(ServerConfig(model_base_path=base_path, **ports))
        assert "\n" not in str(error.value)


def test_two_servers_do_not_share_a_port(base_path: Path, steady_server: RunningServer) -> None:
    with pytest.raises(StartFailed, match="gRPC cannot listen"):
        start(ServerConfig(model_base_path=base_path, port=steady_server.port, rest_api_port=0))


def test_a_configuration_that_cannot_work_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFailed, match="is a file; expected the folder"):
        ServerConfig(model_base_path=tmp_path / "file")
    with pytest.raises(StartFailed, match="poll_seconds must be greater than 0, got 0"):
        ServerConfig(model_base_path=tmp_path, poll_seconds=0)
    result = CliRunner().invoke(main, ["--model-base-path", str(tmp_path), "--model-name", "a/b"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: a model name cannot be empty")


def test_the_command_says_when_it_is_ready_and_stops_when_told(models: Models, base_path: Path) -> None:
    publish(models(7), base_path, 123)
    command = [sys.executable, "-m", "serving.server", "--model-base-path", str(base_path)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--rest-api-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        ports = re.fullmatch(
            r"serving recommender version 123 · gRPC 127\.0\.0\.1:(\d+) · REST http://127\.0\.0\.1:(\d+)\n",
            line,
        )
        assert ports, line
        with Client("127.0.0.1", int(ports[1]), int(ports[2])) as client:
            assert marks_in(client.predict_rest("serving_default", {"user_id": ["bob"]})) == {7}
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()  # as systemd does it, which tells the whole group
            time.sleep(2.5)  # longer than a poll
            assert marks_in(client.predict_rest("serving_default", {"user_id": ["bob"]})) == {7}
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output == "stopped serving recommender\n"
        assert re.findall(r"(?m)^.*(?:ERROR|WARNING|Warning|Traceback).*$", log) == []
    finally:
        process.kill()
        process.wait()
