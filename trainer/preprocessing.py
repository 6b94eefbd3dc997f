"""Transform: one graph for training and serving. Vocabularies, normalisation, words.

Transformed values, per feature type (0 always means missing or unknown):

    category    int64   1 + position in the vocabulary
    categories  int64   the same, several per row
    number      float32 z-score over the training split, 0 when missing
    text        int64   1 + position of each known word
    vector      float32 [dim] as it was given, zeros when missing
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter

from trainer.features import (
    INTERACTION_TYPES_KEY,
    IS_TARGET_KEY,
    ITEM_ID_KEY,
    ITEM_IDS_KEY,
    POPULARITY_KEY,
    TIMESTAMPS_KEY,
    USER_ID_KEY,
    WEIGHTS_KEY,
    Feature,
    Features,
)

MAX_WORDS = 5_000
Tensors = Mapping[str, tf.SparseTensor]


def features_from(custom_config: Mapping[str, Any]) -> Features:
    """Reads the declared features from a component's `custom_config`."""
    return TypeAdapter(Features).validate_json(custom_config["features"])


def raw_value(feature: Feature) -> tf.io.VarLenFeature:
    """How an example holds a declared feature, before Transform."""
    return tf.io.VarLenFeature(tf.string if feature.has_vocabulary else tf.float32)


def sequence_spec(features: Features) -> dict[str, tf.io.VarLenFeature]:
    """Sequence examples without weights, before Transform (trainer.features)."""
    strings, integers = tf.io.VarLenFeature(tf.string), tf.io.VarLenFeature(tf.int64)
    spec = dict.fromkeys((USER_ID_KEY, ITEM_IDS_KEY, INTERACTION_TYPES_KEY), strings)
    spec |= dict.fromkeys((TIMESTAMPS_KEY, IS_TARGET_KEY), integers)
    return spec | {feature.name: raw_value(feature) for feature in features.user + features.context}


def catalog_spec(features: Features) -> dict[str, tf.io.VarLenFeature]:
    """Catalog examples before Transform, without what only people read."""
    spec = {ITEM_ID_KEY: tf.io.VarLenFeature(tf.string), POPULARITY_KEY: tf.io.VarLenFeature(tf.float32)}
    return spec | {feature.name: raw_value(feature) for feature in features.item}


def preprocessing_fn(inputs: Tensors, custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Sequence examples: user features [B], sequences and context [B, L] (sparse)."""
    features = features_from(custom_config)
    outputs: dict[str, Any] = {
        key: tf.identity(inputs[key]) if isinstance(inputs[key], tf.Tensor) else inputs[key]
        for key in (USER_ID_KEY, ITEM_IDS_KEY, INTERACTION_TYPES_KEY, TIMESTAMPS_KEY, IS_TARGET_KEY, WEIGHTS_KEY)
        if key in inputs or key != WEIGHTS_KEY
    }
    for feature in features.user:
        outputs[feature.name] = _transformed(feature, inputs[feature.name])
    for feature in features.context:
        outputs[feature.name] = _per_position(feature, inputs[feature.name])
    return outputs


def catalog_preprocessing_fn(inputs: Tensors, custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Catalog examples: the item vocabulary and the items' features [N]."""
    tft.vocabulary(inputs[ITEM_ID_KEY], vocab_filename=ITEM_ID_KEY)
    outputs: dict[str, Any] = {
        ITEM_ID_KEY: inputs[ITEM_ID_KEY],
        POPULARITY_KEY: _first(inputs[POPULARITY_KEY], 0.0),
    }
    for feature in features_from(custom_config).item:
        outputs[feature.name] = _transformed(feature, inputs[feature.name])
    return outputs


def _transformed(feature: Feature, value: tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
    if feature.type == "number":
        return _first(tft.scale_to_z_score(value), 0.0)
    if feature.type == "category":
        return _first(_vocabulary_ids(feature.name, value), tf.constant(0, tf.int64))
    if feature.dim is not None:
        return _vector(value, feature.dim)
    if feature.type == "text":
        return _vocabulary_ids(feature.name, words(value), top_k=MAX_WORDS)
    return _vocabulary_ids(feature.name, value)


def _per_position(feature: Feature, value: tf.SparseTensor) -> tf.SparseTensor:
    """Context stays aligned with the positions, so missing values are encoded, never dropped."""
    if feature.type == "number":
        known = tf.sparse.retain(value, tf.math.is_finite(value.values))
        mean, variance = tft.mean(known), tft.var(known)
        normal = (value.values - mean) * tf.math.rsqrt(tf.maximum(variance, 1e-12))
        return value.with_values(tf.where(tf.math.is_finite(normal), normal, tf.zeros_like(normal)))
    if feature.type == "category":
        return _vocabulary_ids(feature.name, value)
    raise ValueError(f"context feature {feature.name!r} is {feature.type!r}; context is 'category' or 'number'")


def _vocabulary_ids(name: str, value: tf.SparseTensor, top_k: int | None = None) -> tf.SparseTensor:
    ids = tft.compute_and_apply_vocabulary(value, default_value=-1, top_k=top_k, vocab_filename=name)
    return ids.with_values(ids.values + 1)


def words(text: tf.SparseTensor) -> tf.SparseTensor:
    """Lower-case words of the first text of each row: [B, 0..1] → [B, words]."""
    clean = tf.strings.regex_replace(tf.strings.lower(_first(text, ""), encoding="utf-8"), r"[^\pL\pN ]+", " ")
    return tf.strings.split(clean).to_sparse()


def _first(value: tf.SparseTensor, default: Any) -> tf.Tensor:
    """First value of each row: sparse [B, V] → [B], `default` where a row has none."""
    first = tf.sparse.retain(value, value.indices[:, 1] == 0)
    column = tf.SparseTensor(first.indices, first.values, tf.stack([value.dense_shape[0], 1]))
    return tf.reshape(tf.sparse.to_dense(column, default), [-1])


def _vector(value: tf.SparseTensor, dim: int) -> tf.Tensor:
    """Dense vectors: sparse [B, 0 or dim] → [B, dim], zeros where a row has none."""
    known = tf.sparse.retain(value, value.indices[:, 1] < dim)
    rows = tf.SparseTensor(known.indices, known.values, tf.stack([value.dense_shape[0], dim]))
    return tf.reshape(tf.sparse.to_dense(rows), [-1, dim])
