"""What is saved is read back the same: the catalog, and the model with everything that it computes."""

import json

import numpy as np
import pytest
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.optimizer import Moments, adam
from trainer.saved import load, load_moments, save


def test_a_catalog_survives_its_file(make_catalog, tmp_path):
    catalog = make_catalog(17)
    catalog.save(tmp_path / "catalog.npz")
    read = Catalog.load(tmp_path / "catalog.npz")
    assert read.ids.tolist() == catalog.ids.tolist()
    np.testing.assert_array_equal(read.popularity, catalog.popularity)
    for group in ("features", "vocabularies"):
        before, after = getattr(catalog, group), getattr(read, group)
        assert before.keys() == after.keys()
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])
            assert after[name].dtype == before[name].dtype


@pytest.fixture(scope="module", params=[False, True], ids=["types", "grades"])
def model(make_catalog, make_model, request):
    return make_model(make_catalog(17), seed=7, graded_types=request.param)


@pytest.fixture(scope="module")
def path(model, world, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved")
    save(model, path, world.transform_graph, world.catalog_transform_graph)
    return path


def queries_and_logits(model):
    """Queries of two targets with history, and the logits of all pairs: [2, D], [2, 17, types]."""
    batch = {
        "item_rows": tf.constant([[3, 9, 4], [17, 0, 1]], tf.int64),
        "type_rows": tf.constant([[1, 2, 1], [2, 0, 1]], tf.int64),
        "timestamps": tf.constant([[1, 2, 3], [1, 2, 2]], tf.int64),
        "is_target": tf.constant([[False, False, True]] * 2),
        "group": tf.constant([1, 0], tf.int64),
        "age": tf.constant([0.5, -1.0]),
        "likes": tf.constant([[1, 2], [1, 0]], tf.int64),
        "bio": tf.constant([[3], [0]], tf.int64),
        "face": tf.constant([[0.5, -1.0], [2.0, 0.0]]),
        "device": tf.constant([[0, 1, 2], [1, 1, 0]], tf.int64),
        "hour": tf.constant([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
    }
    table = model.embed_catalog()
    queries = model.target_queries(batch, tf.gather(table, batch["item_rows"]))
    pairs = tf.repeat(queries[:, tf.newaxis], 17, axis=1), tf.repeat(table[tf.newaxis, 1:], 2, axis=0)
    rows = tf.tile(tf.range(1, 18)[tf.newaxis], [2, 1])
    return queries.numpy(), model.outcome_logits(*pairs, rows).numpy()


def test_a_loaded_model_computes_the_same(model, path):
    for before, after in zip(queries_and_logits(model), queries_and_logits(load(path)), strict=True):
        assert np.ptp(before) > 0.1  # a model of zeros would pass otherwise
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_loaded_model_keeps_its_configuration_and_vocabularies(model, path):
    loaded = load(path)
    assert loaded.config == model.config
    assert {n: v.tolist() for n, v in loaded.side_vocabularies.items()} == {
        n: v.tolist() for n, v in model.side_vocabularies.items()
    }
    assert (path / "transform_graph" / "transform_fn").exists()
    assert (path / "catalog_transform_graph" / "transform_fn").exists()


def test_what_the_optimizer_knows_is_kept_beside_the_model(make_catalog, make_model, world, path, tmp_path):
    assert load_moments(path) is None  # of a model that learned nothing
    model = make_model(make_catalog(5), seed=1)
    rng = np.random.default_rng(2)
    shapes = [variable.shape for variable in model.trainable_variables]
    first, second = (tuple(rng.uniform(size=shape).astype(np.float32) for shape in shapes) for _ in range(2))
    rate = tf.keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(optimizer=adam(rate, model.trainable_variables, Moments(40, first, second)))
    save(model, tmp_path, world.transform_graph, world.catalog_transform_graph)
    read = load_moments(tmp_path)
    assert read.steps == 40
    for before, after in ((first, read.first), (second, read.second)):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(ValueError, match=r"config.json is missing; expected the output of a Trainer"):
        load(tmp_path)


def test_weights_that_do_not_fit_are_refused(model, world, tmp_path):
    save(model, tmp_path, world.transform_graph, world.catalog_transform_graph)
    config = json.loads((tmp_path / "config.json").read_text())
    config["trainer"]["embedding_dim"] = 6
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"(?i)incompatible|do not fit|shape"):
        load(tmp_path)
