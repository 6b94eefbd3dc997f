"""What a platform looks at: health, reflection, metrics, TLS, slow callers, and memory before a load."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.errors import NoRoom, ServingError, StartFailed
from serving.limits import BatchingConfig, Limits
from serving.memory import available_bytes, check_room
from serving.releases import publish
from serving.server import RunningServer, ServerConfig, start
from serving.tls import Tls, tls_of

SERVING, NOT_SERVING = 1, 2  # grpc.health.v1
ASKED = {"instances": [{"user_id": "bob"}]}


def url_of(server: RunningServer, path: str, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{server.rest_api_port}{path}"


def request() -> PredictRequest:
    asked = PredictRequest()
    asked.model_spec.name = "recommender"
    asked.inputs["user_id"].CopyFrom(tf.make_tensor_proto([b"bob"]))
    return asked


def test_health_is_that_of_the_model(base_path: Path, models: Callable[[int], Path]) -> None:
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, poll_seconds=0.05))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            seen = health.Watch(health_pb2.HealthCheckRequest(service="recommender"), timeout=30)
            assert next(seen).status == NOT_SERVING
            assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
            publish(models(7), base_path, 7)
            assert next(seen).status == SERVING  # told, not asked again
            assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
            with pytest.raises(grpc.RpcError) as unknown:
                health.Check(health_pb2.HealthCheckRequest(service="nobody"))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    finally:
        server.stop()


def test_reflection_lists_what_is_offered(steady_server: RunningServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{steady_server.port}") as channel:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([asked]))
    assert {service.name for service in answer.list_services_response.service} == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_metrics_count_what_was_asked(models: Callable[[int], Path], base_path: Path) -> None:
    publish(models(7), base_path, 7)
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, poll_seconds=0.05))
    try:
        server.wait_until_ready(30)
        predict = url_of(server, "/v1/models/recommender:predict")
        for body in (ASKED, ASKED, {"instances": [{"nobody": "bob"}]}):
            httpx.post(predict, json=body)
        httpx.post(url_of(server, "/v1/models/made-up:predict"), json=ASKED)
        httpx.get(url_of(server, "/v1/models/recommender"))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            PredictionServiceStub(channel).Predict(request(), timeout=10)
        answer = httpx.get(url_of(server, "/monitoring/prometheus/metrics"))
    finally:
        server.stop()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    count = ":tensorflow:serving:request_count_total"
    assert samples[count, "OK", "recommender"] == 4  # two by REST, one by gRPC, one status
    assert samples[count, "INVALID_ARGUMENT", "recommender"] == 1
    assert samples[count, "", "NOT_FOUND"] == 1  # a made-up name makes no series of its own
    latency = ":tensorflow:serving:request_latency_count"
    assert samples[latency, "Predict", "REST", "recommender"] == 3
    assert samples[latency, "GRPC", "Predict", "recommender"] == 1
    assert samples[":tensorflow:serving:batching_session:processed_batch_size_sum", "serving_default"] == 3
    assert samples["evergreen_model_version_state", "7", "AVAILABLE", "recommender"] == 1


def test_metrics_tell_what_is_served_from_what_cannot_be(
    models: Callable[[int], Path], broken_model: Path, base_path: Path, serve: Callable[[Path], RunningServer]
) -> None:
    server = serve(base_path)

    def versions() -> tuple[float, float]:
        """(served, broken)"""
        families = text_string_to_metric_families(httpx.get(url_of(server, "/monitoring/prometheus/metrics")).text)
        values = {
            family.name: family.samples[0].value for family in families if "_model_" in family.name and family.samples
        }
        return values["evergreen_model_served_version"], values["evergreen_model_broken_version"]

    def wait_for(expected: tuple[float, float]) -> None:
        until = time.monotonic() + 30
        while versions() != expected:
            assert time.monotonic() < until, f"{versions()} instead of {expected}"
            time.sleep(0.05)

    wait_for((-1, -1))
    publish(models(7), base_path, 7)
    wait_for((7, -1))
    publish(broken_model, base_path, 8)
    wait_for((7, 8))
    shutil.rmtree(base_path / "8")  # taken back
    wait_for((7, -1))


class Authority:
    """Signs certificates for this machine, and for clients."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, as PEM files."""
        key = ec.generate_private_key(ec.SECP256R1())
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(self._sign(name, key).public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return paths

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, is_authority: bool = False) -> x509.Certificate:
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, self.name))
        now = datetime.datetime.now(datetime.timezone.utc)
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def tls_server(
    tmp_path: Path, base_path: Path, models: Callable[[int], Path]
) -> Iterator[tuple[RunningServer, Authority, Authority]]:
    """A server that knows one CA for itself and another for its clients."""
    ours, theirs = Authority(tmp_path, "servers"), Authority(tmp_path, "clients")
    certificate, key = ours.issue("recommender")
    publish(models(7), base_path, 7)
    tls = Tls(certificate=certificate, key=key, client_ca=theirs.path)
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, tls=tls))
    server.wait_until_ready(30)
    yield server, ours, theirs
    server.stop()


