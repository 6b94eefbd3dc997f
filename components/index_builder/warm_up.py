"""Requests that a server asks itself before anybody else does, in TensorFlow Serving's own format.

https://www.tensorflow.org/tfx/serving/saved_model_warmup: TFRecords of PredictionLog. The first request to each
signature traces it, and makes ScaNN's searcher: seconds that no caller should wait.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

MODEL_NAME = "recommender"
WARM_UP_NAME = "assets.extra/tf_serving_warmup_requests"

Requests = list[tuple[str, Mapping[str, np.ndarray]]]


def write(servable: Path, requests: Requests) -> None:
    """Writes one record per request (signature, inputs by name)."""
    with tf.io.TFRecordWriter(str(servable / WARM_UP_NAME)) as writer:
        for signature, inputs in requests:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = MODEL_NAME
            request.model_spec.signature_name = signature
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            writer.write(log.SerializeToString())


def requests_of(contract: Mapping[str, Any], example: bytes | None) -> Requests:
    """At least one request per signature: with and without a filter, known and unknown users, one and several.

    `contract` as components.index_builder.manifest makes it; `example`: what `evaluate` reads, if there is one.
    """
    users, items, allow = (contract["canary"][key] for key in ("user_ids", "item_ids", "allow"))
    context = {
        f["name"]: np.array([np.nan], np.float32) if f["type"] == "number" else np.array([""], dtype=object)
        for f in contract["context"]
    }

    def text(*values: str) -> np.ndarray:
        return np.array(values, dtype=object)

    def recommend(user: str, history: str = "", allowed: str = "") -> tuple[str, dict[str, np.ndarray]]:
        rows = {"history": text(history)[np.newaxis], "allow": text(allowed)[np.newaxis]}
        return "recommend", {"user_id": text(user), "exclude": text("")[np.newaxis], **rows, **context}

    user, item = (users or [""])[0], items[0]
    requests: Requests = [
        ("serving_default", {"user_id": text(user)}),
        ("serving_default", {"user_id": text(*users, "nobody")}),
        recommend(user),
        recommend("nobody"),
        recommend("nobody", history=item),
        recommend(user, allowed=allow),
        ("similar_items", {"item_id": text(item)}),
        ("rank", {"user_id": text(user), "item_ids": text(*items)[np.newaxis]}),
        ("embed_query", {"user_id": text(user)}),
        ("embed_items", {"item_id": text(item)}),
    ]
    return requests if example is None else [*requests, ("evaluate", {"examples": np.array([example], dtype=object)})]
