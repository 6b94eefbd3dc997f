"""Two towers and a ranking head, learned together: a TensorFlow Recommenders model over sequences.

The served score is the logarithm of what showing an item is worth, up to a constant that all candidates share:

    score(q, i) = log p(i | q) + log Σ_k w_k e^{z_k(q, i)}
                = q·c_i / temperature + log_worth(ranking logits) + constant        (trainer.ranking)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.distribution import equal_share, share
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY, WEIGHTS_KEY
from trainer.frequency import Frequency
from trainer.inputs import Batch, history_lengths
from trainer.losses import mixed_inclusion_probability, softmax_loss
from trainer.optimizer import Moments
from trainer.ranking import GradedLogits, RankingHead, outcome_loss
from trainer.towers import CandidateTower, QueryTower


class Recommender(tfrs.Model):
    """Retrieval over the catalog and ranking of pairs, from sequences of rows (trainer.inputs)."""

    def __init__(self, config: ModelConfig, catalog: Catalog, side_vocabularies: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.side_vocabularies = dict(side_vocabularies)
        self.moments: Moments | None = None  # what the optimizer begins with, where a warm start brought some
        self.frequency = Frequency(catalog.popularity[1:], config.trainer.batch_positions)
        self._type_weights = tf.constant([0.0, *config.features.interaction_types.values()], tf.float32)
        self.statistics = tf.Variable(catalog.statistics(), trainable=False, name="statistics")
        self._full_softmax = catalog.size < config.trainer.full_softmax_below_items
        self.candidate_tower = CandidateTower(catalog, config)
        self.query_tower = QueryTower(config, {name: len(ids) for name, ids in side_vocabularies.items()})
        num_types = len(config.features.interaction_types)
        grades = GradedLogits(num_types, config.trainer.temperature) if config.trainer.graded_types else None
        self.ranking_head = RankingHead(config.trainer.embedding_dim, num_types, config.trainer.dropout, grades)
        self.ranking_head.trainable = config.trainer.ranking_weight > 0

    def target_queries(self, batch: Batch, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Query embedding of every target of a batch: item embeddings [B, L, D] → [T, D], in row-major order.

        A target's query knows only strictly older positions of its sequence (trainer.inputs.history_lengths).
        """
        is_target = batch[IS_TARGET_KEY]
        states = self.query_tower.states(items, batch["item_rows"], batch["type_rows"], training=training)
        state = tf.gather(states, history_lengths(batch[TIMESTAMPS_KEY]), batch_dims=1)
        length = tf.shape(is_target)[1]
        sides = {
            f.name: tf.boolean_mask(tf.repeat(batch[f.name][:, tf.newaxis], length, axis=1), is_target)
            for f in self.config.features.user
        }
        sides |= {f.name: tf.boolean_mask(batch[f.name], is_target) for f in self.config.features.context}
        return self.query_tower(tf.boolean_mask(state, is_target), sides, training=training)

    def embed_catalog(self, training: bool = False) -> tf.Tensor:
        """Embeddings of the unknown item and of all N items: [N + 1, D]."""
        return self.candidate_tower(tf.range(self.catalog.size + 1, dtype=tf.int64), training=training)

    def compute_loss(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Retrieval loss plus the weighted ranking loss of one batch: scalar.

        Both are means over the targets of the batch, weighted by `weights` where the batch has them; retrieval weighs
        by type too, so a negative interaction teaches the ranking head alone. 0 where nothing weighs anything. Of
        several replicas, each returns its part of the mean over the targets of all their batches: the parts add up
        (trainer.distribution.share). While it learns, the penalty on its weights is added.
        """
        target = batch[IS_TARGET_KEY] & (batch["item_rows"] > 0)
        batch = {**batch, IS_TARGET_KEY: target}
        positives = tf.boolean_mask(batch["item_rows"], target)
        types = tf.boolean_mask(batch["type_rows"], target)
        weights = tf.gather(self._type_weights, types)
        own = tf.boolean_mask(batch[WEIGHTS_KEY], target) if WEIGHTS_KEY in batch else tf.ones_like(weights)
        weights *= own
        own *= tf.cast(types > 0, tf.float32)  # what an undeclared type says is not known
        retrieve = self._full_retrieval if self._full_softmax else self._sampled_retrieval
        retrieval_loss, queries, candidates = retrieve(batch, positives, weights, training)
        retrieval_share, ranking_share = tf.unstack(share(tf.stack([tf.reduce_sum(weights), tf.reduce_sum(own)])))
        loss = retrieval_share * retrieval_loss
        if training:
            loss += equal_share() * self.penalty()
        if training and not self.config.trainer.ranking_weight:
            return loss
        ranking_loss = self._ranking_loss(queries, positives, candidates, types, own, training)
        return loss + self.config.trainer.ranking_weight * ranking_share * ranking_loss

    def outcome_logits(
        self, queries: tf.Tensor, candidates: tf.Tensor, rows: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """The ranking head on pairs: queries [..., D] or [..., 1, D], candidates [..., D] and rows [...] → [..., K]."""
        return self.ranking_head(queries, candidates, tf.gather(self.statistics, rows), training=training)

    def penalty(self) -> tf.Tensor:
        """λ Σ w² of the embedding tables and of the kernels, each with its own λ: scalar. Biases are free."""
        config = self.config.trainer
        embeddings = [layer for layer in (self.candidate_tower.content, self.query_tower.sides) if layer is not None]
        tables = [self.candidate_tower.ids, *(table for layer in embeddings for table in layer.tables.values())]
        kernels = [v for v in self.trainable_variables if v.name.endswith("kernel:0")]
        penalty = tf.zeros([])
        for weight, variables in ((config.embedding_l2, tables), (config.kernel_l2, kernels)):
            if weight:
                penalty += weight * tf.add_n([tf.reduce_sum(variable**2) for variable in variables])
        return penalty

    def _full_retrieval(
        self, batch: Batch, positives: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, "Candidates"]:
        table = self.embed_catalog(training)
        queries = self.target_queries(batch, tf.gather(table, batch["item_rows"]), training)
        loss = softmax_loss(queries / self.config.trainer.temperature, table[1:], positives - 1, weights)
        rows = tf.range(1, self.catalog.size + 1, dtype=tf.int64)
        return loss, queries, Candidates(rows, table[1:], positives - 1, tf.zeros([]))

    def _sampled_retrieval(
        self, batch: Batch, positives: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, "Candidates"]:
        uniform = tf.random.uniform([self.config.trainer.uniform_negatives], 1, self.catalog.size + 1, dtype=tf.int64)
        offered = tf.concat([positives, uniform], axis=0)
        rows = tf.reshape(batch["item_rows"], [-1])
        needed, place = tf.unique(tf.concat([offered, rows], axis=0))
        embedded = self.candidate_tower(needed, training=training)
        shape = tf.concat([tf.shape(batch["item_rows"]), [embedded.shape[-1]]], axis=0)
        items = tf.reshape(tf.gather(embedded, place[tf.size(offered) :]), shape)
        queries = self.target_queries(batch, items, training)
        num_candidates = tf.size(tf.unique(offered).y)  # the first of what is needed: it is in order of appearance
        candidate_rows, candidates = needed[:num_candidates], embedded[:num_candidates]
        if training:
            self.frequency.see(positives - 1)
        frequency = self.frequency.per_step(candidate_rows - 1)
        log_q = tf.math.log(mixed_inclusion_probability(frequency, tf.size(uniform), self.catalog.size))
        own = place[: tf.size(positives)]
        loss = softmax_loss(
            queries / self.config.trainer.temperature,
            candidates,
            own,
            weights,
            log_q=log_q,
            hard_negatives=self.config.trainer.hard_negatives,
        )
        return loss, queries, Candidates(candidate_rows, candidates, own, log_q)

    def _ranking_loss(
        self,
        queries: tf.Tensor,
        positives: tf.Tensor,
        candidates: "Candidates",
        types: tf.Tensor,
        weights: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        """Mean −log P(outcome) of the targets, and of proposals drawn from p(i | q) as many as `ranking_negatives`."""
        reaches = self.config.trainer.ranking_gradient
        queries, embeddings = _partly(queries, reaches), _partly(candidates.embeddings, reaches)
        chosen = tf.gather(embeddings, candidates.of_targets)
        logits = self.outcome_logits(queries, chosen, positives, training)
        loss = tf.math.divide_no_nan(tf.reduce_sum(weights * outcome_loss(logits, types)), tf.reduce_sum(weights))
        if not self.config.trainer.ranking_negatives:
            return loss
        some = tf.random.shuffle(tf.range(tf.size(positives)))[: self.config.trainer.ranking_negatives]
        asked, own, some_weights = (tf.gather(part, some) for part in (queries, positives, weights))
        scores = tf.matmul(asked, embeddings, transpose_b=True) / self.config.trainer.temperature - candidates.log_q
        drawn = tf.random.categorical(tf.stop_gradient(scores), 1)[:, 0]
        drawn = tf.minimum(drawn, tf.size(candidates.rows, out_type=tf.int64) - 1)  # C where scores are not finite
        rows = tf.gather(candidates.rows, drawn)
        some_weights *= tf.cast(rows != own, tf.float32)  # the target itself was proposed: that is no "none"
        logits = self.outcome_logits(asked, tf.gather(embeddings, drawn), rows, training)
        none = outcome_loss(logits, tf.zeros_like(rows))
        return loss + tf.math.divide_no_nan(tf.reduce_sum(some_weights * none), tf.reduce_sum(some_weights))


@dataclass(frozen=True)
class Candidates:
    """What targets were held against in a step: C catalog rows [C] and their embeddings [C, D].

    of_targets [T]: which of them is each target's own. log_q [C], or one for all: how often each comes, as a logarithm.
    """

    rows: tf.Tensor
    embeddings: tf.Tensor
    of_targets: tf.Tensor
    log_q: tf.Tensor


def _partly(values: tf.Tensor, reaches: float) -> tf.Tensor:
    """The same values, through which this share of a gradient reaches what made them."""
    stopped = tf.stop_gradient(values)
    return stopped + reaches * (values - stopped) if reaches else stopped
