"""One SavedModel in memory: its signatures, and calls to them with numpy in and numpy out.

Usage:

    model = load_model(Path(".../recommender/1700000000"), version=1700000000)
    model.warm_up()
    model.predict("serving_default", {"user_id": np.array([b"42"], dtype=object)})
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.errors import InvalidInput, ModelBroken, ModelFailed
from serving.signature import DEFAULT_SIGNATURE, Arrays, Signature, TensorSpec

log = logging.getLogger(__name__)

WARM_UP_NAME, RELEASE_NAME, CONTRACT_NAME = "tf_serving_warmup_requests", "release.json", "contract.json"

# What TensorFlow says about Python frames, graph nodes and files is for the server's log, not for a caller.
_NOISE = re.compile(r"^(Graph execution error|Detected at node|Stack trace|\s*File |<stack traces|\d+ root error)")
_NODE = re.compile(r"\s*(\[\[\{\{node.*|\[Op:.*|name: .*)$")
_PATH = re.compile(r"(?:[\w.+-]+:/)?(?:/[\w.@+-]+){2,}/?")


class Users:
    """How many use a model now; it is not unloaded before they are done."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """One more."""
        with self._lock:
            self.count += 1

    def leave(self) -> None:
        """One less."""
        with self._lock:
            self.count -= 1

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


class ServedModel(ABC):
    """A version that answers calls, wherever it is; safe from many threads."""

    def __init__(
        self, version: int, names: Iterable[str], signature_defs: Mapping[str, SignatureDef], assets: Path | None
    ) -> None:
        self.version = version
        self.users = Users()
        self.signature_defs = dict(signature_defs)
        self.signatures = {name: _signature(name, signature_defs[name]) for name in names}
        self.release = _document(assets, RELEASE_NAME)
        contract = _document(assets, CONTRACT_NAME) or {}
        self.padded_inputs = frozenset(map(str, contract.get("padded_inputs", ())))  # where '' says nothing

    def signature(self, name: str = "") -> Signature:
        """The signature of that name, `serving_default` for ''.

        Raises InvalidInput, naming the known ones.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            known = ", ".join(sorted(self.signatures))
            raise InvalidInput(f'Serving signature name: "{name}" not found in signature def; it has: {known}')
        return self.signatures[name]

    def predict(
        self, signature_name: str, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()
    ) -> Arrays:
        """Calls one signature; strings come back as bytes.

        Raises:
            InvalidInput: the signature is unknown, or names, dtypes, shapes or values do not fit it.
            ModelFailed: the model itself failed; the reason is in the log.
        """
        signature = self.signature(signature_name)
        signature.check_inputs(inputs)
        signature.check_output_filter(output_filter)
        return self.call(signature, inputs, output_filter)

    @abstractmethod
    def call(self, signature: Signature, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()) -> Arrays:
        """As `predict`, of inputs and outputs that have been checked."""

    @abstractmethod
    def warm_up(self) -> None:
        """Makes the requests that the model brings. Raises ModelBroken when one fails."""

    @abstractmethod
    def close(self) -> None:
        """Ends it; no call comes after that."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still be called."""
        return True


