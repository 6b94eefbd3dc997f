"""The rules of the house, inside the graph: what is pinned, blocked, worth more or less, and capped."""

import logging
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.errors import BuildError
from components.index_builder.config import Rules
from components.index_builder.filters import Filters

log = logging.getLogger("evergreen.index_builder")


class AppliedRules(tf.Module):
    """Rules against one catalog. Rows are catalog rows; `idle` names, in words, the rules that nothing can meet.

    pinned    [P] int64
    """

    def __init__(self, rules: Rules, filters: Filters, ids: Sequence[bytes]) -> None:
        """Raises BuildError for a rule about a feature that items cannot be filtered by."""
        super().__init__(name="rules")
        named = [boost.feature for boost in rules.boosts] + [cap.feature for cap in rules.caps]
        if unknown := sorted(set(named) - set(filters.names)):
            raise BuildError(
                f"index.rules name the features {unknown}; rules work on categories of items, which are: "
                f"{', '.join(filters.names) or 'none'}"
            )
        row_of = {item_id: row for row, item_id in enumerate(ids, start=1)}
        self.idle = [
            f"{what} {item!r}: no such item"
            for what, items in (("pinned", rules.pinned), ("blocked", rules.blocked))
            for item in items
            if item.encode() not in row_of
        ]
        pinned = [row_of[item.encode()] for item in rules.pinned if item.encode() in row_of]
        self.pinned = np.array(pinned, np.int64)
        boosts = [(filters.row(b.feature, b.value), b) for b in rules.boosts]
        self.idle += [f"boost of {b.feature}={b.value}: no item has it" for row, b in boosts if row < 0]
        self._boosts = [(row, b) for row, b in boosts if row > 0]
        for words in self.idle:
            log.warning("index.rules: %s", words)
        self._filters = filters
        at_most = {filters.names.index(cap.feature): cap.at_most for cap in rules.caps}
        self.has_caps = bool(at_most)
        limits = [at_most.get(group, np.iinfo(np.int32).max) for group in filters.groups.numpy().tolist()]
        self._limits = tf.constant(limits, tf.int32)  # [V + 1] how often a value may be among the K

    @property
    def keeps_order(self) -> bool:
        """Whether answers are in the order of their scores."""
        return not (self.has_caps or len(self.pinned))

    def bonus(self, rows: tf.Tensor) -> tf.Tensor:
        """What boosts add to the logarithm of each item's worth: int64 [B, C] → float32 [B, C]."""
        if not self._boosts:
            return tf.zeros(tf.shape(rows))
        factors = tf.constant([math.log(boost.factor) for _, boost in self._boosts])
        return tf.linalg.matvec(tf.cast(self._boosted(rows), tf.float32), factors)

    def is_pinned(self, rows: tf.Tensor) -> tf.Tensor:
        """int64 [B, C] → bool [B, C]."""
        return tf.reduce_any(rows[:, :, tf.newaxis] == self.pinned, axis=2)

    def arrange(self, rows: tf.Tensor, scores: tf.Tensor, top_k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """In which order items are shown, and which of them stand there over a cap: [B, M] each → [B, M] each.

        Pinned items come first. Then item after item the best that keeps within the caps; where none is left that does,
        the best of all. −inf is never shown.
        """
        order = tf.argsort(scores, direction="DESCENDING", stable=True)
        is_shown, is_pinned = scores > -np.inf, tf.zeros_like(rows, tf.bool)
        if len(self.pinned):
            places = tf.range(len(self.pinned), 0, -1, tf.float32)  # the first pinned has the most
            lift = tf.linalg.matvec(tf.cast(rows[:, :, tf.newaxis] == self.pinned, tf.float32), places)
            pins, is_pinned = tf.gather(tf.where(is_shown, lift, -1.0), order, batch_dims=1), lift > 0
            order = tf.gather(order, tf.argsort(pins, direction="DESCENDING", stable=True), batch_dims=1)
        if not self.has_caps:
            return order, tf.zeros_like(order, tf.bool)
        return self._within_caps(rows, is_shown, is_pinned, order, top_k)

    def _within_caps(
        self, rows: tf.Tensor, is_shown: tf.Tensor, is_pinned: tf.Tensor, order: tf.Tensor, top_k: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.gather(self._filters.values_of, tf.gather(rows, order, batch_dims=1))  # [B, M, W]
        is_left = tf.gather(is_shown, order, batch_dims=1)
        is_pinned = tf.gather(is_pinned, order, batch_dims=1)
        limits = tf.gather(self._limits, values)
        used = tf.zeros([tf.shape(rows)[0], self._filters.num_values + 1], tf.int32)
        width = tf.shape(order)[1]
        place = tf.tile(tf.range(width)[tf.newaxis] + top_k, [tf.shape(order)[0], 1])
        is_over = tf.zeros_like(is_left)
        for step in range(top_k):
            over = tf.reduce_any(tf.gather(used, values, batch_dims=1) >= limits, axis=2) & ~is_pinned
            best = tf.where(tf.reduce_any(is_left & ~over, axis=1)[:, tf.newaxis], is_left & ~over, is_left)
            chosen = tf.one_hot(tf.argmax(tf.cast(best, tf.int32), axis=1), width, True, False, dtype=tf.bool) & best
            place = tf.where(chosen, step, place)
            is_over |= chosen & over
            is_left &= ~chosen
            counted = tf.where(chosen[:, :, tf.newaxis], values, 0)
            used += tf.math.bincount(
                tf.reshape(counted, [tf.shape(rows)[0], -1]), minlength=used.shape[1], maxlength=used.shape[1], axis=-1
            ) * tf.constant([0] + [1] * self._filters.num_values)
        final = tf.argsort(place, stable=True)
        return tf.gather(order, final, batch_dims=1), tf.gather(is_over, final, batch_dims=1)

    def reasons(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """`;boost=<feature>=<value>` where a boost applied, else '': int64 [B, K] → string [B, K] each."""
        applied = tf.unstack(self._boosted(rows), axis=2) if self._boosts else []
        return [
            tf.where(has, f";boost={boost.feature}={boost.value}", "")
            for has, (_, boost) in zip(applied, self._boosts, strict=True)
        ]

    def _boosted(self, rows: tf.Tensor) -> tf.Tensor:
        """int64 [B, C] → bool [B, C, boosts]."""
        wanted = tf.constant([row for row, _ in self._boosts], tf.int32)
        return tf.reduce_any(tf.gather(self._filters.values_of, rows)[:, :, :, tf.newaxis] == wanted, axis=2)
