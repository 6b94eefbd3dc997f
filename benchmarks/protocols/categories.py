"""Columns of strings as Transform leaves them: 1 + position in a vocabulary, 0 for nothing."""

from collections.abc import Sequence

import numpy as np


def one(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A category: [R] strings → [R] int64 and the vocabulary [V] bytes."""
    names, rows = np.unique(np.array(values), return_inverse=True)
    return rows.astype(np.int64) + 1, np.array([name.encode() for name in names])


def many(values: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Categories: R lists of strings → [R, longest] int64 and the vocabulary [V] bytes."""
    rows, names = one([name for several in values for name in several])
    lengths = np.array([len(several) for several in values])
    table = np.zeros((len(values), max(1, lengths.max(initial=0))), np.int64)
    table[np.arange(table.shape[1]) < lengths[:, np.newaxis]] = rows
    return table, names
