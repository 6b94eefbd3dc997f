"""What the baselines reach on the eval split: told before the first epoch, and left as `baselines.json`.

They are judged as the model is: the same examples, the same rule for ranks (trainer.metrics).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.baselines import Baseline, CoVisits, Popularity, Sequences
from trainer.config import ModelConfig
from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY
from trainer.metrics import figures_of, not_competing, rank_of_target

log = logging.getLogger("evergreen.trainer")

RECENT_DAYS = 7
SCORES_AT_A_TIME = 2**24  # 64 MB
READ_AT_A_TIME = 1024  # sequences

Report = dict[str, dict[str, float]]


def report_baselines(
    train: tf.data.Dataset, judged: tf.data.Dataset, num_items: int, config: ModelConfig, run_path: Path
) -> Report:
    """Fits every baseline on all positions of the train sequences and judges it on eval ones (trainer.inputs).

    One log line and one entry of `baselines.json` each: name → recall@10, recall@100, ndcg@10.
    """
    sequences = read(train, config)
    baselines: Sequence[Baseline] = (Popularity(num_items), Popularity(num_items, RECENT_DAYS), CoVisits(num_items))
    report: Report = {}
    for baseline in baselines:
        baseline.fit(sequences)
        parts = [np.zeros(0, np.int32), *ranks_of(baseline, judged, num_items, config.exclude_seen)]
        report[baseline.name] = figures_of(tf.constant(np.concatenate(parts)))
        told = " · ".join(f"{metric} {value:.4f}" for metric, value in report[baseline.name].items())
        log.info("%s · %s", baseline.name, told)
    run_path.mkdir(parents=True, exist_ok=True)
    (run_path / "baselines.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def read(train: tf.data.Dataset, config: ModelConfig) -> Sequences:
    """All positions of sequences, targets or not; a type counts as much as it weighs in the retrieval loss."""
    type_weights = np.array([0.0, *config.features.interaction_types.values()], np.float32)
    keys = ("item_rows", "type_rows", TIMESTAMPS_KEY)
    parts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.int64)] for name in (*keys, "lengths")}
    for batch in train.map(lambda s: {name: s[name] for name in keys}).ragged_batch(READ_AT_A_TIME):
        for name in keys:
            parts[name].append(batch[name].values.numpy())
        parts["lengths"].append(batch[TIMESTAMPS_KEY].row_lengths().numpy())
    rows, types, timestamps, lengths = (np.concatenate(values) for values in parts.values())
    return Sequences(rows, np.append(0, np.cumsum(lengths)), timestamps, type_weights[types])


def ranks_of(
    baseline: Baseline,
    judged: tf.data.Dataset,
    num_items: int,
    exclude_seen: bool,
    scores_at_a_time: int = SCORES_AT_A_TIME,
) -> Iterator[np.ndarray]:
    """Rank of each held-out item, 1 = best, among the items that may be recommended: slices of int32 [E]."""
    pairs = judged.map(lambda s: (s["item_rows"], s[IS_TARGET_KEY]))
    for rows, is_target in pairs.padded_batch(max(1, scores_at_a_time // num_items)):
        target = tf.boolean_mask(rows, is_target)
        history = tf.where(is_target, tf.zeros_like(rows), rows)
        scores = tf.constant(baseline.scores(history.numpy()))
        yield rank_of_target(scores, target, not_competing(rows, is_target, exclude_seen)).numpy()
