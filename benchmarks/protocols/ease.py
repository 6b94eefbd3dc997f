"""EASE (Steck 2019): the linear model of item on items, in closed form. For catalogs whose square fits into memory."""

import numpy as np
import scipy.sparse as sparse

from trainer.baselines import Sequences


class Ease:
    """B = I − P / diag(P) with P = (XᵀX + λI)⁻¹ (eq. 8), X the users' items as 0 and 1; scores are histories · B."""

    name = "EASE"

    def __init__(self, num_items: int, regularization: float) -> None:
        self._num_items, self._regularization = num_items, regularization
        self.weights = np.zeros((num_items, num_items), np.float32)

    def fit(self, sequences: Sequences) -> None:
        """Inverts a dense [N, N]."""
        pairs = np.unique(np.stack([sequences.owners, sequences.rows - 1])[:, sequences.rows > 0], axis=1)
        shape = (len(sequences.starts) - 1, self._num_items)
        chosen = sparse.csr_matrix((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape)
        inverse = np.linalg.inv((chosen.T @ chosen).toarray() + self._regularization * np.eye(self._num_items))
        self.weights = (np.eye(self._num_items) - inverse / np.diag(inverse)).astype(np.float32)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """[B, L] → [B, N]."""
        chosen = np.zeros((len(histories), self._num_items + 1), np.float32)
        np.put_along_axis(chosen, histories, 1, axis=1)
        return chosen[:, 1:] @ self.weights
