"""Filters by feature value: `genres=Comedy`. Which items carry which value, as the served graph needs it."""

import numpy as np
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.inputs import RowLookup


class Filters(tf.Module):
    """Values of one feature are alternatives; different features must all hold; an unknown value matches nothing."""

    def __init__(self, catalog: Catalog, names: list[str]) -> None:
        super().__init__(name="filters")
        values: list[bytes] = []
        groups: list[int] = []
        members: list[np.ndarray] = []
        for group, name in enumerate(names):
            column = catalog.features[name][1:]
            for row, value in enumerate(catalog.vocabularies[name].tolist(), start=1):
                values.append(name.encode() + b"=" + value)
                groups.append(group)
                members.append((column == row).reshape(len(column), -1).any(axis=1))
        self.num_groups = len(names)
        self.values = values
        self._lookup = RowLookup(values, "filter_values") if values else None
        table = np.stack([np.zeros(catalog.size, bool), *members])
        self._members = tf.Variable(table, trainable=False, name="filter_members")
        self._groups = tf.constant([-1, *groups], tf.int32)

    def allowed(self, allow: tf.Tensor) -> tf.Tensor:
        """Which items pass: `feature=value` string [B, F], '' pads → bool [B, N]."""
        given = tf.not_equal(allow, "")
        rows = self._lookup(allow) if self._lookup else tf.zeros(tf.shape(allow), tf.int64)
        hits = tf.gather(self._members, rows)  # [B, F, N]
        group = tf.gather(self._groups, rows)
        passes = ~tf.reduce_any(given & (rows == 0), axis=1)[:, tf.newaxis]
        for index in range(self.num_groups):
            of_group = given & (group == index)
            match = tf.reduce_any(hits & of_group[:, :, tf.newaxis], axis=1)
            passes &= match | ~tf.reduce_any(of_group, axis=1)[:, tf.newaxis]
        return passes
