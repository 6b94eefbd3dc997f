"""Servables of kind portable and exact where ScaNN does not exist, as in an unmodified TensorFlow Serving."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.components.index_builder.packed import MAX_HISTORY, build

ASK = """
import json, sys

sys.modules["scann"] = None  # importing it raises ModuleNotFoundError
import tensorflow as tf

path, history = sys.argv[1], json.loads(sys.argv[2])
inputs = {"user_id": ["ann"] * len(history), "history": history, "exclude": [[""]] * len(history)}
inputs |= {"allow": [[""]] * len(history), "device": [""] * len(history), "hour": [float("nan")] * len(history)}

loaded = tf.saved_model.load(path)
answer = loaded.signatures["recommend"](**{name: tf.constant(value) for name, value in inputs.items()})
by_loader = {name: value.numpy() for name, value in answer.items()}

with tf.compat.v1.Session(graph=tf.Graph()) as session:  # what TensorFlow Serving does
    graph = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["recommend"]
    asked = {graph.inputs[name].name: value for name, value in inputs.items()}
    by_session = session.run({name: info.name for name, info in graph.outputs.items()}, asked)

print(json.dumps([
    {"ids": [[i.decode() for i in row] for row in found["item_ids"].tolist()], "scores": found["scores"].tolist()}
    for found in (by_loader, by_session)
]))
"""


def ask(path, histories):
    """One request per history, in a process of its own."""
    command = [sys.executable, "-c", ASK, str(path), json.dumps(histories)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def portable(world, make_catalog, make_model, tmp_path_factory):
    model = make_model(make_catalog(1_200), max_history=MAX_HISTORY)
    config = {"top_k": 10, "num_candidates": 50, "min_recall": 0.95, "kind": "portable"}
    return build(world, model, tmp_path_factory.mktemp("portable"), **config)


def test_a_portable_servable_answers_the_same_without_scann_by_both_loaders(portable):
    histories = [[portable.ids[row].decode()] for row in range(20)]
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(portable.path), json.dumps(histories)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    by_loader, by_session = json.loads(done.stdout.splitlines()[-1])
    for row, history in enumerate(histories):
        here = portable.recommend("ann", history=history)
        for there in (by_loader, by_session):
            assert there["ids"][row] == [item.decode() for item in here.ids]
            np.testing.assert_allclose(there["scores"][row], here.scores[0], rtol=1e-4)


def test_its_answers_are_those_of_the_model_up_to_its_recall(portable):
    assert portable.release["index"]["kind"] == "portable"
    assert portable.release["index"]["recall"] >= 0.95
    shares = []
    for row in range(1, 60):
        expected = portable.expected(portable.query([row], [2]), [row])
        shares.append(len(set(portable.recommend(history=[portable.ids[row - 1]]).ids) & set(expected)) / 10)
    assert np.mean(shares) >= 0.95


def test_a_servable_with_scann_does_not_load_where_there_is_none(large):
    """Else the two tests above would show nothing."""
    done = ask(large.path, [[""]])
    assert done.returncode != 0
    assert "Op type not registered 'Scann>" in done.stderr
