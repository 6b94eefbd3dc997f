"""Transform, through TFT's own Beam implementation, on rows that can be checked by eye (tests/conftest.py)."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from trainer.catalog import Catalog
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features
from trainer.inputs import RowLookup, batches, dense_sequences, read_sequences
from trainer.preprocessing import preprocessing_fn
from trainer.sequences import NEVER

ITEMS = [b"a", b"b", b"c", b"d", b"e"]


@pytest.fixture(scope="module")
def transform(world):
    return tft.TFTransformOutput(world.transform_graph)


@pytest.fixture(scope="module")
def batch(world, transform):
    """The four sequences, through tf.data as the trainer reads them: one padded batch [4, 4], sorted by user."""
    lookups = RowLookup(ITEMS, "items"), RowLookup([b"view", b"buy"], "types")
    config = ModelConfig(trainer=TrainerConfig(), features=world.features, max_history=3)
    (read,) = batches(read_sequences(world.sequence_files, transform, world.features, *lookups), config)
    read = {name: value.numpy() for name, value in read.items()}
    order = np.argsort(read["timestamps"][:, 0])  # u4 (10), u1 (100), u2 (150), u3 (400)
    return {name: value[order] for name, value in read.items()}


@pytest.fixture(scope="module")
def catalog(world):
    return Catalog.read(world.catalog_files, tft.TFTransformOutput(world.catalog_transform_graph), world.features.item)


def test_a_sequence_is_padded_at_its_end_and_its_padding_is_never_history(batch):
    assert batch["item_rows"].tolist() == [[1, 3, 2, 4], [1, 2, 3, 0], [3, 2, 0, 0], [0, 0, 0, 0]]  # zz is unknown
    assert batch["type_rows"].tolist() == [[1, 1, 1, 1], [1, 2, 1, 0], [2, 1, 0, 0], [0, 0, 0, 0]]  # wish is undeclared
    assert batch["timestamps"].tolist() == [
        [10, 20, 30, 40],
        [100, 200, 300, NEVER],
        [150, 150, NEVER, NEVER],
        [400, NEVER, NEVER, NEVER],
    ]
    assert batch["is_target"].sum(axis=1).tolist() == [1, 2, 2, 1]


def test_user_features_are_one_value_each_and_0_where_missing(batch):
    assert batch["group"].tolist() == [1, 1, 2, 0]  # forward twice, back once, u3 has none
    # ages 20 and 40: mean 30, deviation 10; u4 and u2 have none
    np.testing.assert_allclose(batch["age"], [0, -1, 0, 1], atol=1e-5)


def test_user_features_of_several_values_are_padded_and_vectors_are_as_given(batch, transform):
    likes = [b"", *transform.vocabulary_by_name("likes")]
    assert [{likes[row] for row in rows} - {b""} for rows in batch["likes"]] == [
        set(),
        {b"jazz", b"rock"},
        {b"rock"},
        set(),
    ]
    words = [b"", *transform.vocabulary_by_name("bio")]
    assert [[words[row] for row in rows if row] for rows in batch["bio"]] == [
        [],
        [b"plays", b"the", b"piano"],
        [],
        [b"the", b"end"],
    ]
    assert batch["face"].tolist() == [[0, 0], [0.5, -1], [0, 0], [2, 0]]
    assert batch["face"].dtype == np.float32


def test_weights_stay_aligned_with_the_positions(batch):
    assert batch["weights"].tolist() == [[0.125] * 4, [0.25, 0.5, 1, 0], [0.75, 0.75, 0, 0], [1, 0, 0, 0]]


def test_context_stays_aligned_with_the_positions(batch):
    # phone ×7 is word 1, tablet ×1 is word 2; u1's second position has none and keeps its place
    assert batch["device"].tolist() == [[1, 1, 1, 1], [1, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    # known hours: 1, 5 and 3 ×5: mean 3, variance 8/7
    z = 2 / np.sqrt(8 / 7)
    np.testing.assert_allclose(batch["hour"], [[0] * 4, [-z, 0, z, 0], [0] * 4, [0] * 4], atol=1e-5)


def test_a_context_feature_of_several_values_is_refused():
    features = Features(context=(Feature(name="tags", type="categories"),), interaction_types={"view": 1.0})
    keys = ("user_id", "item_ids", "interaction_types", "timestamps", "is_target", "tags")
    inputs = {key: tf.constant([["x"]]) for key in keys}
    from pydantic import TypeAdapter

    with pytest.raises(ValueError, match=r"'tags' is 'categories'; context is 'category' or 'number'"):
        preprocessing_fn(inputs, {"features": TypeAdapter(Features).dump_json(features)})


def test_the_serving_layer_gives_what_training_saw_whatever_the_batch(world, transform, batch):
    lookups = RowLookup(ITEMS, "items"), RowLookup([b"view", b"buy"], "types")
    layer, spec = transform.transform_features_layer(), transform.raw_feature_spec()
    serialized = tf.constant([world.serialize(world.sequences[i]) for i in (3, 0, 1, 2)])  # the order of `batch`
    served = dense_sequences(layer(tf.io.parse_example(serialized, spec)), world.features, *lookups)
    assert served.keys() == batch.keys()
    for name, value in served.items():
        np.testing.assert_allclose(value.numpy(), batch[name], atol=1e-6, err_msg=name)


def test_the_catalog_joins_features_to_vocabulary_rows(catalog):
    row = {item_id: i for i, item_id in enumerate(catalog.ids.tolist(), start=1)}
    assert sorted(row) == ITEMS
    genres = [b"", *catalog.vocabularies["genres"].tolist()]
    names = {item: {genres[g] for g in catalog.features["genres"][r]} - {b""} for item, r in row.items()}
    assert names == {b"a": {b"Comedy", b"Drama"}, b"b": {b"Comedy"}, b"c": set(), b"d": {b"Noir"}, b"e": {b"Comedy"}}
    assert catalog.vocabularies["genres"][0] == b"Comedy"  # most frequent first
    studios = [b"", *catalog.vocabularies["studio"].tolist()]
    assert [studios[catalog.features["studio"][row[i]]] for i in ITEMS] == [b"Xenon", b"", b"Xenon", b"Yale", b"Xenon"]
    # years 1990 and 2010: mean 2000, deviation 10
    np.testing.assert_allclose([catalog.features["year"][row[i]] for i in ITEMS], [-1, 0, 1, 0, 0], atol=1e-5)
    vectors = [catalog.features["image"][row[i]].tolist() for i in ITEMS]
    assert vectors == [[1, 0, 2], [0, 0, 0], [0.5, -1, 0], [0, 0, 0], [3, 3, 3]]
    np.testing.assert_allclose([catalog.popularity[row[i]] for i in ITEMS], [2, 5, 0, 0.5, 1])


def test_row_0_of_the_catalog_is_the_unknown_item(catalog):
    for name, column in catalog.features.items():
        assert len(column) == 6, name
        assert not np.any(column[0]), name


def test_text_is_split_into_lower_case_words_of_any_language(catalog):
    vocabulary = [b"", *catalog.vocabularies["title"].tolist()]
    row = {item_id: i for i, item_id in enumerate(catalog.ids.tolist(), start=1)}
    words = {i: [vocabulary[w].decode() for w in catalog.features["title"][row[i]] if w] for i in ITEMS}
    assert words == {b"a": ["hello", "world"], b"b": ["hello", "again"], b"c": [], b"d": ["été", "1999"], b"e": ["été"]}


def test_a_catalog_with_an_id_twice_is_refused(world, tmp_path):
    transform = tft.TFTransformOutput(world.catalog_transform_graph)
    with pytest.raises(ValueError, match="10 rows for 5 item ids"):
        Catalog.read(world.catalog_files * 2, transform, world.features.item)
