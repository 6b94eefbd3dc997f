"""What is popular in a context, where the context says anything; asked by users of whom nothing is known."""

import numpy as np
import pytest
import tensorflow as tf

from components.index_builder.context_popularity import (
    HALF_LIFE_SECONDS,
    ContextPopularity,
    Interactions,
    learn,
    targets_of,
)
from components.index_builder.popular import Popular
from tests.components.index_builder.packed import MAX_HISTORY, build, eval_example

NOW = 10_000_000
SHARES = np.array([0.3, 0.2, 0.1])  # of all interactions; 0.4 are with other items


def interactions(places, timestamps=None, **contexts):
    places = np.array(places, dtype=np.int64)
    times = np.full(len(places), NOW) if timestamps is None else np.array(timestamps)
    return Interactions(places, times, {name: np.array(values, dtype=np.int64) for name, values in contexts.items()})


def drawn(size, seed, strength=0.8):
    """On device 1 mostly the first item, on device 2 mostly the third; the weekday says nothing."""
    rng = np.random.default_rng(seed)
    device, weekday = rng.integers(1, 3, size), rng.integers(1, 8, size)
    usual = rng.choice([0, 1, 2, -1], size, p=[0.3, 0.2, 0.1, 0.4])
    places = np.where(rng.random(size) < strength, np.where(device == 1, 0, 2), usual)
    return interactions(places, device=device, weekday=weekday, screen=device)


def test_a_context_that_says_something_counts_and_one_that_does_not_is_left_out():
    sizes = {"weekday": 7, "device": 2}
    found = learn(SHARES, sizes, drawn(5_000, seed=0), drawn(1_000, seed=1), NOW)
    assert dict(found.first) == {"device": 0}
    assert found.table.shape == (3, 3)
    assert not found.table[0].any()
    phone, tablet = np.exp(found.table[1:])  # p(i | v) / p(i)
    # 0.8 + 0.2 · 0.3 = 0.86 of phones take the first item, 0.06 of tablets, 0.46 of both; the third: 0.02, 0.82, 0.42
    np.testing.assert_allclose([phone[0], tablet[0]], [0.86 / 0.46, 0.06 / 0.46], rtol=0.25)
    np.testing.assert_allclose([phone[2], tablet[2]], [0.02 / 0.42, 0.82 / 0.42], rtol=0.25)
    assert found.gains["device"] > 0.3
    assert abs(found.gains["weekday"]) < 0.05


def test_what_two_contexts_both_say_counts_once():
    found = learn(SHARES, {"device": 2, "screen": 2}, drawn(5_000, seed=0), drawn(1_000, seed=1), NOW)
    assert len(found.first) == 1


def test_the_share_in_a_context_is_drawn_to_the_overall_one():
    """Three phones took the first item and three tablets the second; one of each took something else."""
    train = interactions([0, 0, 0, -1, 1, 1, 1, -1], device=[1] * 4 + [2] * 4)
    held_out = interactions([0] * 30 + [1] * 30, device=[1] * 30 + [2] * 30)
    found = learn(SHARES, {"device": 2}, train, held_out, NOW)
    p = (3 + 0.3) / (8 + 1)  # of the first item, overall: 3 of 8, and popularity as one more
    in_phones, in_tablets = (3 + 30 * p) / (4 + 30), (0 + 30 * p) / (4 + 30)  # 30 is the least m there is
    np.testing.assert_allclose(found.table[1:, 0], np.log([in_phones / p, in_tablets / p]), rtol=1e-5)


def test_a_context_that_is_always_the_same_says_nothing():
    train = interactions([0, 1, -1] * 300, device=[1] * 900)  # not as popularity has it: but that is no context
    found = learn(SHARES, {"device": 1}, train, interactions([0, 1, -1] * 100, device=[1] * 300), NOW)
    assert (dict(found.first), found.gains["device"]) == ({}, pytest.approx(0, abs=1e-3))


def test_what_is_older_counts_less():
    times = [NOW, NOW - HALF_LIFE_SECONDS, NOW - 2 * HALF_LIFE_SECONDS]
    train = interactions([0, 1, 2] * 200 + [-1] * 350, times * 200 + [NOW] * 350, device=[1] * 600 + [2] * 350)
    held_out = interactions([0, -1] * 30, device=[1, 2] * 30)
    found = learn(SHARES, {"device": 2}, train, held_out, NOW)
    counts = np.array([200, 100, 50])  # 200 · (1, 1/2, 1/4) on phones, of 350 there and 700 in all
    overall = (counts + SHARES) / 701
    np.testing.assert_allclose(found.table[1], np.log((counts + 30 * overall) / 380 / overall), rtol=1e-4)


