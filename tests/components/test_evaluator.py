"""The evaluator: metrics by hand, bounds and their words, and a real TFMA run over two servables of known answers."""

import math

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from components.errors import ServableError
from components.evaluator.config import EvaluationConfig
from components.evaluator.evaluate import comparison_table, evaluate, judge_table
from components.evaluator.rank_metrics import MRR, NDCGAtK, RecallAtK
from components.evaluator.score import score
from components.evaluator.verdict import Row, judge

RANKS = [1.0, 3.0, 10.0, 11.0]


def metric_value(metric, ranks, weights=None):
    metric.update_state(np.zeros((len(ranks), 1)), np.array(ranks)[:, np.newaxis], weights)
    return float(metric.result())


def test_rank_metrics_by_hand():
    assert metric_value(RecallAtK("r", k=10), RANKS) == pytest.approx(3 / 4)
    assert metric_value(NDCGAtK("n", k=10), RANKS) == pytest.approx((1 + 1 / 2 + 1 / math.log2(11)) / 4)
    assert metric_value(MRR("m"), RANKS) == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11) / 4)


def test_rank_metrics_weigh_examples():
    assert metric_value(RecallAtK("r", k=2), [1.0, 3.0], np.array([[3.0], [1.0]])) == pytest.approx(3 / 4)


def test_rank_metrics_are_built_again_from_their_config():
    again = NDCGAtK.from_config(NDCGAtK("n", k=2).get_config())
    assert metric_value(again, RANKS) == pytest.approx(1 / 4)  # rank 3 is beyond 2


def rows(recall=0.30, ndcg=0.20, wide=0.50, baseline=None, popularity=0.40):
    base = baseline or {}
    return [
        Row(slice="overall", metric="recall@10", value=recall, baseline=base.get("recall@10")),
        Row(slice="overall", metric="recall@100", value=wide, popularity=popularity, low=0.45, high=0.55),
        Row(slice="overall", metric="ndcg@10", value=ndcg, baseline=base.get("ndcg@10")),
        Row(slice="user=new", metric="recall@10", value=0.0, baseline=1.0),  # slices inform, they do not decide
    ]


def test_all_bounds_reached_is_a_blessing():
    verdict = judge(rows(), 10, EvaluationConfig())
    assert verdict.is_blessed
    assert all("reaches" in sentence for sentence in verdict.sentences)
    assert verdict.to_json()["metrics"] == {"recall@10": 0.30, "recall@100": 0.50, "ndcg@10": 0.20}


def test_a_floor_is_a_floor_and_reaching_it_exactly_is_enough():
    config = EvaluationConfig(floors={"recall@10": 0.3}, max_drop={}, min_lift_over_popularity=0)
    assert judge(rows(recall=0.3), 10, config).is_blessed
    verdict = judge(rows(recall=0.2999), 10, config)
    assert not verdict.is_blessed
    assert verdict.sentences == ["recall@10 overall is 0.2999: misses the floor 0.3000"]


def test_a_drop_is_relative_to_the_baseline():
    config = EvaluationConfig(floors={}, max_drop={"recall@10": 0.05}, min_lift_over_popularity=0)
    assert judge(rows(recall=0.3801, baseline={"recall@10": 0.4}), 10, config).is_blessed  # 0.95 · 0.4 = 0.38
    verdict = judge(rows(recall=0.3799, baseline={"recall@10": 0.4}), 10, config)
    assert not verdict.is_blessed
    assert "misses 0.3800 (production's 0.4000 less 5%)" in verdict.sentences[0]
    assert judge(rows(recall=0.01), 10, config).is_blessed  # without a baseline there is nothing to drop from


def test_a_model_must_beat_the_most_popular_items():
    config = EvaluationConfig(floors={}, max_drop={}, min_lift_over_popularity=1.5)
    assert judge(rows(wide=0.61), 10, config).is_blessed  # 1.5 · 0.4 = 0.6
    verdict = judge(rows(wide=0.59), 10, config)
    assert not verdict.is_blessed
    assert "misses 1.5 × popularity (0.4000)" in verdict.sentences[0]


def test_what_failed_is_said_first_and_one_failure_of_two_bounds_marks_the_row():
    config = EvaluationConfig(floors={"recall@100": 0.1, "ndcg@10": 0.9}, max_drop={}, min_lift_over_popularity=2.0)
    verdict = judge(rows(), 10, config)
    assert ["misses" in sentence for sentence in verdict.sentences] == [True, True, False]
    wide = next(row for row in verdict.rows if row.metric == "recall@100")
    assert wide.passed is False
    assert wide.bound == "≥ 0.8000"  # the stricter of 0.1 and 2 · 0.4


