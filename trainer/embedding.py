"""Embeddings of declared features: one vector per example from categories, words, numbers and vectors."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from trainer.features import Feature


class FeatureEmbedding(tf.keras.layers.Layer):
    """Sum of one embedding per feature: name → [...] or [..., V] → [..., D].

    Several values (categories, words) are averaged; value 0 (missing, unknown) adds nothing; a number scales a learned
    vector, and a vector is projected by a learned matrix, so that one of zeros (missing) adds nothing.
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
        """Makes one table per feature: [V + 1, D], [D] for a number, [dim, D] for a vector."""
        for feature in self._features:
            if feature.has_vocabulary:
                shape = [self._vocabulary_sizes[feature.name] + 1, self._dim]
            else:
                shape = [self._dim] if feature.dim is None else [feature.dim, self._dim]
            initializer = tf.keras.initializers.RandomNormal(stddev=0.05)
            self.tables[feature.name] = self.add_weight(name=feature.name, shape=shape, initializer=initializer)
        super().build(_)

    def call(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds the features present in `values`; extra keys are ignored."""
        parts = []
        for feature in self._features:
            value, table = values[feature.name], self.tables[feature.name]
            if feature.type == "number":
                parts.append(tf.cast(value, self.compute_dtype)[..., tf.newaxis] * table)
                continue
            if feature.type == "vector":
                parts.append(tf.linalg.matvec(table, tf.cast(value, self.compute_dtype), transpose_a=True))
                continue
            known = tf.cast(value > 0, self.compute_dtype)[..., tf.newaxis]
            embedded = tf.gather(table, value) * known
            if feature.type in ("categories", "text"):
                embedded = tf.math.divide_no_nan(tf.reduce_sum(embedded, -2), tf.sqrt(tf.reduce_sum(known, -2)))
            parts.append(embedded)
        return tf.add_n(parts)
