"""The ranking head: what a user would do with a candidate that retrieval proposes.

One outcome per interaction type, and none. With z_k the logit of type k and that of none fixed at 0, the head learns
interactions (outcome: their type) beside proposals of retrieval itself (outcome: none), drawn from p(i | q). A
classifier between two samples has the logarithm of their densities' ratio as its logit (Gutmann & Hyvärinen 2010,
section 2), so

    e^{z_k} ∝ p(i, k | q) / p_retrieval(i | q)

and what an item is worth, with weight w_k for an interaction of type k, is

    Σ_k w_k p(i, k | q) ∝ p_retrieval(i | q) Σ_k w_k e^{z_k}
"""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs


class RankingHead(tf.keras.layers.Layer):
    """Logits of the K interaction types, beside none at 0.

    A cross layer (DCN-v2, Wang et al. 2021) over query, candidate, their product and the candidate's statistics, then
    one hidden layer. Where the types are grades of one scale, a factorisation stands beside it (`GradedLogits`).
    """

    def __init__(self, embedding_dim: int, num_types: int, dropout: float, grades: "GradedLogits | None") -> None:
        super().__init__(name="ranking_head")
        self.query = tf.keras.layers.Dense(embedding_dim, name="query")
        self.candidate = tf.keras.layers.Dense(embedding_dim, name="candidate")
        self.cross = tfrs.layers.dcn.Cross(projection_dim=max(1, embedding_dim // 2), name="cross")
        self.hidden = tf.keras.layers.Dense(embedding_dim, activation="relu", name="hidden")
        self.dropout = tf.keras.layers.Dropout(dropout)
        self.logits = tf.keras.layers.Dense(num_types, name="logits")
        self.grades = grades

    def call(
        self, queries: tf.Tensor, candidates: tf.Tensor, statistics: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Logits of pairs: [..., D], [..., D] and [..., S] → [..., K].

        A query of many candidates [B, 1, D] is worked on once. The layers see pairs [P, D]: on two dimensions a dense
        layer is one operation, on three about a dozen.
        """
        shape, dim = tf.shape(candidates), candidates.shape[-1]

        def of_pairs(values: tf.Tensor) -> tf.Tensor:
            return tf.reshape(tf.broadcast_to(values, shape), [-1, dim])

        query = self.query(tf.reshape(queries, [-1, dim]))
        query, candidates = of_pairs(tf.reshape(query, tf.shape(queries))), tf.reshape(candidates, [-1, dim])
        candidate = self.candidate(candidates)
        statistics = tf.cast(tf.reshape(statistics, [-1, statistics.shape[-1]]), query.dtype)
        pairs = tf.concat([query, candidate, query * candidate, statistics], axis=-1)
        hidden = self.dropout(self.hidden(self.cross(pairs)), training=training)
        logits = tf.cast(self.logits(hidden), tf.float32)
        if self.grades is not None:
            logits += self.grades(of_pairs(queries), candidates)
        return tf.reshape(logits, [*tf.unstack(shape)[:-1], logits.shape[-1]])


class GradedLogits(tf.keras.layers.Layer):
    """Logits of K ordered types from one product: z_k = a_k·q + b_k·c + φ_k q·c / temperature.

    The stereotype model of ordered outcomes (Anderson 1984) with the product of a matrix factorisation in
    it. The scores φ are fixed, evenly spaced with mean 0 and mean square 1: were they learned, the product would grow
    by them while a penalty on the embeddings shrinks these.
    """

    def __init__(self, num_types: int, temperature: float) -> None:
        super().__init__(name="grades")
        steps = np.arange(num_types) - (num_types - 1) / 2
        self.scores = (steps / max(np.sqrt(np.mean(steps**2)), 1e-6)).astype(np.float32)
        self._temperature = temperature
        self.begin = tf.keras.layers.Dense(num_types, name="begin")

    def call(self, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Logits of pairs: float32 [P, D], [P, D] → float32 [P, K]."""
        product = tf.cast(tf.reduce_sum(queries * candidates, axis=-1, keepdims=True), tf.float32) / self._temperature
        begin = self.begin(tf.concat([queries, candidates], axis=-1))
        return tf.cast(begin, tf.float32) + product * self.scores


def outcome_loss(logits: tf.Tensor, outcomes: tf.Tensor) -> tf.Tensor:
    """−log P(outcome): logits [T, K], outcomes [T] in 0..K, 0 = none → [T]."""
    with_none = tf.pad(logits, [[0, 0], [1, 0]])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=outcomes, logits=with_none)


def log_worth(logits: tf.Tensor, type_weights: tf.Tensor) -> tf.Tensor:
    """log Σ_k w_k e^{z_k}: logits [..., K], weights [K] of 0 or more, one of them above 0 → [...]."""
    return tf.reduce_logsumexp(logits + tf.math.log(type_weights), axis=-1)
