"""Baselines by hand: what counts, what is left out, and the same rule for ranks as the model's."""

import json

import numpy as np
import pytest

from trainer.baseline_report import counted, ranks_of, report_baselines
from trainer.baselines import DAY_SECONDS, CoVisits, Popularity, Sequences
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features
from trainer.sequences import SequenceTable

CONFIG = ModelConfig(
    trainer=TrainerConfig(), features=Features(interaction_types={"view": 1.0, "buy": 3.0, "hide": 0.0}), max_history=3
)
TWO_USERS = Sequences.of([np.array([1, 2, 3, 1]), np.array([2, 3, 0, 4])])


def test_popularity_counts_each_known_interaction_by_its_weight():
    popularity = Popularity(num_items=5)
    weights = np.array([1, 1, 1, 3, 1, 1, 1, 0], np.float32)
    popularity.fit(Sequences(TWO_USERS.rows, TWO_USERS.starts, TWO_USERS.timestamps, weights))
    # item 1: 1 + 3; 2 and 3: twice each; 4: a weight of 0; 5: nothing; the unknown interaction counts for no item
    assert popularity.scores(np.zeros((2, 3), int)).tolist() == [[4, 2, 2, 0, 0]] * 2


def test_popularity_of_some_days_forgets_what_is_older():
    popularity = Popularity(num_items=3, days=2)
    times = np.array([0, 2, 3, 4, 5]) * DAY_SECONDS  # the newest is of day 5, so what came after day 3 counts
    popularity.fit(Sequences(np.array([1, 1, 1, 2, 3]), np.array([0, 2, 5]), times, np.ones(5)))
    assert popularity.counts.tolist() == [0, 1, 1]
    assert popularity.name == "popularity of 2 days"


def test_co_visits_are_shares_of_what_follows_within_the_window_and_never_cross_users():
    chain = CoVisits(num_items=4, window=2)
    chain.fit(TWO_USERS)
    # first user 1 2 3 1: after 1 come 2, 3; after 2: 3, 1; after 3: 1. Second user 2 3 ? 4: after 2 comes 3; after 3,
    # two on, 4. The second user's 2 does not follow the first one's 1, and nothing follows the unknown one.
    expected = np.zeros((5, 5))
    expected[1, [2, 3]] = 1 / 2, 1 / 2
    expected[2, [1, 3]] = 1 / 3, 2 / 3
    expected[3, [1, 4]] = 1 / 2, 1 / 2
    np.testing.assert_allclose(chain.shares.toarray(), expected, rtol=1e-6)


def test_the_window_ends_where_it_says():
    for window, followers in ((1, {2}), (2, {2, 3}), (3, {2, 3, 4})):
        chain = CoVisits(num_items=5, window=window)
        chain.fit(Sequences.of([np.array([1, 2, 3, 4, 5])]))
        assert set(chain.shares[1].nonzero()[1]) == followers


def test_newer_interactions_say_more_and_unknown_ones_take_no_place():
    chain = CoVisits(num_items=4, window=2, last=2)
    chain.fit(TWO_USERS)
    # newest known 3, then 2; 1 is third and too old: p(· | 3) + p(· | 2) / 2 = [1/2 + 1/6, 0, 1/3, 1/2]
    expected = [2 / 3, 0, 1 / 3, 1 / 2]
    histories = np.array([[1, 2, 3, 0, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 0]])
    np.testing.assert_allclose(chain.scores(histories), [expected, expected, [0] * 4], rtol=1e-6)


def test_weights_of_what_follows_decide_and_a_disliked_item_never_follows():
    chain = CoVisits(num_items=3, window=2)
    chain.fit(Sequences(np.array([1, 2, 3]), np.array([0, 3]), np.arange(3), np.array([1.0, 0.0, 3.0])))
    assert chain.shares[1].toarray().tolist() == [[0, 0, 0, 1]]
    assert chain.shares[2].toarray().tolist() == [[0, 0, 0, 1]]


def test_pairs_may_count_backward_and_items_come_again():
    chain = CoVisits(num_items=3, window=1, last=2, backward=0.5, again=0.25)
    chain.fit(Sequences.of([np.array([1, 2, 3])]))
    # 2 is followed by 3 (1) and stands after 1 (1/2): shares 2/3 and 1/3; 1 has only 2 beside it, 3 too
    expected = np.array([[0, 1, 0], [1 / 3, 0, 2 / 3], [0, 1, 0]]) + 0.25 * np.eye(3)
    np.testing.assert_allclose(chain.shares.toarray()[1:, 1:], expected, rtol=1e-6)
    # newest 1, then 2: [1/4, 1, 0] + [1/3, 1/4, 2/3] / 2
    np.testing.assert_allclose(chain.scores(np.array([[2, 1]])), [[5 / 12, 9 / 8, 1 / 3]], rtol=1e-6)


def test_what_was_never_seen_scores_nothing_and_raises_nothing():
    nothing = Sequences.of([])
    for baseline in (Popularity(3), Popularity(3, days=7), CoVisits(3)):
        baseline.fit(nothing)
        assert baseline.scores(np.array([[1, 2]])).tolist() == [[0, 0, 0]]
    single = CoVisits(3)
    single.fit(Sequences.of([np.array([2])]))
    assert single.shares.nnz == 0


