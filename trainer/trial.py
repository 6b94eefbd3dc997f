"""Small trainings in memory, on the same examples with other targets: what old data, or an old model, is worth.

A trial learns from a part of the targets and is judged on all of the eval split, as a model of that kind would be
served: its weights may be old, the histories before it are fresh. All trials begin at the same weights and take as many
steps: one with fewer targets sees them more often, and is not worse for having learned less long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from trainer.config import ModelConfig
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY, USER_ID_KEY, WEIGHTS_KEY
from trainer.inputs import batches, dense_sequences
from trainer.loop import learn, ranks_of, size
from trainer.metrics import not_competing, rank_of_target
from trainer.run import Sources, convert_no_keras_to_graphs
from trainer.sequences import SequenceTable

DAY_SECONDS = 24 * 3600
BATCH_JUDGED = 256


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one training learns and how it is served. Seconds since 1970, UTC.

    from_seconds, until_seconds: of the targets; histories of the training begin at `from_seconds` too.
    served_from_seconds: where histories begin when it is judged: those of the window in service.
    half_life_days: a target's weight halves with it, as of the eval cut; None: all weigh the same.
    """

    from_seconds: int
    until_seconds: int
    served_from_seconds: int
    half_life_days: float | None = None


class Trials:
    """Transformed examples, read once, and trainings on parts of them.

    `train_files` must hold every interaction before the eval cut `cut_seconds` as a target; at most `max_judged` of
    the examples of `eval_files` are judged. `user_ids` [E] bytes are theirs. `steps` are those of the configured epochs
    over all targets.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        train_files: Sequence[str],
        eval_files: Sequence[str],
        transform_graph: str,
        catalog_files: Sequence[str],
        catalog_transform_graph: str,
        cut_seconds: int,
        max_judged: int,
    ) -> None:
        convert_no_keras_to_graphs()
        in_one = replace(config, trainer=replace(config.trainer, epochs=1))
        self._sources = Sources(in_one, transform_graph, catalog_files, catalog_transform_graph)
        self._train = self._sources.sequences(train_files)
        self.steps = config.trainer.epochs * size(batches(self._train, config))[0]
        self._cut_seconds = cut_seconds
        spec = self._sources.transform.transformed_feature_spec()
        records = tf.data.TFRecordDataset(list(eval_files), compression_type="GZIP").take(max_judged)
        examples = [tf.io.parse_example(batch, spec) for batch in records.batch(BATCH_JUDGED)]
        self.user_ids = np.concatenate([example[USER_ID_KEY].values.numpy() for example in examples])
        lookups = self._sources.items, self._sources.types
        dense = [dense_sequences(example, config.features, *lookups) for example in examples]
        self._judged = [{name: values.numpy() for name, values in batch.items()} for batch in dense]

    def train_and_judge(self, trial: Trial) -> tuple[np.ndarray, int]:
        """Rank of each held-out item by exact retrieval, 1 = best: int32 [E]; and how many targets there were to learn.

        Raises:
          ValueError: the trial has no target, or its loss is not finite.
        """
        seed = self._sources.config.trainer.seed
        tf.keras.utils.set_random_seed(seed)
        model = self._sources.build()
        train = batches(part_of(self._train, trial, self._cut_seconds), self._sources.config, shuffle_seed=seed)
        _, targets = size(train)
        learn(model, train, self.steps)
        served = [since(batch, trial.served_from_seconds) for batch in self._judged]
        judged = [ranks_of(model, {name: tf.constant(values) for name, values in b.items()}) for b in served]
        return tf.concat(judged, axis=0).numpy(), targets

    def popularity_ranks(self) -> np.ndarray:
        """The same ranks [E] if everyone were shown the most popular items of the catalog."""
        popularity = tf.constant(self._sources.catalog.popularity[np.newaxis, 1:])
        ranks = []
        for batch in self._judged:
            is_target, rows = batch[IS_TARGET_KEY], batch["item_rows"]
            scores = tf.repeat(popularity, len(rows), axis=0)
            excluded = not_competing(rows, batch["type_rows"], is_target, self._sources.config.seen_types)
            ranks.append(rank_of_target(scores, rows[is_target], excluded))
        return tf.concat(ranks, axis=0).numpy()


def part_of(sequences: SequenceTable, trial: Trial, cut_seconds: int) -> SequenceTable:
    """What a trial learns of sequences: targets within its bounds, histories since it begins, weights."""
    positions = sequences.positions
    timestamps = positions[TIMESTAMPS_KEY]
    is_inside = (timestamps >= trial.from_seconds) & (timestamps < trial.until_seconds)
    part = since(positions, trial.from_seconds) | {IS_TARGET_KEY: positions[IS_TARGET_KEY] & is_inside}
    if trial.half_life_days is not None:
        age_days = np.maximum(cut_seconds - timestamps, 0) / DAY_SECONDS
        part[WEIGHTS_KEY] = (0.5 ** (age_days / trial.half_life_days)).astype(np.float32)
    return replace(sequences, positions=part)


def since(batch: Mapping[str, np.ndarray], from_seconds: int) -> dict[str, np.ndarray]:
    """The batch with interactions before `from_seconds` unknown, as a window that begins there has them."""
    is_inside = batch[TIMESTAMPS_KEY] >= from_seconds
    return {**batch, "item_rows": batch["item_rows"] * is_inside, "type_rows": batch["type_rows"] * is_inside}
