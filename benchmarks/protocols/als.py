"""Matrix factorisation by alternating least squares (Hu et al. 2008), of the library `implicit`, as a baseline.

Not a dependency of the project: `uv pip install -r benchmarks/requirements.txt` puts it beside it.
"""

import importlib.util
from contextlib import AbstractContextManager

import numpy as np
import scipy.sparse as sparse

from trainer.baselines import Sequences

IS_INSTALLED = importlib.util.find_spec("implicit") is not None


class Als:
    """Items' factors from all sequences; a user's from the history given, so a stranger is served as well."""

    name = "implicit ALS"

    def __init__(
        self,
        num_items: int,
        *,
        factors: int,
        regularization: float,
        alpha: float,
        iterations: int = 15,
        seed: int = 1,
    ) -> None:
        from implicit.als import AlternatingLeastSquares

        self._num_items = num_items
        with self._one_thread_each():
            self._model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularization,
                alpha=alpha,
                iterations=iterations,
                random_state=seed,
                use_gpu=False,
            )

    def fit(self, sequences: Sequences) -> None:
        """Each pair of user and item counts once."""
        is_known = sequences.rows > 0
        pairs = (sequences.owners[is_known], sequences.rows[is_known] - 1)
        with self._one_thread_each():
            self._model.fit(self._matrix(*pairs, len(sequences.starts) - 1), show_progress=False)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """[B, L] → [B, N]."""
        user, place = np.nonzero(histories)
        items = self._matrix(user, histories[user, place] - 1, len(histories))
        with self._one_thread_each():
            factors = self._model.recalculate_user(np.arange(len(histories)), items)
        return factors @ self._model.item_factors.T

    @staticmethod
    def _one_thread_each() -> AbstractContextManager[object]:
        """The library has threads of its own, and asks that BLAS adds none to each of them."""
        from threadpoolctl import threadpool_limits

        return threadpool_limits(1, "blas")

    def _matrix(self, users: np.ndarray, items: np.ndarray, num_users: int) -> sparse.csr_matrix:
        matrix = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), (num_users, self._num_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix
