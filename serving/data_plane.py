"""What the server can do, free of any protocol: gRPC and REST are two thin adapters over this one plane.

A call names a model and, if it wants, a version; it holds a lease on that version from reading its inputs to
having its outputs, so that a switch in the middle never mixes two versions in one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.errors import InvalidInput, ModelNotFound
from serving.signature import Arrays, Signature
from serving.watcher import VersionStatus, Watcher


@dataclass(frozen=True)
class Prediction:
    """An answer and what gave it."""

    version: int
    signature_name: str
    outputs: Arrays


@dataclass(frozen=True)
class Metadata:
    """The signatures of a version, as its SavedModel defines them."""

    version: int
    signature_defs: Mapping[str, SignatureDef]


@dataclass(frozen=True)
class DataPlane:
    """The calls of the model server, for the one model that the watcher keeps."""

    watcher: Watcher

    def predict(
        self,
        model_name: str,
        version: int | None,
        signature_name: str,
        read_inputs: Callable[[Signature], Arrays],
        output_filter: Sequence[str] = (),
    ) -> Prediction:
        """Calls a signature. `read_inputs` makes the request into arrays, knowing that signature.

        Raises:
            ModelNotFound, InvalidInput, ModelFailed: as their names say, with a message for the caller.
        """
        self._check_name(model_name, version)
        with self.watcher.lease(version) as model:
            signature = model.signature(signature_name)
            outputs = model.predict(signature.name, read_inputs(signature), output_filter)
            return Prediction(model.version, signature.name, outputs)

    def metadata(self, model_name: str, version: int | None = None) -> Metadata:
        """The signatures of the served version. Raises ModelNotFound."""
        self._check_name(model_name, version)
        with self.watcher.lease(version) as model:
            return Metadata(model.version, model.signature_defs)

    def release(self, model_name: str, version: int | None = None) -> tuple[int, dict[str, Any]]:
        """The served version, and what it says of itself. Raises ModelNotFound, also where it says nothing."""
        self._check_name(model_name, version)
        with self.watcher.lease(version) as model:
            if model.release is None:
                raise ModelNotFound(f"version {model.version} of model {model_name} has no release.json")
            return model.version, model.release

    def status(self, model_name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of all known versions, newest first, or of one.

        Raises ModelNotFound where there is none.
        """
        known = self.watcher.statuses() if model_name == self.watcher.name else []
        if version is None:
            if not known:
                raise ModelNotFound(f"Could not find any versions of model {model_name}")
            return known
        found = [status for status in known if status.version == version]
        if not found:
            raise ModelNotFound(f"Could not find version {version} of model {model_name}")
        return found

    def _check_name(self, model_name: str, version: int | None) -> None:
        if not model_name:
            raise InvalidInput("ModelSpec has no name specified.")
        if model_name != self.watcher.name:
            wanted = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
            raise ModelNotFound(f"Servable not found for request: {wanted}")
