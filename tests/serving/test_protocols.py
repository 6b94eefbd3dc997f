"""Both protocols of a running server: equal answers, the right codes, and words instead of tracebacks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from serving.client import Client
from serving.errors import RequestFailed
from serving.model import load_model
from serving.server import RunningServer

CASES: list[tuple[str, dict[str, Any]]] = [
    ("serving_default", {"user_id": ["bob", "nobody", "cäcilie"]}),
    ("recommend", {"user_id": ["ann", "bob"], "history": [["", "x", "y"], ["", "", "z"]]}),
    ("half_plus_three", {"x": [1.0, 2.0, 5.0]}),
    ("sense", {"tag": ["t"], "signal": [[1, 2, 3, 4, 2**40]], "sensor": [[[0.1, 2], [3, 4]]]}),
    ("echo_bytes", {"image": [b"\xff\xfe", b""]}),
    ("half_plus_three", {"x": list(range(35_000))}),  # made in parts, and written beside the event loop
]


@pytest.fixture
def stub(steady_server: RunningServer) -> prediction_service_pb2_grpc.PredictionServiceStub:
    """The generated stub, as another client would use it."""
    channel = grpc.insecure_channel(f"127.0.0.1:{steady_server.port}")
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def rest(steady_server: RunningServer) -> Callable[..., tuple[int, Any]]:
    """(method, path, body) → (code, parsed JSON)."""

    def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", steady_server.rest_api_port, timeout=10)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, raw)
        response = connection.getresponse()
        assert response.headers["content-type"] == "application/json"
        return response.status, json.loads(response.read())

    return ask


def a_request(name: str = "recommender", signature: str = "", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.mark.parametrize(("signature", "inputs"), CASES)
def test_grpc_rest_and_in_process_give_the_same(
    steady_client: Client, models: Callable[[int], Path], signature: str, inputs: dict[str, Any]
) -> None:
    model = load_model(models(7), 7)
    specs = model.signature(signature).inputs
    direct = model.predict(
        signature, {name: np.array(value, dtype=specs[name].numpy_dtype) for name, value in inputs.items()}
    )
    for answer in (steady_client.predict(signature, inputs), steady_client.predict_rest(signature, inputs)):
        assert answer.keys() == direct.keys()
        for name, value in direct.items():
            assert answer[name].dtype == value.dtype
            np.testing.assert_array_equal(answer[name], value)


def test_the_answer_is_the_models(steady_client: Client) -> None:
    answer = steady_client.predict("serving_default", {"user_id": ["bob", "nobody"]})
    # bob's items are 2 and 4, an unknown user gets row 3: 0 and 0; the mark is 7, scores are mark + item/10
    assert answer["item_ids"].tolist() == [[b"7/2", b"7/4"], [b"7/0", b"7/0"]]
    np.testing.assert_allclose(answer["scores"], [[7.2, 7.4], [7.0, 7.0]])


def test_grpc_names_what_answered_and_fills_the_typed_fields(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    response = stub.Predict(a_request(user_id=["bob"]))
    assert response.model_spec.name == "recommender"
    assert response.model_spec.version.value == 7
    assert response.model_spec.signature_name == "serving_default"
    # Clients in other languages read these fields, as TensorFlow Serving fills them.
    assert list(response.outputs["item_ids"].string_val) == [b"7/2", b"7/4"]
    assert response.outputs["scores"].float_val[0] == np.float32(7.2)


def test_output_filter_gives_only_what_was_asked(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    request = a_request(user_id=["bob"])
    request.output_filter.append("scores")
    assert list(stub.Predict(request).outputs) == ["scores"]


def test_grpc_metadata_holds_the_signatures(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "recommender"
    response = stub.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    user_id = signatures.signature_def["recommend"].inputs["user_id"]
    assert user_id.dtype == tf.string.as_datatype_enum
    assert [dim.size for dim in user_id.tensor_shape.dim] == [-1]


def test_grpc_status(steady_client: Client) -> None:
    assert steady_client.versions() == {7: "AVAILABLE"}


def test_rest_status_and_metadata_have_tensorflow_servings_form(rest: Callable[..., tuple[int, Any]]) -> None:
    expected = {
        "model_version_status": [
            {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert rest("GET", "/v1/models/recommender") == (200, expected)
    assert rest("GET", "/v1/models/recommender/versions/7") == (200, expected)
    code, metadata = rest("GET", "/v1/models/recommender/metadata")
    assert code == 200
    assert metadata["model_spec"] == {"name": "recommender", "signature_name": "", "version": "7"}
    x = metadata["metadata"]["signature_def"]["signature_def"]["half_plus_three"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_rest_predict_of_the_documentation(rest: Callable[..., tuple[int, Any]]) -> None:
    body = {"signature_name": "half_plus_three", "instances": [1.0, 2.0, 5.0]}
    expected = (200, {"predictions": [3.5, 4.0, 5.5]})  # x/2 + 3
    assert rest("POST", "/v1/models/recommender:predict", body) == expected
    assert rest("POST", "/v1/models/recommender/versions/7:predict", body) == expected


def test_rest_rows_and_columns_of_several_outputs(rest: Callable[..., tuple[int, Any]]) -> None:
    assert rest("POST", "/v1/models/recommender:predict", {"instances": ["bob"]}) == (
        200,
        {"predictions": [{"item_ids": ["7/2", "7/4"], "scores": [7.2, 7.4]}]},
    )
    assert rest("POST", "/v1/models/recommender:predict", {"inputs": {"user_id": ["bob"]}}) == (
        200,
        {"outputs": {"item_ids": [["7/2", "7/4"]], "scores": [[7.2, 7.4]]}},
    )


GRPC_REFUSALS = [
    (a_request(name="half", user_id=["a"]), "NOT_FOUND", r"Servable not found for request: Latest(half)"),
    (a_request(name="", user_id=["a"]), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (a_request(signature="guess", user_id=["a"]), "INVALID_ARGUMENT", '"guess" not found in signature def'),
    (a_request(), "INVALID_ARGUMENT", "Missing but required: {user_id}."),
    (a_request(user_id=["a"], age=[3]), "INVALID_ARGUMENT", "Sent extra: {age}."),
    (
        a_request(user_id=[1.5]),
        "INVALID_ARGUMENT",
        'input "user_id": expected DT_STRING [?], got float32 [1]',
    ),
    (a_request(user_id=[["a"]]), "INVALID_ARGUMENT", "expected DT_STRING [?], got DT_STRING [1,1]"),
    (
        a_request(signature="half_plus_three", x=[1]),
        "INVALID_ARGUMENT",
        "expected DT_FLOAT [?], got int32 [1]",
    ),
    (
        a_request(signature="recommend", user_id=["a"], history=[["x"]] * 2),
        "INVALID_ARGUMENT",
        "one history per",
    ),
    (a_request(signature="lookup_by_number", x=[99.0]), "INVALID_ARGUMENT", "99 is not in [0, 4)"),
]


@pytest.mark.parametrize(("request_", "code", "message"), GRPC_REFUSALS)
def test_grpc_refuses_in_words(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
    request_: predict_pb2.PredictRequest,
    code: str,
    message: str,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request_)
    assert refused.value.code().name == code
    assert message in refused.value.details()
    assert_fit_for_callers(refused.value.details())
    assert stub.Predict(a_request(user_id=["bob"])).model_spec.version.value == 7  # still up


def assert_fit_for_callers(message: str) -> None:
    """No stack, no file, no graph node."""
    for leak in ("Traceback", 'File "', ".py", "site-packages", "{{node", "/tmp", "Op:"):
        assert leak not in message
    assert "\n" not in message


def test_grpc_refuses_a_version_that_is_not_served(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    request = a_request(user_id=["bob"])
    request.model_spec.version.value = 6
    with pytest.raises(grpc.RpcError, match=r"Specific\(recommender, 6\)") as refused:
        stub.Predict(request)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    request.model_spec.version_label = "canary"
    with pytest.raises(grpc.RpcError, match="version label: canary"):
        stub.Predict(request)


@pytest.mark.parametrize("sizes", [[2**40], [-1], [2]])
def test_grpc_refuses_a_tensor_that_lies_about_its_shape(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, sizes: list[int]
) -> None:
    request = a_request(signature="half_plus_three", x=[1.0])
    proto = request.inputs["x"]
    del proto.tensor_shape.dim[:]
    proto.tensor_content = np.float32([1, 2, 3]).tobytes() if sizes == [2] else b""
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_refuses_bad_filters_and_metadata_fields(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    request = a_request(user_id=["bob"])
    request.output_filter.append("ranks")
    with pytest.raises(grpc.RpcError, match=r"ranks Outputs expected to be in the set {item_ids,scores}"):
        stub.Predict(request)
    for fields, message in ([], "at least one metadata_field"), (["graph"], "graph is not supported"):
        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        asked.model_spec.name = "recommender"
        with pytest.raises(grpc.RpcError, match=message):
            stub.GetModelMetadata(asked)


def test_methods_that_are_not_offered_say_so(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, rest: Callable[..., tuple[int, Any]]
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Classify(classification_pb2.ClassificationRequest())
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert rest("POST", "/v1/models/recommender:classify", {"examples": []})[0] == 501


def test_status_of_what_is_unknown_is_not_found(
    steady_server: RunningServer, rest: Callable[..., tuple[int, Any]]
) -> None:
    service = ModelServiceStub(grpc.insecure_channel(f"127.0.0.1:{steady_server.port}"))
    request = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        service.GetModelStatus(request)
    request.model_spec.name = "half"
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model half") as refused:
        service.GetModelStatus(request)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    expected = (404, {"error": "Could not find version 8 of model recommender"})
    assert rest("GET", "/v1/models/recommender/versions/8") == expected


PREDICT = "/v1/models/recommender:predict"


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("POST", "/v1/models/half:predict", {"instances": [1]}, 404, "not found for request: Latest(half)"),
        (
            "POST",
            "/v1/models/recommender/versions/6:predict",
            {"instances": ["a"]},
            404,
            "Specific(recommender, 6)",
        ),
        (
            "POST",
            "/v1/models/recommender/versions/99999999999999999999:predict",
            {},
            400,
            "Failed to convert",
        ),
        (
            "POST",
            "/v1/models/recommender/versions/new:predict",
            {},
            400,
            "Malformed request: POST /v1/models",
        ),
        ("GET", PREDICT, None, 400, "Malformed request: GET"),
        ("GET", "/", None, 400, "Malformed request: GET /"),
        ("GET", "/v1/models/half/metadata", None, 404, "Latest(half)"),
        ("POST", PREDICT, b'{"instances": ["a"', 400, "JSON Parse error"),
        ("POST", PREDICT, b'{"instances": ["\xff"]}', 400, "not UTF-8"),
        ("POST", PREDICT, {"signature_name": "guess", "instances": ["a"]}, 400, '"guess" not found'),
        ("POST", PREDICT, {"instances": [1]}, 400, "is not of expected type: DT_STRING"),
        ("POST", PREDICT, {"instances": [["a"]]}, 400, "expected DT_STRING [?], got DT_STRING [1,1]"),
        ("POST", PREDICT, {"signature_name": "lookup_by_number", "inputs": [99]}, 400, "99 is not in [0, 4)"),
    ],
)
def test_rest_refuses_in_words(
    rest: Callable[..., tuple[int, Any]], method: str, path: str, body: object, code: int, message: str
) -> None:
    got, answer = rest(method, path, body)
    assert (got, list(answer)) == (code, ["error"])
    assert message in answer["error"]
    assert_fit_for_callers(answer["error"])
    assert rest("POST", PREDICT, {"instances": ["bob"]})[0] == 200  # still up


def test_the_client_passes_on_the_servers_words(steady_client: Client) -> None:
    with pytest.raises(RequestFailed, match=r'INVALID_ARGUMENT: .*"guess" not found'):
        steady_client.predict("guess", {"user_id": ["bob"]})
    with pytest.raises(RequestFailed, match=r'400: .*"guess" not found'):
        steady_client.predict_rest("guess", {"user_id": ["bob"]})
    with pytest.raises(RequestFailed, match="cannot be made into an array of float32"):
        steady_client.predict("half_plus_three", {"x": ["one"]})


def test_the_client_says_when_nobody_answers(steady_server: RunningServer) -> None:
    with (
        Client("127.0.0.1", 1, steady_server.rest_api_port, deadline_seconds=2) as client,
        pytest.raises(RequestFailed, match=r"127\.0\.0\.1:1 answered UNAVAILABLE"),
    ):
        client.predict("serving_default", {"user_id": ["bob"]})
