"""More than the server can do is refused, and what is accepted is answered; a server that dies serves again."""

from __future__ import annotations

import concurrent.futures
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.client import Client
from serving.errors import RequestFailed
from serving.limits import BatchingConfig, Limits
from serving.server import RunningServer, ServerConfig, start

CALLERS = 30


class Slow(tf.Module):
    """A model that takes its time for each call: a tenth of a second or so."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="user_id")])
    def serve(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] → [B] of ones, by way of many products."""
        product = tf.eye(300)
        for _ in tf.range(100):
            product = tf.matmul(product, product)
        return {"one": tf.fill(tf.shape(user_id), product[0, 0])}


@pytest.fixture
def slow_server(tmp_path: Path, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """One request at a time, four may wait; the parameter is how many seconds a request may take (30)."""
    module = Slow()
    tf.saved_model.save(module, str(tmp_path / "models/1"), signatures={"serving_default": module.serve})
    batching = BatchingConfig(max_batch_size=1, max_waiting_rows=4, num_batch_threads=1)
    limits = Limits(request_timeout_seconds=getattr(request, "param", 30.0))
    server = start(
        ServerConfig(model_base_path=tmp_path / "models", port=0, rest_api_port=0, batching=batching, limits=limits)
    )
    server.wait_until_ready(30)
    yield server
    server.stop()


def ask_rest(server: RunningServer) -> str:
    url = f"http://127.0.0.1:{server.rest_api_port}/v1/models/recommender:predict"
    return str(httpx.post(url, json={"instances": [{"user_id": "ann"}]}, timeout=30).status_code)


def ask_grpc(server: RunningServer) -> str:
    request = PredictRequest()
    request.model_spec.name = "recommender"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([b"ann"]))
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own, as another process has
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", own) as channel:
        try:
            PredictionServiceStub(channel).Predict(request, timeout=30)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[RunningServer]:
    """Two requests under way by each protocol."""
    tf.saved_model.save(module := Slow(), str(tmp_path / "models/1"), signatures={"serving_default": module.serve})
    config = ServerConfig(
        model_base_path=tmp_path / "models", port=0, rest_api_port=0, limits=Limits(max_connections=2)
    )
    server = start(config)
    server.wait_until_ready(30)
    yield server
    server.stop()


@pytest.mark.parametrize(("server", "least"), [("slow_server", 5), ("small_server", 2)])  # one runs, four wait; two run
@pytest.mark.parametrize(("ask", "good", "full"), [(ask_rest, "200", "429"), (ask_grpc, "OK", "RESOURCE_EXHAUSTED")])
def test_what_is_too_much_is_refused_and_what_is_accepted_is_answered(
    request: pytest.FixtureRequest,
    server: str,
    least: int,
    ask: Callable[[RunningServer], str],
    good: str,
    full: str,
) -> None:
    running = request.getfixturevalue(server)
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        codes = Counter(pool.map(ask, [running] * CALLERS))
    assert set(codes) == {good, full}
    assert codes[good] >= least
    assert ask(running) == good


def test_a_refused_request_is_told_in_json_and_counted(small_server: RunningServer) -> None:
    url = f"http://127.0.0.1:{small_server.rest_api_port}"

    def call(_: int) -> httpx.Response:
        return httpx.post(f"{url}/v1/models/recommender:predict", json={"instances": [{"user_id": "ann"}]}, timeout=30)

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        refused = [answer.json() for answer in pool.map(call, range(CALLERS)) if answer.status_code == 429]
    assert {"2 requests are under way" in answer["error"] for answer in refused} == {True}
    told = httpx.get(f"{url}/monitoring/prometheus/metrics").text
    counted = re.search(r'request_count_total\{.*"RESOURCE_EXHAUSTED"\} (\S+)', told)
    assert counted
    assert float(counted[1]) == len(refused)


def test_connections_that_say_nothing_keep_nobody_out(small_server: RunningServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", small_server.rest_api_port)) for _ in range(20)]
    assert ask_rest(small_server) == "200"
    for connection in silent:
        connection.close()


@pytest.mark.parametrize("slow_server", [0.02], indirect=True)
@pytest.mark.parametrize(("ask", "late"), [(ask_rest, "504"), (ask_grpc, "DEADLINE_EXCEEDED")])
def test_who_waits_longer_than_there_is_time_is_told_so(
    slow_server: RunningServer, ask: Callable[[RunningServer], str], late: str
) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert late in set(pool.map(ask, [slow_server] * 4))


def test_a_server_that_is_killed_serves_again_when_it_is_started(
    models: Callable[[int], Path], base_path: Path
) -> None:
    shutil.copytree(models(7), base_path / "7")
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    flags = ["--model-base-path", str(base_path), "--port", str(ports[0]), "--rest-api-port", str(ports[1])]

    def run() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "serving.server", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert "serving recommender version 7" in process.stdout.readline()
        return process

    with Client("127.0.0.1", *ports) as client:
        first = run()
        assert client.predict("serving_default", {"user_id": ["bob"]})["scores"].shape == (1, 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with pytest.raises(RequestFailed, match="gave no answer"):
            client.predict_rest("serving_default", {"user_id": ["bob"]})
        second = run()  # the same ports, at once
        try:
            for method in (client.predict, client.predict_rest):
                assert method("serving_default", {"user_id": ["bob"]})["scores"].shape == (1, 2)
        finally:
            second.terminate()
            assert second.wait(30) == 0
