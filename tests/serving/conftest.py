"""Small real SavedModels, a real server over them, and the stores that a registry may be in.

Every answer of a model carries its *mark*, in strings and numbers, so that a test sees which version spoke.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import tensorflow as tf
from postgres_server import PostgresServer, running_server

from serving.client import Client
from serving.registry import Registry
from serving.server import RunningServer, ServerConfig, start

USERS = {"ann": [3, 1], "bob": [2, 4], "cäcilie": [1, 2]}  # user → the numbers of two items
TEXT = tf.string


class TinyRecommender(tf.Module):
    """A lookup table and a few signatures; `mark` is in every answer."""

    def __init__(self, mark: int, words: Path) -> None:
        super().__init__()
        words.write_text("".join(f"{name}\n" for name in USERS), encoding="utf-8")
        source = tf.lookup.TextFileInitializer(
            str(words),
            TEXT,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.rows = tf.lookup.StaticHashTable(source, len(USERS))  # its file becomes an asset of the model
        self.items = tf.Variable([*USERS.values(), [0, 0]], dtype=tf.int32)  # last row: an unknown user
        self.mark = tf.Variable(mark, dtype=tf.int32)

    def _answer(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        items = tf.gather(self.items, self.rows.lookup(user_id))
        item_ids = tf.strings.join([tf.strings.as_string(self.mark), tf.strings.as_string(items)], "/")
        scores = tf.cast(self.mark, tf.float32) + tf.cast(items, tf.float32) / 10
        return {"item_ids": item_ids, "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], TEXT, name="user_id")])
    def serve(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] → [B, 2]."""
        return self._answer(user_id)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], TEXT, name="user_id"),
            tf.TensorSpec([None, None], TEXT, name="history"),
        ]
    )
    def recommend(self, user_id: tf.Tensor, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B], [B, H] → [B, 2] and how long each history is."""
        length = tf.reduce_sum(tf.cast(history != "", tf.int64), axis=1)
        tf.debugging.assert_equal(tf.shape(user_id)[0], tf.shape(history)[0], "one history per user")
        return {**self._answer(user_id), "length": length}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_plus_three(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """The toy of TensorFlow Serving's documentation: x/2 + 3."""
        return {"y": x / 2 + 3}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], TEXT, name="tag"),
            tf.TensorSpec([None, 5], tf.int64, name="signal"),
            tf.TensorSpec([None, 2, 2], tf.float32, name="sensor"),
        ]
    )
    def sense(self, tag: tf.Tensor, signal: tf.Tensor, sensor: tf.Tensor) -> dict[str, tf.Tensor]:
        """The three named inputs of TensorFlow Serving's documentation."""
        return {"tag": tag, "total": tf.reduce_sum(signal, axis=1), "twice": sensor * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], TEXT, name="image")])
    def echo_bytes(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] → [B], as bytes."""
        return {"image_bytes": image}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def lookup_by_number(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Fails for a number beyond the rows: the data are wrong, not the shape."""
        return {"y": tf.gather(self.items, tf.cast(x, tf.int32))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def distinct(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """What all rows have between them: [B] → as many as there are."""
        return {"y": tf.unique(x).y}


class BrokenOnCall(tf.Module):
    """Loads well, and fails on every call."""

    @tf.function(input_signature=[tf.TensorSpec([None], TEXT, name="user_id")])
    def serve(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] → never."""
        with tf.control_dependencies([tf.debugging.assert_equal(tf.size(user_id), -1, "the index is empty")]):
            return {"item_ids": tf.identity(user_id)}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """mark → the folder of a SavedModel that carries it; each is built once."""
    root = tmp_path_factory.mktemp("models")
    module = TinyRecommender(0, root / "users.txt")
    signatures = {
        "serving_default": module.serve,
        "recommend": module.recommend,
        "half_plus_three": module.half_plus_three,
        "sense": module.sense,
        "echo_bytes": module.echo_bytes,
        "lookup_by_number": module.lookup_by_number,
        "distinct": module.distinct,
    }

    def model(mark: int) -> Path:
        folder = root / str(mark)
        if not folder.exists():
            module.mark.assign(mark)
            tf.saved_model.save(module, str(folder), signatures=signatures)
        return folder

    return model


@pytest.fixture(scope="session")
def broken_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that loads and then fails its warm-up."""
    folder = tmp_path_factory.mktemp("broken") / "model"
    module = BrokenOnCall()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


@pytest.fixture
def unreadable_model(models: Callable[[int], Path], tmp_path: Path) -> Path:
    """A SavedModel whose graph is cut off in the middle."""
    folder = tmp_path / "unreadable"
    shutil.copytree(models(7), folder)
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])
    return folder


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    """An empty base path."""
    return tmp_path / "serving" / "recommender"


@pytest.fixture
def serve() -> Iterator[Callable[[Path], RunningServer]]:
    """Starts servers on free ports, and stops them after the test."""
    started: list[RunningServer] = []

    def start_one(base_path: Path) -> RunningServer:
        config = ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, poll_seconds=0.05, grace_seconds=2)
        started.append(start(config))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def steady_server(models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with one version, 7, for the tests that change nothing."""
    base_path = tmp_path_factory.mktemp("steady")
    shutil.copytree(models(7), base_path / "7")
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, poll_seconds=0.05))
    server.wait_until_ready(60)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def steady_client(steady_server: RunningServer) -> Iterator[Client]:
    """A client of the steady server, both protocols."""
    with Client("127.0.0.1", steady_server.port, steady_server.rest_api_port) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that want one."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty PostgreSQL database, owned by the role of the URL."""
    return postgres_server.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: what holds for a registry holds in both."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return Registry.at(tmp_path / "deep" / "registry.sqlite").url


@pytest.fixture
def registry(registry_url: str) -> Registry:
    """An empty registry whose clock goes 1, 2, 3, …"""
    ticks = count(1)
    return Registry(registry_url, now=lambda: float(next(ticks)))
