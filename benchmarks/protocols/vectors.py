"""Items and queries for an index: made ones in clusters, or those of a factorisation of Gowalla."""

from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from . import two_tower


def clustered(
    num_items: int, dim: int, num_queries: int, num_clusters: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Items [N, D] in clusters of very different sizes, which lie in groups; queries [Q, D] that are means of items.

    As a catalog is: a query is what a user of one or two tastes has seen lately, three items of one cluster, and two of
    another one. All of length 1.
    """
    rng = np.random.default_rng(seed)
    groups = rng.normal(size=(num_clusters // 50, dim))
    centers = groups[rng.integers(0, len(groups), num_clusters)] + 0.8 * rng.normal(size=(num_clusters, dim))
    sizes = rng.pareto(1.5, num_clusters) + 0.2
    cluster = np.sort(rng.choice(num_clusters, num_items, p=sizes / sizes.sum()))
    items = _unit(centers[cluster] + 0.7 * rng.normal(size=(num_items, dim)))
    begins, ends = (np.searchsorted(cluster, cluster, side) for side in ("left", "right"))
    queries = np.zeros([num_queries, dim])
    for count in (3, 2):
        taste = rng.integers(0, num_items, num_queries)
        for _ in range(count):
            queries += items[rng.integers(begins[taste], ends[taste])]
    return items, _unit(queries)


def gowalla(path: Path, dim: int, num_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places and users of Gowalla, by a truncated SVD of visits, each weighed by 1/√(visits of the place).

    41k items of all lengths, real users as queries: [N, D], [Q, D].
    """
    split = two_tower.read(path)
    rows = np.concatenate(split.histories) - 1
    users = np.repeat(np.arange(len(split.histories)), [len(history) for history in split.histories])
    visits = sparse.csr_matrix((np.ones(len(rows), np.float32), (users, rows)), (len(split.histories), split.num_items))
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(visits.sum(axis=0)).ravel(), 1)))
    left, values, right = svds(visits @ scale, dim, random_state=seed)
    asked = np.random.default_rng(seed).permutation(len(left))[:num_queries]
    return (np.sqrt(values) * right.T).astype(np.float32), (np.sqrt(values) * left[asked]).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
