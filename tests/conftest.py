"""A small world behind real Transform graphs, shared by the tests of everything that learns, packs or judges.

Four users and five items, by hand, so that every transformed number can be derived by eye; random catalogs and models
of any size on top of the same graphs (the sequence graph knows no item).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAN = float("nan")
SEQUENCES: list[dict[str, Any]] = [
    {
        "user_id": ["u1"],
        "group": ["forward"],
        "age": [20.0],
        "likes": ["jazz", "rock"],
        "bio": ["Plays the piano"],
        "face": [0.5, -1.0],
        "item_ids": ["a", "b", "c"],
        "interaction_types": ["view", "buy", "view"],
        "timestamps": [100, 200, 300],
        "device": ["phone", "", "tablet"],
        "hour": [1.0, NAN, 5.0],
        "is_target": [0, 1, 1],
        "weights": [0.25, 0.5, 1.0],
    },
    {
        "user_id": ["u2"],
        "group": ["back"],
        "age": [],
        "likes": ["rock"],
        "bio": [],
        "face": [],
        "item_ids": ["c", "b"],
        "interaction_types": ["buy", "view"],
        "timestamps": [150, 150],  # the same second
        "device": ["phone", "phone"],
        "hour": [3.0, NAN],
        "is_target": [1, 1],
        "weights": [0.75, 0.75],
    },
    {
        "user_id": ["u3"],
        "group": [],
        "age": [40.0],
        "likes": [],
        "bio": ["the end"],
        "face": [2.0, 0.0],
        "item_ids": ["zz"],  # in no catalog
        "interaction_types": ["wish"],  # not declared
        "timestamps": [400],
        "device": [""],
        "hour": [NAN],
        "is_target": [1],
        "weights": [1.0],
    },
    {
        "user_id": ["u4"],
        "group": ["forward"],
        "age": [],
        "likes": [],
        "bio": [],
        "face": [],
        "item_ids": ["a", "c", "b", "d"],
        "interaction_types": ["view"] * 4,
        "timestamps": [10, 20, 30, 40],
        "device": ["phone"] * 4,
        "hour": [3.0] * 4,
        "is_target": [0, 0, 0, 1],
        "weights": [0.125] * 4,
    },
]
CATALOG: list[dict[str, Any]] = [
    {
        "item_id": [item_id],
        "genres": genres,
        "studio": studio,
        "year": year,
        "title": title,
        "image": image,
        "popularity": popularity,
    }
    for item_id, genres, studio, year, title, image, popularity in (
        ("a", ["Comedy", "Drama"], ["Xenon"], [1990.0], ["Hello, World!"], [1.0, 0.0, 2.0], [2.0]),
        ("b", ["Comedy"], [], [], ["hello  again"], [], [5.0]),
        ("c", [], ["Xenon"], [2010.0], [], [0.5, -1.0, 0.0], []),
        ("d", ["Noir"], ["Yale"], [], ["Été 1999"], [], [0.5]),
        ("e", ["Comedy"], ["Xenon"], [], ["ÉTÉ"], [3.0, 3.0, 3.0], [1.0]),
    )
]
INTEGERS = {"timestamps", "is_target"}
FLOATS = {"age", "face", "hour", "weights", "year", "image", "popularity"}


def serialized_example(row: Mapping[str, Sequence[Any]]) -> bytes:
    """One tf.Example; a feature's type is that of its values, and an empty list is a missing value."""
    import tensorflow as tf

    def value(name: str, values: Sequence[Any]) -> tf.train.Feature:
        if name in INTEGERS:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        if name in FLOATS:
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    features = {name: value(name, values) for name, values in row.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@dataclass(frozen=True)
class World:
    """Declared features; the transform graphs of SEQUENCES and CATALOG; the transformed examples as files."""

    features: Any
    path: Path
    sequences: list[dict[str, Any]] = field(default_factory=lambda: SEQUENCES)
    catalog: list[dict[str, Any]] = field(default_factory=lambda: CATALOG)

    @property
    def transform_graph(self) -> str:
        return str(self.path / "sequences" / "graph")

    @property
    def catalog_transform_graph(self) -> str:
        return str(self.path / "catalog" / "graph")

    @property
    def sequence_files(self) -> list[str]:
        return sorted(map(str, (self.path / "sequences").glob("data*")))

    @property
    def catalog_files(self) -> list[str]:
        return sorted(map(str, (self.path / "catalog").glob("data*")))

    @staticmethod
    def serialize(row: Mapping[str, Sequence[Any]]) -> bytes:
        return serialized_example(row)

    @staticmethod
    def write(path: Path, rows: Sequence[Mapping[str, Sequence[Any]]]) -> str:
        """Writes examples as InteractionExampleGen does: TFRecord, gzip."""
        import tensorflow as tf

        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in rows:
                writer.write(serialized_example(row))
        return str(path)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Runs both preprocessing functions through TFT's Beam implementation, once a session."""
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from pydantic import TypeAdapter
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from trainer.features import Feature, Features
    from trainer.preprocessing import catalog_preprocessing_fn, preprocessing_fn

    features = Features(
        user=(
            Feature(name="group"),
            Feature(name="age", type="number"),
            Feature(name="likes", type="categories"),
            Feature(name="bio", type="text"),
            Feature(name="face", type="vector", dim=2),
        ),
        item=(
            Feature(name="genres", type="categories"),
            Feature(name="studio"),
            Feature(name="year", type="number"),
            Feature(name="title", type="text"),
            Feature(name="image", type="vector", dim=3),
        ),
        context=(Feature(name="device"), Feature(name="hour", type="number")),
        interaction_types={"view": 1.0, "buy": 3.0},
    )
    made = World(features, tmp_path_factory.mktemp("world"))
    custom_config = {"features": TypeAdapter(Features).dump_json(features).decode()}
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(made.path / "tmp")):
        for name, rows, function in (
            ("sequences", SEQUENCES, preprocessing_fn),
            ("catalog", CATALOG, catalog_preprocessing_fn),
        ):
            types = {
                key: tf.int64 if key in INTEGERS else tf.float32 if key in FLOATS else tf.string for key in rows[0]
            }
            spec = {key: tf.io.VarLenFeature(dtype) for key, dtype in types.items()}
            metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
            data = pipeline | f"{name}Rows" >> beam.Create(rows)
            analyze = tft_beam.AnalyzeAndTransformDataset(partial(function, custom_config=custom_config))
            (transformed, out), graph = (data, metadata) | name >> analyze
            _ = graph | f"{name}Graph" >> tft_beam.WriteTransformFn(str(made.path / name / "graph"))
            _ = metadata | f"{name}Raw" >> tft_beam.WriteMetadata(
                str(made.path / name / "graph" / "metadata"), pipeline
            )
            _ = (
                transformed
                | f"{name}Encode" >> beam.Map(tft.coders.ExampleProtoCoder(out.schema).encode)
                | f"{name}Write"
                >> beam.io.WriteToTFRecord(str(made.path / name / "data"), file_name_suffix=".gz", num_shards=1)
            )
    return made


