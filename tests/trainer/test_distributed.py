"""The same seed gives the same model, and two processes that learn together give what one would: run as pods run it."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml

from trainer.config import ModelConfig, TrainerConfig
from trainer.distribution import worker_index
from trainer.run import FN_ARGS, FnArgs, run_fn
from trainer.saved import CONFIG, load

ROOT = Path(__file__).resolve().parents[2]
PODS = yaml.safe_load((ROOT / "kubeflow/training/tfjob.yaml").read_text())["spec"]["tfReplicaSpecs"]
PYTHON, *COMMAND = PODS["Chief"]["template"]["spec"]["containers"][0]["command"]
ITEMS = "abcde"
# What `python -m trainer` does, but saving on a worker that is not the chief.
WORKER = """
import sys
from pathlib import Path
from trainer.run import FN_ARGS, train
from trainer.saved import save
fn_args = FN_ARGS.validate_json(Path(sys.argv[1]).read_bytes())
catalog_transform_graph = fn_args.custom_config["catalog_transform_output"]
save(train(fn_args), Path(sys.argv[2]), fn_args.transform_output, catalog_transform_graph)
"""


@pytest.fixture(scope="module")
def circles(tmp_path_factory):
    """Nineteen users, transformed: group 1 walks the five items as they are written, group 2 backwards."""

    def example(start, group, is_target):
        items = [ITEMS[(start + step * (1 if group == 1 else -1)) % 5].encode() for step in range(3)]
        int64 = {
            "group": [group],
            "likes": [],
            "bio": [],
            "timestamps": [1, 2, 3],
            "is_target": is_target,
            "device": [0, 0, 0],
        }
        number = {"age": [0.0], "face": [0.0, 0.0], "hour": [0.0, 0.0, 0.0], "weights": [0.5, 0.5, 0.25]}
        bytes_ = {"user_id": [b"u"], "item_ids": items, "interaction_types": [b"view"] * 3}
        features = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for name, v in int64.items()}
        features |= {name: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for name, v in number.items()}
        features |= {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)) for name, v in bytes_.items()}
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    path = tmp_path_factory.mktemp("circles")
    for split in ("train", "eval"):
        with tf.io.TFRecordWriter(str(path / split), "GZIP") as writer:
            for number in range(19):
                one_target = split == "eval" or number % 3 == 0
                writer.write(example(number % 5, 1 + number // 10, [0, not one_target, 1]))
    return path


@pytest.fixture
def fn_args(world, circles, tmp_path):
    """(name, **settings) → fn_args of a run that saves to tmp_path / name."""

    def make(name, **settings):
        trainer = TrainerConfig(**{"embedding_dim": 8, "learning_rate": 0.03, "ranking_weight": 0.5, **settings})
        config = ModelConfig(trainer=trainer, features=world.features, max_history=3)
        return FnArgs(
            train_files=[str(circles / "train")],
            eval_files=[str(circles / "eval")],
            transform_output=world.transform_graph,
            serving_model_dir=str(tmp_path / name),
            model_run_dir=str(tmp_path / f"{name}_run"),
            custom_config={
                "config": CONFIG.dump_json(config).decode(),
                "catalog_files": world.catalog_files,
                "catalog_transform_output": world.catalog_transform_graph,
                "production_model": "",
            },
        )

    return make


@pytest.fixture
def start(tmp_path):
    """(fn_args, command, more arguments, TF_CONFIG) → a process that trains; killed with the test, or after 100 s."""
    with ExitStack() as stack:

        def start(fn_args, command=COMMAND, more=(), tf_config=None):
            path = Path(fn_args.serving_model_dir + ".json")
            path.write_bytes(FN_ARGS.dump_json(fn_args))
            environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            if tf_config:
                environment["TF_CONFIG"] = json.dumps(tf_config)
            process = subprocess.Popen(
                [sys.executable, *command, str(path), *more],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            limit = Timer(100, process.kill)
            limit.start()
            for end in (process.wait, process.kill, limit.cancel):
                stack.callback(end)
            return process

        yield start


def finish(*processes):
    """Their output, when all of them ended well."""
    outputs = [process.communicate()[0] for process in processes]
    # when one fails, the others tell only that they lost it
    assert not any(process.returncode for process in processes), "\n\n".join(output[-3000:] for output in outputs)
    return outputs


def tf_config(kind, index, ports):
    """What the training operator sets in a pod of a TFJob with one chief and one worker."""
    chief, worker = (f"127.0.0.1:{port}" for port in ports)
    return {"cluster": {"chief": [chief], "worker": [worker]}, "task": {"type": kind, "index": index}}


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def weights(path):
    return [variable.numpy() for variable in load(path).trainable_variables]


def test_the_pods_of_the_job_run_the_trainer_and_name_a_cluster_that_was_tried():
    assert PYTHON == "python"
    assert sorted(PODS) == ["Chief", "Worker"]
    assert PODS["Chief"]["template"] == PODS["Worker"]["template"]
    assert PODS["Chief"]["replicas"] == 1


@pytest.mark.parametrize(
    ("jobs", "kind", "number", "index"),
    [
        ({"chief": 1, "worker": 2}, "chief", 0, 0),
        ({"chief": 1, "worker": 2}, "worker", 0, 1),
        ({"chief": 1, "worker": 2}, "worker", 1, 2),
        ({"worker": 2}, "worker", 0, 0),  # without a chief, the first worker is one
        ({"worker": 2}, "worker", 1, 1),
    ],
)
def test_one_process_of_a_cluster_is_the_chief(jobs, kind, number, index):
    spec = tf.train.ClusterSpec({job: [f"{job}{i}:2222" for i in range(count)] for job, count in jobs.items()})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=kind, task_id=number)
    assert worker_index(SimpleNamespace(cluster_resolver=resolver)) == index


def test_the_same_seed_gives_the_same_model_to_the_last_bit(fn_args, start, tmp_path):
    """In a fresh process and in this one, which has done other work; with everything that draws at random."""
    random = {"epochs": 3, "batch_positions": 24, "full_softmax_below_items": 0, "uniform_negatives": 7}
    fresh = start(fn_args("fresh", **random))
    tf.random.uniform([3])
    list(tf.data.Dataset.range(9).shuffle(9))
    run_fn(fn_args("here", **random))
    finish(fresh)
    for left, right in zip(weights(tmp_path / "here"), weights(tmp_path / "fresh"), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_two_workers_learn_what_one_learns_from_twice_the_batch(fn_args, start, tmp_path):
    # 19 users are steps of 6, 6, 6 and 1: the last leaves one worker without a user. What is drawn at random differs.
    sure = {"dropout": 0.0, "id_dropout": 0.0, "ranking_negatives": 0, "normalized": False, "temperature": 1.0}
    sure |= {"embedding_l2": 1e-4, "kernel_l2": 1e-4}
    settings = {"epochs": 20, "patience_epochs": 20, "learning_rate": 0.05, **sure}
    two, one = fn_args("two", batch_positions=12, **settings), fn_args("one", batch_positions=24, **settings)
    ports = free_ports(2)
    chief = start(two, tf_config=tf_config("chief", 0, ports))
    worker = start(two, ("-c", WORKER), [str(tmp_path / "worker")], tf_config("worker", 0, ports))
    chief_log, worker_log = finish(chief, worker)
    run_fn(one)
    for left, right in zip(weights(tmp_path / "two"), weights(tmp_path / "worker"), strict=True):
        np.testing.assert_array_equal(left, right)
    # Sums in another order are off by 1e-7 a step; a loss that is a mean of means, by more than 1e-2.
    for left, right in zip(weights(tmp_path / "two"), weights(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)
    # Two items are known, three compete: an order that is the same for all has ndcg (1 + 1/log2(3) + 1/2) / 3 = 0.71.
    assert max(map(float, re.findall(r"epoch .* ndcg@10 (\S+)", chief_log))) > 0.85
    assert "epoch" not in worker_log
    assert len(list((tmp_path / "two_run").rglob("events.*"))) == 1  # the chief's


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_others_with_an_error(fn_args, start):
    long, ports = fn_args("long", epochs=100_000, patience_epochs=None), free_ports(2)
    chief = start(long, tf_config=tf_config("chief", 0, ports))
    worker = start(long, tf_config=tf_config("worker", 0, ports))
    while "epoch 2/" not in (line := chief.stdout.readline()):
        assert line, "the chief ended before its second epoch"
    worker.kill()
    output, _ = chief.communicate(timeout=60)  # 4 s, 2026-11
    assert chief.returncode == 1
    assert "UnavailableError" in output
    assert not Path(long.serving_model_dir, "config.json").exists()  # no model
