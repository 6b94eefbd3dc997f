"""What a servable brings along: its manifest, its curve, and requests to warm up with."""

import json
import re

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model import load_model
from tests.components.index_builder.packed import MAX_HISTORY, build

HASHES = ("model_sha256", "embeddings_sha256", "vocabulary_sha256", "config_sha256", "index_config_sha256")


def requests(packed):
    path = packed.path / "assets.extra" / "tf_serving_warmup_requests"
    logs = [PredictionLog.FromString(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    return [log.predict_log.request for log in logs]


def test_every_signature_is_warmed_up_with_inputs_that_fit_it(small, large):
    for packed in (small, large):
        asked = requests(packed)
        assert {request.model_spec.signature_name for request in asked} == set(packed.servable.signatures)
        assert {request.model_spec.name for request in asked} == {"recommender"}
        for request in asked:
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            packed.servable.signatures[request.model_spec.signature_name](**inputs)
        allowed = [tf.make_ndarray(r.inputs["allow"]).item() for r in asked if "allow" in r.inputs]
        assert set(allowed) == {b"", packed.contract["canary"]["allow"].encode()}


def test_our_server_warms_up_with_them(large):
    load_model(large.path, 1).warm_up()


def test_the_release_says_what_it_is_made_of(large):
    release = large.release
    assert all(re.fullmatch("[0-9a-f]{64}", release[name]) for name in HASHES)
    assert release["spans"] == [1, 2]
    assert release["index"]["kind"] == "scann"
    assert release["index"]["candidates"] == 50
    assert release["rules"] == {"boosts": [], "caps": [], "pinned": [], "blocked": [], "idle": []}
    assert release["availability"] == {"items_hidden": 0, "ids_unknown": 0}
    assert release["libraries"]["tensorflow"] == tf.__version__


def test_a_hash_changes_with_what_it_is_of_and_with_nothing_else(small, world, make_catalog, make_model, tmp_path):
    def hashes(name, model, **config):
        release = build(world, model, tmp_path / name, **{"top_k": 6, "num_candidates": 15, **config}).release
        return {name: release[name] for name in HASHES}

    def changed(one, other):
        return {name for name in HASHES if one[name] != other[name]}

    same = hashes("same", make_model(make_catalog(40), max_history=MAX_HISTORY))
    assert same == {name: small.release[name] for name in HASHES}
    other_weights = hashes("weights", make_model(make_catalog(40), seed=1, max_history=MAX_HISTORY))
    assert changed(same, other_weights) == {"model_sha256", "embeddings_sha256"}
    other_index = hashes("index", make_model(make_catalog(40), max_history=MAX_HISTORY), top_k=5)
    assert changed(same, other_index) == {"index_config_sha256"}


def test_the_curve_is_in_the_servable(large):
    curve = json.loads((large.path / "assets.extra/index.json").read_text())
    assert curve["index"] == large.release["index"]["effort"]
    assert (curve["recall_of"], curve["queries"], curve["min_recall"]) == (50, 60, 0.9)
    assert (large.path / "assets.extra/index.png").exists()
