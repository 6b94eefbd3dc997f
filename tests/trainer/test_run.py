"""Learning: a planted truth is found, a broken learning rate is refused, and a whole run leaves a model that loads."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features
from trainer.loop import fit, ranks_of, validate
from trainer.run import convert_no_keras_to_graphs, run_fn
from trainer.saved import CONFIG, build, load, load_moments

ITEMS, LENGTH = 12, 7
FEATURES = Features(user=(Feature(name="group"),), interaction_types={"view": 1.0, "buy": 2.0})


@pytest.fixture(autouse=True, scope="module")
def _as_a_run_does():
    convert_no_keras_to_graphs()


def planted(starts, is_eval):
    """Item k + 1 follows k for the first group of users, k − 1 for the second: the same histories, opposite answers."""
    users = [(start, group) for start in starts for group in (1, 2)]
    step = np.array([1 if group == 1 else -1 for _, group in users])
    rows = (
        np.array([start for start, _ in users])[:, np.newaxis] + step[:, np.newaxis] * np.arange(LENGTH)
    ) % ITEMS + 1
    is_target = np.zeros(rows.shape, bool)
    is_target[:, -1 if is_eval else slice(1, None)] = True
    batch = {
        "item_rows": rows,
        "type_rows": np.where(rows > ITEMS // 2, 2, 1),
        "timestamps": np.tile(np.arange(LENGTH), (len(users), 1)),
        "is_target": is_target,
        "group": np.array([group for _, group in users]),
    }
    return tf.data.Dataset.from_tensor_slices(batch).batch(4)


def back_to_the_third(batch):
    rows = batch["item_rows"]
    return {**batch, "item_rows": tf.concat([rows[:, :-1], rows[:, 2:3]], axis=1)}


def planted_model(make_catalog, **settings):
    settings = {"embedding_dim": 16, "dropout": 0.0, "id_dropout": 0.0, **settings}
    config = ModelConfig(trainer=TrainerConfig(**settings), features=FEATURES, max_history=3)
    catalog = make_catalog(ITEMS)
    tf.keras.utils.set_random_seed(1)
    return build(config, catalog, {"group": np.array([b"forward", b"back"])})


@pytest.mark.parametrize("full_softmax_below_items", [20_000, 0], ids=["full", "sampled"])
def test_the_planted_truth_is_found(make_catalog, tmp_path, full_softmax_below_items):
    settings = {"epochs": 25, "learning_rate": 0.02, "uniform_negatives": 20}
    model = planted_model(make_catalog, full_softmax_below_items=full_softmax_below_items, **settings)
    train, held_out = planted(range(ITEMS), is_eval=False), planted(range(0, ITEMS, 2), is_eval=True)
    before = validate(model, held_out)["ndcg@10"]
    fit(model, train, held_out, tmp_path)
    # ndcg@10 of 1 is rank 1 everywhere. Without the group two items are equally likely: (1 + 1/log2(3)) / 2 = 0.82
    after = validate(model, held_out)["ndcg@10"]
    assert before < 0.6
    assert after > 0.93
    (batch,) = planted(range(ITEMS), is_eval=True).unbatch().batch(2 * ITEMS)
    table = model.embed_catalog()
    queries = model.target_queries(batch, tf.gather(table, batch["item_rows"]))
    logits = model.outcome_logits(queries, tf.gather(table, batch["item_rows"][:, -1]), batch["item_rows"][:, -1])
    buy = logits[:, 1].numpy() > logits[:, 0].numpy()
    assert np.mean(buy == (batch["type_rows"][:, -1].numpy() == 2)) > 0.9  # the upper half of the items is bought


@pytest.mark.parametrize(
    ("history_encoder", "mixed_precision"),
    [("mean", False), ("gru", False), ("transformer", False), ("transformer", True)],
)
def test_every_encoder_finds_it_in_every_precision(make_catalog, tmp_path, history_encoder, mixed_precision):
    settings = {"epochs": 25, "learning_rate": 0.01, "ranking_negatives": 0, "patience_epochs": None}
    settings |= {"normalized": False, "temperature": 1.0}  # a length of 1 is made in float32, of whatever precision
    model = planted_model(make_catalog, history_encoder=history_encoder, mixed_precision=mixed_precision, **settings)
    train, held_out = planted(range(ITEMS), is_eval=False), planted(range(0, ITEMS, 2), is_eval=True)
    fit(model, train, held_out, tmp_path)
    assert validate(model, held_out)["ndcg@10"] > 0.93
    assert {v.dtype for v in model.trainable_variables} == {tf.float32}
    (batch,) = planted(range(3), is_eval=True).unbatch().batch(6)
    queries = model.target_queries(batch, tf.gather(model.embed_catalog(), batch["item_rows"]))
    assert queries.dtype == tf.float32
    is_exact_in_bfloat16 = np.all(tf.cast(tf.cast(queries, tf.bfloat16), tf.float32) == queries)
    assert is_exact_in_bfloat16 == mixed_precision


@pytest.mark.parametrize(
    ("exclude_seen", "expected"), [(True, 1), (False, ITEMS), (("view", "buy"), 1), (("buy",), ITEMS), ((), ITEMS)]
)
def test_an_epoch_is_judged_among_what_may_be_recommended(make_catalog, exclude_seen, expected):
    """Everything but the target was viewed, and would be recommended rather."""
    config = ModelConfig(trainer=TrainerConfig(), features=FEATURES, max_history=ITEMS, exclude_seen=exclude_seen)
    model = build(config, make_catalog(ITEMS), {"group": np.array([b"forward", b"back"])})
    model.candidate_tower.ids.assign(tf.zeros_like(model.candidate_tower.ids))  # all items tie, against the target
    batch = {
        "item_rows": np.array([[*range(2, ITEMS + 1), 1]]),
        "type_rows": np.ones((1, ITEMS), int),
        "timestamps": np.arange(ITEMS)[np.newaxis],
        "is_target": np.arange(ITEMS)[np.newaxis] == ITEMS - 1,
        "group": np.array([1]),
    }
    assert ranks_of(model, {name: tf.constant(values) for name, values in batch.items()}).numpy().tolist() == [expected]


def test_learning_stops_when_no_epoch_is_better_and_keeps_the_best(make_catalog, tmp_path, caplog):
    """Judged by the return to an earlier item, which never happens in training: the more is learned, the worse."""
    model = planted_model(make_catalog, epochs=30, patience_epochs=4, learning_rate=0.01)
    judged = planted(range(0, ITEMS, 2), is_eval=True).map(back_to_the_third)
    with caplog.at_level("INFO", logger="evergreen.trainer"):
        fit(model, planted(range(ITEMS), is_eval=False), judged, tmp_path)
    told = [float(found) for found in re.findall(r"ndcg@10 ([\d.]+)", caplog.text)]
    assert len(told) < 30
    assert len(told) == 1 + np.argmax(told) + 4
    assert max(told) > told[-1] + 0.02
    assert validate(model, judged)["ndcg@10"] == pytest.approx(max(told), abs=1e-4)


def test_a_loss_that_explodes_is_an_error_that_says_what_to_do(make_catalog, tmp_path):
    model = planted_model(make_catalog, epochs=3, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"lower learning_rate \(now 1e\+30\)"):
        fit(model, planted(range(4), is_eval=False), planted(range(2), is_eval=True), tmp_path)


def test_targets_that_the_catalog_does_not_know_are_refused(make_catalog, tmp_path):
    unknown = planted(range(2), is_eval=False).map(lambda b: {**b, "item_rows": tf.zeros_like(b["item_rows"])})
    with pytest.raises(ValueError, match=r"none of the 24 targets is an item of the catalog: .*compare the item ids"):
        fit(planted_model(make_catalog), unknown, planted(range(2), is_eval=True), tmp_path)


def test_an_eval_split_without_examples_is_refused(make_catalog, tmp_path):
    with pytest.raises(ValueError, match="the eval split has no example: no epoch can be judged"):
        fit(planted_model(make_catalog), planted(range(2), is_eval=False), planted([], is_eval=True), tmp_path)


@pytest.mark.parametrize("full_softmax_below_items", [20_000, 0], ids=["full", "sampled"])
def test_one_user_and_one_item_are_enough(make_catalog, tmp_path, full_softmax_below_items):
    """All labels alike, nothing to choose from: the loss is finite and the one item is first."""
    trainer = TrainerConfig(embedding_dim=4, epochs=2, full_softmax_below_items=full_softmax_below_items)
    features = Features(interaction_types={"view": 1.0})
    model = build(ModelConfig(trainer=trainer, features=features, max_history=3), make_catalog(1), {})
    user = {
        "item_rows": np.array([[0, 1, 1, 1]]),  # the first is no item of the catalog
        "type_rows": np.ones((1, 4), int),
        "timestamps": np.array([[1, 2, 3, 4]]),
        "is_target": [[True] * 4],
    }
    train = tf.data.Dataset.from_tensor_slices(user).batch(1)
    judged = train.map(lambda batch: {**batch, "is_target": tf.constant([[False] * 3 + [True]])})
    fit(model, train, judged, tmp_path)
    assert validate(model, judged)["ndcg@10"] == 1.0


def test_a_training_split_without_targets_is_refused(make_catalog, tmp_path):
    nothing = planted(range(2), is_eval=False).map(lambda b: {**b, "is_target": tf.zeros_like(b["is_target"])})
    with pytest.raises(ValueError, match="nothing to learn"):
        fit(planted_model(make_catalog), nothing, nothing, tmp_path)


def test_a_batch_of_unknown_targets_teaches_nothing_and_is_not_nan(make_catalog):
    model = planted_model(make_catalog)
    (batch,) = planted([3], is_eval=True)
    unknown = {**batch, "item_rows": tf.concat([batch["item_rows"][:, :-1], tf.zeros([2, 1], tf.int64)], axis=1)}
    assert float(model.compute_loss(batch)) > 0.1
    assert float(model.compute_loss(unknown)) == 0.0


def test_a_heavier_interaction_type_weighs_more_in_the_loss(make_catalog):
    model = planted_model(make_catalog, ranking_weight=0.0)
    (batch,) = planted([3], is_eval=True)  # one target per group, of different losses

    def loss(types):
        rows = tf.concat([batch["type_rows"][:, :-1], tf.constant(types, tf.int64)[:, tf.newaxis]], axis=1)
        return float(model.compute_loss({**batch, "type_rows": rows}))

    first, second = loss([1, 0]), loss([0, 1])  # an undeclared type weighs nothing
    assert abs(first - second) > 1e-4
    assert loss([2, 1]) == pytest.approx((2 * first + second) / 3, rel=1e-4)  # buy weighs 2, view 1


def test_autograph_leaves_keras_alone():
    """The frame of a layer's `call` is its own source while a graph is traced, not generated code."""
    import traceback

    frames = []

    @tf.autograph.experimental.do_not_convert
    def activation(x):
        frames.extend(traceback.extract_stack())
        return x

    layer = tf_keras.layers.Dense(1, activation=activation)
    layer.build([None, 2])
    frames.clear()
    tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([3, 2]))
    files = [
        frame.filename for frame in frames if "dense" in frame.filename or "__autograph_generated" in frame.filename
    ]
    assert any(name.endswith("dense.py") for name in files)
    assert layer.call.__func__.__code__.co_filename in files


