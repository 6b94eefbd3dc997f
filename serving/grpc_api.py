"""TensorFlow Serving's gRPC API over the data plane: Predict, GetModelMetadata, GetModelStatus."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from tensorflow.core.protobuf.error_codes_pb2 import OK, UNKNOWN
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.data_plane import DataPlane
from serving.errors import InvalidInput, ModelFailed, ModelNotFound, NotOffered, ServingError, StartFailed
from serving.signature import Arrays, Signature
from serving.tensor_protos import from_proto, to_proto
from serving.watcher import VersionStatus

log = logging.getLogger(__name__)

CODES: dict[type[ServingError], grpc.StatusCode] = {
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    ModelFailed: grpc.StatusCode.INTERNAL,
}

METADATA_FIELD = "signature_def"


def start_grpc(plane: DataPlane, host: str, port: int, workers: int, max_bytes: int) -> tuple[grpc.Server, int]:
    """Starts serving and returns the server and its port. Raises StartFailed when the port is in use."""
    options = [
        ("grpc.so_reuseport", 0),  # else two servers would share one port, and each get half of the calls
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
    ]
    pool = futures.ThreadPoolExecutor(workers, thread_name_prefix="grpc")
    server = grpc.server(pool, options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(plane), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(plane), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        bound, reason = 0, error
    else:
        reason = RuntimeError()
    if not bound:
        raise StartFailed(
            f"gRPC cannot listen on {host}:{port}: it is in use or not allowed; "
            "stop what uses it or choose another port (0 takes a free one)"
        ) from reason
    server.start()
    return server, bound


class _Service:
    """What both services share: the plane, errors as codes, and no for what is not offered."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def _not_offered(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _errors_as_codes(context):
            raise NotOffered(f"{type(request).__name__} is not offered by this server")


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService of tensorflow_serving.apis."""

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Calls a signature of the model."""
        with _errors_as_codes(context):
            spec = request.model_spec

            def read_inputs(_: Signature) -> Arrays:
                return {name: from_proto(name, proto) for name, proto in request.inputs.items()}

            answer = self._plane.predict(
                spec.name, _version(spec), spec.signature_name, read_inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse(
                model_spec=_model_spec(spec.name, answer.version, answer.signature_name)
            )
            for name, value in answer.outputs.items():
                response.outputs[name].CopyFrom(to_proto(value))
            return response

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Gives the signatures of the model; `signature_def` is the one field there is."""
        with _errors_as_codes(context):
            if not request.metadata_field:
                raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != METADATA_FIELD:
                    raise InvalidInput(f"Metadata field {field} is not supported")
            spec = request.model_spec
            found = self._plane.metadata(spec.name, _version(spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_model_spec(spec.name, found.version))
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=found.signature_defs)
            response.metadata[METADATA_FIELD].Pack(signatures)
            return response

    Classify = Regress = MultiInference = _Service._not_offered


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """ModelService of tensorflow_serving.apis."""

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Gives the states of the model's versions."""
        with _errors_as_codes(context):
            if not request.HasField("model_spec"):
                raise InvalidInput("Missing ModelSpec")
            spec = request.model_spec
            return status_response(self._plane.status(spec.name, _version(spec)))

    HandleReloadConfigRequest = _Service._not_offered


def status_response(statuses: list[VersionStatus]) -> get_model_status_pb2.GetModelStatusResponse:
    """The response of GetModelStatus; REST prints the same message as JSON."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add(version=status.version)
        entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
        entry.status.error_code = UNKNOWN if status.error else OK
        entry.status.error_message = status.error
    return response


def _version(spec: model_pb2.ModelSpec) -> int | None:
    if spec.version_label:
        raise InvalidInput(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _model_spec(name: str, version: int, signature_name: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    return spec


@contextmanager
def _errors_as_codes(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the code of the error; what nobody foresaw goes to the log and not to the caller."""
    try:
        yield
    except ServingError as error:
        code, said = CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error)
    except Exception:
        log.exception("a gRPC call failed")
        code, said = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
    else:
        return
    context.abort(code, said)
