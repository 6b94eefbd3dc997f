"""The Trainer's own model, learned and asked: built by trainer.saved, taught by trainer.loop, nothing of its own."""

import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.config import ModelConfig
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY
from trainer.inputs import Batch, batches
from trainer.loop import fit
from trainer.model import Recommender
from trainer.optimizer import moments_of
from trainer.run import convert_no_keras_to_graphs
from trainer.saved import build
from trainer.sequences import SequenceTable, dealt, whole
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
        ledger = warm_start(model, start, moments_of(start), table(train))
        if ledger.cold_because is not None:
            raise ValueError(f"the model cannot go on from the one before: {ledger.cold_because}")
    began = time.perf_counter()
    taught = table(train) if has_order else Unordered(**vars(table(train)))
    is_over = threading.Event()
    if minutes is not None:
        threading.Thread(target=_stop, args=(model, minutes, is_over), daemon=True).start()
    with tempfile.TemporaryDirectory() as run_path:
        try:
            learned_from = batches(taught, config, shuffle_seed=config.trainer.seed)
            fit(model, learned_from, batches(table(validation), config), Path(run_path))
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


def table(examples: Examples) -> SequenceTable:
    """Examples as the Trainer holds what it reads."""
    sequences = examples.sequences
    positions = {
        "item_rows": sequences.rows.astype(np.int64),
        "type_rows": examples.types.astype(np.int64),
        TIMESTAMPS_KEY: sequences.timestamps.astype(np.int64),
        IS_TARGET_KEY: examples.is_target,
    }
    return SequenceTable(starts=sequences.starts, positions=positions, users=examples.users)


class Unordered(SequenceTable):
    """Sequences that happened in no order: every epoch learns them in another one, the first position no target."""

    def in_new_order(self, rng: np.random.Generator) -> SequenceTable:
        """Shuffles each sequence; the times, which are places here, stay."""
        order = np.lexsort((rng.random(len(self.owners)), self.owners))
        mixed = {name: self.positions[name][order] for name in ("item_rows", "type_rows")}
        return replace(self, positions={**self.positions, **mixed})


def queries(model: Recommender, questions: Examples) -> np.ndarray:
    """Query embedding of every target: [T, D], in the order of the targets."""
    items = model.embed_catalog()
    found = np.zeros((len(questions.positions), items.shape[1]), np.float32)

    @tf.function(reduce_retracing=True)
    def embed(batch: Batch) -> tf.Tensor:
        return model.target_queries(batch, tf.gather(items, batch["item_rows"]))

    asked = table(questions)
    parts, lengths = whole(asked), np.diff(asked.starts)
    index = np.cumsum(questions.is_target) - 1  # of the target at each position
    for some in dealt(lengths, int(lengths.max(initial=1)), POSITIONS_AT_A_TIME):
        batch = asked.padded(parts[some])
        places = parts.start[some, np.newaxis] + np.arange(batch["item_rows"].shape[1])
        found[index[places[batch[IS_TARGET_KEY]]]] = embed(
            {name: tf.constant(values) for name, values in batch.items()}
        ).numpy()
    return found


def retrieval_scores(model: Recommender, questions: Examples) -> Scores:
    """Exact retrieval: dot products of all queries with all items of the catalog."""
    asked, items = queries(model, questions), model.embed_catalog().numpy()[1:].T.copy()
    return lambda part: asked[part] @ items
