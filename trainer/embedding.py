"""Embeddings of declared features: one vector per example from categories, words and numbers."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from trainer.features import Feature


class FeatureEmbedding(tf.keras.layers.Layer):
    """Sum of one embedding per feature: name → [...] or [..., V] → [..., D].

    Several values (categories, words) are averaged; value 0 (missing, unknown) adds nothing; numbers are scaled by a
    learned vector.
    """

    def __init__(
        self, features: Sequence[Feature], vocabulary_sizes: Mapping[str, int], embedding_dim: int, name: str
    ) -> None:
        super().__init__(name=name)
        self._features = tuple(features)
        self._dim = embedding_dim
        self._vocabulary_sizes = dict(vocabulary_sizes)
        self.tables: dict[str, tf.Variable] = {}

    def build(self, _: object) -> None:
        """Makes one table per feature: [V + 1, D], or [D] for a number."""
        for feature in self._features:
            size = self._vocabulary_sizes.get(feature.name)
            shape = [self._dim] if feature.type == "number" else [int(size or 0) + 1, self._dim]
            initializer = tf.keras.initializers.RandomNormal(stddev=0.05)
            self.tables[feature.name] = self.add_weight(name=feature.name, shape=shape, initializer=initializer)
        super().build(_)

    def call(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds the features present in `values`; extra keys are ignored."""
        parts = []
        for feature in self._features:
            value, table = values[feature.name], self.tables[feature.name]
            if feature.type == "number":
                parts.append(tf.cast(value, tf.float32)[..., tf.newaxis] * table)
                continue
            known = tf.cast(value > 0, tf.float32)[..., tf.newaxis]
            embedded = tf.gather(table, value) * known
            if feature.type in ("categories", "text"):
                embedded = tf.math.divide_no_nan(tf.reduce_sum(embedded, -2), tf.sqrt(tf.reduce_sum(known, -2)))
            parts.append(embedded)
        return tf.add_n(parts)
