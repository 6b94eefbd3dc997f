"""Beam on workers in another process: they do the work, and see nothing of the pod but the scratch folder.

The pod's root is /proc/self/cwd/pod, a path that leads each process into its own working folder: what the pod has
there, a worker looks for in vain. The arguments are those of kubeflow/beam/flink.yaml; the workers are those beside its
task managers, and between pod and workers stands the job server of Beam's Python SDK in the place of Flink's.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.interaction_example_gen.contract import (
    DataContract,
    ExamplesConfig,
    InteractionsContract,
    ItemsContract,
    UsersContract,
)
from components.interaction_example_gen.plan import make_plan
from pipeline.cluster_config import EVERY_COMPONENT, ClusterConfig
from pipeline.config import PipelineConfig
from trainer.features import Feature

pytestmark = pytest.mark.slow
FLINK = Path(__file__).resolve().parents[2] / "kubeflow" / "beam"
POD = Path("/proc/self/cwd/pod")
STORE = "minio://mlpipeline/run"
REMOTE = ("InteractionExampleGen", "StatisticsGen", "Transform")
IN_MEMORY = ("--direct_running_mode=in_memory", "--direct_num_workers=1", "--sdk_container_image=none")


def write_data(path: Path) -> DataContract:
    """23 users, 11 items, 400 rows in two files; values missing in the features of users and of rows."""
    chance = random.Random(7)
    rows = [
        {
            "timestamp": 1_000 + 10 * row + chance.randrange(9),
            "user_id": f"u{chance.randrange(23):02}",
            "item_id": f"i{min(chance.randrange(11), chance.randrange(11)):02}",
            "interaction_type": chance.choice(["view", "view", "buy"]),
            "device": chance.choice(["phone", "phone", "desk", ""]),
        }
        for row in range(400)
    ]
    tables = {
        "spans/1/a.csv": rows[:170],
        "spans/1/b.csv": rows[170:],
        "items.csv": [{"item_id": f"i{number:02}"} for number in range(11)],
        "users.csv": [{"user_id": f"u{number:02}", "age": 20 + number if number % 5 else ""} for number in range(23)],
    }
    for name, table in tables.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        with (path / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return DataContract(
        interactions=InteractionsContract(types={"view": 0.5, "buy": 1.0}, context=(Feature(name="device"),)),
        items=ItemsContract(),
        users=UsersContract(features=(Feature(name="age", type="number"),)),
    )


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in taken]


def wait_for(port: int, seconds: float = 60) -> None:
    """Returns when a server listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("localhost", port), timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


@dataclass
class Cluster:
    """A pod in `folder` that runs node after node of a compiled package; `told` is what it is told instead."""

    folder: Path
    package: dict[str, Any]
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)

    def run(self, task: str, inputs: dict[str, str], **parameters: Any) -> None:
        """Runs a task as its container would. `inputs`: `<task>/<key>` by input key."""
        from evergreen_kubeflow import entrypoint

        args = self.package["deploymentSpec"]["executors"][f"exec-{task}"]["container"]["args"]
        told = entrypoint.main.make_context("entrypoint", list(args)).params | self.told
        sources = self.package["root"]["dag"]["tasks"][task].get("inputs", {}).get("parameters", {})
        constants = {name: s["runtimeValue"]["constant"] for name, s in sources.items() if "runtimeValue" in s}
        given = {key: f"{STORE}/{source}" for key, source in inputs.items()}
        wanted = {key: f"{STORE}/{task}/{key}" for key in json.loads(told["node"])["outputs"]}
        executor_input = {
            "inputs": {"parameterValues": constants | parameters, "artifacts": self._slots(given)},
            "outputs": {"artifacts": self._slots(wanted), "outputFile": f"/{task}.json"},
        }
        begun, before = time.perf_counter(), Path.cwd()
        os.chdir(self.folder)
        try:
            entrypoint.run_node(told["node"], executor_input, told["beam_args"], told["beam_scratch"], POD)
            written = json.loads((POD / f"{task}.json").read_text())
        finally:
            os.chdir(before)
        self.seconds[task] = time.perf_counter() - begun
        for slot in written["artifacts"].values():
            self.metadata |= {made["uri"]: made["metadata"] for made in slot["artifacts"]}

    def _slots(self, uris: dict[str, str]) -> dict[str, Any]:
        return {key: {"artifacts": [{"uri": uri, "metadata": self.metadata.get(uri, {})}]} for key, uri in uris.items()}

    @property
    def store(self) -> Path:
        return self.folder / "pod" / STORE.replace("://", "/")

    def records(self, place: str) -> list[bytes]:
        """The serialized tf.Examples of all files in `<task>/<key>/Split-…`, sorted."""
        import tensorflow as tf

        files = sorted(map(str, (self.store / place).glob("*.gz")))
        assert files, place
        records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
        return sorted(tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in records)


