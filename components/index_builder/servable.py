"""The servable: one module that answers a whole request. Retrieve, filter, exclude, rank, explain, in one graph.

Shapes: B requests, H history, C candidates retrieved, K answers, N items, D dimensions. Items are catalog rows
(1..N, 0 = none) everywhere inside; strings are looked up at the doors (components.index_builder.signatures).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.index_builder.config import IndexConfig
from components.index_builder.filters import Filters
from components.index_builder.scann_index import ScannIndex
from components.index_builder.users import UserState
from trainer.inputs import RowLookup
from trainer.metrics import rows_mask
from trainer.model import Recommender
from trainer.ranking import log_worth

NEVER_SHOWN = np.float32(-np.inf)


@dataclass(frozen=True)
class Query:
    """What a request asks for: embedding [B, D]; `is_cold` [B]: no history is known, so popularity answers."""

    embedding: tf.Tensor
    is_cold: tf.Tensor


@dataclass(frozen=True)
class Answer:
    """Candidates best first: rows [B, C], scores and retrieval scores [B, C]; −inf and row 0 where there is none."""

    rows: tf.Tensor
    scores: tf.Tensor
    retrieval_scores: tf.Tensor


@dataclass(frozen=True)
class Learned:
    """The trained model, held where TensorFlow does not track it: its variables are tracked, its Keras side is not."""

    model: Recommender


class Servable(tf.Module):
    """Everything that a served model knows."""

    def __init__(
        self,
        model: Recommender,
        embeddings: np.ndarray,
        index: ScannIndex,
        users: UserState,
        filters: Filters,
        config: IndexConfig,
    ) -> None:
        super().__init__(name="recommender")
        self.config = config
        self.learned = Learned(model)
        self.index = index
        self.filters = filters
        self.num_items = model.catalog.size
        self.max_history = model.config.max_history
        self.top_k = min(config.top_k, self.num_items)
        self._learned_variables = [*model.query_tower.variables, *model.ranking_head.variables, model.statistics]
        self.embeddings = tf.Variable(embeddings, trainable=False, name="embeddings")  # [N + 1, D], row 0 is zero
        self.item_ids = tf.Variable(np.array([b"", *model.catalog.ids.tolist()], object), trainable=False)
        self.items = RowLookup(model.catalog.ids, "items")
        self.types = RowLookup([t.encode() for t in model.config.features.interaction_types], "types")
        self.user_lookup = RowLookup(users.ids, "users")
        self.user_items = tf.Variable(users.items, trainable=False, name="user_items")
        self.user_types = tf.Variable(users.types, trainable=False, name="user_types")
        self.user_features = {
            name: tf.Variable(value, trainable=False, name=f"user_{name}") for name, value in users.features.items()
        }
        popularity = model.catalog.popularity[1:]
        share = np.concatenate([[0.5], popularity + 1.0]) / (popularity + 1.0).sum()  # the unknown item comes last
        self.popularity_scores = tf.Variable(np.log(share).astype(np.float32), trainable=False)  # [N + 1]
        top = np.argsort(-popularity, kind="stable")[: index.num_results]
        self.popular_rows = tf.Variable((top + 1).astype(np.int64), trainable=False)  # [C]
        self._type_weights = tf.constant(list(model.config.features.interaction_types.values()), tf.float32)
        self.strongest_row = 1 + list(model.config.features.interaction_types).index(
            model.config.features.strongest_type
        )

    def query(
        self, user_rows: tf.Tensor, context: dict[str, tf.Tensor], item_rows: tf.Tensor | None = None
    ) -> tuple[Query, tf.Tensor]:
        """Query of each request, and the history it stands on, int64 [B, H].

        `item_rows` [B, any], newest last and 0 anywhere, replaces the stored history in the rows where it has any
        item; its interactions count as of the strongest type.
        """
        history, types = tf.gather(self.user_items, user_rows), tf.gather(self.user_types, user_rows)
        if item_rows is not None:
            given = _newest(item_rows, self.max_history)
            replaced = tf.reduce_any(given > 0, axis=1, keepdims=True)
            history = tf.where(replaced, given, history)
            types = tf.where(replaced, tf.cast(given > 0, tf.int64) * self.strongest_row, types)
        tower = self.learned.model.query_tower
        states = tower.states(tf.gather(self.embeddings, history), history, types)
        sides = {name: tf.gather(column, user_rows) for name, column in self.user_features.items()} | context
        is_cold = ~tf.reduce_any(history > 0, axis=1)
        return Query(tower(states[:, -1], sides), is_cold), history

    def answer(self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None = None) -> Answer:
        """Retrieves, filters and ranks: unwanted rows [B, X], allow string [B, F].

        First the index; where what survives of its C candidates cannot fill K places, every item is scored, so K
        items come whenever K exist.
        """
        rows, scores = self.index.search(query.embedding)
        cold = query.is_cold[:, tf.newaxis]
        rows = tf.where(cold, self.popular_rows[tf.newaxis, :], rows)
        scores = tf.where(cold, tf.gather(self.popularity_scores, self.popular_rows)[tf.newaxis, :], scores)
        kept = (rows > 0) & ~tf.reduce_any(rows[:, :, tf.newaxis] == unwanted[:, tf.newaxis, :], axis=2)
        no_filter = tf.constant(True) if allow is None else tf.reduce_all(tf.equal(allow, ""))
        enough = tf.reduce_all(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) >= self.top_k)
        rows, scores = tf.cond(
            no_filter & enough,
            lambda: (tf.where(kept, rows, 0), tf.where(kept, scores, NEVER_SHOWN)),
            lambda: self._exact(query, unwanted, allow),
        )
        return self._ranked(query, rows, scores)

    def _exact(self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.where(
            query.is_cold[:, tf.newaxis],
            self.popularity_scores[tf.newaxis, 1:],
            tf.matmul(query.embedding, self.embeddings[1:], transpose_b=True),
        )
        shown = ~rows_mask(unwanted, self.num_items)
        if allow is not None:
            shown &= self.filters.allowed(allow)
        best, columns = tf.math.top_k(tf.where(shown, scores, NEVER_SHOWN), k=self.index.num_results)
        rows = tf.cast(columns, tf.int64) + 1
        return tf.where(tf.math.is_finite(best), rows, 0), best

    def _ranked(self, query: Query, rows: tf.Tensor, retrieval_scores: tf.Tensor) -> Answer:
        scores = self.scores(query, rows, retrieval_scores)
        ranked, order = tf.math.top_k(scores, k=self.index.num_results)
        return Answer(
            rows=tf.gather(rows, order, batch_dims=1),
            scores=ranked,
            retrieval_scores=tf.gather(retrieval_scores, order, batch_dims=1),
        )

    def scores(self, query: Query, rows: tf.Tensor, retrieval_scores: tf.Tensor) -> tf.Tensor:
        """What each item is worth to each query, a logarithm, up to a constant per request: [B, C]."""
        worth = log_worth(self.outcome_logits(query, rows), self._type_weights)
        return tf.where(rows > 0, retrieval_scores / self._temperature(query) + worth, NEVER_SHOWN)

    def outcome_logits(self, query: Query, rows: tf.Tensor) -> tf.Tensor:
        """The ranking head's logits of pairs, one per interaction type: rows [B, C] → [B, C, types]."""
        candidates = tf.gather(self.embeddings, rows)
        queries = tf.broadcast_to(query.embedding[:, tf.newaxis, :], tf.shape(candidates))
        return self.learned.model.outcome_logits(queries, candidates, rows)

    def _temperature(self, query: Query) -> tf.Tensor:
        """1 where popularity answers: its scores are log-probabilities already."""
        temperature = self.learned.model.config.trainer.temperature
        return tf.where(query.is_cold, 1.0, temperature)[:, tf.newaxis]

    def save(self, path: str, signatures: dict[str, Any]) -> None:
        """Writes the SavedModel. Loading it needs the ScaNN ops to be registered."""
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(self, path, signatures=signatures, options=options)


def _newest(rows: tf.Tensor, width: int) -> tf.Tensor:
    """The last `width` known rows, packed to the end: int64 [B, any] → [B, width], 0 pads in front."""
    padded = tf.pad(rows, [[0, 0], [width, 0]])
    order = tf.argsort(tf.cast(padded > 0, tf.int32), axis=1, stable=True)
    return tf.gather(padded, order, batch_dims=1)[:, -width:]
