"""`evergreen data-age`: what it tries, what it recommends from given figures, and a whole run on tastes that change."""

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from components.errors import DataError
from pipeline.commands.data_age import data_age
from pipeline.config import read_config
from pipeline.data_age.find_out import find_out, plan_of
from pipeline.data_age.page import curves, write
from pipeline.data_age.recommendation import Judge, Training, recommend
from pipeline.examples import Prepared

USERS = np.repeat([b"u%d" % number for number in range(60)], 5)


def hits(share, shift=0):
    """[300] of which about `share` are 1; a larger share has all the hits of a smaller one, unless they are shifted."""
    return np.roll(np.random.default_rng(0).random(len(USERS)) < share, shift).astype(np.float32)


def training(window, share, days=None, age=0, shift=0):
    return Training(window_spans=window, half_life_days=days, age_spans=age, targets=9, hits=hits(share, shift))


@pytest.fixture(scope="module")
def judge():
    return Judge(USERS, "recall@10")


def test_ages_are_tried_with_a_window_that_leaves_as_many_spans():
    plan = plan_of((1, 2, 4, 8), (None, 30.0), available=8)
    assert list(plan) == [
        (1, None, 0), (2, None, 0), (4, None, 0), (8, None, 0), (8, 30.0, 0), (4, None, 1), (4, None, 2), (4, None, 4),
    ]  # fmt: skip


def test_windows_shrink_to_the_spans_there_are():
    assert list(plan_of((8, 1, 2, 4), (), available=3)) == [
        (1, None, 0), (2, None, 0), (3, None, 0), (1, None, 1), (1, None, 2),
    ]  # fmt: skip
    assert list(plan_of((1, 2, 4), (None,), available=1)) == [(1, None, 0)]


def test_the_smallest_window_within_noise_of_the_best_is_recommended(judge):
    found = [
        training(1, 0.1),
        training(2, 0.30),
        training(4, 0.32, shift=150),
        training(8, 0.29),
        training(8, 0.2, 7.0),
    ]
    recommendation = recommend(found, hits(0.02), judge)
    assert (recommendation.window_spans, recommendation.half_life_days) == (2, None)
    assert recommendation.sentence.startswith("train on the last 2 spans, no half-life: recall@10 0.")
    lost = 1 - found[0].recall / found[1].recall
    assert recommendation.sentence.endswith(f"; 1 span loses {lost:.0%}")
    assert any("the best figure" in words and "4 spans" in words for words in recommendation.reservations)


def test_a_half_life_that_is_better_beyond_noise_is_recommended(judge):
    recommendation = recommend([training(1, 0.1), training(4, 0.2), training(4, 0.5, 30.0)], hits(0.02), judge)
    assert (recommendation.window_spans, recommendation.half_life_days) == (4, 30.0)
    assert "half-life 30 days" in recommendation.sentence
    assert any("a longer may be better" in words for words in recommendation.reservations)


def test_what_age_costs_is_told_against_the_new_model_of_the_same_window(judge):
    found = [training(2, 0.4), training(4, 0.45), training(2, 0.35, age=1), training(2, 0.2, age=2)]
    sentence = recommend(found, hits(0.02), judge).sentence
    lost = 1 - found[3].recall / found[0].recall
    assert sentence.endswith(f"a model 2 spans old loses {lost:.0%}")


def test_a_difference_is_judged_user_by_user(judge):
    """Their own intervals overlap widely, but whoever the one finds, the other finds too, and more."""
    one, other = training(1, 0.30), training(2, 0.36)
    assert judge.interval(one.hits)[1] > judge.interval(other.hits)[0]
    assert judge.is_worse(one, other)
    assert not judge.is_worse(one, training(2, 0.36, shift=150))  # as much better, but of other users


def test_what_does_not_beat_the_most_popular_items_is_said(judge):
    reservations = recommend([training(1, 0.2)], hits(0.25), judge).reservations
    assert any(f"most popular items alone reach {hits(0.25).mean():.3f}" in words for words in reservations)
    assert any("one window only" in words for words in reservations)


