"""The Tuner's doorway: transformed examples in, TFX's own two artifacts out."""

import json
import shutil
from pathlib import Path

import keras_tuner
import pytest
from pydantic import TypeAdapter
from tfx.types.standard_artifacts import Examples, HyperParameters, TransformGraph, TunerResults

from components.tuner.component import Tuner
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import IS_TARGET_KEY
from trainer.search_space import TuningConfig, Values


def artifact(kind, path, **properties):
    made = kind()
    made.uri = str(path)
    Path(path).mkdir(parents=True, exist_ok=True)
    for name, value in properties.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def examples(world, tmp_path):
    """The world's sequences as both splits, and its catalog: where Transform puts them."""
    import tensorflow as tf

    made = artifact(Examples, tmp_path / "examples", splits=["train", "eval"])
    catalog = artifact(Examples, tmp_path / "catalog", splits=["all"])
    for split, files in (("all", world.catalog_files), ("train", world.sequence_files)):
        folder = Path((catalog if split == "all" else made).uri) / f"Split-{split}"
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
    (Path(made.uri) / "Split-eval").mkdir()
    with tf.io.TFRecordWriter(f"{made.uri}/Split-eval/data.gz", "GZIP") as writer:
        for record in tf.data.TFRecordDataset(world.sequence_files, compression_type="GZIP").as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            targets = example.features.feature[IS_TARGET_KEY].int64_list.value
            targets[:] = [0] * (len(targets) - 1) + [1]
            writer.write(example.SerializeToString())
    return made, catalog


def test_the_best_settings_are_left_as_tfx_leaves_them(world, examples, tmp_path):
    trainer = TrainerConfig(embedding_dim=4, epochs=1, batch_positions=64)
    tuning = TuningConfig(trials=3, space={"epochs": Values(choices=(1,))})
    best = artifact(HyperParameters, tmp_path / "best")
    results = artifact(TunerResults, tmp_path / "results")
    Tuner.test_call(
        examples=examples[0],
        catalog=examples[1],
        transform_graph=artifact(TransformGraph, world.transform_graph),
        catalog_transform_graph=artifact(TransformGraph, world.catalog_transform_graph),
        best_hyperparameters=best,
        tuner_results=results,
        config=TypeAdapter(ModelConfig)
        .dump_json(ModelConfig(trainer=trainer, features=world.features, max_history=3))
        .decode(),
        tuning=TypeAdapter(TuningConfig).dump_json(tuning).decode(),
    )
    written = json.loads((Path(best.uri) / "best_hyperparameters.txt").read_text())
    assert keras_tuner.HyperParameters.from_config(written).values == {"epochs": 1}  # as TFX's guide reads it
    rows = json.loads((Path(results.uri) / "tuner_results.json").read_text())
    assert len(rows) == 1
    assert rows[0]["epochs"] == 1
    assert 0 < rows[0]["score"] <= 1
