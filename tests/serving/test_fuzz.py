"""Ten thousand requests that nobody should send, to a server of its own: it stays up, says why, and forgets them."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

REQUESTS_EACH = 5_000
WARM_REQUESTS = 1_000  # until the allocator and the caches have what they want
MAY_GROW = 40 * 2**20
VALID = [
    {"instances": [{"user_id": "bob"}]},
    {"signature_name": "recommend", "inputs": {"user_id": ["ann"], "history": [["x", ""]]}},
    {"signature_name": "half_plus_three", "instances": [1.0, 2.0]},
    {"signature_name": "sense", "inputs": {"tag": ["t"], "signal": [[1, 2, 3, 4, 5]], "sensor": [[[1, 2], [3, 4]]]}},
    {"signature_name": "echo_bytes", "instances": [{"b64": "AAEC"}]},
]
ODD = [None, True, -1, 0.5, 2**70, -(2**63), 1e400, float("nan"), "", "\x00", "é" * 200, [], [[]], {}, {"b64": "@"}]
PATHS = [
    *("/v1/models/recommender:predict", "/v1/models/recommender/versions/7:predict", "/v1/models/nobody:predict"),
    *("/v1/models/recommender/versions/99999999999999999999:predict", "/v1/models/recommender/labels/x:predict"),
    *(
        "/v1/models/recommender",
        "/v1/models//metadata",
        "/v1/models/%00/metadata",
        "/../../etc/passwd",
        "/v1/models/a/b",
    ),
]
LEAKS = re.compile(r"Traceback|File \"|site-packages|/(?:root|home|tmp|usr)/|0x[0-9a-f]{6,}")


class Served:
    """A server process with the tiny model."""

    def __init__(self, base_path: Path) -> None:
        self.log = base_path / "log"
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            self.port, self.rest_port = one.getsockname()[1], two.getsockname()[1]
        ports = ["--port", str(self.port), "--rest-api-port", str(self.rest_port)]
        command = [sys.executable, "-m", "serving.server", "--model-base-path", str(base_path), *ports]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        assert "serving recommender version 7" in self.process.stdout.readline()

    @property
    def bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def is_well(self) -> bool:
        answer = httpx.post(f"http://127.0.0.1:{self.rest_port}{PATHS[0]}", json=VALID[0], timeout=10)
        return self.process.poll() is None and answer.json()["predictions"][0]["item_ids"][0].startswith("7/")


@pytest.fixture(scope="module")
def served(models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base_path = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(models(7), base_path / "7")
    served = Served(base_path)
    yield served
    served.process.terminate()
    assert served.process.wait(timeout=30) == 0
    log = served.log.read_text()
    assert "Traceback" not in log, log[-2000:]  # nothing happened that the server had not foreseen


def spoiled(value: Any, chance: random.Random) -> Any:
    """The same document with one part of it replaced, removed, doubled or renamed."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        other = dict(value)
        kept = other.pop(key)
        if chance.random() < 0.7:
            other[key] = spoiled(kept, chance)
        elif chance.random() < 0.5:
            other[key + "x"] = kept
        return other
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], spoiled(value[place], chance), *value[place + chance.randint(0, 1) :]]
    return chance.choice(ODD)


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut off, or repeated."""
    changed = bytearray(data)
    for _ in range(chance.randint(0, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(
        changed[: chance.randrange(len(changed) + 1)] if chance.random() < 0.3 else changed * chance.randint(1, 2)
    )


def test_rest(served: Served) -> None:
    chance, codes, size = random.Random(1), Counter[int](), 0
    with httpx.Client(base_url=f"http://127.0.0.1:{served.rest_port}", timeout=20) as client:
        for number in range(REQUESTS_EACH):
            body = json.dumps(spoiled(chance.choice(VALID), chance)).encode()
            if chance.random() < 0.4:
                body = flipped(body, chance)
            path = PATHS[0] if chance.random() < 0.8 else chance.choice(PATHS)
            answer = client.request(chance.choice(["POST"] * 9 + ["GET", "PUT", "DELETE"]), path, content=body)
            codes[answer.status_code] += 1
            assert answer.headers["content-type"] == "application/json"
            if answer.status_code != 200:
                said = answer.json()["error"]
                assert said
                assert not LEAKS.search(said), said
            if number == WARM_REQUESTS:
                size = served.bytes
    assert set(codes) <= {200, 400, 404}
    assert codes[400] > REQUESTS_EACH / 2
    assert codes[200] > 10  # some of it is valid after all
    assert served.bytes - size < MAY_GROW
    assert served.is_well()


def test_grpc(served: Served) -> None:
    chance, codes, size = random.Random(2), Counter[str](), 0
    whole, told = [], []
    for name, inputs in (
        ("", {"user_id": [b"bob"]}),
        ("half_plus_three", {"x": [1.0]}),
        ("echo_bytes", {"image": [b"x"]}),
    ):
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "recommender", name
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        whole.append(request)
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")  # bytes in, bytes out
        for number in range(REQUESTS_EACH):
            request = PredictRequest.FromString(chance.choice(whole).SerializeToString())
            (tensor,) = request.inputs.values()
            if chance.random() < 0.5:
                tensor.dtype = chance.choice([0, 1, 3, 7, 9, 14, 19, 21, 99, 101])
            if chance.random() < 0.5:
                tensor.tensor_shape.dim.add(size=chance.choice([-1, 0, 1, 3, 2**40]))
            if chance.random() < 0.3:
                tensor.tensor_content = flipped(b"12345678", chance)
            data = request.SerializeToString()
            try:
                call(flipped(data, chance) if chance.random() < 0.6 else data, timeout=20)
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
                told.append(error.details())
            if number == WARM_REQUESTS:
                size = served.bytes
    assert [said for said in told if LEAKS.search(said)] == []
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert codes["INVALID_ARGUMENT"] > REQUESTS_EACH / 4
    assert codes["OK"] > 10
    assert served.bytes - size < MAY_GROW
    assert served.is_well()


def test_connections_that_are_left(served: Served) -> None:
    """Half a head, half a body, no body, nothing, bytes that are no HTTP: a hundred of each, left open or cut off."""
    head = b"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n"
    left = []
    for number in range(500):
        connection = socket.create_connection(("127.0.0.1", served.rest_port))
        connection.sendall([head[:30], head + b'{"inst', head, b"", bytes(range(256))][number % 5])
        if number % 2:
            connection.close()
        else:
            left.append(connection)
    assert served.is_well()
    for connection in left:
        connection.close()
    assert served.is_well()
