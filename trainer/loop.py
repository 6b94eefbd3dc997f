"""The training loop: epochs of batches, a line of progress each, the best epoch kept, an end when none is better."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.distribution import worker_index
from trainer.features import IS_TARGET_KEY
from trainer.metrics import figures_of, not_competing, rank_of_target
from trainer.model import Recommender
from trainer.optimizer import adam

log = logging.getLogger("evergreen.trainer")

JUDGED_BY = "ndcg@10"


def fit(model: Recommender, train: tf.data.Dataset, validation: tf.data.Dataset, run_path: Path) -> None:
    """Learns, with a checkpoint and TensorBoard scalars per epoch; the weights are those of the best epoch.

    Several workers share each batch of `train`. All judge the epoch, so that all stop after the same; the chief writes.
    """
    steps, targets = size(train)
    if next(iter(validation), None) is None:
        raise ValueError("the eval split has no example: no epoch can be judged; see the examples' summary")
    is_chief = worker_index(model.distribute_strategy) == 0
    callbacks: list[Any] = [Progress(model, validation, targets, is_chief)]
    if model.config.trainer.patience_epochs is not None:
        patience = model.config.trainer.patience_epochs
        callbacks.append(
            tf.keras.callbacks.EarlyStopping(JUDGED_BY, mode="max", patience=patience, restore_best_weights=True)
        )
    if is_chief:
        callbacks += [
            tf.keras.callbacks.TensorBoard(str(run_path), write_graph=False),
            tf.keras.callbacks.ModelCheckpoint(str(run_path / "checkpoints" / "latest"), save_weights_only=True),
        ]
    learn(model, train, steps, callbacks)


def size(train: tf.data.Dataset) -> tuple[int, int]:
    """Steps of an epoch, and targets in it. Raises ValueError where there is none, or none that is in the catalog."""
    steps = targets = known = 0
    for batch in train:
        is_target = batch[IS_TARGET_KEY]
        steps += 1
        targets += int(tf.math.count_nonzero(is_target))
        known += int(tf.math.count_nonzero(is_target & (batch["item_rows"] > 0)))
    if not targets:
        raise ValueError("no position is a target: the training split has nothing to learn; see the examples' summary")
    if not known:
        raise ValueError(
            f"none of the {targets} targets is an item of the catalog: there is nothing to learn; compare the item ids "
            "of the interactions with those of the items"
        )
    return steps, targets


def learn(model: Recommender, train: tf.data.Dataset, steps: int, callbacks: Sequence[Any] = ()) -> None:
    """Trains for the configured epochs of `steps` each; the data are read again and again.

    Raises ValueError when the loss is not finite.
    """
    config = model.config.trainer
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.0 if config.warmup_steps else config.learning_rate,
        decay_steps=max(1, config.epochs * steps - config.warmup_steps),
        alpha=0.1,
        warmup_target=config.learning_rate if config.warmup_steps else None,
        warmup_steps=config.warmup_steps,
    )
    with model.distribute_strategy.scope():
        model.compile(optimizer=adam(schedule, model.trainable_variables, model.moments))
    callbacks = [tf.keras.callbacks.TerminateOnNaN(), *callbacks]
    history = model.fit(
        train.repeat(), steps_per_epoch=steps, epochs=config.epochs, verbose=0, callbacks=callbacks
    ).history
    is_finite = all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in model.trainable_variables)
    if not is_finite or not np.isfinite(history["loss"]).all():  # the weights may be those of an epoch before
        raise ValueError(
            f"the loss became infinite or not a number; lower learning_rate (now {config.learning_rate}) "
            "or look for extreme numbers in the features"
        )


class Progress(tf.keras.callbacks.Callback):
    """One line per epoch: loss, exact retrieval metrics on the eval split, speed, time left."""

    def __init__(self, model: Recommender, validation: tf.data.Dataset, targets: int, is_told: bool) -> None:
        super().__init__()
        self._recommender, self._validation, self._targets, self._is_told = model, validation, targets, is_told
        self._started = self._began = 0.0
        self._losses: list[float] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()
        self._losses.clear()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._losses.append((logs or {})["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the metrics to `logs`, where early stopping and TensorBoard find them; the loss is that of all steps."""
        speed = self._targets / (time.perf_counter() - self._started)
        logs = logs if logs is not None else {}
        logs["loss"] = float(np.mean(self._losses))
        logs.update(validate(self._recommender, self._validation))
        if not self._is_told:
            return
        epochs = self.params["epochs"]
        left_seconds = (time.perf_counter() - self._began) / (epoch + 1) * (epochs - epoch - 1)
        log.info(
            "epoch %d/%d · loss %.3f · recall@10 %.4f · recall@100 %.4f · ndcg@10 %.4f · %s targets/s · %.0f s left",
            epoch + 1,
            epochs,
            logs["loss"],
            logs["recall@10"],
            logs["recall@100"],
            logs["ndcg@10"],
            f"{speed:,.0f}",
            left_seconds,
        )


def validate(model: Recommender, validation: tf.data.Dataset) -> dict[str, float]:
    """Mean recall and NDCG of exact retrieval over eval sequences, among the items that may be recommended."""
    return figures_of(tf.concat([ranks_of(model, batch) for batch in validation], axis=0))


@tf.function(reduce_retracing=True)
def ranks_of(model: Recommender, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Rank of each held-out item by exact retrieval, 1 = best, among the items that may be recommended: int32 [B]."""
    table = model.embed_catalog()
    queries = model.target_queries(batch, tf.gather(table, batch["item_rows"]))
    scores = tf.matmul(queries, table[1:], transpose_b=True)
    target = tf.boolean_mask(batch["item_rows"], batch[IS_TARGET_KEY])
    rows, types, is_target = batch["item_rows"], batch["type_rows"], batch[IS_TARGET_KEY]
    excluded = not_competing(rows, types, is_target, model.config.seen_types)
    return rank_of_target(scores, target, excluded)
