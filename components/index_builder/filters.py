"""Feature values of items, and filters by them: `genres=Comedy`."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.inputs import RowLookup


class Filters(tf.Module):
    """Which values each item has, and which items a request allows.

    Values of one feature are alternatives; different features must all hold; an unknown value matches nothing.

    values         V strings `feature=value`; value `values[i]` has row i + 1
    values_of      [N + 1, W] int32: rows of the values that an item has, 0 pads
    """

    def __init__(self, catalog: Catalog, names: Sequence[str]) -> None:
        super().__init__(name="filters")
        values: list[bytes] = []
        groups = [-1]
        columns = [np.zeros([catalog.size + 1, 1], np.int32)]
        for group, name in enumerate(names):
            column = _each_once(catalog.features[name].reshape(catalog.size + 1, -1))
            columns.append(np.where(column > 0, column + len(values), 0).astype(np.int32))
            values += [name.encode() + b"=" + value for value in catalog.vocabularies[name].tolist()]
            groups += [group] * len(catalog.vocabularies[name])
        self.names = tuple(names)
        self._row_of = {value: row for row, value in enumerate(values, start=1)}
        self._lookup = RowLookup(values, "filter_values") if values else None
        self.num_values = len(values)
        self.values = tf.Variable(np.array(values, object), trainable=False, dtype=tf.string, name="values")
        values_of = np.concatenate(columns, axis=1)
        self.values_of = tf.Variable(values_of, trainable=False, name="values_of")
        self.groups = tf.constant(groups, tf.int32)
        items, places = np.nonzero(values_of)
        order = np.argsort(values_of[items, places], kind="stable")
        begins = np.searchsorted(values_of[items, places][order], np.arange(len(values) + 2))
        self._begins = tf.Variable(begins.astype(np.int32), trainable=False, name="begins")  # [V + 2], of each value
        self._holders = tf.Variable(items[order].astype(np.int32), trainable=False, name="holders")  # items by value

    def row(self, feature: str, value: str) -> int:
        """The row of a value, −1 where no item has it."""
        return self._row_of.get(f"{feature}={value}".encode(), -1)

    def allowed(self, rows: tf.Tensor, allow: tf.Tensor) -> tf.Tensor:
        """Which of each request's items pass: rows [B or 1, C], `feature=value` string [B, F], '' pads → bool [B, C].

        Where nobody filters, nothing is looked at.
        """
        return tf.cond(
            tf.reduce_any(tf.not_equal(allow, "")),
            lambda: self._passing(rows, allow),
            lambda: tf.ones([tf.shape(allow)[0], tf.shape(rows)[1]], tf.bool),
        )

    def holders(self, allow: tf.Tensor) -> tf.Tensor:
        """Among which items one request's filter has to look: string [F], one not '' → rows int64 [M], each once.

        The items that have a wanted value of one feature: of that for which they are the fewest.
        """
        wanted = tf.unique(tf.maximum(self._wanted(allow), 0)).y  # a value that no item has is like ''
        begins, ends = tf.gather(self._begins, wanted), tf.gather(self._begins, wanted + 1)
        groups = tf.gather(self.groups, wanted)
        counts = tf.math.unsorted_segment_sum(ends - begins, tf.where(wanted > 0, groups, -1), len(self.names) or 1)
        fewest = tf.argmin(tf.where(counts > 0, counts, counts.dtype.max), output_type=tf.int32)
        chosen = (wanted > 0) & (groups == fewest)
        places = tf.ragged.range(tf.boolean_mask(begins, chosen), tf.boolean_mask(ends, chosen)).values
        return tf.cast(tf.unique(tf.gather(self._holders, places)).y, tf.int64)

    def _passing(self, rows: tf.Tensor, allow: tf.Tensor) -> tf.Tensor:
        """Marks the wanted values among all V first, so many cost no more than few. Row 0 is of no group."""
        wanted = self._wanted(allow)
        request = tf.zeros_like(wanted) + tf.range(tf.shape(allow)[0])[:, tf.newaxis]
        places = tf.stack([request, tf.maximum(wanted, 0)], axis=2)
        marked = tf.scatter_nd(places, tf.ones_like(wanted), [tf.shape(allow)[0], self.num_values + 1]) > 0
        values = tf.gather(self.values_of, rows)
        values = tf.broadcast_to(values, tf.concat([tf.shape(allow)[:1], tf.shape(values)[1:]], axis=0))
        has, groups = tf.gather(marked, values, batch_dims=1), tf.gather(self.groups, values)
        passes = ~tf.reduce_any(tf.not_equal(allow, "") & (wanted < 0), axis=1)[:, tf.newaxis]
        for group in range(len(self.names)):
            is_asked = tf.reduce_any(marked & (self.groups == group), axis=1)[:, tf.newaxis]
            passes &= tf.reduce_any(has & (groups == group), axis=2) | ~is_asked
        return tf.broadcast_to(passes, tf.shape(values)[:2])

    def _wanted(self, allow: tf.Tensor) -> tf.Tensor:
        """Rows of the values asked for, −1 for one that no item has, and for ''."""
        rows = tf.cast(self._lookup(allow), tf.int32) if self._lookup else tf.zeros(tf.shape(allow), tf.int32)
        return tf.where(rows > 0, rows, -1)


def _each_once(rows: np.ndarray) -> np.ndarray:
    """Value rows with repeats of one item as 0: [N + 1, V] → [N + 1, V]; a cap counts an item once."""
    ordered = np.sort(rows, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    return ordered