def test_only_clients_with_a_certificate_are_answered(tls_server: tuple[RunningServer, Authority, Authority]) -> None:
    server, ours, theirs = tls_server
    certificate, key = theirs.issue("shop")
    stranger = ours.issue("stranger")  # a certificate, but of another authority
    predict = url_of(server, "/v1/models/recommender:predict", "https")

    def context(pair: tuple[Path, Path] | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(ours.path))
        if pair:
            made.load_cert_chain(*pair)
        return made

    assert httpx.post(predict, json=ASKED, verify=context((certificate, key))).status_code == 200
    for pair in (None, stranger):
        with pytest.raises(httpx.TransportError):
            httpx.post(predict, json=ASKED, verify=context(pair))
    root = ours.path.read_bytes()
    known = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{server.port}", known) as channel:
        assert PredictionServiceStub(channel).Predict(request(), timeout=10).model_spec.version.value == 7
    with (
        grpc.secure_channel(f"localhost:{server.port}", grpc.ssl_channel_credentials(root)) as channel,
        pytest.raises(grpc.RpcError),
    ):
        PredictionServiceStub(channel).Predict(request(), timeout=3)


def test_tls_that_cannot_work_is_refused_before_a_port_is_open(tmp_path: Path) -> None:
    one, other = Authority(tmp_path, "a").issue("one"), Authority(tmp_path, "b").issue("other")
    with pytest.raises(StartFailed, match=r"one.pem, .*other.key.*expected PEM files that match"):
        Tls(certificate=one[0], key=other[1])
    with pytest.raises(StartFailed, match="No such file"):
        Tls(certificate=tmp_path / "nowhere.pem", key=one[1])
    with pytest.raises(StartFailed, match="both a certificate and its key"):
        tls_of(one[0], None, None)
    assert tls_of(None, None, None) is None


@pytest.fixture
def impatient(base_path: Path, models: Callable[[int], Path]) -> Iterator[RunningServer]:
    publish(models(7), base_path, 7)
    limits = Limits(request_timeout_seconds=0.5, max_message_bytes=10_000)
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, limits=limits))
    server.wait_until_ready(30)
    yield server
    server.stop()


