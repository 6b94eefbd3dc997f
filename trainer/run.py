"""The Trainer's entry: `run_fn` reads transformed examples, learns, and leaves a saved model (trainer.saved)."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from trainer.catalog import Catalog, vocabulary
from trainer.config import ModelConfig
from trainer.distribution import strategy, worker_index
from trainer.features import IS_TARGET_KEY, STRICT
from trainer.inputs import RowLookup, batches, read_sequences
from trainer.metrics import ndcg_at_k, rank_of_target, recall_at_k
from trainer.model import Recommender
from trainer.saved import CONFIG, build, load, save
from trainer.warm_start import warm_start

log = logging.getLogger("evergreen.trainer")


@dataclass(kw_only=True, config=STRICT)
class FnArgs:
    """The part of TFX's `FnArgs` that is used. `custom_config` holds, beside TFX's own:

    config                    ModelConfig as JSON
    catalog_files             transformed catalog examples
    catalog_transform_output  the catalog's transform graph
    production_model          saved model in production, '' when there is none
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
    if config.trainer.warm_start and custom["production_model"]:
        ledger = warm_start(model, load(Path(custom["production_model"])))
        log.info("warm start: %s", ledger or "no")
    users = config.trainer.batch_size_users
    train = batches(
        sources.sequences(fn_args.train_files), users * place.num_replicas_in_sync, shuffle_seed=config.trainer.seed
    )
    fit(model, train, batches(sources.sequences(fn_args.eval_files), users), Path(fn_args.model_run_dir))
    return model


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

    def sequences(self, files: Sequence[str]) -> tf.data.Dataset:
        """Transformed sequence examples as rows (trainer.inputs), one by one."""
        return read_sequences(files, self.transform, self.config.features, self.items, self.types)


def fit(model: Recommender, train: tf.data.Dataset, validation: tf.data.Dataset, run_path: Path) -> None:
    """Learns, with a line of progress, a checkpoint and TensorBoard scalars per epoch.

    Several workers share each batch of `train`, and the chief does what is done per epoch.
    """
    steps, targets = size(train)
    callbacks = []
    if worker_index(model.distribute_strategy) == 0:
        callbacks = [
            Progress(model, validation, targets),
            tf.keras.callbacks.TensorBoard(str(run_path), write_graph=False),
            tf.keras.callbacks.ModelCheckpoint(str(run_path / "checkpoints" / "latest"), save_weights_only=True),
        ]
    learn(model, train, steps, callbacks)


def size(train: tf.data.Dataset) -> tuple[int, int]:
    """Steps of an epoch, and targets in it. Raises ValueError where there is none."""
    counts = [int(tf.math.count_nonzero(batch[IS_TARGET_KEY])) for batch in train]
    if not sum(counts):
        raise ValueError("no position is a target: the training split has nothing to learn; see the examples' summary")
    return len(counts), sum(counts)


def learn(model: Recommender, train: tf.data.Dataset, steps: int, callbacks: Sequence[Any] = ()) -> None:
    """Trains for the configured epochs, of `steps` each. Raises ValueError when the loss is not finite."""
    config = model.config.trainer
    schedule = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * steps, alpha=0.1)
    with model.distribute_strategy.scope():
        model.compile(optimizer=tf.keras.optimizers.Adam(schedule))
    callbacks = [tf.keras.callbacks.TerminateOnNaN(), *callbacks]
    model.fit(train, epochs=config.epochs, verbose=0, callbacks=callbacks)
    if not all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in model.trainable_variables):
        raise ValueError(
            f"the loss became infinite or not a number; lower learning_rate (now {config.learning_rate}) "
            "or look for extreme numbers in the features"
        )


class Progress(tf.keras.callbacks.Callback):
    """One line per epoch: loss, exact retrieval metrics on the eval split, speed."""

    def __init__(self, model: Recommender, validation: tf.data.Dataset, targets: int) -> None:
        super().__init__()
        self._recommender, self._validation, self._targets = model, validation, targets
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the metrics to `logs`, where TensorBoard finds them."""
        speed = self._targets / (time.perf_counter() - self._started)
        logs = logs if logs is not None else {}
        logs.update(validate(self._recommender, self._validation))
        log.info(
            "epoch %d/%d · loss %.3f · recall@10 %.4f · recall@100 %.4f · ndcg@10 %.4f · %s targets/s",
            epoch + 1,
            self.params["epochs"],
            logs["loss"],
            logs["recall@10"],
            logs["recall@100"],
            logs["ndcg@10"],
            f"{speed:,.0f}",
        )


def validate(model: Recommender, validation: tf.data.Dataset) -> dict[str, float]:
    """Mean recall and NDCG of exact retrieval over eval sequences; items of the history do not compete."""
    ranks = tf.concat([ranks_of(model, batch) for batch in validation], axis=0)
    return {
        "recall@10": float(tf.reduce_mean(recall_at_k(ranks, 10))),
        "recall@100": float(tf.reduce_mean(recall_at_k(ranks, 100))),
        "ndcg@10": float(tf.reduce_mean(ndcg_at_k(ranks, 10))),
    }


@tf.function(reduce_retracing=True)
def ranks_of(model: Recommender, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Rank of each held-out item by exact retrieval, 1 = best, items of the history left out: int32 [B]."""
    table = model.embed_catalog()
    queries = model.target_queries(batch, tf.gather(table, batch["item_rows"]))
    scores = tf.matmul(queries, table[1:], transpose_b=True)
    target = tf.boolean_mask(batch["item_rows"], batch[IS_TARGET_KEY])
    history = tf.where(batch[IS_TARGET_KEY], tf.zeros_like(batch["item_rows"]), batch["item_rows"])
    return rank_of_target(scores, target, history)


def convert_no_keras_to_graphs() -> None:
    """Tells AutoGraph that tf_keras is a library. It knows `keras` only, and would convert all of tf_keras: 14 s a fit.

    There is no public switch (TensorFlow 2.16); test_run.py fails when the rule moves.
    """
    from tensorflow.python.autograph.core import config as autograph

    rule = autograph.DoNotConvert("tf_keras")
    if all(getattr(r, "_prefix", None) != "tf_keras" for r in autograph.CONVERSION_RULES):
        autograph.CONVERSION_RULES = (rule, *autograph.CONVERSION_RULES)