def config_of(path, spans=3, users=40, items=20, length=10):
    """Users walk through the items, in span s by steps of 2 s + 1: what an older span teaches is wrong today."""
    for span in range(1, spans + 1):
        folder = path / "spans" / str(span)
        folder.mkdir(parents=True)
        rows = ["user_id,item_id,interaction_type,timestamp"]
        for user in range(users):
            start = user * 7 + span * 3
            walk = [(start + (2 * span + 1) * step) % items for step in range(length)]
            rows += [f"u{user},i{item},view,{span * 100_000 + user + 1_000 * step}" for step, item in enumerate(walk)]
        (folder / "log.csv").write_text("\n".join(rows) + "\n")
    (path / "items.csv").write_text("item_id\n" + "\n".join(f"i{item}" for item in range(items)) + "\n")
    tree = {
        "name": "walks",
        "data_root": ".",
        "contract": {"interactions": {"types": {"view": 1.0}}},
        "examples": {"max_history": 1, "eval_fraction": 0.3},
        "trainer": {"batch_positions": 64, "learning_rate": 0.01, "dropout": 0.0, "id_dropout": 0.0},
        "index": {"top_k": 1},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(tree))
    return path / "config.yaml"


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    lines = []
    config = read_config(config_of(tmp_path_factory.mktemp("walks")))
    return find_out(config, windows=(1, 4), half_lives=(None, 0.5), say=lines.append), lines


@pytest.mark.slow
def test_where_tastes_change_with_every_span_old_data_and_old_models_are_worse(findings):
    found, _ = findings
    recall = {(t.window_spans, t.half_life_days, t.age_spans): t.recall for t in found.trainings}
    assert set(recall) == {(1, None, 0), (3, None, 0), (3, 0.5, 0), (1, None, 1)}
    assert recall[1, None, 0] > 0.9
    assert recall[1, None, 1] < 0.2  # it knows another step
    assert recall[3, 0.5, 0] > recall[3, None, 0]  # spans are 1.2 days apart
    assert found.recommendation.window_spans == 1
    assert "a model 1 span old loses" in found.recommendation.sentence
    # 40 users, the last 3 of 10 steps
    assert found.settings["judged"] == len(found.popularity_hits) == 120
    assert {t.targets for t in found.trainings if t.window_spans == 1 and t.age_spans} == {400}


@pytest.mark.slow
def test_a_line_per_training_lines_up(findings):
    found, lines = findings
    table = lines[1:]
    assert len(table) == 1 + len(found.trainings) + 1
    assert len({len(line) for line in table}) == 1
    assert "recall@1" in table[0]
    assert "popularity" in table[-1]


@pytest.mark.slow
def test_the_page_the_picture_and_the_figures_are_left(findings, tmp_path):
    found, _ = findings
    page = write(found, tmp_path / "out").read_text()
    assert found.recommendation.sentence[1:] in page
    assert "window_spans: 1" in page
    assert 'src="data_age.png"' in page
    assert (tmp_path / "out" / "data_age.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "out" / "data_age.json").read_text())
    assert figures["recommendation"]["window_spans"] == 1
    assert len(figures["trainings"]) == 4
    assert all(t["low"] <= t["recall@1"] <= t["high"] for t in figures["trainings"])
    labels = {title: [label for label, _ in points] for title, points in curves(found)}
    assert list(labels.values()) == [["1", "3"], ["none", "0.5"], ["0", "1"]]


def test_a_span_without_files_is_named_with_those_that_have_some(tmp_path):
    config = read_config(config_of(tmp_path, spans=2, users=1))
    with pytest.raises(DataError, match=r"nothing for span 7 matches 'spans/\{span\}/\*'.*spans with files: 1, 2"):
        find_out(config, span=7)


def test_numbered_spans_begin_after_the_one_before_whatever_came_late_or_from_a_wrong_clock(tmp_path):
    log = read_config(config_of(tmp_path, spans=1, users=1)).contract.interactions
    prepared = Prepared(folder=tmp_path, cut_seconds=0, last_seconds={3: 9_999, 4: 250, 5: 400}, log=log)
    assert [prepared.start_seconds(span) for span in (3, 4, 5)] == [0, 0, 251]  # span 3 has an event of the far future


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--windows", "1,x"], "numbers of spans such as 1,2,4,8"),
        (["--windows", "0"], "numbers of spans such as 1,2,4,8"),
        (["--half-lives", "none,-3"], "days above 0, and none, such as none,7,30"),
        (["--half-lives", "week"], "days above 0, and none, such as none,7,30"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_in_words(arguments, words):
    answer = CliRunner().invoke(data_age, ["--config", "config.yaml", *arguments])
    assert answer.exit_code == 2
    assert words in answer.output