@pytest.mark.parametrize("where", ["floors", "max_drop"])
def test_an_unknown_metric_is_refused_with_the_known_ones(where):
    config = EvaluationConfig(**{where: {"recall@7": 0.1}})
    with pytest.raises(ValueError, match=rf"{where} names \['recall@7'\].*recall@100") as refused:
        judge(rows(), 10, config)
    assert all(f"'{name}'" in str(refused.value) for name in ("recall@10", "recall@100", "ndcg@10"))


# A real run. 40 held-out interactions; each example carries what each servable answers, so that truth is in view.
RNG = np.random.default_rng(0)
EXAMPLES = pd.DataFrame(
    {
        "good": RNG.integers(1, 12, 40).astype(np.float32),
        "bad": RNG.integers(5, 150, 40).astype(np.float32),
        "popularity_rank": RNG.integers(8, 120, 40).astype(np.float32),
        "probability": RNG.uniform(0.05, 0.95, 40).astype(np.float32),
        "target_popularity": RNG.integers(1, 100, 40).astype(np.float32),
        "history_length": RNG.integers(0, 12, 40).astype(np.float32),
        "is_buy": RNG.integers(0, 2, 40),
    }
)


class FakeServable(tf.Module):
    """Answers with the columns of the example itself; `rank_name` is the column that it calls its rank."""

    def __init__(self, rank_name):
        super().__init__()
        self.rank_name = rank_name

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(self, examples):
        names = ("popularity_rank", "probability", "target_popularity", "history_length", self.rank_name)
        row = tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.float32) for name in names})
        row["rank"] = row.pop(self.rank_name)
        row["strongest_probability"] = row.pop("probability")
        return row


@pytest.fixture(scope="module")
def run_files(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluator")
    for name in ("good", "bad"):
        module = FakeServable(name)
        tf.saved_model.save(module, str(path / name), signatures={"evaluate": module.evaluate})
    tf.saved_model.save(tf.Module(), str(path / "mute"))
    files = [str(path / "eval-0.gz"), str(path / "eval-1.gz")]
    users = []
    for file, part in zip(files, (EXAMPLES[:23], EXAMPLES[23:]), strict=True):
        with tf.io.TFRecordWriter(file, "GZIP") as writer:
            for row in part.to_dict("records"):
                types = [b"view"] * 2 + [b"buy" if row.pop("is_buy") else b"view"]  # the last one is the held-out one
                features = {k: tf.train.Feature(float_list=tf.train.FloatList(value=[v])) for k, v in row.items()}
                user = tf.train.BytesList(value=[f"user{len(users) % 17}".encode()])  # several of the same user
                users.append(user)
                features["user_id"] = tf.train.Feature(bytes_list=user)
                features["interaction_types"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=types))
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path, files


def run(run_files, new, baseline, tmp_path, **config):
    path, files = run_files
    return evaluate(
        pipeline=beam.Pipeline(),
        servable_path=path / new,
        baseline_path=path / baseline if baseline else None,
        eval_files=files,
        strongest_type="buy",
        config=EvaluationConfig(**config),
        output_path=tmp_path,
    )


def slices():
    new_user = EXAMPLES.history_length < 5
    head = EXAMPLES.target_popularity <= 0.2 * EXAMPLES.target_popularity.max()
    assert min(new_user.sum(), (~new_user).sum(), head.sum(), (~head).sum()) > 2
    everyone = np.ones(40, bool)
    return {
        "overall": everyone,
        "user=new": new_user,
        "user=returning": ~new_user,
        "item=head": head,
        "item=tail": ~head,
    }


def ranks_to(metric, ranks):
    if metric == "mrr":
        return float(np.mean(1 / ranks))
    k = int(metric.split("@")[1])
    gain = 1 / np.log2(ranks + 1) if metric.startswith("ndcg") else np.ones(len(ranks))
    return float(np.mean(np.where(ranks <= k, gain, 0)))


def check_figures(verdict, new, baseline):
    found = {(row.slice, row.metric): row for row in verdict.rows}
    for name, where in slices().items():
        for metric in ("recall@10", "recall@100", "ndcg@10", "mrr"):
            row = found[name, metric]
            assert row.value == pytest.approx(ranks_to(metric, EXAMPLES[new][where]), abs=1e-5), (name, metric)
            assert row.popularity == pytest.approx(ranks_to(metric, EXAMPLES.popularity_rank[where]), abs=1e-5)
            if baseline:
                assert row.baseline == pytest.approx(ranks_to(metric, EXAMPLES[baseline][where]), abs=1e-5)
            else:
                assert row.baseline is None
    p, y = EXAMPLES.probability.to_numpy(), EXAMPLES.is_buy.to_numpy()
    log_loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert found["overall", "log_loss"].value == pytest.approx(log_loss, abs=1e-4)
    assert found["overall", "calibration"].value == pytest.approx(p.sum() / y.sum(), abs=1e-4)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]])
    assert found["overall", "auc"].value == pytest.approx(wins, abs=0.01)


