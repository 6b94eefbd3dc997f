"""What a model brings along in assets.extra: requests to warm up with, and what it says of itself."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.errors import ModelBroken
from serving.model import load_model
from serving.releases import publish
from serving.server import RunningServer


@pytest.fixture
def model(models: Callable[[int], Path], tmp_path: Path) -> Path:
    """A model that brings nothing yet."""
    folder = tmp_path / "model"
    shutil.copytree(models(7), folder)
    (folder / "assets.extra").mkdir()
    return folder


def warm_up_with(model: Path, signature: str, **inputs: np.ndarray) -> None:
    """Writes one request, as TensorFlow Serving's documentation has it."""
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, values in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with tf.io.TFRecordWriter(str(model / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def test_the_requests_that_a_model_brings_are_made(model: Path) -> None:
    warm_up_with(model, "lookup_by_number", x=np.array([0.0], np.float32))
    load_model(model, 1).warm_up()
    warm_up_with(model, "lookup_by_number", x=np.array([1e6], np.float32))  # beyond the rows: it fails on these data
    with pytest.raises(ModelBroken, match="version 1 fails its warm-up"):
        load_model(model, 1).warm_up()


def test_what_is_no_predict_request_is_passed_over(model: Path) -> None:
    log = PredictionLog()
    log.classify_log.request.model_spec.signature_name = "nothing_of_the_kind"
    with tf.io.TFRecordWriter(str(model / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    load_model(model, 1).warm_up()


def test_a_request_that_does_not_fit_is_a_broken_version(model: Path) -> None:
    warm_up_with(model, "nothing_of_the_kind", x=np.array([0.0], np.float32))
    with pytest.raises(ModelBroken, match="nothing_of_the_kind"):
        load_model(model, 1).warm_up()


def test_a_file_that_holds_no_requests_is_a_broken_version(model: Path) -> None:
    (model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"\x00not a TFRecord")
    with pytest.raises(ModelBroken, match="version 1 has a broken tf_serving_warmup_requests"):
        load_model(model, 1).warm_up()


def test_a_served_version_shows_its_release(
    model: Path, models: Callable[[int], Path], serve: Callable[[Path], RunningServer], base_path: Path
) -> None:
    (model / "assets.extra" / "release.json").write_text('{"spans": [1, 2]}')
    publish(model, base_path, 3)
    server = serve(base_path)
    server.wait_until_ready(20)
    expected = (200, {"version": "3", "release": {"spans": [1, 2]}})
    assert get(server, "/v1/models/recommender/release") == expected
    assert get(server, "/v1/models/recommender/versions/3/release") == expected
    assert get(server, "/v1/models/recommender/versions/4/release")[0] == 404
    assert get(server, "/v1/models/another/release")[0] == 404


def test_a_model_that_says_nothing_of_itself_has_no_release(
    models: Callable[[int], Path], serve: Callable[[Path], RunningServer], base_path: Path
) -> None:
    publish(models(7), base_path, 3)
    server = serve(base_path)
    server.wait_until_ready(20)
    code, document = get(server, "/v1/models/recommender/release")
    assert (code, document) == (404, {"error": "version 3 of model recommender has no release.json"})


def get(server: RunningServer, path: str) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, json.loads(response.read())
