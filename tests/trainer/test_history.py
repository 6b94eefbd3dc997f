"""History encoders: the weighted mean and attention against numpy, and what each state may see."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainerConfig
from trainer.history import MeanHistory, history_encoder

BATCH, LENGTH, DIM, MAX_HISTORY = 3, 7, 4, 4


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
    known = np.ones((BATCH, LENGTH), bool)
    known[0, 2] = known[1, :3] = False  # unknown items: one within, and all that a first target could see
    states = history(embedded, known)
    np.testing.assert_allclose(states, oracle(embedded, known, [0.5, -1.0, 2.0, 0.1]), atol=1e-5)
    assert not np.any(states[:, 0])  # nothing is known of a newcomer
    assert not np.any(states[1, :4])


def test_a_state_does_not_see_its_own_position_nor_any_later(history):
    rng = np.random.default_rng(1)
    embedded = rng.normal(size=(1, LENGTH, DIM)).astype(np.float32)
    known = np.ones((1, LENGTH), bool)
    before = history(embedded, known).numpy()
    for changed in range(LENGTH):
        other = embedded.copy()
        other[0, changed] += 10
        differs = np.abs(history(other, known).numpy() - before).max(axis=-1)[0] > 1e-6
        # position i is in the states i + 1 … i + H, and in no other
        assert np.flatnonzero(differs).tolist() == list(range(changed + 1, min(LENGTH, changed + MAX_HISTORY) + 1))


def test_a_sequence_shorter_than_the_history_is_no_special_case(history):
    states = history(np.array([[[4.0, 0.0, 1.0, 2.0]]], np.float32), np.ones((1, 1), bool))
    np.testing.assert_allclose(states[0], [[0, 0, 0, 0], [4, 0, 1, 2]], atol=1e-6)


ENCODERS = {
    "mean": TrainerConfig(history_encoder="mean"),
    "gru": TrainerConfig(history_encoder="gru", embedding_dim=DIM),
    "transformer": TrainerConfig(history_encoder="transformer", embedding_dim=DIM, history_heads=1),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    tf.keras.utils.set_random_seed(3)
    layer = history_encoder(ENCODERS[request.param], MAX_HISTORY)
    layer(tf.zeros([1, 2, DIM]), tf.ones([1, 2], tf.bool))
    rng = np.random.default_rng(4)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(scale=0.8, size=variable.shape))
    return layer


def seen_by(encoder, known, changed):
    """Which of the states [L + 1] change when one position does."""
    embedded = np.random.default_rng(1).normal(size=(1, LENGTH, DIM)).astype(np.float32)
    other = embedded.copy()
    other[0, changed] += [3, -2, 1, 5]
    return np.abs(encoder(other, known) - encoder(embedded, known)).max(axis=-1)[0] > 1e-5


@pytest.mark.parametrize("changed", range(LENGTH))
def test_a_state_sees_the_positions_before_it_and_no_other(encoder, changed):
    states = np.flatnonzero(seen_by(encoder, np.ones((1, LENGTH), bool), changed))
    assert changed + 1 in states  # the newest of a history always counts
    assert states.min() == changed + 1


@pytest.mark.parametrize("changed", range(LENGTH))
def test_an_unknown_interaction_says_nothing_to_those_after_it(encoder, changed):
    known = np.arange(LENGTH)[np.newaxis] != changed
    assert set(np.flatnonzero(seen_by(encoder, known, changed))) <= {changed + 1}


def test_how_a_history_is_padded_does_not_matter(encoder):
    """Behind, as in training, or in front, as in service: the state after the last interaction is the same."""
    rng = np.random.default_rng(2)
    embedded = rng.normal(size=(1, 3, DIM)).astype(np.float32)
    junk = rng.normal(size=(1, 4, DIM)).astype(np.float32)
    alone = encoder(embedded, np.ones((1, 3), bool))[:, -1]
    behind = encoder(np.concatenate([embedded, junk], 1), np.array([[True] * 3 + [False] * 4]))[:, 3]
    in_front = encoder(np.concatenate([junk, embedded], 1), np.array([[False] * 4 + [True] * 3]))[:, -1]
    np.testing.assert_allclose(behind, alone, atol=1e-5)
    np.testing.assert_allclose(in_front, alone, atol=1e-5)


def test_a_history_of_nothing_known_has_a_state(encoder):
    states = encoder(np.ones((2, 5, DIM), np.float32), np.zeros((2, 5), bool)).numpy()
    assert np.all(np.isfinite(states))
    assert not np.any(states[:, 0])


def test_attention_by_numpy():
    """One block of one head, its dense parts the identity or zero: what is gathered is a softmax over lags."""
    config = TrainerConfig(history_encoder="transformer", embedding_dim=DIM, history_heads=1, history_blocks=1)
    layer = history_encoder(config, MAX_HISTORY)
    rng = np.random.default_rng(5)
    embedded = rng.normal(size=(1, LENGTH, DIM)).astype(np.float32)
    known = np.array([[True, True, False, True, True, True, True]])
    layer(embedded, known)
    (block,) = layer.blocks
    bias = rng.normal(size=MAX_HISTORY).astype(np.float32)
    block.lag_bias.assign(bias[:, np.newaxis])
    block.project.set_weights([np.tile(np.eye(DIM), 3), np.zeros(3 * DIM)])  # query, key and value are the input
    block.gather.set_weights([np.eye(DIM), np.zeros(DIM)])
    block.out.set_weights([np.zeros((4 * DIM, DIM)), np.zeros(DIM)])

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    start = embedded[0] * np.sqrt(DIM)
    normal, expected = norm(start), []
    for p in range(LENGTH):
        seen = [i for i in range(max(0, p - MAX_HISTORY + 1), p + 1) if known[0, i] or i == p]
        logits = [normal[p] @ normal[i] / np.sqrt(DIM) + bias[p - i] for i in seen]
        weights = np.exp(logits) / np.exp(logits).sum()
        expected.append(start[p] + weights @ normal[seen])
    np.testing.assert_allclose(layer(embedded, known)[0, 1:], norm(np.array(expected)), atol=1e-4)