def one_target_each(files, path):
    """Transformed sequences as an eval split has them: the last position is the target."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            targets = example.features.feature["is_target"].int64_list.value
            targets[:] = [0] * (len(targets) - 1) + [1]
            writer.write(example.SerializeToString())
    return [str(path)]


def test_a_whole_run_leaves_a_model_that_the_next_run_starts_from(world, tmp_path, caplog):
    config = ModelConfig(
        trainer=TrainerConfig(embedding_dim=4, epochs=1, batch_positions=24), features=world.features, max_history=3
    )

    def run(name, production):
        custom = {
            "config": CONFIG.dump_json(config).decode(),
            "catalog_files": world.catalog_files,
            "catalog_transform_output": world.catalog_transform_graph,
            "production_model": production,
        }
        run_fn(
            SimpleNamespace(
                train_files=world.sequence_files,
                eval_files=one_target_each(world.sequence_files, tmp_path / "eval.gz"),
                transform_output=world.transform_graph,
                serving_model_dir=str(tmp_path / name),
                model_run_dir=str(tmp_path / f"{name}_run"),
                custom_config=custom,
            )
        )
        return load(tmp_path / name)

    with caplog.at_level("INFO", logger="evergreen.trainer"):
        first = run("first", "")
        assert "cold start: there is no model to start from; 5 items came" in caplog.text
        run("second", str(tmp_path / "first"))
    assert "warm start: 5 items stayed, 0 came, 0 left; the optimizer's state came along" in caplog.text
    ledger = json.loads((tmp_path / "second_run" / "vocabulary_ledger.json").read_text())
    assert ledger["vocabularies"]["items"] == {"stayed": 5, "came": 0, "left": 0}
    steps = [load_moments(tmp_path / name).steps for name in ("first", "second")]
    assert steps[1] == 2 * steps[0] > 0  # the same examples once more
    assert sorted(first.catalog.ids.tolist()) == [b"a", b"b", b"c", b"d", b"e"]