class Model(ServedModel):
    """A version that is loaded in this process: TensorFlow releases the interpreter while it works."""

    def __init__(
        self,
        version: int,
        functions: Mapping[str, Callable[..., Mapping[str, tf.Tensor]]],
        signature_defs: Mapping[str, SignatureDef],
        owner: object,
        assets: Path | None = None,
    ) -> None:
        super().__init__(version, functions, signature_defs, assets)
        self._functions = dict(functions)
        self._owner = owner  # the functions hold their variables only weakly
        self._assets = assets

    def call(self, signature: Signature, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()) -> Arrays:
        """As `predict`, of inputs and outputs that have been checked."""
        try:
            tensors = {
                name: tf.constant(inputs[name], dtype=tf.as_dtype(spec.numpy_dtype))
                for name, spec in signature.inputs.items()
            }
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"inputs of {signature.name} cannot be made into tensors") from error
        try:
            outputs = self._functions[signature.name](**tensors)
            return {name: _array(outputs[name]) for name in output_filter or signature.outputs}
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(f"signature {signature.name}: {public_message(error)}") from error
        except Exception as error:
            log.exception("version %s failed in signature %s", self.version, signature.name)
            raise ModelFailed(f"version {self.version} failed in signature {signature.name}") from error

    def close(self) -> None:
        """Does nothing: TensorFlow frees what it keeps of a model when this process ends."""

    def warm_up(self) -> None:
        """Makes the requests that the model brings; of one that brings none, `serving_default` with a dummy batch.

        Raises ModelBroken when one fails.
        """
        try:
            for signature, inputs in self._warm_up_requests():
                self.predict(signature, inputs)
        except (InvalidInput, ModelFailed) as error:
            raise ModelBroken(f"version {self.version} fails its warm-up: {error}") from error

    def _warm_up_requests(self) -> Iterator[tuple[str, Arrays]]:
        """Signature and inputs of each: records in TensorFlow Serving's format."""
        records = self._assets / WARM_UP_NAME if self._assets else None
        if records is None or not records.exists():
            if DEFAULT_SIGNATURE in self.signatures:
                yield DEFAULT_SIGNATURE, self.signatures[DEFAULT_SIGNATURE].dummy_inputs()
            return
        try:
            for record in tf.data.TFRecordDataset(str(records)).as_numpy_iterator():
                logged = PredictionLog.FromString(record)
                if logged.WhichOneof("log_type") != "predict_log":
                    continue  # this server has Predict alone
                request = logged.predict_log.request
                yield request.model_spec.signature_name, {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        except (tf.errors.OpError, DecodeError, TypeError, ValueError) as error:
            raise ModelBroken(f"version {self.version} has a broken {WARM_UP_NAME}") from error


def load_model(path: Path, version: int) -> Model:
    """Loads the SavedModel in a folder. Raises ModelBroken, with a message that is fit for callers."""
    try:
        loaded = tf.saved_model.load(str(path))
        # The raw definitions, for GetModelMetadata; the TF2 loader does not keep them.
        definition = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        signature_defs = next(
            graph.signature_def for graph in definition.meta_graphs if "serve" in graph.meta_info_def.tags
        )
        return Model(version, loaded.signatures, signature_defs, owner=loaded, assets=path / "assets.extra")
    except Exception as error:
        log.exception("version %s in %s cannot be loaded", version, path)
        raise ModelBroken(f"version {version} cannot be loaded: {public_message(error)}") from error


def _document(assets: Path | None, name: str) -> dict[str, Any] | None:
    """What the model says of itself, if it does; read at once, for the folder may be moved away while it is served."""
    path = assets / name if assets else None
    if path is None or not path.exists():
        return None
    document = json.loads(path.read_text())
    return document if isinstance(document, dict) else None


def register_scann_ops() -> None:
    """Makes ScaNN's custom ops known to TensorFlow; a model without them is served just as well."""
    try:
        importlib.import_module("scann.scann_ops.py.scann_ops")
    except Exception as error:
        log.warning("ScaNN's ops are not available, models that need them will not load: %s", error)


def public_message(error: BaseException) -> str:
    """The part of a TensorFlow error that a caller can use: no stack, no graph nodes, no file paths."""
    lines = [_NODE.sub("", line).strip() for line in str(getattr(error, "message", error)).splitlines()]
    said = next((line for line in lines if line and not _NOISE.match(line)), type(error).__name__)
    return _PATH.sub("(path)", said)[:500]


def _signature(name: str, definition: SignatureDef) -> Signature:
    inputs = {key: _spec(key, info) for key, info in definition.inputs.items()}
    return Signature(name, inputs, {key: _spec(key, info) for key, info in definition.outputs.items()})


def _spec(name: str, info: Any) -> TensorSpec:
    """The spec of a TensorInfo proto."""
    dtype = tf.as_dtype(info.dtype)
    sizes = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    shape = None if info.tensor_shape.unknown_rank else sizes
    return TensorSpec(name, DataType.Name(info.dtype), np.dtype(dtype.as_numpy_dtype), shape)


def _array(tensor: tf.Tensor) -> np.ndarray:
    value = np.asarray(tensor.numpy())
    return value.astype(object) if value.dtype.kind in "SU" else value
