"""TensorFlow Serving's REST API over the data plane.

    GET  /v1/models/NAME[/versions/V|/labels/L]            status
    GET  /v1/models/NAME[/versions/V|/labels/L]/metadata   signatures
    GET  /v1/models/NAME[/versions/V|/labels/L]/release    what a version was made of (not in TensorFlow Serving)
    POST /v1/models/NAME[/versions/V|/labels/L]:predict    a call, in row or column form
    GET  /monitoring/prometheus/metrics                    counters

Errors are `{"error": "…"}` with the code of their kind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.data_plane import LARGE_BYTES, DataPlane, Target, beside
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
from serving.grpc_api import status_response
from serving.http_connection import HttpConnection
from serving.json_tensors import parse_body
from serving.limits import Limits, Places
from serving.metrics import Metrics
from serving.signature import Arrays, Signature

if TYPE_CHECKING:
    from serving.tls import Tls

log = logging.getLogger(__name__)

CODES: dict[type[ServingError], int] = {
    ModelNotFound: 404,
    InvalidInput: 400,
    NotOffered: 501,
    ModelFailed: 500,
    Overloaded: 429,
    DeadlineExceeded: 504,
}
NAMES = {200: "OK", 400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
NAMES |= {501: "UNIMPLEMENTED", 504: "DEADLINE_EXCEEDED"}

# The expressions of TensorFlow Serving's http_rest_api_handler.cc.
_TARGET = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_CALL = re.compile(_TARGET + r":(classify|regress|predict)", re.ASCII)
_LOOK = re.compile(_TARGET + r"(/metadata|/release)?", re.ASCII)

_GREATEST_VERSION = 2**63 - 1
BACKLOG = 2_048  # as uvicorn's own
METRICS_PATH = "/monitoring/prometheus/metrics"


class _Answer(NamedTuple):
    body: bytes
    method: str
    model: str
    content_type: str = "application/json"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: who calls before the server is ready waits instead of being refused.

    Raises StartFailed when the port is in use.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartFailed(
            f"REST cannot listen on {host}:{port}: it is in use or not allowed; "
            "stop what uses it or choose another port (0 takes a free one)"
        ) from error
    return listener


def rest_server(
    plane: DataPlane, metrics: Metrics, limits: Limits, grace_seconds: int, tls: Tls | None
) -> uvicorn.Server:
    """Serves in the event loop that awaits its `serve([listener])`."""
    config = uvicorn.Config(
        build_app(plane, metrics, limits),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=partial(HttpConnection, patience_seconds=limits.request_timeout_seconds),  # type: ignore[arg-type]
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=grace_seconds,
        **(tls.for_uvicorn() if tls else {}),
    )
    return uvicorn.Server(config)


def build_app(plane: DataPlane, metrics: Metrics, limits: Limits) -> ASGIApp:
    """The ASGI application. It has no router: it reads the path as TensorFlow Serving does."""
    places = Places(limits.max_connections)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(request: Request) -> Response:
        begun, code, answered = time.perf_counter(), 200, None
        try:
            with places if request.method == "POST" else nullcontext():
                answered = await _respond(plane, metrics, request, limits)
        except ServingError as error:
            code, said = CODES.get(type(error), 500), str(error)
        except ClientDisconnect:
            code, said = 400, "the request ended before its body was complete"
        except Exception:
            log.exception("a REST call failed")
            code, said = 500, "internal error; the server's log has the details"
        method, model = (answered.method, answered.model) if answered else _told(request.url.path)
        if method:
            metrics.count("REST", method, model, NAMES[code], time.perf_counter() - begun)
        if answered:
            return Response(answered.body, media_type=answered.content_type)
        return Response(_dump({"error": said}), code, media_type="application/json")

    return app


async def _respond(plane: DataPlane, metrics: Metrics, request: Request, limits: Limits) -> _Answer:
    path, until = request.url.path, time.monotonic() + limits.request_timeout_seconds
    if request.method == "POST" and (call := _CALL.fullmatch(path)):
        body = await _read_body(request, limits)
        target, verb = _target(call), call[4]
        if verb != "predict":
            raise NotOffered(f"{verb} is not offered by this server; use predict")
        is_large = len(body) > LARGE_BYTES
        parsed = await beside(is_large, parse_body, body)

        async def read_inputs(signature: Signature) -> Arrays:
            return await beside(is_large, parsed.read_inputs, signature)

        answer = await plane.predict(
            target, parsed.signature_name, read_inputs, timeout_seconds=until - time.monotonic()
        )
        written = await beside(answer.is_large, parsed.write_outputs, answer.outputs)
        if len(written) > limits.max_message_bytes:
            raise InvalidInput(f"the answer is larger than {limits.max_message_bytes} bytes; ask for less at once")
        return _Answer(written, "Predict", target.model)
    if request.method == "GET" and (look := _LOOK.fullmatch(path)):
        target = _target(look)
        if look[4] == "/metadata":
            return _Answer(_metadata(plane, target), "GetModelMetadata", target.model)
        if look[4] == "/release":
            served, release = plane.release(target)
            return _Answer(_dump({"version": str(served), "release": release}), "GetRelease", target.model)
        status = status_response(plane.models.statuses(target.model, target.version, target.label))
        return _Answer(_dump(MessageToDict(status, True, True)), "GetModelStatus", target.model)
    if request.method == "GET" and path == METRICS_PATH:
        return _Answer(metrics.text(), "", "", "text/plain; version=0.0.4; charset=utf-8")
    raise InvalidInput(f"Malformed request: {request.method} {path}")


def _metadata(plane: DataPlane, target: Target) -> bytes:
    found = plane.metadata(target)
    spec = {"name": target.model, "signature_name": "", "version": str(found.version)}
    signatures = MessageToDict(SignatureDefMap(signature_def=found.signature_defs), True, True)
    return _dump({"model_spec": spec, "metadata": {"signature_def": signatures}})


def _target(match: re.Match[str]) -> Target:
    digits = match[2]
    if digits and (len(digits) > 19 or int(digits) > _GREATEST_VERSION):
        raise InvalidInput(f"Failed to convert version: {digits[:30]} to numeric.")
    return Target(match[1], int(digits) if digits else None, match[3] or "")


def _told(path: str) -> tuple[str, str]:
    """Method and model of a path that failed; '' for one that is no call."""
    if call := _CALL.fullmatch(path):
        return call[4].capitalize(), call[1]
    if look := _LOOK.fullmatch(path):
        return {"/metadata": "GetModelMetadata", "/release": "GetRelease"}.get(look[4], "GetModelStatus"), look[1]
    return "", ""


async def _read_body(request: Request, limits: Limits) -> bytes:
    """The body, or an error as soon as it grows too large to hold, or takes too long to come."""
    chunks, size = [], 0

    async def read() -> None:
        nonlocal size
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.max_message_bytes:
                raise InvalidInput(f"the request is larger than {limits.max_message_bytes} bytes; send smaller batches")
            chunks.append(chunk)

    try:
        await asyncio.wait_for(read(), limits.request_timeout_seconds)
    except asyncio.TimeoutError as error:
        raise DeadlineExceeded(
            f"the body did not come in {limits.request_timeout_seconds:g} s; {size} bytes of it did"
        ) from error
    return b"".join(chunks)


def _dump(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()
