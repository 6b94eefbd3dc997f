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
from trainer.sequences import SequenceTable, whole

log = logging.getLogger("evergreen.trainer")

RECENT_DAYS = 7
SCORES_AT_A_TIME = 2**24  # 64 MB

Report = dict[str, dict[str, float]]


def report_baselines(
    train: SequenceTable, judged: SequenceTable, num_items: int, config: ModelConfig, run_path: Path
) -> Report:
    """Fits every baseline on all positions of the train sequences and judges it on eval ones (trainer.inputs).

    One log line and one entry of `baselines.json` each: name → recall@10, recall@100, ndcg@10.
    """
    sequences = counted(train, config)
    baselines: Sequence[Baseline] = (Popularity(num_items), Popularity(num_items, RECENT_DAYS), CoVisits(num_items))
    report: Report = {}
    for baseline in baselines:
        baseline.fit(sequences)
        parts = [np.zeros(0, np.int32), *ranks_of(baseline, judged, num_items, config.seen_types)]
        report[baseline.name] = figures_of(tf.constant(np.concatenate(parts)))
        told = " · ".join(f"{metric} {value:.4f}" for metric, value in report[baseline.name].items())
        log.info("%s · %s", baseline.name, told)
    run_path.mkdir(parents=True, exist_ok=True)
    (run_path / "baselines.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def counted(train: SequenceTable, config: ModelConfig) -> Sequences:
    """All positions of sequences, targets or not; a type counts as much as it weighs in the retrieval loss."""
    type_weights = np.array([0.0, *config.features.interaction_types.values()], np.float32)
    positions = train.positions
    weights = type_weights[positions["type_rows"]]
    return Sequences(positions["item_rows"], train.starts, positions[TIMESTAMPS_KEY], weights)


def ranks_of(
    baseline: Baseline,
    judged: SequenceTable,
    num_items: int,
    seen_types: Sequence[bool],
    scores_at_a_time: int = SCORES_AT_A_TIME,
) -> Iterator[np.ndarray]:
    """Rank of each held-out item, 1 = best, among the items that may be recommended: slices of int32 [E]."""
    parts, size = whole(judged), max(1, scores_at_a_time // num_items)
    for begin in range(0, len(parts), size):
        batch = judged.padded(parts[begin : begin + size])
        rows, is_target = batch["item_rows"], batch[IS_TARGET_KEY]
        scores = baseline.scores(np.where(is_target, 0, rows))
        excluded = not_competing(rows, batch["type_rows"], is_target, seen_types)
        yield rank_of_target(scores, rows[is_target], excluded).numpy()
