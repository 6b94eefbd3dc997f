"""The REST half of the client."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tenacity

from serving.errors import RequestFailed

AWAY = (429, 502, 503)  # nothing was tried; another time, or another server behind the same name, may answer
NUMPY = {"STRING": "object", "FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16", "BOOL": "bool"}
NUMPY |= {f"{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}


class _Away(Exception):
    """The server did not take the request."""


class RestCaller:
    """Connections to one model."""

    def __init__(
        self,
        url: str,
        deadline_seconds: float,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if certificate and key:
            context.load_cert_chain(certificate, key)
        self._url, self._deadline_seconds = url, deadline_seconds
        self._http = httpx.Client(timeout=deadline_seconds, verify=context, trust_env=False)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, Any]:
        """Calls a signature: nested lists by output, strings as bytes. Raises RequestFailed."""
        columns = {name: _to_json(value.tolist()) for name, value in inputs.items()}
        document = self._fetch("POST", ":predict", {"signature_name": signature, "inputs": columns})
        found = document["outputs"]
        found = {outputs[0]: found} if len(outputs) == 1 else found  # one output has no name there
        return {name: _from_json(value) for name, value in found.items()}

    def signatures(self) -> dict[str, tuple[dict[str, np.dtype], dict[str, np.dtype]]]:
        """Dtypes of inputs and outputs, by signature. Raises RequestFailed."""
        found = self._fetch("GET", "/metadata")["metadata"]["signature_def"]["signature_def"]
        return {name: (_dtypes(one.get("inputs", {})), _dtypes(one.get("outputs", {}))) for name, one in found.items()}

    def versions(self) -> dict[int, str]:
        """State by version. Raises RequestFailed."""
        return {int(one["version"]): one["state"] for one in self._fetch("GET", "")["model_version_status"]}

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _fetch(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        body = None if document is None else json.dumps(document)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Away),
            stop=tenacity.stop_after_attempt(4) | tenacity.stop_before_delay(self._deadline_seconds),
            wait=tenacity.wait_random_exponential(0.2, max=1.0),
            reraise=True,
        )
        try:
            return retrying(self._once, method, self._url + path, body)
        except _Away as error:
            raise RequestFailed(str(error)) from error

    def _once(self, method: str, url: str, body: str | None) -> Any:
        try:
            answer = self._http.request(method, url, content=body)
        except (httpx.ConnectError, httpx.RemoteProtocolError) as error:
            raise _Away(f"{url} gave no answer: {error}") from error
        except httpx.HTTPError as error:
            raise RequestFailed(f"{url} gave no answer: {error or type(error).__name__}") from error
        if answer.status_code == 200:
            return answer.json()
        said = f"{url} answered {answer.status_code}: {_error_text(answer)}"
        raise _Away(said) if answer.status_code in AWAY else RequestFailed(said)


def _dtypes(infos: Mapping[str, Any]) -> dict[str, np.dtype]:
    kinds = {name: info["dtype"].removeprefix("DT_") for name, info in infos.items()}
    return {name: np.dtype(NUMPY[kind]) for name, kind in kinds.items() if kind in NUMPY}


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


def _error_text(answer: httpx.Response) -> str:
    """The message in an error body of TensorFlow Serving, or the body itself."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