def test_without_held_out_interactions_no_context_counts():
    found = learn(SHARES, {"device": 2}, drawn(500, seed=0), interactions([], device=[]), NOW)
    assert (dict(found.first), found.table.shape) == ({}, (1, 3))


def test_only_targets_of_positive_types_are_counted():
    batch = {
        "is_target": np.array([[False, True, True, True]]),
        "item_rows": np.array([[1, 2, 3, 4]]),
        "type_rows": np.array([[1, 1, 2, 0]]),  # 2 is negative, 0 was not declared
        "timestamps": np.array([[5, 6, 7, 8]]),
        "device": np.array([[1, 2, 1, 2]]),
    }
    found = targets_of([batch], ["device"], np.array([-1, 0, 1, -1, 2]), np.array([False, True, False]))
    assert (found.places.tolist(), found.timestamps.tolist()) == ([1], [6])
    assert found.contexts["device"].tolist() == [2]


@pytest.fixture(scope="module", params=[40, 1_200])
def devices(request, world, make_catalog, make_model, tmp_path_factory):
    """Phones take the fifth most popular item, tablets the sixth; the model has its own view of both."""
    model = make_model(make_catalog(request.param), max_history=MAX_HISTORY)
    popular = [model.catalog.ids[i].decode() for i in np.argsort(-model.catalog.popularity[1:])]

    def taken(count, seed):
        rng = np.random.default_rng(seed)
        phones = rng.random(count) < 0.5
        return [eval_example([popular[4 if phone else 5]], device="phone" if phone else "tablet") for phone in phones]

    path = tmp_path_factory.mktemp("devices")
    settings = {"top_k": 6, "num_candidates": 15, "exact_below_items": 256, "min_recall": 0.5}
    return build(world, model, path, train=taken(3_000, 1), held_out=taken(300, 2), **settings), popular


def test_a_stranger_gets_what_is_popular_where_the_stranger_is(devices):
    packed, popular = devices
    on_phones, on_tablets = popular[4].encode(), popular[5].encode()
    scores = {}
    for device in ("phone", "tablet", "", "fridge"):
        only = [item for item in popular if item.encode() not in (on_phones, on_tablets)]
        answer = packed.recommend("stranger", device=device, exclude=only)
        scores[device] = dict(zip(answer.ids, answer.retrieval_scores[0], strict=False))
        assert {reason.decode() for reason in answer.reasons[0]} == {"source=popular", ""}
    # half of all are on phones, and nearly all of these take the one: twice as likely as overall
    assert scores["phone"][on_phones] - scores[""][on_phones] == pytest.approx(np.log(2), abs=0.1)
    assert scores["tablet"][on_tablets] - scores[""][on_tablets] == pytest.approx(np.log(2), abs=0.1)
    assert scores["phone"][on_tablets] - scores[""][on_tablets] < -2
    assert scores["fridge"] == scores[""]  # a device that nobody knows says nothing


def test_the_evaluated_answer_knows_the_context_too(devices):
    packed, _popular = devices
    served = packed.recommend("", device="phone").ids
    examples = [packed.example([target], device="phone") for target in served]
    assert packed.ask("evaluate", examples=examples).rank.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_user_with_a_history_gets_products_wherever_the_user_is(devices):
    packed, _ = devices
    for device, value in (("phone", 1), ("tablet", 2)):
        answer = packed.recommend(history=[packed.ids[3]], device=device)
        products = dict(zip(packed.ids, packed.table()[1:] @ packed.query([4], [2], device=value), strict=True))
        np.testing.assert_allclose(answer.retrieval_scores[0], [products[item] for item in answer.ids], atol=1e-4)


def test_an_unknown_value_of_the_second_context_is_not_the_last_of_the_first():
    both = ContextPopularity({"device": 0, "screen": 2}, np.zeros([6, 2], np.float32), {})
    context = {"device": tf.constant([1, 2, 0], tf.int64), "screen": tf.constant([1, 0, 3], tf.int64)}
    rows = Popular(np.ones(4, np.float32), 2, both).contexts(context, 3)
    assert rows.numpy().tolist() == [[1, 3], [2, 0], [0, 5]]
