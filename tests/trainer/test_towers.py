"""The towers: embeddings by hand, and what each input may change."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.embedding import FeatureEmbedding
from trainer.features import Feature, Features
from trainer.towers import QueryTower


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


@pytest.mark.parametrize(("normalized", "are_candidates"), [(True, True), ("queries", False)])
def test_normalized_embeddings_have_the_direction_of_the_others(normalized, are_candidates, make_catalog, make_model):
    plain, of_length_1 = make_model(make_catalog(11)), make_model(make_catalog(11), normalized=normalized)
    for one, other in zip(plain.trainable_variables, of_length_1.trainable_variables, strict=True):
        other.assign(one)
    table = plain.embed_catalog().numpy()
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    assert lengths.std() > 0.1
    np.testing.assert_allclose(of_length_1.embed_catalog(), table / (lengths if are_candidates else 1), atol=1e-6)
    of_user = {"group": [1], "age": [0.5], "likes": [[1]], "bio": [[1]], "face": [[0.0, 1.0]]}
    sides = {name: tf.constant(value) for name, value in (of_user | {"device": [1], "hour": [1.0]}).items()}
    state = tf.constant(np.random.default_rng(0).normal(size=(1, 8)), tf.float32)
    query = plain.query_tower(state, sides).numpy()
    np.testing.assert_allclose(of_length_1.query_tower(state, sides), query / np.linalg.norm(query), atol=1e-6)


def test_a_query_of_nothing_known_has_no_gradient_above_all_others():
    features = Features(interaction_types={"visit": 1.0})
    config = ModelConfig(trainer=TrainerConfig(embedding_dim=8), features=features, max_history=4)
    tower = QueryTower(config, {})
    with tf.GradientTape() as tape:
        product = tf.reduce_sum(tower(tf.zeros([1, 8]), {}))
    assert 1 <= tf.norm(tape.gradient(product, tower.out.bias)) <= 1_000


@pytest.mark.parametrize("hidden_ratio", [4, 0])
def test_a_query_is_the_history_the_sides_and_a_correction(hidden_ratio, make_catalog, make_model):
    model = make_model(make_catalog(11), hidden_ratio=hidden_ratio)
    tower = model.query_tower
    if hidden_ratio:
        tower.out.set_weights([np.zeros_like(weights) for weights in tower.out.get_weights()])  # no correction
    sides = {name: tf.constant(value) for name, value in {"group": [2], "age": [0.5], "likes": [[1]]}.items()}
    sides |= {"bio": tf.constant([[2]]), "face": tf.constant([[0.0, 1.0]])}
    sides |= {"device": tf.constant([1]), "hour": tf.constant([1.0])}
    state = tf.constant(np.random.default_rng(0).normal(size=(1, 8)), tf.float32)
    np.testing.assert_allclose(tower(state, sides), state + tower.sides(sides), rtol=1e-6)


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