@pytest.fixture(scope="session")
def make_catalog() -> Callable[..., Any]:
    """A random catalog with the item features that World declares: (number of items, seed) → Catalog."""
    from trainer.catalog import Catalog

    def make(num_items: int, seed: int = 0) -> Catalog:
        rng = np.random.default_rng(seed)
        vocabularies = {
            "genres": np.array([b"Comedy", b"Drama", b"Noir", b"Silent"]),  # no item is Silent
            "studio": np.array([b"Xenon", b"Yale"]),
            "title": np.array([b"hello", b"world", b"again"]),
        }
        genres = rng.integers(0, 4, (num_items + 1, 2))
        year = rng.normal(size=num_items + 1).astype(np.float32)
        features = {
            "genres": genres,
            "studio": rng.integers(0, 3, num_items + 1),
            "year": year,
            "title": rng.integers(0, 4, (num_items + 1, 3)),
            "image": np.random.default_rng(seed + 1).normal(size=(num_items + 1, 3)).astype(np.float32),
        }
        for values in features.values():
            values[0] = 0
        popularity = rng.permutation(num_items + 1).astype(np.float32)
        popularity[0] = 0.0
        ids = np.array([f"item{i}".encode() for i in rng.permutation(num_items)])
        return Catalog(ids, features, popularity, vocabularies)

    return make


@pytest.fixture(scope="session")
def make_model(world: World) -> Callable[..., Any]:
    """A model of random weights, all of them large enough to matter: (catalog, **trainer settings) → Recommender."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from trainer.catalog import vocabulary
    from trainer.config import ModelConfig, TrainerConfig
    from trainer.saved import build

    transform = tft.TFTransformOutput(world.transform_graph)
    sides = {name: vocabulary(transform, name) for name in ("group", "likes", "bio", "device")}

    def make(catalog: Any, seed: int = 0, max_history: int = 4, **settings: Any) -> Any:
        settings = {"embedding_dim": 8, "normalized": False, "temperature": 0.5, **settings}
        config = ModelConfig(trainer=TrainerConfig(**settings), features=world.features, max_history=max_history)
        model = build(config, catalog, sides)
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            variable.assign(tf.constant(rng.normal(scale=0.3, size=variable.shape), tf.float32))
        model.candidate_tower.ids.assign(rng.normal(size=model.candidate_tower.ids.shape).astype(np.float32))
        return model

    return make
