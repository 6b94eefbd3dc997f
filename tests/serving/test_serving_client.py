"""The client: typed recommendations by both protocols, a server that is away for a moment, what it costs to import."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.client import Client, Recommendation
from serving.errors import RequestFailed
from serving.server import RunningServer, ServerConfig, start
from tests.serving.test_operations import Authority

STRINGS, LISTS, NUMBERS = ([None], tf.string), ([None, None], tf.string), ([None], tf.float32)
INPUTS = {"user_id": STRINGS, "history": LISTS, "exclude": LISTS, "allow": LISTS, "device": STRINGS, "hour": NUMBERS}


class Talkative(tf.Module):
    """Says what it was asked, in the form of recommendations."""

    @tf.function(input_signature=[tf.TensorSpec(*spec, name) for name, spec in INPUTS.items()])
    def recommend(self, user_id, history, exclude, allow, device, hour):  # type: ignore[no-untyped-def]
        """[B] … → three items, the last of them none."""
        heard = [tf.strings.reduce_join(part, axis=1, separator="+") for part in (history, exclude, allow)]
        heard = [user_id, *heard, device, tf.strings.as_string(hour, precision=1)]
        reason = tf.strings.join(heard, "|")
        items = tf.stack([user_id, tf.constant(["é"]), tf.constant([""])], axis=1)
        scores = tf.constant([[0.5, 0.25, float(np.finfo(np.float32).min)]])
        return {
            "item_ids": items,
            "scores": scores,
            "retrieval_scores": 2 * scores,
            "reasons": tf.stack([reason] * 3, 1),
        }


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with one version."""
    base_path = tmp_path_factory.mktemp("talkative")
    module = Talkative()
    tf.saved_model.save(module, str(base_path / "1"), signatures={"recommend": module.recommend})
    return base_path


def server_over(base_path: Path, **how: object) -> RunningServer:
    server = start(ServerConfig(model_base_path=base_path, **{"port": 0, "rest_api_port": 0, **how}))  # type: ignore[arg-type]
    server.wait_until_ready(30)
    return server


@pytest.fixture(scope="module")
def server(talkative: Path):  # type: ignore[no-untyped-def]
    server = server_over(talkative)
    yield server
    server.stop()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_recommendations_are_typed_and_what_is_not_said_is_unknown(server: RunningServer, protocol: str) -> None:
    ports = {"grpc_port": server.port} if protocol == "grpc" else {"rest_port": server.rest_api_port}
    with Client("127.0.0.1", **ports) as client:
        first, second = client.recommend("42", history=["1", "2"], allow=["genres=Comedy"], hour=7)
        assert first == Recommendation("42", 0.5, 1.0, "42|1+2||genres=Comedy||7.0")
        assert second.item_id == "é"
        assert client.recommend("42", exclude=["9"], device="phone")[0].reasons == "42||9||phone|nan"
        assert client.versions() == {1: "AVAILABLE"}
        with pytest.raises(RequestFailed, match="devce"):
            client.recommend("42", devce="phone")


def test_a_server_that_is_started_anew_is_not_missed(talkative: Path) -> None:
    first = server_over(talkative)
    ports = {"port": first.port, "rest_api_port": first.rest_api_port}
    with Client("127.0.0.1", first.port, first.rest_api_port) as client:
        for method in (client.predict, client.predict_rest):
            method("recommend", asked())
        first.stop()
        began: list[RunningServer] = []
        again = threading.Thread(target=lambda: (time.sleep(0.15), began.append(server_over(talkative, **ports))))
        again.start()
        try:
            for method in (client.predict_rest, client.predict):
                assert found_at_last(method)["item_ids"][0, 0] == b"bob"
        finally:
            again.join()
            began[0].stop()


def found_at_last(method: Callable[..., dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Asks until the version is loaded: the ports are open before."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return method("recommend", asked())
        except RequestFailed as error:
            if "Servable not found" not in str(error) or time.monotonic() > deadline:
                raise


def asked() -> dict[str, list[object]]:
    lists = {name: [[""]] for name in ("history", "exclude", "allow")}
    return {"user_id": ["bob"], **lists, "device": [""], "hour": [0.0]}


def test_nobody_there_is_said() -> None:
    with Client("127.0.0.1", 1, 1, deadline_seconds=5) as client, pytest.raises(RequestFailed, match="UNAVAILABLE"):
        client.predict("recommend", {})
    with Client("127.0.0.1", rest_port=1, deadline_seconds=5) as client:
        with pytest.raises(RequestFailed, match=r"http://127.0.0.1:1/v1/models/recommender/metadata gave no answer"):
            client.predict_rest("recommend", {})
        with pytest.raises(RequestFailed, match="no gRPC port"):
            client.predict("recommend", {})


def test_both_protocols_encrypted(talkative: Path, tmp_path: Path) -> None:
    from serving.tls import Tls

    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    mine = dict(zip(("certificate", "key"), authority.issue("me"), strict=True))
    server = server_over(talkative, tls=Tls(certificate=certificate, key=key, client_ca=authority.path))
    try:
        for ports in ({"grpc_port": server.port}, {"rest_port": server.rest_api_port}):
            with Client("localhost", ca=authority.path, **mine, **ports) as client:
                assert client.recommend("42")[0].item_id == "42"
            stranger = Client("localhost", ca=authority.path, deadline_seconds=2, **ports)
            with stranger, pytest.raises(RequestFailed):
                stranger.recommend("42")
    finally:
        server.stop()


def test_by_rest_alone_nothing_of_tensorflow_is_imported(server: RunningServer) -> None:
    code = f"""
import sys
from serving.client import Client
with Client("127.0.0.1", rest_port={server.rest_api_port}) as client:
    print(client.recommend("42")[0].item_id, "tensorflow" in sys.modules, "grpc" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["42", "False", "False"], done.stderr


def test_the_command_prints_a_table(server: RunningServer) -> None:
    from click.testing import CliRunner

    from pipeline.cli import cli

    where = ["--rest-api-port", str(server.rest_api_port)]
    shown = CliRunner().invoke(cli, ["recommend", "--user", "42", "--context", "hour=7.5", *where])
    assert shown.exit_code == 0, shown.output
    assert "42||||" in shown.output.replace(" ", "")
    assert "7.5" in shown.output
    refused = CliRunner().invoke(cli, ["recommend", "--user", "42", "--context", "hour", *where])
    assert "expected name=value" in str(refused.exception)
