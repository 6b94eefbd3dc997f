"""The servable: one module that answers a whole request. Retrieve, filter, exclude, rank, explain, in one graph.

Shapes: B requests, H history, C candidates retrieved, K answers, N items, D dimensions. Items are catalog rows
(1..N, 0 = none) everywhere inside; strings are looked up at the doors (components.index_builder.signatures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.availability import mask
from components.index_builder.config import IndexConfig
from components.index_builder.context_popularity import ContextPopularity
from components.index_builder.filters import Filters
from components.index_builder.index import NOT_FOUND, Index, padded
from components.index_builder.popular import Popular
from components.index_builder.rules import AppliedRules
from components.index_builder.users import UserState
from trainer.inputs import RowLookup
from trainer.model import Recommender
from trainer.ranking import log_worth

OVERSAMPLING = 4  # of C: what is searched for, so that C are left when some may not be shown


@dataclass(frozen=True)
class Query:
    """What a request asks for: embedding [B, D]; `is_cold` [B]: no history is known, so popularity answers.

    contexts [B, F] int64: rows of the context values in the table of what is popular where; 0 is unknown.
    """

    embedding: tf.Tensor
    is_cold: tf.Tensor
    contexts: tf.Tensor

    def of(self, requests: tf.Tensor) -> Query:
        """Some of the requests: int64 [S] → S requests."""
        return Query(*(tf.gather(part, requests) for part in (self.embedding, self.is_cold, self.contexts)))


@dataclass(frozen=True)
class History:
    """Interactions, newest last: catalog rows and type rows, int64 [B, H] each, 0 pads in front."""

    rows: tf.Tensor
    types: tf.Tensor


@dataclass(frozen=True)
class Answer:
    """What is shown first to last, [B, M] each: M candidates, and row 0 with −inf where there is none.

    is_over [B, M]: stands among the K although over a cap, for want of others.
    """

    rows: tf.Tensor
    scores: tf.Tensor
    retrieval_scores: tf.Tensor
    is_over: tf.Tensor


@dataclass(frozen=True)
class Learned:
    """The trained model, held where TensorFlow does not track it: its variables are tracked, its Keras side is not."""

    model: Recommender


class Servable(tf.Module):
    """Everything that a served model knows."""

    def __init__(
        self,
        model: Recommender,
        table: tf.Variable,
        index: Index,
        users: UserState,
        filters: Filters,
        config: IndexConfig,
        unavailable: Sequence[str] = (),
        in_context: ContextPopularity | None = None,
    ) -> None:
        """`table` [N + 1, D] are the item embeddings that `index` searches; row 0 is zero."""
        super().__init__(name="recommender")
        self.config = config
        self.learned = Learned(model)
        self.index = index
        self.filters = filters
        self.rules = AppliedRules(config.rules, filters, model.catalog.ids.tolist())
        self.num_items = model.catalog.size
        self.max_history = model.config.max_history
        self.top_k = min(config.top_k, self.num_items)
        self.num_candidates = min(config.num_candidates, self.num_items)
        self._num_searched = min(OVERSAMPLING * config.num_candidates, self.num_items)
        self._learned_variables = [*model.query_tower.variables, *model.ranking_head.variables, model.statistics]
        self.embeddings = table
        hidden = [*unavailable, *config.rules.blocked]
        self.may_be_shown = tf.Variable(mask(model.catalog.ids.tolist(), hidden), trainable=False, name="may_be_shown")
        self.item_ids = tf.Variable(np.array([b"", *model.catalog.ids.tolist()], object), trainable=False)
        self.items = RowLookup(model.catalog.ids, "items")
        self.types = RowLookup([t.encode() for t in model.config.features.interaction_types], "types")
        self.user_lookup = RowLookup(users.ids, "users")
        self.user_items = tf.Variable(users.items, trainable=False, name="user_items")
        self.user_types = tf.Variable(users.types, trainable=False, name="user_types")
        self.user_features = {
            name: tf.Variable(value, trainable=False, name=f"user_{name}") for name, value in users.features.items()
        }
        self.popular = Popular(model.catalog.popularity[1:], self._num_searched, in_context)
        self._seen_types = tf.constant(list(model.config.features.seen_types(config.exclude_seen)))
        self._type_weights = tf.constant(list(model.config.features.interaction_types.values()), tf.float32)
        self.strongest_row = 1 + list(model.config.features.interaction_types).index(
            model.config.features.strongest_type
        )

    def query(
        self, user_rows: tf.Tensor, context: dict[str, tf.Tensor], item_rows: tf.Tensor | None = None
    ) -> tuple[Query, History]:
        """Query of each request, and the history that it stands on.

        `item_rows` [B, any], newest last and 0 anywhere, replaces the stored history in the rows where it has any
        item; its interactions count as of the strongest type.
        """
        history, types = tf.gather(self.user_items, user_rows), tf.gather(self.user_types, user_rows)
        if item_rows is not None:
            given = _newest(item_rows, self.max_history)
            replaced = tf.reduce_any(given > 0, axis=1, keepdims=True)
            history = tf.where(replaced, given, history)
            types = tf.where(replaced, self.as_history(given).types, types)
        tower = self.learned.model.query_tower
        states = tower.states(tf.gather(self.embeddings, history), history, types)
        sides = {name: tf.gather(column, user_rows) for name, column in self.user_features.items()} | context
        is_cold = ~tf.reduce_any(history > 0, axis=1)
        embedding = tower(states[:, -1], sides)
        contexts = self.popular.contexts(context, tf.size(is_cold))
        return Query(embedding, is_cold, contexts), History(history, types)

    def as_history(self, rows: tf.Tensor) -> History:
        """Rows that a request brings [B, any]: they count as of the strongest type."""
        return History(rows, tf.cast(rows > 0, tf.int64) * self.strongest_row)

    def seen(self, history: History) -> tf.Tensor:
        """Of histories, what is not to be shown again: int64 [B, H], 0 elsewhere."""
        return tf.where(tf.gather(self._seen_types, history.types), history.rows, 0)

    def answer(self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None = None) -> Answer:
        """Retrieves, filters, ranks and applies the rules: unwanted rows [B, X], allow string [B, F]."""
        rows, retrieval_scores = self.retrieve(query, unwanted, allow)
        if len(self.rules.pinned):
            pinned = tf.tile(self.rules.pinned[tf.newaxis], [tf.shape(rows)[0], 1])
            pinned = tf.where(self._may_stay(pinned, unwanted, allow), pinned, 0)
            rows = tf.concat([pinned, tf.where(~self.rules.is_pinned(rows), rows, 0)], axis=1)
            retrieval_scores = tf.concat([self.retrieval_scores(query, pinned), retrieval_scores], axis=1)
        retrieval_scores = tf.where(rows > 0, retrieval_scores, NOT_FOUND)
        scores = self.scores(query, rows, retrieval_scores) + self.rules.bonus(rows)
        order, is_over = self.rules.arrange(rows, scores, self.top_k)
        scores = tf.gather(scores, order, batch_dims=1)
        return Answer(
            rows=tf.where(scores > NOT_FOUND, tf.gather(rows, order, batch_dims=1), 0),
            scores=scores,
            retrieval_scores=tf.gather(retrieval_scores, order, batch_dims=1),
            is_over=is_over,
        )

    def retrieve(
        self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The nearest items that may be shown, best first: rows and retrieval scores [B, C]; row 0, −inf for none.

        The index is asked for more than C. Where what may stay of that cannot fill K places, every item is scored, so
        K items come whenever K exist. Where the index scores every item anyway, what may not stay never competes.
        """
        if self.index.kind == "exact":
            return self._best_of_all(query, unwanted, allow)
        rows, scores = self._searched(query, unwanted, allow)
        is_short = rows[:, self.top_k - 1] == 0
        return tf.cond(
            tf.reduce_any(is_short),
            lambda: self._with_exact(rows, scores, tf.where(is_short), query, unwanted, allow),
            lambda: (rows, scores),
        )

    def _searched(self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = self.index.search(query.embedding, self._num_searched)
        cold = query.is_cold[:, tf.newaxis]
        popular = self.popular.rows[tf.newaxis, :]
        rows = tf.where(cold, popular, rows)
        scores = tf.where(cold, self.popular.of(popular, query.contexts), scores)
        scores = tf.where(self._may_stay(rows, unwanted, allow), scores, NOT_FOUND)
        scores, columns = tf.math.top_k(scores, k=self.num_candidates)
        return tf.where(scores > NOT_FOUND, tf.gather(rows, columns, batch_dims=1), 0), scores

    def _best_of_all(
        self, query: Query, unwanted: tf.Tensor, allow: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `retrieve`, of all items: several [B, N + 1] are made on the way."""
        rows = tf.range(self.num_items + 1, dtype=tf.int64)[tf.newaxis]
        products = tf.matmul(query.embedding, self.embeddings, transpose_b=True)
        scores = tf.where(query.is_cold[:, tf.newaxis], self.popular.of(rows, query.contexts), products)
        scores = tf.where(self.may_be_shown, scores, NOT_FOUND)
        request = tf.zeros_like(unwanted) + tf.range(tf.shape(unwanted, tf.int64)[0])[:, tf.newaxis]
        places, nothing = tf.stack([request, unwanted], axis=2), tf.fill(tf.shape(unwanted), NOT_FOUND)
        scores = tf.tensor_scatter_nd_update(scores, places, nothing)
        if allow is not None:
            scores = tf.where(self.filters.allowed(rows, allow), scores, NOT_FOUND)
        scores, rows = tf.math.top_k(scores, k=self.num_candidates)
        return tf.where(scores > NOT_FOUND, tf.cast(rows, tf.int64), 0), scores

    def _with_exact(
        self,
        rows: tf.Tensor,
        scores: tf.Tensor,
        which: tf.Tensor,
        query: Query,
        unwanted: tf.Tensor,
        allow: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same, with the requests `which` [S, 1] answered from all items, one after the other.

        With a filter, from all that have the rarest value asked for.
        """

        def of_all(request: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            one = request[tf.newaxis]
            return self._best_of_all(query.of(one), tf.gather(unwanted, one))

        def of_filtered(request: tf.Tensor, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            one = request[tf.newaxis]
            found = self.filters.holders(allowed[request])[tf.newaxis]
            stays = self._may_stay(found, tf.gather(unwanted, one), tf.gather(allowed, one))
            found_scores = tf.where(stays, self.retrieval_scores(query.of(one), found), NOT_FOUND)
            top, places = tf.math.top_k(found_scores, k=tf.minimum(self.num_candidates, tf.shape(found)[1]))
            found = tf.where(top > NOT_FOUND, tf.gather(found, places, batch_dims=1), 0)
            return padded(found, top, self.num_candidates)

        def of_one(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if allow is None:
                found = of_all(place[0])
            else:
                is_filtered = tf.reduce_any(tf.not_equal(allow[place[0]], ""))
                found = tf.cond(is_filtered, lambda: of_filtered(place[0], allow), lambda: of_all(place[0]))
            return found[0][0], found[1][0]

        shape = [self.num_candidates]
        spec = (tf.TensorSpec(shape, tf.int64), tf.TensorSpec(shape, tf.float32))
        exact = tf.map_fn(of_one, which, fn_output_signature=spec)
        return tf.tensor_scatter_nd_update(rows, which, exact[0]), tf.tensor_scatter_nd_update(scores, which, exact[1])

    def _may_stay(self, rows: tf.Tensor, unwanted: tf.Tensor, allow: tf.Tensor | None) -> tf.Tensor:
        """Which of each request's items may be shown: rows [B, C] → bool [B, C]."""
        may = tf.gather(self.may_be_shown, rows) & ~_is_among(rows, unwanted)
        return may if allow is None else may & self.filters.allowed(rows, allow)

    def retrieval_scores(self, query: Query, rows: tf.Tensor) -> tf.Tensor:
        """Inner products, or popularity where that answers: rows [B, C] → [B, C]."""
        products = tf.einsum("bd,bcd->bc", query.embedding, tf.gather(self.embeddings, rows))
        return tf.where(query.is_cold[:, tf.newaxis], self.popular.of(rows, query.contexts), products)

    def scores(self, query: Query, rows: tf.Tensor, retrieval_scores: tf.Tensor) -> tf.Tensor:
        """What each item is worth to each query, a logarithm, up to a constant per request: [B, C]."""
        worth = log_worth(self.outcome_logits(query, rows), self._type_weights)
        return tf.where(rows > 0, retrieval_scores / self._temperature(query) + worth, NOT_FOUND)

    def outcome_logits(self, query: Query, rows: tf.Tensor) -> tf.Tensor:
        """The ranking head's logits of pairs, one per interaction type: rows [B, C] → [B, C, types]."""
        candidates = tf.gather(self.embeddings, rows)
        return self.learned.model.outcome_logits(query.embedding[:, tf.newaxis, :], candidates, rows)

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


def _is_among(rows: tf.Tensor, unwanted: tf.Tensor) -> tf.Tensor:
    """Which rows are named: int64 [B, C], [B, X] → bool [B, C]; by halving, for X may be thousands."""
    named = tf.sort(tf.pad(unwanted, [[0, 0], [0, 1]], constant_values=tf.int64.max), axis=1)
    return tf.gather(named, tf.searchsorted(named, rows), batch_dims=1) == rows
