"""The two towers: what the user is about to want (query), and what there is (candidate), in one space."""

from collections.abc import Mapping

import tensorflow as tf

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.embedding import FeatureEmbedding
from trainer.history import history_encoder

# What is shorter is not made as long as 1. Items that are new on a warm start begin at 0, and so does the query of a
# user of whom nothing is known: there the gradient would be a million times the others', and Adam would remember it.
SHORTEST = 0.01


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
        self._is_normalized = config.trainer.normalized is True
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
        return _placed(self._embed(rows, training), self._is_normalized)

    def _embed(self, rows: tf.Tensor, training: bool) -> tf.Tensor:
        embedded = tf.gather(self.ids, rows)
        if self.content is None:
            return embedded
        if training and self._id_dropout:
            keep = tf.random.uniform([tf.shape(rows)[0], 1]) >= self._id_dropout
            embedded *= tf.cast(keep, embedded.dtype)
        values = {name: tf.gather(column, rows) for name, column in self._columns.items()}
        return embedded + self.project(self.content(values))


class QueryTower(tf.keras.layers.Layer):
    """History, user and context to a vector in the candidates' space. No user id: strangers are served."""

    def __init__(self, config: ModelConfig, vocabulary_sizes: Mapping[str, int]) -> None:
        super().__init__(name="query_tower")
        dim = config.trainer.embedding_dim
        sides = config.features.user + config.features.context
        self._is_normalized = config.trainer.normalized is not False
        self.history = history_encoder(config.trainer, config.max_history)
        shape = [len(config.features.interaction_types) + 1, dim]
        self.type_scale = self.add_weight(name="type_scale", shape=shape, initializer="ones")
        self.type_shift = self.add_weight(name="type_shift", shape=shape, initializer="zeros")
        self.sides = FeatureEmbedding(sides, vocabulary_sizes, dim, "sides") if sides else None
        width = config.trainer.hidden_ratio * dim
        self.hidden = tf.keras.layers.Dense(width, activation="gelu", name="hidden") if width else None
        self.dropout = tf.keras.layers.Dropout(config.trainer.dropout)
        self.out = tf.keras.layers.Dense(dim, name="out")

    def states(self, items: tf.Tensor, item_rows: tf.Tensor, type_rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """States of a sequence: item embeddings [B, L, D], rows [B, L], types [B, L] → [B, L + 1, D].

        What an interaction says depends on its type: each scales and shifts the item's vector (FiLM, Perez et al.
        2018), so that having liked one item and disliked another is not the same as the reverse.
        """
        embedded = items * tf.gather(self.type_scale, type_rows) + tf.gather(self.type_shift, type_rows)
        return self.history(embedded, item_rows > 0, training=training)

    def call(self, state: tf.Tensor, sides: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Query embeddings: state [T, D] and side features [T] each → [T, D].

        A hidden layer, if there is one, corrects the sum of both. So what a user's id or features say is in the
        candidates' space from the first step on, as in SVD++ (Koren 2008, eq. 15), and does not have to be learned
        through two layers.
        """
        inputs = [state] if self.sides is None else [state, self.sides(sides)]
        embedded = tf.add_n(inputs)
        if self.hidden is not None:
            hidden = self.hidden(tf.concat(inputs, axis=-1))
            embedded += self.out(self.dropout(hidden, training=training))
        return _placed(embedded, self._is_normalized)


def _placed(embedding: tf.Tensor, is_normalized: bool) -> tf.Tensor:
    """Where an embedding stands in the common space: float32 [..., D], of length 1 where only directions count."""
    embedding = tf.cast(embedding, tf.float32)
    return tf.math.l2_normalize(embedding, axis=-1, epsilon=SHORTEST**2) if is_normalized else embedding
