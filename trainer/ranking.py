"""The ranking head: how likely an interaction with this candidate would be of the strongest type."""

import tensorflow as tf
import tensorflow_recommenders as tfrs


class RankingHead(tf.keras.layers.Layer):
    """P(strongest type | the user interacts with the candidate), as a logit.

    A cross layer (DCN-v2, Wang et al. 2021) over query, candidate and their product, then one hidden layer.
    """

    def __init__(self, embedding_dim: int, dropout: float) -> None:
        super().__init__(name="ranking_head")
        self.query = tf.keras.layers.Dense(embedding_dim, name="query")
        self.candidate = tf.keras.layers.Dense(embedding_dim, name="candidate")
        self.cross = tfrs.layers.dcn.Cross(projection_dim=max(1, embedding_dim // 2), name="cross")
        self.hidden = tf.keras.layers.Dense(embedding_dim, activation="relu", name="hidden")
        self.dropout = tf.keras.layers.Dropout(dropout)
        self.logit = tf.keras.layers.Dense(1, name="logit")

    def call(self, queries: tf.Tensor, candidates: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits of pairs: [..., D] and [..., D] → [...]."""
        query, candidate = self.query(queries), self.candidate(candidates)
        pairs = tf.concat([query, candidate, query * candidate], axis=-1)
        hidden = self.dropout(self.hidden(self.cross(pairs)), training=training)
        return tf.squeeze(self.logit(hidden), axis=-1)