def test_pairs_are_kept_sparse():
    rng = np.random.default_rng(0)
    chain = CoVisits(num_items=200_000)
    chain.fit(Sequences.of([rng.integers(1, 200_001, 50) for _ in range(100)]))
    assert chain.shares.nnz <= 100 * (49 + 48 + 47)  # dense, it would be 160 GB


def table(rows, types, targets):
    """Sequences of unequal length, a day between interactions."""
    starts = np.append(0, np.cumsum([len(r) for r in rows]))
    positions = {
        "item_rows": np.concatenate(rows).astype(np.int64),
        "type_rows": np.concatenate(types).astype(np.int64),
        "is_target": np.concatenate(targets).astype(bool),
        "timestamps": np.concatenate([np.arange(len(r)) for r in rows]) * DAY_SECONDS,
    }
    return SequenceTable(starts=starts, positions=positions, users={})


TRAIN = table([[1, 2, 3], [1, 2], [1]], [[1, 1, 3], [1, 2], [0]], [[False, True, True], [False, True], [True]])


def test_sequences_are_read_whole_with_the_weights_of_their_types():
    found = counted(TRAIN, CONFIG)
    assert found.rows.tolist() == [1, 2, 3, 1, 2, 1]
    assert found.starts.tolist() == [0, 3, 5, 6]
    # view, view, hide; view, buy; undeclared
    assert found.weights.tolist() == [1, 1, 0, 1, 3, 0]
    assert found.timestamps.tolist() == [0, DAY_SECONDS, 2 * DAY_SECONDS, 0, DAY_SECONDS, 0]


def test_baselines_are_judged_by_the_rule_of_the_model_and_told(tmp_path, caplog):
    held_out = table([[1, 3], [2], [3, 1, 2]], [[1, 1], [1], [1, 1, 1]], [[False, True], [True], [False, False, True]])
    with caplog.at_level("INFO", logger="evergreen.trainer"):
        report = report_baselines(TRAIN, held_out, num_items=20, config=CONFIG, run_path=tmp_path / "run")
    # Popularity: item 2 has 4, item 1 has 2, the 18 others 0. Target 3 after 1: 2 is above it and the 17 others are
    # tied and count against it: rank 19. Target 2: rank 1, twice (of its history 1 is left out, and so is 3).
    assert report["popularity"]["recall@10"] == pytest.approx(2 / 3)
    assert report["popularity"]["recall@100"] == 1
    assert report["popularity"]["ndcg@10"] == pytest.approx(2 / 3)
    # Co-visits: 1 is followed by 2 alone, so for target 3 after 1 all 19 that compete score as much or more: rank 19;
    # an empty history knows nothing: rank 20; after 3, 1: rank 1.
    assert report["co-visits"] == pytest.approx({"recall@10": 1 / 3, "recall@100": 1, "ndcg@10": 1 / 3})
    assert set(report) == {"popularity", "popularity of 7 days", "co-visits"}
    assert json.loads((tmp_path / "run" / "baselines.json").read_text()) == report
    assert "popularity · recall@10 0.6667 · recall@100 1.0000 · ndcg@10 0.6667" in caplog.text


def test_a_held_out_item_says_nothing_of_itself():
    chain = CoVisits(num_items=5)
    chain.fit(Sequences.of([np.array([2, 2, 2])]))  # 2 follows 2, and an empty history knows nothing: all tie
    (ranks,) = ranks_of(chain, table([[2]], [[1]], [[True]]), 5, (True, True))
    assert ranks.tolist() == [5]


def test_what_the_history_holds_competes_only_where_it_may_be_recommended_again():
    popularity = Popularity(num_items=5)
    popularity.fit(Sequences.of([np.array([1, 1, 1, 2, 2, 3])]))
    rows = [[1, 3], [2, 3], [1, 2, 3], [3]]
    histories = table(rows, [[1] * len(r) for r in rows], [[False] * (len(r) - 1) + [True] for r in rows])
    (ranks,) = ranks_of(popularity, histories, 5, (True, True))
    assert ranks.tolist() == [2, 2, 1, 3]  # 1 and 2 are ahead of 3, where they compete
    (ranks,) = ranks_of(popularity, histories, 5, (False, False))
    assert ranks.tolist() == [3, 3, 3, 3]


def test_ranks_do_not_depend_on_how_many_are_judged_at_a_time():
    rng = np.random.default_rng(1)
    rows = [rng.integers(1, 30, rng.integers(2, 9)).tolist() for _ in range(40)]
    data = table(rows, [[1] * len(r) for r in rows], [[False] * (len(r) - 1) + [True] for r in rows])
    chain = CoVisits(30)
    chain.fit(counted(data, CONFIG))
    (at_once,) = ranks_of(chain, data, 30, (True, True))
    slices = [*ranks_of(chain, data, 30, (True, True), scores_at_a_time=30 * 7)]
    assert [len(ranks) for ranks in slices] == [7] * 5 + [5]
    assert np.concatenate(slices).tolist() == at_once.tolist()
