"""Two towers and a ranking head, learned together: a TensorFlow Recommenders model over sequences.

The served score is a log-probability up to a constant that all candidates share:

    score(q, i) = log p(i | q) + log P(strongest type | q, i)
                = q·c_i / temperature  +  log σ(ranking logit)  +  constant
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.distribution import share
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY, WEIGHTS_KEY
from trainer.inputs import Batch, history_lengths
from trainer.losses import full_softmax_loss, mixed_sampling_probability
from trainer.ranking import RankingHead
from trainer.towers import CandidateTower, QueryTower


class Recommender(tfrs.Model):
    """Retrieval over the catalog and ranking of pairs, from sequences of rows (trainer.inputs)."""

    def __init__(self, config: ModelConfig, catalog: Catalog, side_vocabularies: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.side_vocabularies = dict(side_vocabularies)
        self._popularity = tf.constant(catalog.popularity[1:], tf.float32)
        self._type_weights = tf.constant([0.0, *config.features.interaction_types.values()], tf.float32)
        types = list(config.features.interaction_types)
        self._strongest_row = 1 + types.index(config.features.strongest_type)
        self._full_softmax = catalog.size < config.trainer.full_softmax_below_items
        self.candidate_tower = CandidateTower(catalog, config)
        self.query_tower = QueryTower(config, {name: len(ids) for name, ids in side_vocabularies.items()})
        self.ranking_head = RankingHead(config.trainer.embedding_dim, config.trainer.dropout)
        self.retrieval_task = tfrs.tasks.Retrieval(temperature=config.trainer.temperature, remove_accidental_hits=True)
        self.ranking_task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM)
        )

    def target_queries(self, batch: Batch, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Query embedding of every target of a batch: item embeddings [B, L, D] → [T, D], in row-major order.

        A target's query knows only strictly older positions of its sequence (trainer.inputs.history_lengths).
        """
        is_target = batch[IS_TARGET_KEY]
        states = self.query_tower.states(items, batch["item_rows"], batch["type_rows"])
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
        (trainer.distribution.share).
        """
        target = batch[IS_TARGET_KEY] & (batch["item_rows"] > 0)
        batch = {**batch, IS_TARGET_KEY: target}
        positives = tf.boolean_mask(batch["item_rows"], target)
        types = tf.boolean_mask(batch["type_rows"], target)
        weights = tf.gather(self._type_weights, types)
        own = tf.boolean_mask(batch[WEIGHTS_KEY], target) if WEIGHTS_KEY in batch else tf.ones_like(weights)
        weights *= own
        retrieve = self._full_retrieval if self._full_softmax else self._sampled_retrieval
        retrieval_loss, queries, candidates = retrieve(batch, positives, weights, training)
        # The head reads the towers but does not pull at them: retrieval stays what the retrieval loss makes it.
        logits = self.ranking_head(tf.stop_gradient(queries), tf.stop_gradient(candidates), training=training)
        labels = tf.cast(types == self._strongest_row, tf.float32)[:, tf.newaxis]
        # A sum; [T, 1] for Keras.
        ranking_loss = self.ranking_task(labels=labels, predictions=logits[:, tf.newaxis], sample_weight=own)
        ranking_loss = tf.math.divide_no_nan(ranking_loss, tf.reduce_sum(own))
        retrieval_share, ranking_share = tf.unstack(share(tf.stack([tf.reduce_sum(weights), tf.reduce_sum(own)])))
        return retrieval_share * retrieval_loss + self.config.trainer.ranking_weight * ranking_share * ranking_loss

    def _full_retrieval(
        self, batch: Batch, positives: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        table = self.embed_catalog(training)
        queries = self.target_queries(batch, tf.gather(table, batch["item_rows"]), training)
        scores = tf.matmul(queries, table[1:], transpose_b=True) / self.config.trainer.temperature
        return full_softmax_loss(scores, positives - 1, weights), queries, tf.gather(table, positives)

    def _sampled_retrieval(
        self, batch: Batch, positives: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        uniform = tf.random.uniform([self.config.trainer.uniform_negatives], 1, self.catalog.size + 1, dtype=tf.int64)
        rows = tf.reshape(batch["item_rows"], [-1])
        needed, index = tf.unique(tf.concat([rows, positives, uniform], axis=0))
        embedded = tf.gather(self.candidate_tower(needed, training=training), index)
        num_rows, num_targets = tf.size(rows), tf.size(positives)
        items = tf.reshape(embedded[:num_rows], tf.concat([tf.shape(batch["item_rows"]), [embedded.shape[-1]]], 0))
        candidates = embedded[num_rows:]
        queries = self.target_queries(batch, items, training)
        candidate_rows = tf.concat([positives, uniform], axis=0)
        probability = mixed_sampling_probability(self._popularity, num_targets, tf.size(uniform))
        loss = self.retrieval_task(
            queries,
            candidates,
            sample_weight=weights,
            candidate_sampling_probability=tf.gather(probability, candidate_rows - 1),
            candidate_ids=candidate_rows,
            compute_metrics=False,
        )
        # The task sums over targets; a mean keeps the learning rate's meaning the same for both losses.
        return tf.math.divide_no_nan(loss, tf.reduce_sum(weights)), queries, candidates[:num_targets]
