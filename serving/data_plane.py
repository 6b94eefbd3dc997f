"""What the server can do, free of any protocol: gRPC and REST are two thin adapters over this one plane.

A call names a model and, if it wants, a version or a label; it holds a lease on that version from reading its inputs
to having its outputs, so that a switch in the middle never mixes two versions in one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.batching import Batcher
from serving.errors import ModelNotFound
from serving.models import Models
from serving.signature import Arrays, Signature

LARGE_BYTES, LARGE_VALUES = 2**16, 2**14  # of a request, of an answer: others would feel it
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Whom a call is for: a model, and of its versions the newest, or `version`, or the one called `label`."""

    model: str
    version: int | None = None
    label: str = ""


@dataclass(frozen=True)
class Prediction:
    """An answer and what gave it."""

    version: int
    signature_name: str
    outputs: Arrays

    @property
    def is_large(self) -> bool:
        """Whether to write it takes time that others should not wait."""
        return sum(value.size for value in self.outputs.values()) > LARGE_VALUES


@dataclass(frozen=True)
class Metadata:
    """The signatures of a version, as its SavedModel defines them."""

    version: int
    signature_defs: Mapping[str, SignatureDef]


@dataclass(frozen=True)
class DataPlane:
    """The calls of the model server."""

    models: Models
    batcher: Batcher

    async def predict(
        self,
        target: Target,
        signature_name: str,
        read_inputs: Callable[[Signature], Awaitable[Arrays]],
        output_filter: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Calls a signature. `read_inputs` makes the request into arrays, knowing that signature.

        Raises:
            ModelNotFound, InvalidInput, ModelFailed, Overloaded, DeadlineExceeded: as their names say, with a message
                for the caller.
        """
        with self.models.lease(target.model, target.version, target.label) as model:
            signature = model.signature(signature_name)
            inputs = await read_inputs(signature)
            outputs = await self.batcher.predict(model, signature, inputs, output_filter, timeout_seconds)
            return Prediction(model.version, signature.name, outputs)

    def metadata(self, target: Target) -> Metadata:
        """The signatures of a served version. Raises ModelNotFound."""
        with self.models.lease(target.model, target.version, target.label) as model:
            return Metadata(model.version, model.signature_defs)

    def release(self, target: Target) -> tuple[int, dict[str, Any]]:
        """A served version, and what it says of itself. Raises ModelNotFound, also where it says nothing."""
        with self.models.lease(target.model, target.version, target.label) as model:
            if model.release is None:
                raise ModelNotFound(f"version {model.version} of model {target.model} has no release.json")
            return model.version, model.release


async def beside(is_large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work gives; of something large it is done in a thread, and the event loop goes on for others."""
    return await asyncio.to_thread(work, *args, **kwargs) if is_large else work(*args, **kwargs)