class World:
    """The data, the workers, and clusters that use them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_root, self.scratch = path / "data", path / "scratch"
        self.worker_folder, self.worker_log = path / "worker", path / "worker.log"
        self.contract = write_data(self.data_root)
        self.examples = ExamplesConfig(max_history=5, num_shards=3)
        self.job_port, self.pool_port = free_ports(2)

    @property
    def remote(self) -> tuple[str, ...]:
        """The arguments of flink.yaml, for the servers of this test."""
        fragment = yaml.safe_load((FLINK / "flink.yaml").read_text())["kubeflow"]["beam_pipeline_args"]
        text = "\n".join(fragment["InteractionExampleGen"])
        for server, port in (("jobs:8099", self.job_port), ("jobs:8098", self.job_port)):
            assert f"=evergreen-beam-{server}\n" in text
            text = text.replace(f"=evergreen-beam-{server}\n", f"=localhost:{port}\n")
        assert "=localhost:50000\n" in text
        return tuple(text.replace("=localhost:50000\n", f"=localhost:{self.pool_port}\n").split("\n"))

    def cluster(self, name: str, **settings: Any) -> Cluster:
        """An empty pod, but for what is in production (nothing), and the package of that configuration."""
        from evergreen_kubeflow.runner import compile_package

        config = PipelineConfig(
            name="workers",
            data_root=str(self.data_root),
            contract=self.contract,
            examples=self.examples,
            kubeflow=ClusterConfig(**settings),
        )
        package = compile_package(config, self.path / f"{name}.yaml")
        spec, _ = yaml.safe_load_all(package.read_text())
        made = Cluster(self.path / name, spec)
        production = made.store / "production-model" / "production" / "production.json"
        production.parent.mkdir(parents=True)
        production.write_text(json.dumps({"start_version": None, "learned_until_seconds": 0}))
        return made

    def make_examples(self, cluster: Cluster) -> None:
        cluster.run(
            "interaction-example-gen",
            {"production": "production-model/production"},
            span=1,
            plan=make_plan(str(self.data_root), self.contract, self.examples, 1).to_json(),
            data_root=str(self.data_root),
        )

    def run(self, cluster: Cluster) -> Cluster:
        """The nodes from the log to the transformed examples."""
        self.make_examples(cluster)
        cluster.run("statistics-gen", {"examples": "interaction-example-gen/examples"})
        cluster.run("schema-gen", {"statistics": "statistics-gen/statistics"})
        cluster.run("transform", {"examples": "interaction-example-gen/examples", "schema": "schema-gen/schema"})
        return cluster


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The workers share a file system with this process and yet not the pod's root, for they have another cwd."""
    world = World(tmp_path_factory.mktemp("beam_workers"))
    world.worker_folder.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the pool starts `python`
    environment = {"PATH": path, "HOME": str(world.path / "home"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with contextlib.ExitStack() as stack:
        for module, port, log in (
            ("portability.local_job_service_main", f"--port={world.job_port}", world.path / "jobs.log"),
            ("worker.worker_pool_main", f"--service_port={world.pool_port}", world.worker_log),
        ):
            out = stack.enter_context(log.open("wb"))
            command = [sys.executable, "-m", f"apache_beam.runners.{module}", port]
            server = subprocess.Popen(
                command,
                cwd=world.worker_folder,
                env=environment,
                stdout=out,
                stderr=out,
                # what a shell starts in the background ignores it, and so would this
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
            stack.callback(server.wait, timeout=30)
            stack.callback(server.send_signal, signal.SIGINT)
        yield world


@pytest.fixture(scope="module")
def in_memory(world: World) -> Cluster:
    return world.run(world.cluster("in_memory", beam_pipeline_args={EVERY_COMPONENT: IN_MEMORY}))


@pytest.fixture(scope="module")
def on_workers(world: World) -> Cluster:
    wait_for(world.job_port)
    wait_for(world.pool_port)
    settings = {"beam_pipeline_args": dict.fromkeys(REMOTE, world.remote), "beam_scratch": str(world.scratch)}
    cluster = world.run(world.cluster("on_workers", **settings))
    assert world.worker_log.read_text().count("Starting worker with command") == len(REMOTE)
    return cluster


def test_the_examples_are_the_same(in_memory: Cluster, on_workers: Cluster) -> None:
    splits = ("examples/Split-train", "examples/Split-eval", "users/Split-all", "catalog/Split-all")
    places = [f"interaction-example-gen/{split}" for split in splits]
    places += [f"transform/transformed_examples/Split-{split}" for split in ("train", "eval")]
    for place in places:
        expected = in_memory.records(place)
        assert len(expected) >= 11
        assert on_workers.records(place) == expected
    assert on_workers.metadata == in_memory.metadata  # splits, span, formats


def test_the_statistics_are_the_same(in_memory: Cluster, on_workers: Cluster) -> None:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    def read(cluster: Cluster, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
        path = cluster.store / "statistics-gen" / "statistics" / f"Split-{split}" / "FeatureStats.pb"
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())

    for split in ("train", "eval"):
        expected = read(in_memory, split)
        assert expected.datasets[0].num_examples >= 20
        assert read(on_workers, split) == expected


def test_the_vocabularies_are_the_same(in_memory: Cluster, on_workers: Cluster) -> None:
    import tensorflow_transform as tft

    for cluster in (in_memory, on_workers):
        graph = tft.TFTransformOutput(str(cluster.store / "transform" / "transform_graph"))
        assert graph.vocabulary_by_name("device") == [b"phone", b"desk"]  # two rows of phone to one of desk


def test_the_workers_saw_nothing_of_the_pod_and_nothing_is_left(world: World, on_workers: Cluster) -> None:
    assert not list(world.worker_folder.iterdir())
    assert not list(world.scratch.iterdir())


def test_without_the_scratch_folder_the_pod_waits_in_vain(world: World, on_workers: Cluster) -> None:
    """What the laws above rest on: a worker that is not told of the scratch folder writes where only it can see it."""
    remote = dict.fromkeys(REMOTE, world.remote)
    cluster = world.cluster("without", beam_pipeline_args=remote, beam_scratch=str(world.scratch))
    cluster.told["beam_scratch"] = None  # the compiler would refuse such a configuration
    with pytest.raises(Exception, match=r"summary\.json"):
        world.make_examples(cluster)
    written = [str(path.relative_to(world.worker_folder)) for path in world.worker_folder.rglob("*.gz")]
    assert any("interaction-example-gen/examples/Split-train" in path for path in written)
    assert not list(cluster.store.rglob("*.gz"))


def test_interaction_example_gen_writes_where_no_path_leads(world: World, in_memory: Cluster) -> None:
    """`ram://` is TensorFlow's own; for the component an object store like gs://."""
    cluster = world.cluster("in_a_store", beam_pipeline_args={"InteractionExampleGen": IN_MEMORY})
    cluster.told["beam_scratch"] = "ram://scratch"  # in the pod, so that the memory is this process's
    world.make_examples(cluster)
    for split in ("examples/Split-train", "examples/Split-eval", "users/Split-all", "catalog/Split-all"):
        place = f"interaction-example-gen/{split}"
        assert cluster.records(place) == in_memory.records(place)
