"""What a target counts in the loss: by its age, by its type, and nothing at all for retrieval where it is negative."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features
from trainer.loop import learn, size
from trainer.ranking import log_worth
from trainer.run import convert_no_keras_to_graphs
from trainer.saved import build

ITEMS = 12
FEATURES = Features(user=(Feature(name="group"),), interaction_types={"purchase": 2.0, "cancel": 0.0, "view": 1.0})
PURCHASE, CANCEL, VIEW = 1, 2, 3
MODES = pytest.mark.parametrize("full_softmax_below_items", [20_000, 0], ids=["full", "sampled"])


@pytest.fixture(autouse=True, scope="module")
def _as_a_run_does():
    convert_no_keras_to_graphs()


@pytest.fixture
def make(make_catalog):
    """(**trainer settings) → a model without chance: negatives are those of the batch, and nothing is proposed."""

    def make(**settings):
        sure = {"dropout": 0.0, "id_dropout": 0.0, "uniform_negatives": 0, "ranking_negatives": 0}
        settings = {"embedding_dim": 16, **sure, **settings}
        config = ModelConfig(trainer=TrainerConfig(**settings), features=FEATURES, max_history=3)
        tf.keras.utils.set_random_seed(1)
        return build(config, make_catalog(ITEMS), {"group": np.array([b"forward", b"back"])})

    return make


def batch(types, weights=None, items=(4, 7), group=(1, 2)):
    """Two users with a history of two and one target each."""
    made = {
        "item_rows": tf.constant([[1, 2, items[0]], [5, 3, items[1]]], tf.int64),
        "type_rows": tf.constant([[VIEW, VIEW, types[0]], [VIEW, VIEW, types[1]]], tf.int64),
        "timestamps": tf.constant([[1, 2, 3]] * 2, tf.int64),
        "is_target": tf.constant([[False, False, True]] * 2),
        "group": tf.constant(group, tf.int64),
    }
    if weights:
        made["weights"] = tf.constant([[9.0, 9.0, weight] for weight in weights])  # those of the history do not count
    return made


def loss(model, *args, **kwargs):
    return float(model.compute_loss(batch(*args, **kwargs)))


def test_tables_and_kernels_are_penalised_each_with_its_own_weight(make):
    model = make(embedding_l2=0.5, kernel_l2=0.25)
    without = loss(model, (PURCHASE, VIEW))
    assert float(model.compute_loss(batch((PURCHASE, VIEW)), training=True)) - without == pytest.approx(
        float(model.penalty()), rel=1e-4
    )
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    assert float(model.penalty()) == 0
    model.candidate_tower.ids.scatter_nd_update([[1, 0], [3, 2]], [2.0, -1.0])
    model.query_tower.sides.tables["group"].scatter_nd_update([[2, 5]], [3.0])
    model.query_tower.hidden.kernel.scatter_nd_update([[1, 1]], [4.0])
    model.ranking_head.hidden.bias.assign(tf.ones_like(model.ranking_head.hidden.bias))  # a bias is free
    assert float(model.penalty()) == pytest.approx(0.5 * (4 + 1 + 9) + 0.25 * 16)


@MODES
def test_a_weight_multiplies_that_of_the_type_in_the_retrieval_loss(make, full_softmax_below_items):
    model = make(full_softmax_below_items=full_softmax_below_items, ranking_weight=0.0)
    first, second = (loss(model, (PURCHASE, VIEW), weights) for weights in ((1.0, 0.0), (0.0, 1.0)))
    assert abs(first - second) > 1e-4
    # purchase weighs 2 and view 1, halved and quartered: (2 · 1/2 · first + 1 · 1/4 · second) / (1 + 1/4)
    assert loss(model, (PURCHASE, VIEW), (0.5, 0.25)) == pytest.approx((first + 0.25 * second) / 1.25, rel=1e-5)


def test_a_weight_multiplies_the_ranking_loss(make):
    both, retrieval = make(), make(ranking_weight=0.0)  # of the same seed

    def ranking(types, weights):
        return loss(both, types, weights) - loss(retrieval, types, weights)

    first, second = (ranking((PURCHASE, VIEW), weights) for weights in ((1.0, 0.0), (0.0, 1.0)))
    assert abs(first - second) > 1e-4
    assert ranking((PURCHASE, VIEW), (0.5, 0.125)) == pytest.approx((0.5 * first + 0.125 * second) / 0.625, rel=1e-4)


@MODES
def test_weights_of_one_are_as_none(make, full_softmax_below_items):
    model = make(full_softmax_below_items=full_softmax_below_items)
    assert loss(model, (PURCHASE, CANCEL), (1.0, 1.0)) == loss(model, (PURCHASE, CANCEL))


@MODES
@pytest.mark.parametrize("types", [(PURCHASE, VIEW), (CANCEL, CANCEL)])
def test_a_batch_that_weighs_nothing_has_a_loss_of_0_and_gradients_of_0(make, full_softmax_below_items, types):
    model = make(full_softmax_below_items=full_softmax_below_items)
    with tf.GradientTape() as tape:
        total = model.compute_loss(batch(types, (0.0, 0.0)))
    assert float(total) == 0.0
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(total, model.trainable_variables), strict=True
    ):
        assert gradient is None or not np.any(tf.convert_to_tensor(gradient)), variable.name


@MODES
def test_a_negative_interaction_pulls_at_no_tower(make, full_softmax_below_items):
    """Alone it teaches the ranking head and nothing else: no one is to find what was cancelled."""
    model = make(full_softmax_below_items=full_softmax_below_items)
    with tf.GradientTape() as tape:
        total = model.compute_loss(batch((CANCEL, CANCEL)))
    towers = [*model.candidate_tower.trainable_variables, *model.query_tower.trainable_variables]
    gradients = tape.gradient(total, towers + model.ranking_head.trainable_variables)
    assert all(g is None or not np.any(tf.convert_to_tensor(g)) for g in gradients[: len(towers)])
    assert any(np.any(g) for g in gradients[len(towers) :])


@MODES
def test_beside_a_positive_one_a_negative_interaction_has_no_positive_of_its_own(make, full_softmax_below_items):
    """Who cancelled does not matter to retrieval; what was cancelled may be a negative of who bought."""
    model = make(full_softmax_below_items=full_softmax_below_items, ranking_weight=0.0)
    model.query_tower.sides.tables["group"].assign(np.random.default_rng(0).normal(size=(3, 16)))
    bought = loss(model, (PURCHASE, CANCEL))
    assert loss(model, (PURCHASE, CANCEL), group=(1, 1)) == bought
    assert abs(loss(model, (PURCHASE, CANCEL), group=(2, 2)) - bought) > 1e-3  # who bought does
    competes = abs(loss(model, (PURCHASE, CANCEL), items=(4, 9)) - bought) > 1e-4
    assert competes == (full_softmax_below_items == 0)


@MODES
def test_what_a_group_cancels_is_served_below_what_it_buys(make, full_softmax_below_items):
    """After item k, the first group buys k + 1 and cancels k + 2; the second group the other way round."""
    starts, groups = np.repeat(np.arange(ITEMS), 4), np.tile([1, 1, 2, 2], ITEMS)
    step = np.tile([1, 2, 1, 2], ITEMS)
    is_bought = step == groups
    rows = np.stack([starts, starts + step], axis=1) % ITEMS + 1
    users = {
        "item_rows": rows,
        "type_rows": np.stack([np.full(len(rows), VIEW), np.where(is_bought, PURCHASE, CANCEL)], axis=1),
        "timestamps": np.tile([1, 2], (len(rows), 1)),
        "is_target": np.tile([False, True], (len(rows), 1)),
        "group": groups,
    }
    settings = {"full_softmax_below_items": full_softmax_below_items, "uniform_negatives": 10, "ranking_negatives": 8}
    model = make(epochs=200, learning_rate=0.005, **settings)
    train = tf.data.Dataset.from_tensor_slices(users).shuffle(48, seed=1).batch(8)
    steps, targets = size(train)
    assert (steps, targets) == (6, 48)
    learn(model, train, steps)
    table = model.embed_catalog()
    queries = model.target_queries({k: tf.constant(v) for k, v in users.items()}, tf.gather(table, rows))
    logits = model.outcome_logits(queries, tf.gather(table, rows[:, 1]), rows[:, 1])
    found = tf.einsum("td,td->t", queries, tf.gather(table, rows[:, 1])).numpy()
    assert np.mean((logits[:, PURCHASE - 1] > logits[:, CANCEL - 1]).numpy() == is_bought) > 0.95
    weights = tf.constant(list(model.config.features.interaction_types.values()))
    served = (found + log_worth(logits, weights).numpy()).reshape(-1, 2)  # of k + 1 and k + 2
    first_is_bought = is_bought.reshape(-1, 2)[:, 0]
    assert np.mean((served[:, 0] > served[:, 1]) == first_is_bought) > 0.95
