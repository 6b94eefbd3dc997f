"""Every kind of index, held to the same laws; numpy is the oracle."""

import numpy as np
import pytest
import tensorflow as tf

from components.errors import BuildError
from components.index_builder.exact_index import ExactIndex
from components.index_builder.index import Effort, checked
from components.index_builder.partition import nearest, partition
from components.index_builder.portable_index import PortableIndex
from components.index_builder.scann_index import ScannIndex

NUM_ITEMS, DIM, COUNT = 700, 6, 9


def table_of(vectors):
    """As the servable has them: row 0 is no item."""
    return tf.Variable(np.vstack([np.zeros([1, vectors.shape[1]]), vectors]), dtype=tf.float32)


KINDS = {
    "exact": lambda vectors: ExactIndex(table_of(vectors)),
    "scann": lambda vectors: ScannIndex(vectors, num_leaves=20),
    "portable": lambda vectors: PortableIndex(vectors, num_leaves=20),
}


def vectors_of(size, seed=0, dim=DIM):
    """Items that lie in clumps, of lengths that differ: the nearest by angle is not the nearest by product."""
    rng = np.random.default_rng(seed)
    clumps = rng.normal(size=(12, dim))
    lengths = rng.uniform(0.5, 2, size=(size, 1))
    return (lengths * (clumps[rng.integers(0, 12, size)] + 0.4 * rng.normal(size=(size, dim)))).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def index(request):
    built = KINDS[request.param](vectors_of(NUM_ITEMS))
    built.effort = Effort(getattr(built, "num_leaves", 0), built.efforts(COUNT)[1][-1])
    return built


def searches(index, count):
    return tf.function(
        lambda queries: index.search(queries, count), input_signature=[tf.TensorSpec([None, DIM])], autograph=False
    )


def test_a_search_that_opens_everything_finds_what_numpy_finds(index):
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(40, seed=1)
    rows, products = searches(index, COUNT)(queries)
    true = np.argsort(-queries @ vectors.T, axis=1)[:, :COUNT] + 1
    assert rows.shape == products.shape == (40, COUNT)
    assert rows.dtype == tf.int64
    assert np.mean(rows.numpy() == true) > (0.99 if index.kind == "scann" else 0.9999)  # ScaNN's hashes may lose one
    own = np.take_along_axis(queries @ vectors.T, rows.numpy() - 1, axis=1)
    np.testing.assert_allclose(products, own, rtol=1e-4)
    assert (np.diff(products) <= 0).all()


def test_a_query_is_answered_as_it_is_alone(index):
    queries = vectors_of(7, seed=2)
    search = searches(index, COUNT)
    together = search(queries)[0].numpy()
    assert (together == np.concatenate([search(query[np.newaxis])[0] for query in queries])).all()
    assert search(queries[:0])[0].shape == (0, COUNT)


def test_more_than_there_is_gives_row_0_and_minus_infinity(index):
    rows, products = searches(index, NUM_ITEMS + 5)(vectors_of(2, seed=3))
    assert rows.shape == (2, NUM_ITEMS + 5)
    assert sorted(set(rows[0].numpy().tolist())) == list(range(NUM_ITEMS + 1))
    assert (rows[:, NUM_ITEMS:].numpy() == 0).all()
    assert (products[:, NUM_ITEMS:].numpy() == -np.inf).all()


def test_few_leaves_give_few_items_and_no_wrong_ones(index):
    if index.kind == "exact":
        pytest.skip("opens everything")
    full = index.effort
    index.effort = Effort(1, COUNT)
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(40, seed=4)
    rows, products = (found.numpy() for found in searches(index, 300)(queries))
    index.effort = full
    assert 0 < (rows > 0).sum(axis=1).max() < 300  # of ScaNN's leaves some are empty
    for row, product, query in zip(rows, products, queries, strict=True):
        found = row[row > 0]
        assert len(set(found.tolist())) == len(found)
        np.testing.assert_allclose(product[row > 0], vectors[found - 1] @ query, rtol=1e-4)


def test_it_is_saved_and_loaded_as_it_is(index, tmp_path):
    module = tf.Module()
    module.index, module.search = index, searches(index, COUNT)
    queries = vectors_of(20, seed=5)
    before = module.search(queries)
    tf.saved_model.save(module, str(tmp_path), options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]))
    loaded = tf.saved_model.load(str(tmp_path))
    after = loaded.search(queries)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize("kind", ["scann", "portable"])
def test_the_same_embeddings_give_the_same_index(kind):
    once, again = (KINDS[kind](vectors_of(NUM_ITEMS)) for _ in range(2))
    once.effort = again.effort = Effort(2, 2 * COUNT)
    queries = vectors_of(60, seed=6)
    np.testing.assert_array_equal(searches(once, COUNT)(queries)[0], searches(again, COUNT)(queries)[0])


@pytest.mark.parametrize("kind", ["exact", "portable"])
def test_one_item_is_an_index(kind):
    index = KINDS[kind](np.ones((1, DIM), np.float32))
    index.effort = Effort(1)
    rows, products = index.search(tf.ones([1, DIM]), 3)
    assert rows.numpy().tolist() == [[1, 0, 0]]
    assert products.numpy().tolist() == [[DIM, -np.inf, -np.inf]]


def test_more_effort_reads_more(index):
    leaves, reorderings = index.efforts(COUNT)
    by_leaves = [index.bytes_read(Effort(n, reorderings[0])) for n in leaves]
    by_reordering = [index.bytes_read(Effort(leaves[0], n)) for n in reorderings]
    assert by_leaves == sorted(set(by_leaves))
    assert by_reordering == sorted(set(by_reordering))
    assert leaves[0] <= 1
    assert reorderings[-1] <= NUM_ITEMS


def test_leaves_are_those_of_the_nearest_centroid():
    vectors = vectors_of(500)
    centroids, leaves = partition(vectors, 30)
    distances = np.square(vectors[:, np.newaxis] - centroids).sum(axis=2)
    assert centroids.shape == (30, DIM)
    np.testing.assert_array_equal(leaves, distances.argmin(axis=1))
    np.testing.assert_array_equal(leaves, nearest(vectors, centroids))
    at_random = np.square(vectors[:, np.newaxis] - vectors[:30]).sum(axis=2).min(axis=1).mean()
    assert distances.min(axis=1).mean() < 0.8 * at_random  # the centroids have moved to where the vectors are


def test_more_leaves_than_vectors_is_a_leaf_each():
    centroids, leaves = partition(vectors_of(5), 50)
    assert len(centroids) == 5
    assert sorted(leaves.tolist()) == list(range(5))


def test_embeddings_that_are_not_finite_are_named():
    embeddings = np.ones((300, 4), np.float32)
    embeddings[6, 1], embeddings[298, 0] = np.nan, np.inf
    ids = [f"item{n}".encode() for n in range(300)]
    with pytest.raises(BuildError, match=r"2 of 300 item embeddings are not finite \(first: item6, item298\)"):
        checked(embeddings, ids)
