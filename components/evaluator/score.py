"""What a servable says of the eval examples: its `evaluate` signature, run over them, as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the ops that a servable needs)

from components.errors import ServableError
from trainer.features import INTERACTION_TYPES_KEY, USER_ID_KEY

BATCH = 512


def score(servable_path: Path, eval_files: Sequence[str], max_examples: int) -> pd.DataFrame:
    """One row per eval example, one column per output of `evaluate`, in the files' order.

    Raises:
      ServableError: the servable has no `evaluate` signature.
    """
    servable = tf.saved_model.load(str(servable_path))
    if "evaluate" not in servable.signatures:
        raise ServableError(f"{servable_path} has no signature 'evaluate', only {sorted(servable.signatures)}")
    evaluate = servable.signatures["evaluate"]
    records = tf.data.TFRecordDataset(list(eval_files), compression_type="GZIP").take(max_examples)
    batches = [evaluate(examples=batch) for batch in records.batch(BATCH)]
    return pd.DataFrame({name: np.concatenate([b[name].numpy() for b in batches]) for name in batches[0]})


def held_out_facts(eval_files: Sequence[str], max_examples: int) -> pd.DataFrame:
    """`user_id` and interaction `type` (bytes) of each held-out interaction: the last position of each example."""
    records = tf.data.TFRecordDataset(list(eval_files), compression_type="GZIP").take(max_examples)
    spec = {INTERACTION_TYPES_KEY: tf.io.RaggedFeature(tf.string), USER_ID_KEY: tf.io.FixedLenFeature([], tf.string)}
    batches = [tf.io.parse_example(batch, spec) for batch in records.batch(BATCH)]
    return pd.DataFrame(
        {
            "user_id": np.concatenate([batch[USER_ID_KEY].numpy() for batch in batches]),
            "type": np.concatenate([batch[INTERACTION_TYPES_KEY][:, -1:].values.numpy() for batch in batches]),
        }
    )
