"""TensorFlow Serving's gRPC API over the data plane, and gRPC's own health checks and reflection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow.core.protobuf.error_codes_pb2 import INVALID_ARGUMENT, OK, UNKNOWN
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.data_plane import DataPlane, Target, beside
from serving.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    NotOffered,
    Overloaded,
    ServingError,
    StartFailed,
)
from serving.limits import Limits, Places
from serving.metrics import Metrics
from serving.model_config import settings_of
from serving.models import RELOAD_SECONDS
from serving.signature import Arrays, Signature
from serving.tensor_protos import from_proto, to_proto
from serving.watcher import VersionStatus

log = logging.getLogger(__name__)

CODES: dict[type[ServingError], grpc.StatusCode] = {
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    ModelFailed: grpc.StatusCode.INTERNAL,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}

METADATA_FIELD = "signature_def"
HEALTH_POLL_SECONDS = 0.2


async def start_grpc(
    plane: DataPlane,
    metrics: Metrics,
    limits: Limits,
    address: str,
    credentials: grpc.ServerCredentials | None,
) -> tuple[grpc.aio.Server, int]:
    """Starts serving in this event loop; returns the server and its port. Raises StartFailed when it is in use."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # else two servers would share one port, and each get half of the calls
            ("grpc.max_receive_message_length", limits.max_message_bytes),
            ("grpc.max_send_message_length", limits.max_message_bytes),
            ("grpc.max_concurrent_streams", limits.max_connections),
        ],
    )
    health_service, added = health.aio.HealthServicer(), _Services()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(plane, metrics, limits), added
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(plane, metrics, limits), added)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, added)
    server.add_generic_rpc_handlers(tuple(added.readable))
    services = [module.DESCRIPTOR.services_by_name.values() for module in (prediction_service_pb2, model_service_pb2)]
    names = [service.full_name for found in services for service in found]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        bound, reason = 0, error
    else:
        reason = RuntimeError()
    if not bound:
        raise StartFailed(
            f"gRPC cannot listen on {address}: it is in use or not allowed; "
            "stop what uses it or choose another port (0 takes a free one)"
        ) from reason
    await server.start()
    asyncio.get_running_loop().create_task(_keep_health(plane, health_service))
    return server, bound


async def _keep_health(plane: DataPlane, service: health.aio.HealthServicer) -> None:
    """SERVING while every model has a version in service: for the server ('') and for each model by its name."""
    status = health_pb2.HealthCheckResponse.ServingStatus
    while True:
        ready = plane.models.readiness()
        for name, is_ready in {**ready, health.OVERALL_HEALTH: all(ready.values())}.items():
            await service.set(name, status.SERVING if is_ready else status.NOT_SERVING)
        await asyncio.sleep(HEALTH_POLL_SECONDS)


class _Readable(grpc.GenericRpcHandler):
    """A service that refuses bytes that are no message of the method, which gRPC would take for an error of ours.

    gRPC's interceptors could do that, too; they cost a sixth of all calls.
    """

    def __init__(self, service: grpc.GenericRpcHandler) -> None:
        self._service = service
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The method's handler, behind a look at its message; None where it has no such method."""
        if details.method not in self._handlers:
            handler = self._service.service(details)
            if handler is None or handler.unary_unary is None:
                return handler
            self._handlers[details.method] = _readable(handler, details.method)
        return self._handlers[details.method]


def _readable(handler: grpc.RpcMethodHandler, method: str) -> grpc.RpcMethodHandler:
    def read(data: bytes) -> Message | None:
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            return None

    async def answer(request: Message | None, context: grpc.aio.ServicerContext) -> Any:
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the message of {method} cannot be read")
        return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