def test_a_body_that_does_not_come_is_given_up(impatient: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", impatient.rest_api_port)) as connection:
        connection.sendall(b"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        connection.settimeout(10)
        answer = connection.recv(4096)
    assert b" 504 " in answer.splitlines()[0]
    assert b"the body did not come in 0.5 s; 1 bytes of it did" in answer


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", b"POST / HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_does_not_come_is_given_up(impatient: RunningServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.rest_api_port)) as connection:
        connection.sendall(sent)
        connection.settimeout(10)
        assert connection.recv(4096) == b""


def test_a_head_that_comes_by_and_by_is_given_up(impatient: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", impatient.rest_api_port)) as connection:
        connection.sendall(b"GET /")
        connection.settimeout(0.1)
        until, is_open = time.monotonic() + 10, True
        while is_open and time.monotonic() < until:
            with suppress(TimeoutError, BrokenPipeError):
                connection.sendall(b"a")
                is_open = connection.recv(1) != b""
    assert not is_open


def test_a_connection_may_rest_between_requests(impatient: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", impatient.rest_api_port)
    connection.connect()
    connection.auto_open = 0  # no other connection than this
    for _ in range(3):
        connection.request("POST", "/v1/models/recommender:predict", json.dumps(ASKED))
        assert connection.getresponse().read()
        time.sleep(0.8)
    connection.close()


@pytest.fixture(params=["http"])
def generous(
    base_path: Path, models: Callable[[int], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[RunningServer]:
    """Two seconds of patience, one between requests, large batches, answers of 10 MB at most."""
    publish(models(7), base_path, 7)
    certificate, key = Authority(tmp_path, "servers").issue("recommender")
    tls = Tls(certificate=certificate, key=key) if request.param == "https" else None
    limits = Limits(request_timeout_seconds=2.0, keep_alive_seconds=1, max_message_bytes=10_000_000)
    batching = BatchingConfig(max_batch_size=1_000_000)
    server = start(
        ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, limits=limits, batching=batching, tls=tls)
    )
    server.wait_until_ready(30)
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("generous", "is_read"), [("http", True), ("http", False), ("https", False)], indirect=["generous"]
)
def test_who_takes_nothing_of_an_answer_is_let_go(generous: RunningServer, is_read: bool) -> None:
    body = json.dumps({"instances": ["ann"] * 200_000})  # 9 MB of answer, more than the kernel takes
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        plain.connect(("127.0.0.1", generous.rest_api_port))
        connection = ssl._create_unverified_context().wrap_socket(plain) if generous.config.tls else plain
        head = f"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        connection.settimeout(20)
        received = connection.recv(1)
        for _ in range(120):
            time.sleep(0.05)
            received += connection.recv(65_536) if is_read else b""
        with suppress(ConnectionError, ssl.SSLError):
            while not received.endswith(b"]}") and (part := connection.recv(1_000_000)):
                received += part
    assert received.endswith(b"]}") == is_read


def test_too_large_an_answer_is_refused(generous: RunningServer) -> None:
    asked = {"instances": ["ann"] * 250_000}
    answer = httpx.post(url_of(generous, "/v1/models/recommender:predict"), json=asked, timeout=30)
    assert answer.status_code == 400
    assert answer.json() == {"error": "the answer is larger than 10000000 bytes; ask for less at once"}


def test_too_large_a_message_is_refused_by_both(impatient: RunningServer) -> None:
    answer = httpx.post(url_of(impatient, "/v1/models/recommender:predict"), content=b"x" * 20_000)
    assert answer.status_code == 400
    assert "larger than 10000 bytes" in answer.json()["error"]
    large = request()
    large.inputs["user_id"].CopyFrom(tf.make_tensor_proto([b"x" * 20_000]))
    with grpc.insecure_channel(f"127.0.0.1:{impatient.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        PredictionServiceStub(channel).Predict(large, timeout=10)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_version_for_which_there_is_no_memory_is_not_loaded(
    base_path: Path, models: Callable[[int], Path], tmp_path: Path
) -> None:
    from serving.model import load_model
    from serving.model_config import ModelSettings
    from serving.watcher import Watcher

    free = [2**30]
    watcher = Watcher(ModelSettings("recommender", base_path), load_model, room=lambda: free[0])
    publish(models(7), base_path, 7)
    watcher.poll()
    free[0] = 10
    publish(models(8), base_path, 8)
    watcher.poll()
    told = {status.version: (status.state, status.error) for status in watcher.statuses()}
    assert told[7] == ("AVAILABLE", "")
    assert re.fullmatch(r"it needs about \d+ MB of memory .* and 0 MB are free; .*", told[8][1])
    free[0] = 2**30  # it is asked again, though no file has changed
    watcher.poll()
    assert {status.version: status.state for status in watcher.statuses()} == {8: "AVAILABLE", 7: "END"}


def test_a_container_has_less_than_its_machine(tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "5000\n",
        "memory.current": "3000\n",
        "memory.stat": "inactive_file 400\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert available_bytes(tmp_path) == 2400  # what files fill can be had
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == pytest.approx(available_bytes(tmp_path / "none"), rel=0.1)
    (tmp_path / "model").write_bytes(bytes(1000))
    check_room(tmp_path, 100_000)
    with pytest.raises(NoRoom):
        check_room(tmp_path, 1_000)


def test_a_configuration_names_one_source_of_models(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="either a model_base_path or a model_config_file"):
        ServerConfig()
