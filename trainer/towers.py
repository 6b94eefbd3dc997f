"""The two towers: what the user is about to want (query), and what there is (candidate), in one space."""

from collections.abc import Mapping

import tensorflow as tf

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.embedding import FeatureEmbedding


class CandidateTower(tf.keras.layers.Layer):
    """Items to vectors: an id embedding plus an embedding of the content.

    While training, ids are hidden at random (`id_dropout`; DropoutNet, Volkovs et al. 2017), so that content alone
    places an item that nobody has touched yet. On a warm start new ids begin at zero: where their content puts them.
    """

    def __init__(self, catalog: Catalog, config: ModelConfig) -> None:
        super().__init__(name="candidate_tower")
        dim = config.trainer.embedding_dim
        sizes = {name: len(ids) for name, ids in catalog.vocabularies.items()}
        self._id_dropout = config.trainer.id_dropout
        self._columns = {name: tf.constant(value) for name, value in catalog.features.items()}
        self.content = FeatureEmbedding(config.features.item, sizes, dim, "content") if config.features.item else None
        self.project = tf.keras.layers.Dense(dim, name="project")
        self.ids = self.add_weight(
            name="ids",
            shape=[catalog.size + 1, dim],
            initializer=tf.keras.initializers.RandomNormal(stddev=0.05),
        )

    def call(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Catalog rows to candidate embeddings: int64 [N] → [N, D]."""
        embedded = tf.gather(self.ids, rows)
        if self.content is None:
            return embedded
        if training and self._id_dropout:
            keep = tf.random.uniform([tf.shape(rows)[0], 1]) >= self._id_dropout
            embedded *= tf.cast(keep, tf.float32)
        values = {name: tf.gather(column, rows) for name, column in self._columns.items()}
        return embedded + self.project(self.content(values))


class MeanHistory(tf.keras.layers.Layer):
    """A weighted mean of the last H interactions, the weight learned per lag (1 = the newest).

    State p sums up the first p positions, so one pass gives the query of every position of a sequence.
    """

    def __init__(self, max_history: int) -> None:
        super().__init__(name="history")
        self._max_history = max_history
        self.lag_logits = self.add_weight(name="lag_logits", shape=[max_history], initializer="zeros")

    def call(self, embedded: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Interactions to states: [B, L, D], float mask [B, L] → [B, L + 1, D]; state 0 is zero."""
        length = tf.shape(embedded)[1]
        lag = tf.range(length + 1)[:, tf.newaxis] - tf.range(length)[tf.newaxis, :]  # [L + 1, L], 1 = newest
        visible = tf.cast((lag >= 1) & (lag <= self._max_history), tf.float32)
        weights = visible * tf.gather(tf.exp(self.lag_logits), tf.clip_by_value(lag - 1, 0, self._max_history - 1))
        total = tf.einsum("pl,bl,bld->bpd", weights, known, embedded)
        return tf.math.divide_no_nan(total, tf.einsum("pl,bl->bp", weights, known)[..., tf.newaxis])


class QueryTower(tf.keras.layers.Layer):
    """History, user and context to a vector in the candidates' space. No user id: strangers are served."""

    def __init__(self, config: ModelConfig, vocabulary_sizes: Mapping[str, int]) -> None:
        super().__init__(name="query_tower")
        dim = config.trainer.embedding_dim
        sides = config.features.user + config.features.context
        self.history = MeanHistory(config.max_history)
        self.types = self.add_weight(
            name="types", shape=[len(config.features.interaction_types) + 1, dim], initializer="zeros"
        )
        self.sides = FeatureEmbedding(sides, vocabulary_sizes, dim, "sides") if sides else None
        self.hidden = tf.keras.layers.Dense(4 * dim, activation="gelu", name="hidden")
        self.dropout = tf.keras.layers.Dropout(config.trainer.dropout)
        self.out = tf.keras.layers.Dense(dim, name="out")

    def states(self, items: tf.Tensor, item_rows: tf.Tensor, type_rows: tf.Tensor) -> tf.Tensor:
        """States of a sequence: item embeddings [B, L, D], rows [B, L], types [B, L] → [B, L + 1, D]."""
        known = tf.cast(item_rows > 0, tf.float32)
        return self.history(items + tf.gather(self.types, type_rows), known)

    def call(self, state: tf.Tensor, sides: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Query embeddings: state [T, D] and side features [T] each → [T, D]."""
        inputs = [state] if self.sides is None else [state, self.sides(sides)]
        hidden = self.hidden(tf.concat(inputs, axis=-1))
        return state + self.out(self.dropout(hidden, training=training))
