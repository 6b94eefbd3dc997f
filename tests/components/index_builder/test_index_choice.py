"""The choice of an index: by its recall on queries, at the least work."""

import json

import numpy as np
import pytest
import tensorflow as tf

from components.errors import BuildError
from components.index_builder import curve
from components.index_builder.config import IndexConfig
from components.index_builder.exact_index import ExactIndex
from components.index_builder.index import Effort
from components.index_builder.portable_index import PortableIndex
from components.index_builder.tune import Meter, choose
from tests.components.index_builder.test_indexes import DIM, table_of, vectors_of

NUM_ITEMS, COUNT = 900, 20


def chosen(vectors, queries, **config):
    return choose(table_of(vectors), queries, IndexConfig(top_k=5, num_candidates=COUNT, **config))


def recall(index, vectors, queries):
    """By numpy, where no two products are equal."""
    true = np.argsort(-queries @ vectors.T, axis=1)[:, :COUNT] + 1
    found = index.search(tf.constant(queries), COUNT)[0].numpy()
    return np.mean([len(set(f) & set(t)) / COUNT for f, t in zip(found.tolist(), true.tolist(), strict=True)])


@pytest.mark.parametrize("kind", ["scann", "portable"])
def test_the_bar_is_reached_with_the_least_work_of_what_was_tried(kind):
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(80, seed=1)
    tuned = chosen(vectors, queries, kind=kind, num_leaves=30, min_recall=0.9)
    assert tuned.index.kind == tuned.chosen.kind == kind
    assert recall(tuned.index, vectors, queries) == pytest.approx(tuned.chosen.recall)
    assert tuned.chosen.recall >= 0.9
    work = {p: tuned.index.bytes_read(Effort(p.leaves, p.scored_again)) for p in tuned.tried}
    assert work[tuned.chosen] == min(work[p] for p in tuned.tried if p.recall >= 0.9)
    assert min(p.recall for p in tuned.tried) < 0.9  # it had to look
    if kind == "scann":
        assert tuned.chosen.scored_again < max(p.scored_again for p in tuned.tried)
    assert all(p.p50_ms > 0 for p in tuned.tried)


def test_a_higher_bar_takes_more_work():
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(80, seed=1)
    leaves = [
        chosen(vectors, queries, kind="portable", num_leaves=60, min_recall=bar).chosen.leaves
        for bar in (0.3, 0.8, 0.999)
    ]
    assert leaves == sorted(set(leaves))


def test_small_catalogs_are_scored_as_a_whole_and_large_ones_hashed():
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(20, seed=1)
    assert chosen(vectors, queries, exact_below_items=901).index.kind == "exact"
    assert chosen(vectors, queries, exact_below_items=900, min_recall=0.5).index.kind == "scann"


def hard(num_items=4_000, dim=24):
    """Directions at random: no hash of 4 bits for two numbers always has the nearest two among the best 32."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(size, dim)).astype(np.float32) for size in (num_items, 300))


def test_what_misses_the_bar_is_replaced_by_the_next_kind_and_that_is_said(caplog):
    vectors, queries = hard()
    config = IndexConfig(top_k=1, num_candidates=2, num_leaves=20, min_recall=1.0, exact_below_items=1_000)
    tuned = choose(table_of(vectors), queries, config)
    assert tuned.index.kind == "exact"  # portable opens half of the leaves at most, and random directions lie in all
    assert [words.split(": recall 0.")[0] for words in tuned.why_not] == ["scann", "portable"]
    assert "the bar is 1" in tuned.why_not[0]
    assert tuned.chosen.recall == 1.0
    assert "index scann: recall 0." in caplog.text


def test_a_fixed_kind_that_misses_the_bar_fails_the_run():
    vectors, queries = hard()
    config = IndexConfig(top_k=1, num_candidates=2, num_leaves=20, min_recall=1.0, kind="scann")
    with pytest.raises(BuildError, match=r"index.kind scann misses its bar: scann: recall 0\..* the bar is 1"):
        choose(table_of(vectors), queries, config)


def test_without_queries_everything_is_scored_and_that_is_said():
    tuned = chosen(vectors_of(NUM_ITEMS), np.zeros([0, DIM], np.float32), exact_below_items=256)
    assert tuned.index.kind == "exact"
    assert "no query" in tuned.why_not[0]
    with pytest.raises(BuildError, match=r"index.kind is portable, and the eval split has no query"):
        chosen(vectors_of(NUM_ITEMS), np.zeros([0, DIM], np.float32), kind="portable")


def test_queries_that_are_not_finite_are_refused():
    queries = vectors_of(20)
    queries[[3, 5], 1] = np.nan
    with pytest.raises(BuildError, match="2 of 20 query embeddings are not finite"):
        chosen(vectors_of(NUM_ITEMS), queries)


def test_fewer_items_than_scann_learns_from_is_said():
    with pytest.raises(BuildError, match="from 16 items at least, and the catalog has 15"):
        chosen(vectors_of(15), vectors_of(5), kind="scann")
    assert chosen(vectors_of(16), vectors_of(5), kind="scann", num_leaves=500, min_recall=0.1).index.num_leaves == 16


def test_one_of_several_equal_items_is_as_good_as_another():
    """Every vector twelve times: which twelve of them are the nearest is no question of recall."""
    vectors = np.repeat(vectors_of(75), 12, axis=0)
    queries = vectors_of(30, seed=1)
    index = PortableIndex(vectors, 10)
    index.effort = Effort(10)
    meter = Meter(ExactIndex(table_of(vectors)), queries, COUNT)
    assert meter.measure(index).recall == 1.0
    index.effort = Effort(1)
    assert meter.measure(index).recall < 1.0


def test_what_is_measured_is_the_search_that_is_served():
    """For four times C, ScaNN scores four times C again: the nearest C of them are what recall is of."""
    vectors, queries = hard()
    config = IndexConfig(top_k=5, num_candidates=COUNT, num_leaves=20, min_recall=0.9, kind="scann")
    alone, served = (choose(table_of(vectors), queries, config, oversampling) for oversampling in (1, 4))
    assert min(point.scored_again for point in alone.tried) < 4 * COUNT
    assert min(point.scored_again for point in served.tried) == 4 * COUNT
    rows, products = (found.numpy() for found in served.index.search(tf.constant(queries), 4 * COUNT))
    truth = np.sort(queries @ vectors.T, axis=1)[:, -COUNT]
    recall = np.mean(products[:, :COUNT] >= truth[:, np.newaxis] - 1e-4)
    assert served.chosen.recall == pytest.approx(recall, abs=1e-3)
    assert (rows > 0).all()


def test_the_curve_is_written_as_figures_and_as_a_picture(tmp_path):
    vectors, queries = vectors_of(NUM_ITEMS), vectors_of(20, seed=1)
    tuned = chosen(vectors, queries, kind="portable", num_leaves=30, min_recall=0.9)
    curve.write(curve.to_json(tuned, 0.9, len(queries), COUNT), tmp_path)
    written = json.loads((tmp_path / "index.json").read_text())
    assert [p["is_chosen"] for p in written["tried"]].count(True) == 1
    assert written["index"] == str(tuned.index)
    assert (tmp_path / "index.png").read_bytes().startswith(b"\x89PNG")