class _Services:
    """Where services are added, in place of a server: readable ones."""

    def __init__(self) -> None:
        self.readable: list[_Readable] = []

    def add_generic_rpc_handlers(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        """As a server's."""
        self.readable += map(_Readable, services)


class _Service:
    """What both services share: the plane, errors as codes, and no for what is not offered."""

    def __init__(self, plane: DataPlane, metrics: Metrics, limits: Limits) -> None:
        self._plane = plane
        self._metrics = metrics
        self._limits = limits
        self._places = Places(limits.max_connections)

    async def _not_offered(self, request: Message, context: grpc.aio.ServicerContext) -> Any:
        async with self._answering(context, type(request).__name__.removesuffix("Request"), ""):
            raise NotOffered(f"{type(request).__name__} is not offered by this server")

    @asynccontextmanager
    async def _answering(self, context: grpc.aio.ServicerContext, method: str, model: str) -> AsyncIterator[None]:
        """Ends a call that fails with the code of its error; what nobody foresaw goes to the log, not to the caller."""
        begun = time.perf_counter()
        code, said = grpc.StatusCode.OK, ""
        try:
            with self._places:
                yield
        except ServingError as error:
            code, said = CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error)
        except Exception:
            log.exception("a gRPC call failed")
            code, said = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
        self._metrics.count("GRPC", method, model, code.name, time.perf_counter() - begun)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, said)


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService of tensorflow_serving.apis."""

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Calls a signature of the model."""
        spec = request.model_spec
        async with self._answering(context, "Predict", spec.name):

            async def read_inputs(_: Signature) -> Arrays:
                return {name: from_proto(name, proto) for name, proto in request.inputs.items()}

            remaining = context.time_remaining()
            timeout = self._limits.request_timeout_seconds
            answer = await self._plane.predict(
                _target(spec),
                spec.signature_name,
                read_inputs,
                request.output_filter,
                timeout if remaining is None else min(remaining, timeout),
            )
            response = predict_pb2.PredictResponse(
                model_spec=_model_spec(spec.name, answer.version, answer.signature_name)
            )
            await beside(answer.is_large, _write, answer.outputs, response)
        return response

    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Gives the signatures of the model; `signature_def` is the one field there is."""
        spec = request.model_spec
        async with self._answering(context, "GetModelMetadata", spec.name):
            if not request.metadata_field:
                raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != METADATA_FIELD:
                    raise InvalidInput(f"Metadata field {field} is not supported")
            found = self._plane.metadata(_target(spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_model_spec(spec.name, found.version))
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=found.signature_defs)
            response.metadata[METADATA_FIELD].Pack(signatures)
        return response

    Classify = Regress = MultiInference = _Service._not_offered


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """ModelService of tensorflow_serving.apis."""

    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Gives the states of the model's versions."""
        spec = request.model_spec
        async with self._answering(context, "GetModelStatus", spec.name):
            if not request.HasField("model_spec"):
                raise InvalidInput("Missing ModelSpec")
            target = _target(spec)
            statuses = self._plane.models.statuses(target.model, target.version, target.label)
        return status_response(statuses)

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.aio.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves the models of the request instead; answers when they are in service, or why they are not."""
        response = model_management_pb2.ReloadConfigResponse()
        async with self._answering(context, "HandleReloadConfigRequest", ""):
            try:
                settings = settings_of(request.config)
                await asyncio.to_thread(self._plane.models.reload, settings, RELOAD_SECONDS)
            except StartFailed as error:
                response.status.error_code = INVALID_ARGUMENT
                response.status.error_message = str(error)
        return response


def status_response(statuses: list[VersionStatus]) -> get_model_status_pb2.GetModelStatusResponse:
    """The response of GetModelStatus; REST prints the same message as JSON."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add(version=status.version)
        entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
        entry.status.error_code = UNKNOWN if status.error else OK
        entry.status.error_message = status.error
    return response


def _write(outputs: Arrays, response: predict_pb2.PredictResponse) -> None:
    for name, value in outputs.items():
        to_proto(value, response.outputs[name])


def _target(spec: model_pb2.ModelSpec) -> Target:
    return Target(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)


def _model_spec(name: str, version: int, signature_name: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    return spec
