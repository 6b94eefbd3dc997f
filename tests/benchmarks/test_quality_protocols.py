"""Protocols on made files of a handful of users: what is learned, what is asked, and how answers are counted."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.protocols import continual, ml_100k, next_item, rating, two_tower
from benchmarks.protocols.categories import many
from benchmarks.protocols.ease import Ease
from benchmarks.protocols.learned import Unordered, queries, table
from benchmarks.protocols.options import Options
from benchmarks.protocols.questions import (
    mrr,
    ndcg,
    ranks,
    recall,
    recall_and_ndcg_of_lists,
    scores_of,
    to_answer,
    to_learn,
)
from benchmarks.protocols.table import Line, Table
from trainer.baselines import CoVisits, Sequences
from trainer.config import TrainerConfig
from trainer.metrics import ndcg_at_k, rank_of_target, recall_at_k

THREE_USERS = [np.array([1, 2, 3, 4]), np.array([5]), np.array([2, 5, 2])]


def parts_of(sequences: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(sequences.rows, sequences.starts[1:-1])]


# Questions


def test_every_position_but_the_first_is_learned_from_those_before_it():
    examples = to_learn(THREE_USERS)
    assert examples.targets.tolist() == [2, 3, 4, 5, 2]
    expected = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 2], [0, 2, 5]]
    assert examples.histories(slice(None)).tolist() == expected
    assert examples.histories(slice(1, 4), width=2).tolist() == [[1, 2], [2, 3], [0, 2]]


def test_a_question_knows_its_history_and_not_its_answer():
    asked = to_answer(THREE_USERS, np.array([9, 8, 7]))
    assert asked.targets.tolist() == [9, 8, 7]
    assert asked.histories(slice(None)).tolist() == [[1, 2, 3, 4], [0, 0, 0, 5], [0, 2, 5, 2]]


@pytest.mark.parametrize("is_seen_excluded", [True, False])
def test_ranks_are_those_of_the_model_s_own_rule(is_seen_excluded: bool):
    rng = np.random.default_rng(0)
    questions = to_answer([rng.integers(1, 21, size) for size in rng.integers(0, 9, 50)], rng.integers(1, 21, 50))
    scores = rng.integers(0, 5, (50, 20)).astype(np.float32)  # many ties
    seen = questions.histories(slice(None)) if is_seen_excluded else np.zeros((50, 1), np.int64)
    expected = rank_of_target(tf.constant(scores), tf.constant(questions.targets), tf.constant(seen)).numpy()
    found = ranks(questions, lambda part: scores[part], 20, is_seen_excluded)
    assert found.tolist() == expected.tolist()
    assert recall(found, 5) == pytest.approx(float(tf.reduce_mean(recall_at_k(expected, 5))))
    assert ndcg(found, 5) == pytest.approx(float(tf.reduce_mean(ndcg_at_k(expected, 5))), rel=1e-6)


def test_ranks_leave_the_scores_as_they_were():
    scores = np.arange(12, dtype=np.float32).reshape(2, 6)
    ranks(to_answer([np.array([1, 6]), np.array([2])], np.array([3, 4])), lambda part: scores[part], 6, True)
    assert scores.tolist() == np.arange(12).reshape(2, 6).tolist()


def test_mrr_is_cut_at_k():
    assert mrr(np.array([1, 4, 5]), 4) == pytest.approx((1 + 1 / 4) / 3)


def test_lists_of_right_answers_are_counted_by_user():
    questions = to_answer([np.array([1]), np.array([2, 6])])
    scores = np.array([[9, 5, 8, 5, 1, 0], [3, 9, 3, 3, 4, 9]], np.float32)
    # First user: 1 is seen; in order 3 (8), then 2 and 4 (5 each), 5, 6. Right: 2 and 3. 4 ties with 2 and comes first:
    # ranks 1 and 3. Of the first 2 one of two is right: recall 1/2, DCG 1, ideal 1 + 1/log2(3).
    # Second user: 2 and 6 are seen; in order 5 (4), then 1, 3, 4 (3 each). Right: 4, at the end of its tie, rank 4.
    recall_2, ndcg_2 = recall_and_ndcg_of_lists(
        questions, [np.array([2, 3]), np.array([4])], lambda part: scores[part], 6, 2
    )
    assert recall_2 == pytest.approx((1 / 2 + 0) / 2)
    assert ndcg_2 == pytest.approx((1 / (1 + 1 / np.log2(3)) + 0) / 2)
    recall_4, ndcg_4 = recall_and_ndcg_of_lists(
        questions, [np.array([2, 3]), np.array([4])], lambda part: scores[part], 6, 4
    )
    assert recall_4 == 1
    assert ndcg_4 == pytest.approx(((1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)) + 1 / np.log2(5)) / 2)


def test_a_baseline_is_asked_with_the_whole_history():
    chain = CoVisits(num_items=5, last=2)
    chain.fit(Sequences.of(THREE_USERS))
    asked = to_answer(THREE_USERS, np.array([1, 1, 1]))
    assert scores_of(chain, asked)(slice(0, 1)).tolist() == chain.scores(np.array([[3, 4]])).tolist()


# Sequences as the Trainer reads them


def test_without_an_order_each_epoch_has_another_one_and_loses_nothing():
    examples = to_learn([np.arange(1, 30), np.array([7])], [np.arange(29) % 5 + 1, np.array([4])])
    unordered, rng = Unordered(**vars(table(examples))), np.random.default_rng(1)
    first, second = (unordered.in_new_order(rng).positions for _ in range(2))
    assert first["item_rows"].tolist() != second["item_rows"].tolist()
    for read in (first, second):
        assert sorted(read["item_rows"][:29].tolist()) == [*range(1, 30)]
        assert read["item_rows"][29] == 7
        assert read["type_rows"].tolist() == [*((read["item_rows"][:29] - 1) % 5 + 1), 4]
        assert read["is_target"].tolist() == [False, *[True] * 28, False]
        assert read["timestamps"].tolist() == [*range(29), 0]


def test_with_an_order_sequences_are_as_they_came():
    read = table(to_learn(THREE_USERS, users={"age": np.array([1.0, 2.0, 3.0])}))
    assert read.in_new_order(np.random.default_rng(1)) is read
    assert read.positions["item_rows"][:4].tolist() == [1, 2, 3, 4]
    assert read.users["age"].tolist() == [1, 2, 3]


def test_queries_come_in_the_order_of_their_targets():
    rng = np.random.default_rng(0)
    examples = to_learn([rng.integers(1, 50, size) for size in rng.integers(1, 400, 300)], users={"n": np.arange(300)})

    class Echo:
        """A query is the item and the user that it is asked for."""

        def embed_catalog(self):
            return tf.zeros([51, 2])

        def target_queries(self, batch, items):
            users = tf.repeat(batch["n"][:, tf.newaxis], tf.shape(items)[1], axis=1)
            pairs = tf.stack([batch["item_rows"], users], axis=-1)
            return tf.cast(tf.boolean_mask(pairs, batch["is_target"]), tf.float32)

    found = queries(Echo(), examples)
    np.testing.assert_array_equal(found[:, 0], examples.targets)
    np.testing.assert_array_equal(found[:, 1], examples.sequences.owners[examples.positions])


# Next item


@pytest.fixture
def ml_1m(tmp_path: Path) -> Path:
    (tmp_path / "ml-1m.txt").write_text("1 1\n1 2\n1 3\n1 4\n2 4\n2 2\n2 1\n")
    (tmp_path / "sas_to_original_items.txt").write_text("1 30\n2 10\n3 20\n4 40\n")
    (tmp_path / "sas_to_original_users.txt").write_text("1 7\n2 6\n")
    (tmp_path / "movies.dat").write_bytes(
        "10::One (1990)::Drama\n20::Two (2)::Three (1994)::Comedy\n".replace("Two (2)::Three", "Two (2) Three").encode()
        + "30::Amélie (2000)::Comedy|Drama\n40::Four (1996)::War\n".encode("latin-1")
    )
    (tmp_path / "users.dat").write_text("6::F::25::3::zip\n7::M::18::9::zip\n")
    return tmp_path


def test_next_item_learns_all_but_two_and_asks_for_one_then_the_other(ml_1m: Path):
    log = next_item.read(ml_1m)
    assert log.num_items == 4
    data = next_item.splits(log)
    assert parts_of(data.train.sequences) == [[1, 2], [4]]
    assert data.validation.targets.tolist() == [3, 2]
    assert data.validation.histories(slice(None)).tolist() == [[1, 2], [0, 4]]
    assert data.test.targets.tolist() == [4, 1]
    assert data.test.histories(slice(None)).tolist() == [[1, 2, 3], [0, 4, 2]]


def test_next_item_refuses_users_who_cannot_be_split():
    with pytest.raises(ValueError, match="1 users have fewer than 3"):
        next_item.splits(next_item.Log(parts=[np.array([1, 2])], num_items=2))


def test_a_request_holds_the_newest_of_a_long_history():
    long = np.arange(1, next_item.MAX_HISTORY + 6)
    asked = next_item.recent(
        to_answer([np.array([1]), long], np.array([2, 3]), users={"n": np.array([8, 9])}), np.array([1])
    )
    assert asked.histories(slice(None)).tolist() == [long[5:].tolist()]
    assert asked.targets.tolist() == [3]
    assert asked.users["n"].tolist() == [9]


def test_features_are_joined_through_both_numberings(ml_1m: Path):
    _, users, items, user_names, item_names = next_item.features_of(ml_1m, next_item.read(ml_1m))
    # row 1 is film 30, row 2 film 10, row 3 film 20, row 4 film 40; row 0 is unknown
    genres = [{item_names["genres"][row - 1].decode() for row in rows if row} for rows in items["genres"]]
    assert genres == [set(), {"Comedy", "Drama"}, {"Drama"}, {"Comedy"}, {"War"}]
    # years 2000, 1990, 1994, 1996: mean 1995, variance (25 + 25 + 1 + 1) / 4 = 13
    np.testing.assert_allclose(items["year"], np.array([0, 5, -5, -1, 1]) / np.sqrt(13), rtol=1e-6)
    assert [user_names["gender"][row - 1] for row in users["gender"]] == [b"M", b"F"]
    assert [user_names["age"][row - 1] for row in users["age"]] == [b"18", b"25"]


# Two towers


@pytest.fixture
def gowalla(tmp_path: Path) -> Path:
    (tmp_path / "train_from_s_adj_mat.txt").write_text("0 0 1 2\n1 3\n2 " + " ".join(map(str, range(40))) + "\n")
    (tmp_path / "test.txt").write_text("0 4 5\n1\n2 41\n")
    return tmp_path


def test_two_tower_rows_begin_at_one(gowalla: Path):
    split = two_tower.read(gowalla)
    assert split.num_items == 42
    assert [sorted(rows) for rows in split.histories[:2]] == [[1, 2, 3], [4]]
    assert split.histories[2].tolist() != sorted(split.histories[2])  # mixed, as while learning
    assert [rows.tolist() for rows in split.answers] == [[5, 6], [], [42]]
    asked, answers = two_tower.questions(split)  # the second user has nothing to find
    assert len(asked.targets) == len(answers) == 2


def test_what_is_held_out_to_choose_is_learned_no_more_and_nothing_is_lost(gowalla: Path):
    split = two_tower.read(gowalla)
    chosen_on = two_tower.held_out(split)
    for whole, kept, asked in zip(split.histories, chosen_on.histories, chosen_on.answers, strict=True):
        assert not set(kept) & set(asked)
        assert sorted([*kept, *asked]) == sorted(whole)
    assert [len(asked) for asked in chosen_on.answers] == [1, 0, 8]  # a fifth, at least one, and never all


def test_what_is_held_out_leans_to_popular_items():
    histories = [np.array([1, user]) for user in range(2, 1_002)]  # item 1 has 1,000 visits, each other one
    nothing = [np.zeros(0, np.int64)] * len(histories)
    held_out = two_tower.held_out(two_tower.Split(histories=histories, answers=nothing, num_items=1_001))
    share = np.mean([rows.tolist() == [1] for rows in held_out.answers])
    odds = 1_000**0.2  # 3.98 to 1
    assert share == pytest.approx(odds / (1 + odds), abs=0.05)  # 0.799, deviation 0.013


# Week by week


@pytest.fixture
def weeks(tmp_path: Path) -> Path:
    """Sessions are interleaved; item 90 is new in period 1, item 70 in period 2."""
    for period, clicks in enumerate(
        (
            [(5, 50), (3, 30), (5, 30), (3, 50), (5, 10)],
            [(1, 90), (2, 10), (1, 30), (2, 30)],
            [(8, 70), (8, 90), (8, 30), (9, 70), (9, 50)],
        )
    ):
        lines = [f"{session} {item}\n" for session, item in clicks]
        (tmp_path / f"period_{period}.txt").write_text("".join(lines))
    return tmp_path


def test_sessions_are_put_together_and_items_numbered_as_they_come(weeks: Path):
    read = continual.read(weeks)
    # 50 → 1, 30 → 2, 10 → 3, 90 → 4, 70 → 5; sessions in order of their number
    assert [[rows.tolist() for rows in week.sessions] for week in read] == [
        [[2, 1], [1, 2, 3]],
        [[4, 2], [3, 2]],
        [[5, 4, 2], [5, 1]],
    ]
    assert [week.num_seen for week in read] == [3, 4, 5]


def test_a_test_has_every_prefix_and_no_item_that_nobody_had_seen(weeks: Path):
    read = continual.read(weeks)
    asked = continual.test_of(read[1], read[0].num_seen)  # 90 is taken out, and its session is one click then
    assert parts_of(asked.sequences) == [[3, 2]]
    asked = continual.test_of(read[2], read[1].num_seen)
    assert parts_of(asked.sequences) == [[4, 2]]
    assert continual.test_of(read[0], 3).targets.tolist() == [1, 2, 3]


def test_a_lesson_learns_its_period_and_replays_only_older_ones():
    rng = np.random.default_rng(0)
    read = [
        continual.Week(sessions=[rng.integers(100 * p, 100 * (p + 1), 3) for _ in range(20)], num_seen=1)
        for p in range(3)
    ]
    first, second = continual.lessons(read, np.random.default_rng(1), replay=0.5)
    # 20 sessions of 3: 2 held out, 18 learned; then half as many older ones; all targets but the first of each session
    assert len(parts_of(first.train.sequences)) == 18
    learned = parts_of(second.train.sequences)
    assert [sum(rows[0] // 100 == period for rows in learned) for period in range(3)] == [9, 18, 0]
    held_out = [[*history[history > 0], target] for history, target in zip(
        second.validation.histories(slice(None)), second.validation.targets, strict=True)]  # fmt: skip
    assert len(held_out) == 2
    assert not any(rows in learned for rows in held_out)
    assert first.num_targets_of_everything == 18 * 2
    assert second.num_targets_of_everything == 36 * 2


def test_one_period_cannot_be_judged(tmp_path: Path):
    (tmp_path / "period_0.txt").write_text("1 1\n")
    with pytest.raises(ValueError, match="2 or more"):
        continual.read(tmp_path)


# MovieLens 100K

RATINGS = [("2", "20", 4, 300), ("1", "10", 5, 100), ("1", "20", 1, 200), ("2", "10", 2, 50)]
ITEMS = [("20", "Two", ["War", "Drama"]), ("10", "One", []), ("30", "Three", ["War"])]
USERS = [("1", "20", "M", "writer"), ("2", "40", "F", "doctor"), ("3", "30", "F", "writer")]


def test_ratings_become_rows_in_order_of_time():
    made = ml_100k.arrays(RATINGS, ITEMS, USERS)
    assert (made.num_users, made.num_items) == (3, 3)
    assert made.user.tolist() == [1, 0, 0, 1]
    assert made.item.tolist() == [2, 2, 1, 1]
    assert made.rating.tolist() == [2, 5, 1, 4]
    assert [{made.item_vocabularies["genres"][g - 1] for g in row if g} for row in made.items["genres"]] == [
        set(),
        {b"War", b"Drama"},
        set(),
        {b"War"},
    ]
    np.testing.assert_allclose(made.users["age"], np.array([-10, 10, 0]) / np.sqrt(200 / 3), rtol=1e-6)
    by_user = ml_100k.by_user(made, np.array([0, 1, 3]), made.rating)
    assert [rows.tolist() for rows in by_user] == [[5], [2, 4], []]


def test_what_is_chosen_on_is_never_what_is_tested():
    test, again, validation = (ml_100k.split(1_000, judged, 3) for judged in ("test", "test", "validation"))
    assert np.array_equal(test.asked, again.asked)
    assert sorted([*test.train, *test.asked]) == [*range(1_000)]
    assert len(test.asked) == 200
    assert sorted([*validation.train, *validation.asked]) == sorted(test.train)
    assert len(validation.asked) == 80
    assert not np.array_equal(ml_100k.split(1_000, "test", 4).asked, test.asked)


def test_biases_are_the_ridge_solution():
    made = ml_100k.arrays(RATINGS, ITEMS, USERS)
    parts = ml_100k.Split(train=np.array([1, 2]), asked=np.array([0, 3]))  # user 0 gave 5 to item 2 and 1 to item 1
    # mean 3. With b_u = 0 by symmetry, b_2 = −b_1 = b minimises 2 (2 − b)² + 2 λ b²: b = 2 / (1 + λ) = 2 / 3
    found = rating.bias_ratings(made, parts, regularization=2.0)
    np.testing.assert_allclose(found, [3 + 2 / 3, 3 - 2 / 3])  # user 1 is unknown: items 2 and 1 alone
    assert rating.rmse(found, made.rating[parts.asked]) == pytest.approx(np.sqrt(((5 / 3) ** 2 + (5 / 3) ** 2) / 2))


def test_a_folder_without_the_files_is_told(tmp_path: Path):
    with pytest.raises(ValueError, match=r"neither u\.data"):
        ml_100k.read(tmp_path)
    sys.path.remove(str(ml_100k.EXAMPLES))


def test_ease_never_recommends_an_item_for_itself():
    ease = Ease(num_items=2, regularization=1.0)
    ease.fit(Sequences.of([np.array([1, 2]), np.array([1])]))
    # XᵀX + I = [[3, 1], [1, 2]], its inverse [[2, −1], [−1, 3]] / 5; B_12 = −P_12 / P_22 = 1/3, B_21 = 1/2
    np.testing.assert_allclose(ease.weights, [[0, 1 / 3], [1 / 2, 0]], atol=1e-6)
    np.testing.assert_allclose(ease.scores(np.array([[0, 1], [2, 1]])), [[0, 1 / 3], [1 / 2, 1 / 3]], atol=1e-6)


def test_categories_of_nothing_are_zeros():
    rows, names = many([["b", "a"], [], ["b"]])
    assert names.tolist() == [b"a", b"b"]
    assert rows.tolist() == [[2, 1], [0, 0], [2, 0]]


# The command line and the table


def test_settings_are_checked_and_win_over_the_record():
    options = Options(overrides={"embedding_dim": 128}, epochs=3)
    config = options.config(TrainerConfig(epochs=9, learning_rate=0.5), seed=7)
    assert (config.embedding_dim, config.epochs, config.seed, config.learning_rate) == (128, 3, 7, 0.5)
    with pytest.raises(ValueError, match=r"unknown keys \['embeding_dim'\]; known: .*'embedding_dim'"):
        Options(overrides={"embeding_dim": 128})


def test_the_test_never_chooses_the_epoch() -> None:
    patient, record = {"patience_epochs": 2}, TrainerConfig(patience_epochs=None)
    with pytest.raises(ValueError, match="choose it with --judged validation"):
        Options(overrides=patient).config(record, seed=1)
    assert Options(overrides=patient, judged="validation").config(record, seed=1).patience_epochs == 2
    assert Options(overrides=patient).config(TrainerConfig(), seed=1).patience_epochs == 2  # it has a split of its own


def test_a_table_lines_up_and_says_whether_the_bar_is_met():
    table = Table(
        title="T",
        metrics=("HR@10", "NDCG@10"),
        ours=[Line("good", (0.3, 0.2)), Line("bad", (0.9, 0.1999), "1 min")],
        baselines=[Line("a baseline with quite a long name", (0.1, None))],
        published=[Line("paper", (None, 0.15), "source")],
        bar=(None, 0.2),
    )
    lines = str(table).splitlines()
    columns = [line.index(figure) + len(figure) for line, figure in zip(lines[3:5], ("0.2000", "0.1999"), strict=True)]
    assert columns == [len(lines[1])] * 2
    assert "good: the bar is met" in str(table)
    assert "bad: the bar is NOT met" in str(table)
    both = Table(
        title="T",
        metrics=("recall", "read"),
        ours=[Line("x", (0.5, 0.25))],
        baselines=[],
        published=[],
        bar=(0.5, 0.25),
        less_is_better=("read",),
    )
    assert both.is_met(Line("x", (0.5, 0.25)))
    assert not both.is_met(Line("x", (0.49, 0.2)))
    assert not both.is_met(Line("x", (0.6, 0.26)))
    *_, at_least, at_most, _ = str(both).splitlines()
    assert at_least.split() == ["at", "least", "0.5000", "–"]
    assert at_most.split() == ["at", "most", "–", "0.2500"]
