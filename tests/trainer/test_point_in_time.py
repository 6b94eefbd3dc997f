"""The leak law: what a target's query knows is strictly older than the target. The same second is not older."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.inputs import history_lengths
from trainer.sequences import NEVER

USERS, LENGTH, ITEMS, MAX_HISTORY = 48, 9, 30, 4


def test_history_lengths_counts_strictly_older_positions():
    timestamps = tf.constant([[5, 5, 7, 7, 7, 9], [1, 2, 3, NEVER, NEVER, NEVER]], tf.int64)
    assert history_lengths(timestamps).numpy().tolist() == [[0, 0, 2, 2, 2, 5], [0, 1, 2, 3, 3, 3]]


@pytest.fixture(scope="module")
def model(make_catalog, make_model):
    return make_model(make_catalog(ITEMS), max_history=MAX_HISTORY)


@pytest.fixture(scope="module")
def sequences():
    """Random sequences with many ties: 9 interactions over 7 seconds."""
    rng = np.random.default_rng(3)
    sizes = (USERS, LENGTH)
    return {
        "item_rows": rng.integers(1, ITEMS + 1, sizes),
        "type_rows": rng.integers(1, 3, sizes),
        "timestamps": np.sort(rng.integers(0, 7, sizes), axis=1),
        "group": rng.integers(0, 3, USERS),
        "age": rng.normal(size=USERS).astype(np.float32),
        "likes": rng.integers(0, 3, (USERS, 2)),
        "bio": rng.integers(0, 5, (USERS, 4)),
        "face": rng.normal(size=(USERS, 2)).astype(np.float32),
        "device": rng.integers(0, 3, sizes),
        "hour": rng.normal(size=sizes).astype(np.float32),
    }


def queries(model, sequences, position):
    """Query embedding of one position of each sequence: [B, D]."""
    is_target = np.zeros((USERS, LENGTH), bool)
    is_target[:, position] = True
    batch = {name: tf.constant(value) for name, value in sequences.items()} | {"is_target": tf.constant(is_target)}
    return model.target_queries(batch, tf.gather(model.embed_catalog(), batch["item_rows"])).numpy()


def changed(sequences, where, seed):
    """Other items and types, where `where` [B, L] says so; the timestamps stay."""
    rng = np.random.default_rng(seed)
    items = (sequences["item_rows"] + rng.integers(1, ITEMS, where.shape) - 1) % ITEMS + 1  # never the same item
    types = 3 - sequences["type_rows"]
    return sequences | {
        "item_rows": np.where(where, items, sequences["item_rows"]),
        "type_rows": np.where(where, types, sequences["type_rows"]),
    }


@pytest.mark.parametrize("position", range(LENGTH))
def test_nothing_at_or_after_a_targets_second_changes_its_query(model, sequences, position):
    now = sequences["timestamps"][:, position, np.newaxis]
    not_older = sequences["timestamps"] >= now
    if position not in (0, LENGTH - 1):
        assert (not_older.sum(axis=1) > LENGTH - position).any()  # the fixture has ties *before* the target
    after = changed(sequences, not_older, seed=position)
    after["timestamps"] = np.where(sequences["timestamps"] > now, sequences["timestamps"] + 50, sequences["timestamps"])
    np.testing.assert_array_equal(queries(model, after, position), queries(model, sequences, position))


@pytest.mark.parametrize("position", range(1, LENGTH))
def test_each_older_interaction_within_the_history_changes_the_query(model, sequences, position):
    older = (sequences["timestamps"] < sequences["timestamps"][:, position, np.newaxis]).sum(axis=1)
    newest = np.arange(LENGTH) == older[:, np.newaxis] - 1
    moved = np.abs(queries(model, changed(sequences, newest, seed=1), position) - queries(model, sequences, position))
    assert ((moved.max(axis=1) > 1e-4) == (older > 0)).all()


def test_an_interaction_beyond_the_history_is_forgotten(model, sequences):
    lengths = (sequences["timestamps"] < sequences["timestamps"][:, -1:]).sum(axis=1)
    assert (lengths > MAX_HISTORY).sum() > 10
    forgotten = np.arange(LENGTH) < (lengths - MAX_HISTORY)[:, np.newaxis]
    after = queries(model, changed(sequences, forgotten, seed=2), LENGTH - 1)
    np.testing.assert_array_equal(after, queries(model, sequences, LENGTH - 1))


def test_a_query_is_the_same_eagerly_and_in_a_graph(model, sequences):
    eager = queries(model, sequences, LENGTH - 1)
    batch = {name: tf.constant(value) for name, value in sequences.items()}
    batch["is_target"] = tf.constant(np.arange(LENGTH) == LENGTH - 1) & tf.ones([USERS, 1], tf.bool)
    graph = tf.function(lambda b: model.target_queries(b, tf.gather(model.embed_catalog(), b["item_rows"])))
    np.testing.assert_allclose(graph(batch), eager, atol=1e-5)
