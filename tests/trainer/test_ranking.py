"""The ranking head: its loss and its worth by hand, and what it makes of proposals that retrieval got wrong."""

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features
from trainer.loop import learn
from trainer.ranking import GradedLogits, log_worth, outcome_loss
from trainer.run import convert_no_keras_to_graphs
from trainer.saved import build

LN = math.log
ITEMS = 12


def test_none_stands_beside_the_types_at_zero():
    # e^0 : e^ln2 : e^ln5 = 1 : 2 : 5
    losses = outcome_loss(tf.constant([[LN(2), LN(5)]] * 3), tf.constant([0, 1, 2]))
    np.testing.assert_allclose(losses, [LN(8), LN(8 / 2), LN(8 / 5)], rtol=1e-6)


def test_worth_is_the_logarithm_of_what_the_types_bring():
    worth = log_worth(tf.constant([[LN(2), LN(5), 9.0], [0.0, 0.0, -9.0]]), tf.constant([3.0, 0.5, 0.0]))
    np.testing.assert_allclose(worth, [LN(3 * 2 + 0.5 * 5), LN(3.5)], rtol=1e-6)  # a type of weight 0 brings nothing


def test_grades_rise_with_the_product():
    """Three grades score −√(3/2), 0, √(3/2); q·c = 2 and a temperature of 1/2 make 4 of them."""
    layer = GradedLogits(num_types=3, temperature=0.5)
    queries, candidates = tf.constant([[1.0, 1.0], [0.0, 0.0]]), tf.constant([[3.0, -1.0], [5.0, 7.0]])
    layer(queries, candidates)
    layer.begin.set_weights([np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]), np.array([0.5, 0, 0])])
    step = 4 * math.sqrt(3 / 2)
    np.testing.assert_allclose(layer(queries, candidates), [[0.5 - step, 3.0, step], [0.5, 5.0, 0]], rtol=1e-6)


def test_one_grade_is_no_scale():
    layer = GradedLogits(num_types=1, temperature=0.1)
    np.testing.assert_array_equal(layer.scores, [0.0])


@pytest.fixture(scope="module")
def _as_a_run_does():
    convert_no_keras_to_graphs()


def made(make_catalog, **settings):
    trainer = TrainerConfig(**{"embedding_dim": 16, "dropout": 0.0, "id_dropout": 0.0, **settings})
    features = Features(interaction_types={"view": 1.0, "buy": 2.0})
    tf.keras.utils.set_random_seed(2)
    return build(ModelConfig(trainer=trainer, features=features, max_history=3), make_catalog(ITEMS), {})


def steps_after(rows, types):
    """Users with one item of history each and one target."""
    rows = np.asarray(rows)
    return {
        "item_rows": tf.constant(rows, tf.int64),
        "type_rows": tf.constant([[1, kind] for kind in types], tf.int64),
        "timestamps": tf.constant([[1, 2]] * len(rows), tf.int64),
        "is_target": tf.constant([[False, True]] * len(rows)),
    }


@pytest.mark.parametrize("full_softmax_below_items", [20_000, 0], ids=["full", "sampled"])
@pytest.mark.usefixtures("_as_a_run_does")
def test_what_retrieval_proposes_in_vain_sinks(make_catalog, full_softmax_below_items):
    """Retrieval that has learned nothing proposes anything; the head learns from its refusals what follows what."""
    pairs = [(k, k % ITEMS + 1) for k in range(1, ITEMS + 1)] * 4
    batch = steps_after(pairs, [1 + k % 2 for k in range(len(pairs))])
    settings = {"full_softmax_below_items": full_softmax_below_items, "uniform_negatives": 24}
    model = made(make_catalog, epochs=60, learning_rate=0.02, **settings)
    rng = np.random.default_rng(0)
    model.candidate_tower.ids.assign(rng.normal(size=model.candidate_tower.ids.shape))
    for variable in [*model.candidate_tower.trainable_variables, *model.query_tower.trainable_variables]:
        variable.assign(variable)
    model.candidate_tower.trainable = model.query_tower.trainable = False
    learn(model, tf.data.Dataset.from_tensor_slices(batch).batch(12), 4)
    table = model.embed_catalog()
    queries = model.target_queries(batch, tf.gather(table, batch["item_rows"]))[:ITEMS]
    rows = tf.tile(tf.range(1, ITEMS + 1, dtype=tf.int64)[tf.newaxis], [ITEMS, 1])
    every = tf.repeat(queries[:, tf.newaxis], ITEMS, axis=1), tf.repeat(table[tf.newaxis, 1:], ITEMS, axis=0)
    worth = log_worth(model.outcome_logits(*every, rows), tf.constant([1.0, 2.0])).numpy()
    found = (tf.matmul(queries, table[1:], transpose_b=True)).numpy()
    wanted = np.array([k % ITEMS for k in range(1, ITEMS + 1)])

    def mean_rank(scores):
        own = scores[np.arange(ITEMS), wanted][:, np.newaxis]
        return np.mean(np.sum(scores >= own, axis=1))

    assert mean_rank(found) > 4  # chance is 6.5
    assert mean_rank(found + worth) < 2


@pytest.mark.parametrize("reaches", [0.0, 0.5])
def test_the_ranking_gradient_reaches_the_towers_as_far_as_it_may(make_catalog, reaches):
    batch = steps_after([(1, 2), (3, 4)], [1, 2])
    gradients = []
    for share in (reaches, 1.0):
        model = made(make_catalog, ranking_gradient=share, ranking_negatives=0)
        model.candidate_tower.ids.assign(np.random.default_rng(0).normal(size=model.candidate_tower.ids.shape))
        with tf.GradientTape() as tape:
            both = model.compute_loss(batch)
        alone = made(make_catalog, ranking_weight=0.0)
        alone.candidate_tower.ids.assign(model.candidate_tower.ids)
        with tf.GradientTape() as other:
            retrieval = alone.compute_loss(batch)
        of_both = tf.convert_to_tensor(tape.gradient(both, model.candidate_tower.ids))
        gradients.append(of_both - tf.convert_to_tensor(other.gradient(retrieval, alone.candidate_tower.ids)))
    some, whole = gradients
    assert np.abs(whole).max() > 1e-4
    np.testing.assert_allclose(some, reaches * whole, atol=1e-6)
