"""What the Trainer leaves behind, and how it is read again: by the next run's warm start and by the index builder.

config.json            ModelConfig
catalog.npz            trainer.catalog.Catalog
side_vocabularies.npz  vocabularies of the user and context features
weights.*              a TensorFlow checkpoint of the model
moments.npz            what its optimizer knows (trainer.optimizer.Moments), for the training that goes on from it
vocabulary_ledger.json  what it began with (trainer.warm_start.Ledger): written when the training begins
transform_graph/, catalog_transform_graph/   the transform graphs it was trained behind
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from pydantic import TypeAdapter

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY
from trainer.inputs import unknown
from trainer.model import Recommender
from trainer.optimizer import Moments, moments_of

CONFIG = TypeAdapter(ModelConfig)
MOMENTS_NAME = "moments.npz"


def build(config: ModelConfig, catalog: Catalog, side_vocabularies: Mapping[str, np.ndarray]) -> Recommender:
    """A model with all its variables made, by one pass over an invented user with one interaction."""
    with _precision(config):
        return _build(config, catalog, side_vocabularies)


def _build(config: ModelConfig, catalog: Catalog, side_vocabularies: Mapping[str, np.ndarray]) -> Recommender:
    model = Recommender(config, catalog, side_vocabularies)
    batch = {
        "item_rows": tf.constant([[1, 1]], tf.int64),
        "type_rows": tf.constant([[1, 1]], tf.int64),
        TIMESTAMPS_KEY: tf.constant([[0, 1]], tf.int64),
        IS_TARGET_KEY: tf.constant([[False, True]]),
    }
    for features, shape in ((config.features.user, [1]), (config.features.context, [1, 2])):
        batch |= {f.name: unknown(f, shape) for f in features}
    model.compute_loss(batch)
    return model


def save(model: Recommender, path: Path, transform_graph: str, catalog_transform_graph: str) -> None:
    """Writes the model and everything it needs to `path`."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_bytes(CONFIG.dump_json(model.config, indent=2))
    model.catalog.save(path / "catalog.npz")
    np.savez_compressed(path / "side_vocabularies.npz", **model.side_vocabularies)
    _checkpoint(model).write(str(path / "weights"))
    if moments := moments_of(model):
        moments.save(path / MOMENTS_NAME)
    shutil.copytree(transform_graph, path / "transform_graph", dirs_exist_ok=True)
    shutil.copytree(catalog_transform_graph, path / "catalog_transform_graph", dirs_exist_ok=True)


def load(path: Path) -> Recommender:
    """Reads what `save` wrote.

    Raises:
      ValueError: a file is missing, or the weights do not fit the configuration beside them.
    """
    if not (path / "config.json").exists():
        raise ValueError(f"no saved model at {path}: config.json is missing; expected the output of a Trainer")
    config = CONFIG.validate_json((path / "config.json").read_bytes())
    with np.load(path / "side_vocabularies.npz") as arrays:
        side_vocabularies = {name: arrays[name] for name in arrays.files}
    model = build(config, Catalog.load(path / "catalog.npz"), side_vocabularies)
    status = _checkpoint(model).read(str(path / "weights"))
    try:
        status.assert_existing_objects_matched()
    except AssertionError as error:
        raise ValueError(f"the weights at {path} do not fit its config.json: {str(error)[:200]}") from error
    return model


def load_moments(path: Path) -> Moments | None:
    """What the optimizer of a saved model knew; None of one saved without it, which is a start all the same."""
    return Moments.load(path / MOMENTS_NAME) if (path / MOMENTS_NAME).exists() else None


@contextmanager
def _precision(config: ModelConfig) -> Iterator[None]:
    """Layers made within compute as configured; Keras knows no other way to tell those that layers make inside."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if config.trainer.mixed_precision else "float32")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _checkpoint(model: Recommender) -> tf.train.Checkpoint:
    """The parts that are served; the optimizer has a file of its own, for only a training reads it."""
    parts = {"candidate_tower": model.candidate_tower, "query_tower": model.query_tower}
    return tf.train.Checkpoint(ranking_head=model.ranking_head, **parts)
