"""The gRPC half of the client."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.errors import RequestFailed
from serving.tensor_protos import from_proto, to_proto

Answer = TypeVar("Answer")

RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}  # github.com/grpc/proposal/blob/master/A6-client-retries.md: of the delays, a random part


class GrpcCaller:
    """One channel to one model."""

    def __init__(
        self,
        address: str,
        model: str,
        deadline_seconds: float,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._address, self._model, self._deadline_seconds = address, model, deadline_seconds
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config", json.dumps(RETRIES)),
        ]
        if ca:
            pair = (key.read_bytes(), certificate.read_bytes()) if key and certificate else (None, None)
            credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *pair)
            self._channel = grpc.secure_channel(address, credentials, options=options)
        else:
            self._channel = grpc.insecure_channel(address, options=options)
        self._prediction, self._models = PredictionServiceStub(self._channel), ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature. Raises RequestFailed."""
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        for name, value in inputs.items():
            to_proto(value, request.inputs[name])
        response = self._ask(self._prediction.Predict, request)
        return {name: from_proto(name, proto) for name, proto in response.outputs.items()}

    def signatures(self) -> dict[str, tuple[dict[str, np.dtype], dict[str, np.dtype]]]:
        """Dtypes of inputs and outputs, by signature. Raises RequestFailed."""
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model
        found = SignatureDefMap()
        self._ask(self._prediction.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        return {name: (_dtypes(one.inputs), _dtypes(one.outputs)) for name, one in found.signature_def.items()}

    def versions(self) -> dict[int, str]:
        """State by version. Raises RequestFailed."""
        request = GetModelStatusRequest()
        request.model_spec.name = self._model
        response = self._ask(self._models.GetModelStatus, request)
        return {one.version: ModelVersionStatus.State.Name(one.state) for one in response.model_version_status}

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _ask(self, method: Callable[..., Answer], request: Any) -> Answer:
        try:
            return method(request, timeout=self._deadline_seconds)
        except grpc.RpcError as error:
            raise RequestFailed(f"{self._address} answered {error.code().name}: {error.details()}") from error


def _dtypes(infos: Mapping[str, Any]) -> dict[str, np.dtype]:
    typed = {name: tf.as_dtype(info.dtype) for name, info in infos.items() if info.dtype}  # an operation has none
    return {name: np.dtype(dtype.as_numpy_dtype) for name, dtype in typed.items()}
