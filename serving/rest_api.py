"""TensorFlow Serving's REST API over the data plane.

    GET  /v1/models/NAME[/versions/V]            status
    GET  /v1/models/NAME[/versions/V]/metadata   signatures
    GET  /v1/models/NAME[/versions/V]/release    what the version was made of; TensorFlow Serving has no such call
    POST /v1/models/NAME[/versions/V]:predict    a call, in row or column form

Errors are `{"error": "…"}` with the code of their kind.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from dataclasses import dataclass

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.data_plane import DataPlane
from serving.errors import InvalidInput, ModelFailed, ModelNotFound, NotOffered, ServingError, StartFailed
from serving.grpc_api import status_response
from serving.json_tensors import parse_body

log = logging.getLogger(__name__)

CODES: dict[type[ServingError], int] = {
    ModelNotFound: 404,
    InvalidInput: 400,
    NotOffered: 501,
    ModelFailed: 500,
}

# The expressions of TensorFlow Serving's http_rest_api_handler.cc.
_CALL = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)", re.ASCII)
_LOOK = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|/release)?", re.ASCII)

_GREATEST_VERSION = 2**63 - 1
BACKLOG = 2_048  # as uvicorn's own


@dataclass(frozen=True)
class RestServer:
    """Uvicorn in a thread of its own."""

    port: int
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Answers what has been received, then ends."""
        self.server.should_exit = True
        self.thread.join()


def start_rest(plane: DataPlane, host: str, port: int, max_bytes: int, grace_seconds: int) -> RestServer:
    """Starts serving. Raises StartFailed when the port is in use."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # now: who calls before uvicorn's thread is ready waits instead of being refused
    except OSError as error:
        listener.close()
        raise StartFailed(
            f"REST cannot listen on {host}:{port}: it is in use or not allowed; "
            "stop what uses it or choose another port (0 takes a free one)"
        ) from error
    config = uvicorn.Config(
        build_app(plane, max_bytes),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="rest", daemon=True)
    thread.start()
    return RestServer(listener.getsockname()[1], server, thread)


def build_app(plane: DataPlane, max_bytes: int) -> Starlette:
    """The ASGI application: one route, which reads the path as TensorFlow Serving does."""

    async def answer(request: Request) -> Response:
        try:
            body = await _read_body(request, max_bytes)
            return await run_in_threadpool(_respond, plane, request.method, request.url.path, body)
        except ServingError as error:
            return _error(CODES.get(type(error), 500), str(error))
        except ClientDisconnect:
            return _error(400, "the request ended before its body was complete")
        except Exception:
            log.exception("a REST call failed")
            return _error(500, "internal error; the server's log has the details")

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])


def _respond(plane: DataPlane, method: str, path: str, body: bytes) -> Response:
    call, look = _CALL.fullmatch(path), _LOOK.fullmatch(path)
    if method == "POST" and call:
        name, version, verb = call[1], _version(call[2]), call[3]
        if verb != "predict":
            raise NotOffered(f"{verb} is not offered by this server; use predict")
        parsed = parse_body(body)
        answer = plane.predict(name, version, parsed.signature_name, parsed.read_inputs)
        return _json(parsed.write_outputs(answer.outputs))
    if method == "GET" and look:
        name, version = look[1], _version(look[2])
        if look[3] == "/metadata":
            return _json(_metadata(plane, name, version))
        if look[3] == "/release":
            served, release = plane.release(name, version)
            return _json(_dump({"version": str(served), "release": release}))
        return _json(_dump(MessageToDict(status_response(plane.status(name, version)), True, True)))
    raise InvalidInput(f"Malformed request: {method} {path}")


def _metadata(plane: DataPlane, name: str, version: int | None) -> bytes:
    found = plane.metadata(name, version)
    spec = {"name": name, "signature_name": "", "version": str(found.version)}
    signatures = MessageToDict(SignatureDefMap(signature_def=found.signature_defs), True, True)
    return _dump({"model_spec": spec, "metadata": {"signature_def": signatures}})


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    if len(digits) > 19 or int(digits) > _GREATEST_VERSION:
        raise InvalidInput(f"Failed to convert version: {digits[:30]} to numeric.")
    return int(digits)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The body, or InvalidInput as soon as it grows too large to hold."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise InvalidInput(f"the request is larger than {max_bytes} bytes; send smaller batches")
        chunks.append(chunk)
    return b"".join(chunks)


def _dump(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()


def _json(body: bytes, status_code: int = 200) -> Response:
    return Response(body, status_code, media_type="application/json")


def _error(status_code: int, message: str) -> Response:
    return _json(json.dumps({"error": message}).encode(), status_code)
