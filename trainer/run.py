"""The Trainer's entry: `run_fn` reads transformed examples, learns, and leaves a saved model (trainer.saved)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from trainer.baseline_report import report_baselines
from trainer.catalog import Catalog, vocabulary
from trainer.config import ModelConfig
from trainer.distribution import strategy, worker_index
from trainer.features import STRICT
from trainer.inputs import RowLookup, batches, read_sequences
from trainer.loop import fit
from trainer.model import Recommender
from trainer.saved import CONFIG, build, load, load_moments, save
from trainer.sequences import SequenceTable
from trainer.warm_start import Ledger, cold_start, warm_start

log = logging.getLogger("evergreen.trainer")


@dataclass(kw_only=True, config=STRICT)
class FnArgs:
    """The part of TFX's `FnArgs` that is used. `custom_config` holds, beside TFX's own:

    config                    ModelConfig as JSON
    catalog_files             transformed catalog examples
    catalog_transform_output  the catalog's transform graph
    production_model          saved model to start from, '' when there is none
    start_version             its number, null for none; optional
    start_because             why it is not the one in production, '' where it is; optional
    """

    train_files: list[str]
    eval_files: list[str]
    transform_output: str
    serving_model_dir: str
    model_run_dir: str
    custom_config: dict[str, Any]


FN_ARGS = TypeAdapter(FnArgs)


def run_fn(fn_args: FnArgs) -> None:
    """Trains the two towers and the ranking head together; the chief saves them to `serving_model_dir`.

    The same seed and inputs give the same weights, to the last bit on CPUs with as many threads. On GPUs, and over
    different numbers of threads, sums are taken in another order; `TF_DETERMINISTIC_OPS=1` fixes it for GPUs.

    Raises:
      ValueError: there is nothing to learn from, or the loss is not finite.
    """
    model = train(fn_args)
    if worker_index(model.distribute_strategy) == 0:
        catalog_transform_graph = fn_args.custom_config["catalog_transform_output"]
        save(model, Path(fn_args.serving_model_dir), fn_args.transform_output, catalog_transform_graph)


def train(fn_args: FnArgs) -> Recommender:
    """`run_fn` without the saving: on every worker, the same model."""
    convert_no_keras_to_graphs()
    place = strategy()
    custom = fn_args.custom_config
    config = CONFIG.validate_json(custom["config"])
    tf.keras.utils.set_random_seed(config.trainer.seed)
    sources = Sources(config, fn_args.transform_output, custom["catalog_files"], custom["catalog_transform_output"])
    with place.scope():
        model = sources.build()
    replicas, seed, run_path = place.num_replicas_in_sync, config.trainer.seed, Path(fn_args.model_run_dir)
    train = sources.sequences(fn_args.train_files)
    ledger = start(model, custom, train)
    log.info("%s", ledger)
    judged = sources.sequences(fn_args.eval_files, config.trainer.validation_examples)
    if worker_index(place) == 0:
        for folder in (run_path, Path(fn_args.serving_model_dir)):  # the run's report, and the version's manifest
            ledger.save(folder)
        report_baselines(train, judged, sources.catalog.size, config, run_path)
    fit(model, batches(train, config, replicas, shuffle_seed=seed), batches(judged, config), run_path)
    return model


def start(model: Recommender, custom: Mapping[str, Any], train: SequenceTable) -> Ledger:
    """Where the training begins: at what production learned, or, where that is not wanted or cannot be, at nothing."""
    because = custom.get("start_because", "")
    if not model.config.trainer.warm_start:
        return replace(cold_start(model, "trainer.warm_start is off"), start_because=because)
    if not custom["production_model"]:
        return replace(cold_start(model, "there is no model to start from"), start_because=because)
    path = Path(custom["production_model"])
    try:
        production, moments = load(path), load_moments(path)
    except ValueError as error:
        reason = f"production's model cannot be read by this code: {str(error)[:300]}"
        return replace(cold_start(model, reason), start_because=because)
    ledger = warm_start(model, production, moments, train)
    version = custom.get("start_version") if ledger.cold_because is None else None
    return replace(ledger, start_because=because, started_from=version)


class Sources:
    """What models are built from, read once: the catalog, the vocabularies and the transform graph of the sequences."""

    def __init__(
        self, config: ModelConfig, transform_graph: str, catalog_files: Sequence[str], catalog_transform_graph: str
    ) -> None:
        self.config = config
        self.transform = tft.TFTransformOutput(transform_graph)
        features = config.features
        self.catalog = Catalog.read(catalog_files, tft.TFTransformOutput(catalog_transform_graph), features.item)
        sides = [f.name for f in features.user + features.context if f.has_vocabulary]
        self.side_vocabularies = {name: vocabulary(self.transform, name) for name in sides}
        self.items = RowLookup(self.catalog.ids, "items")
        self.types = RowLookup([name.encode() for name in features.interaction_types], "types")

    def build(self) -> Recommender:
        """A model that has learned nothing yet."""
        return build(self.config, self.catalog, self.side_vocabularies)

    def sequences(self, files: Sequence[str], at_most: int = -1) -> SequenceTable:
        """Transformed sequence examples as rows (trainer.inputs); -1: all."""
        return read_sequences(files, self.transform, self.config.features, self.items, self.types, at_most)


def convert_no_keras_to_graphs() -> None:
    """Tells AutoGraph that tf_keras is a library. It knows `keras` only, and would convert all of tf_keras: 14 s a fit.

    There is no public switch (TensorFlow 2.16); test_run.py fails when the rule moves.
    """
    from tensorflow.python.autograph.core import config as autograph

    rule = autograph.DoNotConvert("tf_keras")
    if all(getattr(r, "_prefix", None) != "tf_keras" for r in autograph.CONVERSION_RULES):
        autograph.CONVERSION_RULES = (rule, *autograph.CONVERSION_RULES)
