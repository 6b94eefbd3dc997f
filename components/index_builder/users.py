"""The user state inside the servable: the last interactions and the features of every user of the window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainer.features import INTERACTION_TYPES_KEY, ITEM_IDS_KEY, USER_ID_KEY
from trainer.inputs import RowLookup
from trainer.model import Recommender
from trainer.preprocessing import raw_value


@dataclass(frozen=True)
class UserState:
    """U users. Row 0 is the unknown user: no history, every feature unknown. User `ids[i]` has row i + 1.

    ids       [U] bytes
    items     [U + 1, H] int64 catalog rows, newest last, 0 pads in front
    types     [U + 1, H] int64 interaction type rows
    features  name → [U + 1] transformed feature; [U + 1, V] for several values (0 pads) and for a vector
    """

    ids: np.ndarray
    items: np.ndarray
    types: np.ndarray
    features: dict[str, np.ndarray]


def read_users(files: Sequence[str], model: Recommender, user_features: tf.keras.layers.Layer) -> UserState:
    """Reads user examples (TFRecord, gzip) and transforms the features as the trainer did."""
    max_history = model.config.max_history
    declared = model.config.features.user
    strings = tf.io.VarLenFeature(tf.string)
    spec = {
        USER_ID_KEY: tf.io.FixedLenFeature([], tf.string),
        ITEM_IDS_KEY: strings,
        INTERACTION_TYPES_KEY: strings,
        **{f.name: raw_value(f) for f in declared},
    }
    lookups = (
        (ITEM_IDS_KEY, RowLookup(model.catalog.ids, "items")),
        (INTERACTION_TYPES_KEY, RowLookup([t.encode() for t in model.config.features.interaction_types], "types")),
    )
    ids: list[np.ndarray] = []
    rows: dict[str, list[np.ndarray]] = {ITEM_IDS_KEY: [], INTERACTION_TYPES_KEY: []}
    features: dict[str, list[np.ndarray]] = {f.name: [] for f in declared}
    for serialized in tf.data.TFRecordDataset(list(files), compression_type="GZIP").batch(4096):
        batch = tf.io.parse_example(serialized, spec)
        ids.append(batch[USER_ID_KEY].numpy())
        for key, lookup in lookups:
            ragged = tf.RaggedTensor.from_sparse(batch[key])[:, -max_history:]
            padded = tf.reverse(tf.reverse(ragged, [1]).to_tensor("", shape=[None, max_history]), [1])
            rows[key].append(lookup(padded).numpy())
        if declared:
            transformed = user_features({f.name: batch[f.name] for f in declared})
            for f in declared:
                value = transformed[f.name]
                value = tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
                features[f.name].append(value.numpy())
    return UserState(
        ids=np.concatenate(ids),
        items=_with_unknown(rows[ITEM_IDS_KEY]),
        types=_with_unknown(rows[INTERACTION_TYPES_KEY]),
        features={name: _with_unknown(values) for name, values in features.items()},
    )


def _with_unknown(batches: list[np.ndarray]) -> np.ndarray:
    """[b] or [b, V] each → [1 + all of them] or [1 + …, the widest V]: row 0 and what is missing are 0."""
    shape = np.max([batch.shape for batch in batches], axis=0)
    shape[0] = 1 + sum(len(batch) for batch in batches)
    table = np.zeros(shape, batches[0].dtype)
    begin = 1
    for batch in batches:
        place = (slice(begin, begin + len(batch)), *map(slice, batch.shape[1:]))
        table[place] = batch
        begin += len(batch)
    return table
