"""A small typed client of a model server, TensorFlow Serving's or ours, by gRPC or by REST.

    with Client("127.0.0.1", 8500, 8501) as client:
        client.recommend("42")[0].item_id
        client.predict("serving_default", {"user_id": ["42"]})["item_ids"]    # [1, K] bytes
        client.predict_rest("similar_items", {"item_id": ["50"]})

A call that finds the server away or full is made again, at most three times, each a little later, within its deadline:
its answers depend on nothing that a call changes. With a REST port alone nothing of TensorFlow is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.client_rest import RestCaller
from serving.errors import RequestFailed

if TYPE_CHECKING:
    from serving.client_grpc import GrpcCaller

Inputs = Mapping[str, "list[Any] | np.ndarray"]
Dtypes = dict[str, np.dtype]


@dataclass(frozen=True)
class Recommendation:
    """One item: its id, what it is worth (a logarithm), how near it is, and why it is there (docs/servable.md)."""

    item_id: str
    score: float
    retrieval_score: float
    reasons: str


class Client:
    """Calls one model.

    Lists become tensors of the dtype that the signature wants; strings come back as bytes. With `ca`, the PEM file of
    an authority, both protocols are encrypted; a server that asks for one gets `certificate` and `key`, PEM files too.
    """

    def __init__(
        self,
        host: str,
        grpc_port: int | None = None,
        rest_port: int | None = None,
        model: str = "recommender",
        deadline_seconds: float = 10.0,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.model = model
        self._grpc_address = None if grpc_port is None else f"{host}:{grpc_port}"
        scheme = "https" if ca else "http"
        self._rest_url = None if rest_port is None else f"{scheme}://{host}:{rest_port}/v1/models/{model}"
        self._deadline_seconds = deadline_seconds
        self._tls = (ca, certificate, key)

    def recommend(
        self,
        user_id: str,
        history: Sequence[str] = (),
        exclude: Sequence[str] = (),
        allow: Sequence[str] = (),
        **context: str | float,
    ) -> list[Recommendation]:
        """What to show a user, best first.

        Args:
            history: newest last; without one the stored history counts.
            exclude: items that are not to be shown.
            allow: `feature=value`; of one feature any, of several all.
            context: features of the moment, by name; what is not said is unknown.

        Raises RequestFailed with the server's message.
        """
        wanted, _ = self._dtypes("recommend")
        lists = {"history": history, "exclude": exclude, "allow": allow}
        inputs: dict[str, list[Any]] = {"user_id": [user_id], **{name: [list(v) or [""]] for name, v in lists.items()}}
        inputs |= {name: [value] for name, value in context.items()}
        for name in set(wanted) - set(inputs):
            inputs[name] = [float("nan") if wanted[name].kind == "f" else ""]
        ask = self.predict if self._grpc_address else self.predict_rest
        answer = {name: value[0].tolist() for name, value in ask("recommend", inputs).items()}
        rows = zip(*(answer[name] for name in ("item_ids", "scores", "retrieval_scores", "reasons")), strict=True)
        return [Recommendation(i.decode(), s, r, why.decode()) for i, s, r, why in rows if i]

    def predict(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Calls a signature by gRPC. Raises RequestFailed with the server's message."""
        caller, (wanted, _) = self._grpc, self._dtypes(signature)
        return caller.predict(signature, {name: _as_array(name, v, wanted.get(name)) for name, v in inputs.items()})

    def predict_rest(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Calls a signature by REST, in column form; the same answer as `predict`. Raises RequestFailed."""
        caller, (wanted, promised) = self._rest, self._dtypes(signature)
        columns = {name: _as_array(name, value, wanted.get(name)) for name, value in inputs.items()}
        outputs = caller.predict(signature, columns, list(promised))
        return {name: _as_array(name, value, promised.get(name)) for name, value in outputs.items()}

    def versions(self) -> dict[int, str]:
        """The state of each version that the server knows: {1700000000: "AVAILABLE"}."""
        return self._grpc.versions() if self._grpc_address else self._rest.versions()

    def close(self) -> None:
        """Closes the connections."""
        for name in ("_grpc", "_rest"):
            if name in self.__dict__:
                getattr(self, name).close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _grpc(self) -> GrpcCaller:
        from serving.client_grpc import GrpcCaller

        if self._grpc_address is None:
            raise RequestFailed("this client was given no gRPC port")
        return GrpcCaller(self._grpc_address, self.model, self._deadline_seconds, *self._tls)

    @cached_property
    def _rest(self) -> RestCaller:
        if self._rest_url is None:
            raise RequestFailed("this client was given no REST port")
        return RestCaller(self._rest_url, self._deadline_seconds, *self._tls)

    @cached_property
    def _signatures(self) -> dict[str, tuple[Dtypes, Dtypes]]:
        """Dtypes of the inputs and outputs of each, asked for once: they are a contract that versions keep."""
        return self._grpc.signatures() if self._grpc_address else self._rest.signatures()

    def _dtypes(self, signature: str) -> tuple[Dtypes, Dtypes]:
        """Those of a signature's inputs and outputs; empty where the server has no such one."""
        return self._signatures.get(signature, ({}, {}))


def _as_array(name: str, value: Any, dtype: np.dtype | None) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestFailed(f'input "{name}" cannot be made into an array of {dtype}: {error}') from error
