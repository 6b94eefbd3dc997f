"""The catalog as the model holds it: item ids in vocabulary order and their transformed features, joined by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer.features import ITEM_ID_KEY, POPULARITY_KEY, Feature


@dataclass(frozen=True)
class Catalog:
    """N items. Row 0 of every feature is the unknown item; item `ids[i]` has row i + 1.

    ids          [N] bytes
    features     name → [N + 1] int64 or float32; [N + 1, V] int64 for several values (0 pads), float32 for a vector
    popularity   [N + 1] float32, time-decayed number of interactions before the eval part
    vocabularies name → [V] bytes, for the features that have one
    """

    ids: np.ndarray
    features: Mapping[str, np.ndarray]
    popularity: np.ndarray
    vocabularies: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """N, without the unknown item."""
        return len(self.ids)

    def statistics(self) -> np.ndarray:
        """What the ranking head knows of every item beside its embedding: [N + 1, 2] float32.

        The z-score of log(1 + popularity), and whether nobody has touched it yet. The unknown item has zeros.
        """
        logs = np.log1p(self.popularity[1:])
        known = np.stack([(logs - logs.mean()) / max(logs.std(), 1e-6), self.popularity[1:] == 0], axis=1)
        return np.pad(known, [[1, 0], [0, 0]]).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes one .npz file."""
        np.savez_compressed(
            path,
            ids=self.ids,
            popularity=self.popularity,
            **{f"feature/{name}": value for name, value in self.features.items()},
            **{f"vocabulary/{name}": value for name, value in self.vocabularies.items()},
        )

    @classmethod
    def load(cls, path: Path) -> "Catalog":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            groups: dict[str, dict[str, np.ndarray]] = {"feature": {}, "vocabulary": {}}
            for key in arrays.files:
                group, _, name = key.partition("/")
                if name:
                    groups[group][name] = arrays[key]
            return cls(arrays["ids"], groups["feature"], arrays["popularity"], groups["vocabulary"])

    @classmethod
    def read(cls, files: Sequence[str], transform: tft.TFTransformOutput, features: Sequence[Feature]) -> "Catalog":
        """Reads transformed catalog examples (TFRecord, gzip).

        Raises:
          ValueError: the catalog has no item, or an id twice.
        """
        ids = np.array(transform.vocabulary_by_name(ITEM_ID_KEY), dtype=np.bytes_)
        if not len(ids):
            raise ValueError("the catalog has no items; expected at least one row with an item_id")
        row_of = {item_id: row for row, item_id in enumerate(ids.tolist(), start=1)}
        spec = transform.transformed_feature_spec()
        records = tf.data.TFRecordDataset(list(files), compression_type="GZIP").batch(4096)
        batches = [tf.io.parse_example(batch, spec) for batch in records]
        item_ids = np.concatenate([batch[ITEM_ID_KEY].values.numpy() for batch in batches])
        rows = np.array([row_of[item_id] for item_id in item_ids.tolist()])
        if len(set(rows.tolist())) != len(rows):
            raise ValueError(f"the catalog has {len(rows)} rows for {len(ids)} item ids; every item_id must be unique")

        def column(name: str) -> np.ndarray:
            values = [batch[name] for batch in batches]
            if isinstance(values[0], tf.SparseTensor):
                width = max(1, *(int(v.dense_shape[1]) for v in values))
                values = [tf.sparse.to_dense(tf.sparse.reset_shape(v, [v.dense_shape[0], width])) for v in values]
            stacked = np.concatenate([v.numpy() for v in values])
            table = np.zeros((len(ids) + 1, *stacked.shape[1:]), stacked.dtype)
            table[rows] = stacked
            return table

        return cls(
            ids=ids,
            features={f.name: column(f.name) for f in features},
            popularity=column(POPULARITY_KEY),
            vocabularies={f.name: vocabulary(transform, f.name) for f in features if f.has_vocabulary},
        )


def vocabulary(transform: tft.TFTransformOutput, name: str) -> np.ndarray:
    """A vocabulary of the transform graph as bytes [V]."""
    return np.array(transform.vocabulary_by_name(name), dtype=np.bytes_)
