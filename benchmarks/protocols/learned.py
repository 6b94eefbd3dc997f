"""The Trainer's own model, learned and asked: built by trainer.saved, taught by trainer.loop, nothing of its own."""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY
from trainer.inputs import NEVER, Batch, batches
from trainer.loop import fit
from trainer.model import Recommender
from trainer.optimizer import moments_of
from trainer.run import convert_no_keras_to_graphs
from trainer.saved import build
from trainer.warm_start import warm_start

from .questions import Examples, Scores

POSITIONS_AT_A_TIME = 2**16  # padded, of a batch of questions


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A model and what it took. `targets_read` counts a target each time it was learned."""

    model: Recommender
    seconds: float
    epochs: int
    targets_read: int


def plain_catalog(
    num_items: int,
    popularity: np.ndarray,
    features: Mapping[str, np.ndarray] | None = None,
    vocabularies: Mapping[str, np.ndarray] | None = None,
) -> Catalog:
    """Items named by their rows: popularity [N + 1], features [N + 1, …]."""
    ids = np.array([str(row).encode() for row in range(1, num_items + 1)])
    return Catalog(ids, features or {}, popularity.astype(np.float32), vocabularies or {})


def learned(
    config: ModelConfig,
    catalog: Catalog,
    train: Examples,
    validation: Examples,
    *,
    side_vocabularies: Mapping[str, np.ndarray] | None = None,
    start: Recommender | None = None,
    minutes: float | None = None,
    has_order: bool = True,
) -> Learned:
    """Teaches a new model, warm-started from `start` where there is one; the weights are those of the best epoch.

    `minutes`: training ends with the step that passes them. Without an order, histories are shuffled every epoch.
    """
    convert_no_keras_to_graphs()
    tf.keras.utils.set_random_seed(config.trainer.seed)
    model = build(config, catalog, side_vocabularies or {})
    if start is not None:
        ledger = warm_start(model, start, moments_of(start), dataset(train))
        if ledger.cold_because is not None:
            raise ValueError(f"the model cannot go on from the one before: {ledger.cold_because}")
    began = time.perf_counter()
    taught = batches(
        dataset(train, None if has_order else config.trainer.seed), config, shuffle_seed=config.trainer.seed
    )
    judged = dataset(validation)
    is_over = threading.Event()
    if minutes is not None:
        threading.Thread(target=_stop, args=(model, minutes, is_over), daemon=True).start()
    with tempfile.TemporaryDirectory() as run_path:
        try:
            fit(model, taught, batches(judged, config), Path(run_path))
        finally:
            is_over.set()
    epochs = len(model.history.epoch)
    return Learned(
        model=model,
        seconds=time.perf_counter() - began,
        epochs=epochs,
        targets_read=epochs * int(train.is_target.sum()),
    )


def _stop(model: Recommender, minutes: float, is_over: threading.Event) -> None:
    """Keras reads `stop_training` after every step, judges the epoch that it cuts short, and clears it as it begins."""
    is_over.wait(60 * minutes)
    while not is_over.wait(0.2):
        model.stop_training = True


def dataset(examples: Examples, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Sequences one by one, as trainer.inputs wants them; with a seed, in another order each time they are read."""
    sequences = examples.sequences
    columns = {
        "item_rows": sequences.rows.astype(np.int64),
        "type_rows": examples.types.astype(np.int64),
        TIMESTAMPS_KEY: sequences.timestamps.astype(np.int64),
        IS_TARGET_KEY: examples.is_target,
    }
    ragged = {name: tf.RaggedTensor.from_row_splits(values, sequences.starts) for name, values in columns.items()}
    data = tf.data.Dataset.from_tensor_slices((ragged, dict(examples.users)))
    data = data.map(lambda sequence, user: {**sequence, **user}).cache()
    if shuffle_seed is None:
        return data
    # a stateful shuffle would begin anew, with the same orders, whenever the data are read
    seeds = tf.data.Dataset.random(seed=shuffle_seed, rerandomize_each_iteration=True)
    return tf.data.Dataset.zip((data, seeds)).map(_shuffled)


def _shuffled(sequence: Batch, seed: tf.Tensor) -> Batch:
    places = tf.range(tf.size(sequence["item_rows"], out_type=tf.int64))
    order = tf.random.experimental.stateless_shuffle(places, seed=tf.stack([seed, 0]))
    mixed = {name: tf.gather(sequence[name], order) for name in ("item_rows", "type_rows")}
    return {**sequence, **mixed, TIMESTAMPS_KEY: places, IS_TARGET_KEY: places > 0}


def queries(model: Recommender, questions: Examples) -> np.ndarray:
    """Query embedding of every target: [T, D], in the order of the targets."""
    table = model.embed_catalog()
    found = np.zeros((len(questions.positions), table.shape[1]), np.float32)

    @tf.function(reduce_retracing=True)
    def embed(batch: Batch) -> tf.Tensor:
        return model.target_queries(batch, tf.gather(table, batch["item_rows"]))

    index = np.cumsum(questions.is_target) - 1  # of the target at each position
    for batch, positions in padded(questions):
        is_asked = batch[IS_TARGET_KEY]
        tensors = {name: tf.constant(values) for name, values in batch.items()}
        found[index[positions[is_asked]]] = embed(tensors).numpy()
    return found


def padded(examples: Examples) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Batches of sequences of about one length (trainer.inputs), and which position each place holds: [B, L]."""
    sequences = examples.sequences
    lengths = np.diff(sequences.starts)
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - begin) <= POSITIONS_AT_A_TIME:
            end += 1
        users = order[begin:end]
        place = np.arange(max(1, lengths[users[-1]]))
        is_there = place < lengths[users][:, np.newaxis]
        positions = np.where(is_there, sequences.starts[users][:, np.newaxis] + place, 0)
        yield (
            {
                "item_rows": np.where(is_there, sequences.rows[positions], 0),
                "type_rows": np.where(is_there, examples.types[positions], 0),
                TIMESTAMPS_KEY: np.where(is_there, sequences.timestamps[positions], NEVER),
                IS_TARGET_KEY: is_there & examples.is_target[positions],
                **{name: values[users] for name, values in examples.users.items()},
            },
            positions,
        )
        begin = end


def retrieval_scores(model: Recommender, questions: Examples) -> Scores:
    """Exact retrieval: dot products of all queries with all items of the catalog."""
    asked, items = queries(model, questions), model.embed_catalog().numpy()[1:].T.copy()
    return lambda part: asked[part] @ items
