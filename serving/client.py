"""A small typed client of a model server: TensorFlow Serving's or ours, by gRPC or by REST.

Usage:

    with Client("127.0.0.1", 8500, 8501) as client:
        answer = client.predict("serving_default", {"user_id": ["42"]})
        answer["item_ids"]    # [1, K] bytes
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from serving.errors import RequestFailed

if TYPE_CHECKING:
    import grpc

Answer = TypeVar("Answer")
Inputs = Mapping[str, "list[Any] | np.ndarray"]


class Client:
    """Calls one model.

    Lists become tensors of the dtype that the signature wants; strings come back as bytes.
    """

    def __init__(
        self,
        host: str,
        grpc_port: int,
        rest_port: int | None = None,
        model: str = "recommender",
        deadline_seconds: float = 10.0,
    ) -> None:
        self.model = model
        self.deadline_seconds = deadline_seconds
        self._target = f"{host}:{grpc_port}"
        self._rest_url = None if rest_port is None else f"http://{host}:{rest_port}/v1/models/{model}"

    def predict(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Calls a signature by gRPC. Raises RequestFailed with the server's message."""
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        from serving.tensor_protos import from_proto, to_proto

        wanted, _ = self._dtypes(signature)
        request = PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_proto(_as_array(name, value, wanted.get(name))))
        response = self._ask(self._prediction.Predict, request)
        return {name: from_proto(name, proto) for name, proto in response.outputs.items()}

    def predict_rest(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Calls a signature by REST, in column form; the same answer as `predict`. Raises RequestFailed."""
        _, promised = self._dtypes(signature)
        columns = {name: _to_json(np.asarray(value).tolist()) for name, value in inputs.items()}
        document = self._fetch(":predict", {"signature_name": signature, "inputs": columns})
        outputs = document["outputs"]
        if len(promised) == 1:
            outputs = {next(iter(promised)): outputs}
        return {name: _as_array(name, _from_json(value), promised.get(name)) for name, value in outputs.items()}

    def versions(self) -> dict[int, str]:
        """The state of each version that the server knows, by gRPC: {1700000000: "AVAILABLE"}."""
        from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus

        request = GetModelStatusRequest()
        request.model_spec.name = self.model
        response = self._ask(self._model_service.GetModelStatus, request)
        name_of = ModelVersionStatus.State.Name
        return {status.version: name_of(status.state) for status in response.model_version_status}

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _channel(self) -> grpc.Channel:
        import grpc

        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.insecure_channel(self._target, options=unlimited)

    @cached_property
    def _prediction(self) -> Any:
        from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

        return PredictionServiceStub(self._channel)

    @cached_property
    def _model_service(self) -> Any:
        from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

        return ModelServiceStub(self._channel)

    @cached_property
    def _signature_defs(self) -> Mapping[str, Any]:
        """The model's signatures, asked for once: they are a contract that versions keep."""
        from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap

        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model
        packed = self._ask(self._prediction.GetModelMetadata, request).metadata["signature_def"]
        signatures = SignatureDefMap()
        packed.Unpack(signatures)
        return signatures.signature_def

    def _dtypes(self, signature: str) -> tuple[dict[str, np.dtype], dict[str, np.dtype]]:
        """The numpy dtypes of a signature's inputs and outputs; empty where the server has no such one."""
        import tensorflow as tf

        if signature not in self._signature_defs:
            return {}, {}
        found = self._signature_defs[signature]
        inputs, outputs = (
            {name: np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype) for name, info in side.items()}
            for side in (found.inputs, found.outputs)
        )
        return inputs, outputs

    def _ask(self, method: Callable[..., Answer], request: Any) -> Answer:
        import grpc

        try:
            return method(request, timeout=self.deadline_seconds)
        except grpc.RpcError as error:
            raise RequestFailed(f"{self._target} answered {error.code().name}: {error.details()}") from error

    def _fetch(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        if self._rest_url is None:
            raise RequestFailed("this client was given no REST port")
        url = self._rest_url + path
        request = urllib.request.Request(url, json.dumps(document).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.deadline_seconds) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RequestFailed(f"{url} answered {error.code}: {_error_text(error.read())}") from error
        except OSError as error:
            raise RequestFailed(f"{url} gave no answer: {getattr(error, 'reason', error)}") from error


def _as_array(name: str, value: list[Any] | np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestFailed(f'input "{name}" cannot be made into an array of {dtype}: {error}') from error


def _to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode("ascii")}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def _error_text(body: bytes) -> str:
    """The message in an error body of TensorFlow Serving, or the body itself."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", errors="replace")[:200]
