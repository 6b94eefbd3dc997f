"""The towers: the history's weighted mean against numpy, and what each input may change."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.embedding import FeatureEmbedding
from trainer.features import Feature
from trainer.towers import MeanHistory

BATCH, LENGTH, DIM, MAX_HISTORY = 3, 7, 2, 4


@pytest.fixture
def history():
    layer = MeanHistory(MAX_HISTORY)
    layer.lag_logits.assign([0.5, -1.0, 2.0, 0.1])  # by lag, newest first
    return layer


def oracle(embedded, known, lag_logits):
    """State p: the mean of positions p−H … p−1 that are known, weighted by exp(logit of the lag)."""
    states = np.zeros((len(embedded), embedded.shape[1] + 1, embedded.shape[2]))
    for b in range(len(embedded)):
        for p in range(embedded.shape[1] + 1):
            positions = [i for i in range(max(0, p - MAX_HISTORY), p) if known[b, i]]
            if positions:
                weights = [np.exp(lag_logits[p - 1 - i]) for i in positions]
                states[b, p] = np.average(embedded[b, positions], axis=0, weights=weights)
    return states


def test_state_p_is_the_weighted_mean_of_the_last_h_of_the_first_p_positions(history):
    rng = np.random.default_rng(0)
    embedded = rng.normal(size=(BATCH, LENGTH, DIM)).astype(np.float32)
    known = np.ones((BATCH, LENGTH), np.float32)
    known[0, 2] = known[1, :3] = 0  # unknown items: one within, and all that a first target could see
    states = history(embedded, known)
    np.testing.assert_allclose(states, oracle(embedded, known, [0.5, -1.0, 2.0, 0.1]), atol=1e-5)
    assert not np.any(states[:, 0])  # nothing is known of a newcomer
    assert not np.any(states[1, :4])


def test_a_state_does_not_see_its_own_position_nor_any_later(history):
    rng = np.random.default_rng(1)
    embedded = rng.normal(size=(1, LENGTH, DIM)).astype(np.float32)
    known = np.ones((1, LENGTH), np.float32)
    before = history(embedded, known).numpy()
    for changed in range(LENGTH):
        other = embedded.copy()
        other[0, changed] += 10
        differs = np.abs(history(other, known).numpy() - before).max(axis=-1)[0] > 1e-6
        # position i is in the states i + 1 … i + H, and in no other
        assert np.flatnonzero(differs).tolist() == list(range(changed + 1, min(LENGTH, changed + MAX_HISTORY) + 1))


def test_a_sequence_shorter_than_the_history_is_no_special_case(history):
    states = history(np.array([[[4.0, 0.0]]], np.float32), np.ones((1, 1), np.float32))
    np.testing.assert_allclose(states[0], [[0, 0], [4, 0]], atol=1e-6)


def test_feature_embedding_by_hand():
    features = [Feature(name="one"), Feature(name="many", type="categories"), Feature(name="num", type="number")]
    features.append(Feature(name="vec", type="vector", dim=3))
    layer = FeatureEmbedding(features, {"one": 2, "many": 2}, 1, "embedding")
    values = {"one": tf.constant([2, 0]), "many": tf.constant([[1, 2, 0], [0, 0, 0]]), "num": tf.constant([3.0, 0.0])}
    values["vec"] = tf.constant([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    layer(values)
    layer.tables["one"].assign([[9.0], [1.0], [10.0]])
    layer.tables["many"].assign([[9.0], [100.0], [300.0]])
    layer.tables["num"].assign([1000.0])
    layer.tables["vec"].assign([[0.1], [0.2], [-0.4]])
    # one: row 2 = 10; many: (100 + 300) / √2; num: 3 · 1000; vec: 0.1 + 0.4 − 0.2. The second row has nothing, and 9 is
    # never read.
    np.testing.assert_allclose(layer(values), [[10 + 400 / np.sqrt(2) + 3000 + 0.3], [0]], rtol=1e-6)
    in_a_sequence = {name: value[tf.newaxis] for name, value in values.items()}
    np.testing.assert_allclose(layer(in_a_sequence)[0], layer(values))


def test_an_item_without_an_id_stands_where_its_content_puts_it(make_catalog, make_model):
    model = make_model(make_catalog(11))
    tower = model.candidate_tower
    full = model.embed_catalog().numpy()
    ids = tower.ids.numpy()
    tower.ids.assign(np.zeros_like(ids))
    np.testing.assert_allclose(full - model.embed_catalog().numpy(), ids, atol=1e-5)


def test_while_training_ids_are_hidden_at_the_configured_rate(make_catalog, make_model):
    tf.random.set_seed(5)
    model = make_model(make_catalog(999), id_dropout=0.3)
    shown = np.abs(model.embed_catalog(training=True) - model.embed_catalog()).max(axis=1) < 1e-6
    assert shown.mean() == pytest.approx(0.7, abs=0.06)  # 1000 draws: deviation 0.0145


def test_every_side_feature_moves_the_query(make_catalog, make_model):
    model = make_model(make_catalog(11))
    state = tf.zeros([1, 8])
    sides = {
        "group": tf.constant([1]),
        "age": tf.constant([0.0]),
        "likes": tf.constant([[1, 0]]),
        "bio": tf.constant([[1, 2, 0]]),
        "face": tf.constant([[0.0, 0.0]]),
        "device": tf.constant([1]),
        "hour": tf.constant([0.0]),
    }
    before = model.query_tower(state, sides).numpy()
    others = {"group": [2], "age": [1.0], "likes": [[1, 2]], "bio": [[0, 0, 0]], "face": [[0.0, 1.0]]}
    others |= {"device": [0], "hour": [-2.0]}
    for name, other in others.items():
        after = model.query_tower(state, {**sides, name: tf.constant(other)}).numpy()
        assert np.abs(after - before).max() > 1e-4, name