def test_a_worse_model_is_not_blessed_and_its_figures_are_those_of_numpy(run_files, tmp_path):
    verdict = run(run_files, "bad", "good", tmp_path, min_lift_over_popularity=0.0)
    assert not verdict.is_blessed
    assert "production's" in verdict.sentences[0]
    assert verdict.num_examples == 40
    check_figures(verdict, "bad", "good")
    overall = next(row for row in verdict.rows if (row.slice, row.metric) == ("overall", "recall@100"))
    assert overall.low < overall.value < overall.high
    assert overall.baseline_low == overall.baseline == overall.baseline_high == 1.0  # the good one never fails


def test_a_first_model_is_judged_by_the_floors_alone(run_files, tmp_path):
    verdict = run(run_files, "good", None, tmp_path, bootstrap_resamples=0)
    assert verdict.is_blessed
    assert not any("production" in sentence for sentence in verdict.sentences)
    check_figures(verdict, "good", None)
    assert all(row.low is None for row in verdict.rows)  # no intervals were asked for


@pytest.mark.parametrize("held_out", ["buy", "view"])
def test_held_out_interactions_of_one_type_have_no_auc_and_a_bound_on_it_is_no_rejection(run_files, tmp_path, held_out):
    """As where one type is positive and the others are negative: eval holds positive types alone."""
    path, files = run_files
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
    with tf.io.TFRecordWriter(str(tmp_path / "eval.gz"), "GZIP") as writer:
        for record in records:
            example = tf.train.Example.FromString(record)
            example.features.feature["interaction_types"].bytes_list.value[:] = [b"view", b"view", held_out.encode()]
            writer.write(example.SerializeToString())
    bounds = {"floors": {"auc": 0.9, "recall@100": 0.5}, "max_drop": {"auc": 0.01}}
    one_type = path, [str(tmp_path / "eval.gz")]
    verdict = run(one_type, "good", "good", tmp_path / "results", min_lift_over_popularity=0.0, **bounds)
    assert verdict.is_blessed
    assert "auc" not in {row.metric for row in verdict.rows}
    assert "auc overall has no figure" in verdict.sentences[0]
    assert len(verdict.sentences) == 2


def test_a_slice_of_one_type_has_no_auc_though_the_whole_has_one(run_files, tmp_path):
    """TFMA calls it 0, the worst there is."""
    answers = EXAMPLES.rename(columns={"good": "rank", "probability": "strongest_probability"})
    config = EvaluationConfig()
    types = np.where(answers["history_length"] < config.new_user_interactions, b"buy", b"view")
    facts = pd.DataFrame({"user_id": [b"u%d" % (i % 17) for i in range(40)], "type": types})
    verdict = judge_table(comparison_table(answers, None, facts, "buy", config), config, beam.Pipeline(), tmp_path)
    assert {row.slice for row in verdict.rows if row.metric == "auc"} == {"overall", "item=head", "item=tail"}
    assert "user=returning" not in {row.slice for row in verdict.rows if row.metric == "calibration"}  # 0 / 0
    assert {row.slice for row in verdict.rows if row.metric == "log_loss"} == {*slices()}


def test_a_servable_without_the_signature_is_named(run_files):
    path, files = run_files
    with pytest.raises(ServableError, match="no signature 'evaluate'"):
        score(path / "mute", files, 10)


def test_no_more_examples_are_scored_than_asked_for(run_files):
    path, files = run_files
    assert score(path / "good", files, 7)["rank"].tolist() == EXAMPLES.good[:7].tolist()


def test_slices_of_the_comparison_table():
    answers = pd.DataFrame(
        {
            "rank": [1.0, 2.0, 3.0],
            "strongest_probability": 0.5,
            "popularity_rank": 1.0,
            "target_popularity": [2.0, 3.0, 10.0],
            "history_length": [4.0, 5.0, 0.0],
        }
    )
    facts = pd.DataFrame({"user_id": [b"u1", b"u2", b"u1"], "type": [b"buy", b"view", b"view"]})
    table = comparison_table(answers, None, facts, "buy", EvaluationConfig())
    assert table["user"].tolist() == ["new", "returning", "new"]  # fewer than 5
    assert table["item"].tolist() == ["head", "tail", "tail"]  # up to 0.2 · 10
    assert table["is_strongest"].tolist() == [1.0, 0.0, 0.0]
