"""Partition of vectors into leaves by k-means (Lloyd 1982): numpy in, numpy out, the same every time."""

import numpy as np
from scipy import sparse

TRAINED_PER_LEAF = 40  # vectors that the centroids are learned from; faiss asks for 39 to 256
ITERATIONS = 10
BLOCK = 16_384


def partition(vectors: np.ndarray, num_leaves: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Centroids, and the leaf of each vector: float32 [N, D] → float32 [L, D], int64 [N]; L is at most N."""
    rng = np.random.default_rng(seed)
    num_leaves = min(num_leaves, len(vectors))
    sample = vectors[rng.permutation(len(vectors))[: TRAINED_PER_LEAF * num_leaves]]
    centroids = sample[:num_leaves].copy()
    for _ in range(ITERATIONS):
        leaves = nearest(sample, centroids)
        members = sparse.csr_matrix(
            (np.ones(len(sample), np.float32), leaves, np.arange(len(sample) + 1)), (len(sample), num_leaves)
        )
        sizes = np.bincount(leaves, minlength=num_leaves)
        means = (members.T @ sample) / np.maximum(sizes, 1)[:, np.newaxis]
        centroids = np.where(sizes[:, np.newaxis] > 0, means, centroids).astype(np.float32)
    return centroids, nearest(vectors, centroids)


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The centroid at the least Euclidean distance: [N, D], [L, D] → int64 [N]."""
    half = 0.5 * np.square(centroids).sum(axis=1)  # |v − c|² = |v|² − 2 (v·c − |c|²/2)
    blocks = (vectors[begin : begin + BLOCK] for begin in range(0, len(vectors), BLOCK))
    return np.concatenate([np.argmax(block @ centroids.T - half, axis=1) for block in blocks])
