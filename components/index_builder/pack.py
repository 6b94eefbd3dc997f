"""Packs a trained model into one servable: embeds the catalog, indexes it, measures the index, saves, describes."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.availability import describe
from components.index_builder import curve, warm_up
from components.index_builder.config import IndexConfig
from components.index_builder.context_popularity import ContextPopularity, Interactions, learn, targets_of
from components.index_builder.filters import Filters
from components.index_builder.index import checked
from components.index_builder.manifest import contract_of, release_of
from components.index_builder.popular import rows_of, shares_of
from components.index_builder.servable import OVERSAMPLING, Servable
from components.index_builder.signatures import signatures
from components.index_builder.tune import choose
from components.index_builder.users import read_users
from trainer.inputs import Batch, RowLookup, dense_sequences
from trainer.model import Recommender
from trainer.saved import load
from trainer.warm_start import LEDGER_NAME

log = logging.getLogger("evergreen.index_builder")
MEASURED_QUERIES = 1_000
CONTEXT_EXAMPLES = 20_000  # of each split


def pack(
    model_path: Path,
    user_files: Sequence[str],
    train_files: Sequence[str],
    eval_files: Sequence[str],
    summary: dict[str, Any],
    config: IndexConfig,
    output_path: Path,
    unavailable: Sequence[str] = (),
) -> None:
    """Writes the SavedModel, and in its `assets.extra` what it is, how to ask it, its index's curve and its warm-up.

    `unavailable`: ids of items that are not to be shown for now.

    Raises:
      BuildError: an embedding is not finite, a fixed kind of index misses its bar, a rule is about no category.
    """
    model = load(model_path)
    transform = tft.TFTransformOutput(str(model_path / "transform_graph"))
    embeddings = model.embed_catalog().numpy()
    embeddings[0] = 0.0
    checked(embeddings[1:], model.catalog.ids.tolist())
    table = tf.Variable(embeddings, trainable=False, name="embeddings")
    queries = real_queries(model, table, transform, eval_files)
    tuned = choose(table, queries, config, OVERSAMPLING)
    users = read_users(user_files, model, transform.transform_features_layer())
    filterable = [f.name for f in model.config.features.item if f.type in ("category", "categories")]
    in_context = popularity_in_context(model, transform, train_files, eval_files, config, summary)
    filters = Filters(model.catalog, filterable)
    servable = Servable(model, table, tuned.index, users, filters, config, unavailable, in_context)
    servable.save(str(output_path), signatures(servable, transform))
    measured = f"recall {tuned.chosen.recall:.3f} on real queries" if tuned.tried else "not measured"
    log.info("%s items indexed (%s) · %s", f"{model.catalog.size:,}", tuned.index, measured)
    extra = output_path / "assets.extra"
    extra.mkdir()
    curve.write(curve.to_json(tuned, config.min_recall, len(queries), servable.num_candidates), extra)
    contract = contract_of(servable, users)
    (extra / "contract.json").write_text(json.dumps(contract, indent=2))
    ledger = json.loads((model_path / LEDGER_NAME).read_text()) if (model_path / LEDGER_NAME).exists() else {}
    (extra / "release.json").write_text(json.dumps(release_of(servable, tuned, users, summary, ledger), indent=2))
    describe(output_path, unavailable, model.catalog.ids.tolist())
    records = tf.data.TFRecordDataset(list(eval_files), compression_type="GZIP").take(1)
    warm_up.write(output_path, warm_up.requests_of(contract, next(records.as_numpy_iterator(), None)))


def real_queries(
    model: Recommender, table: tf.Variable, transform: tft.TFTransformOutput, eval_files: Sequence[str]
) -> np.ndarray:
    """Query embeddings of held-out interactions [Q, D]: an index is judged by what will be asked of it."""
    queries = [np.zeros([0, model.config.trainer.embedding_dim], np.float32)]
    for batch in sequences(model, transform, eval_files, MEASURED_QUERIES):
        queries.append(model.target_queries(batch, tf.gather(table, batch["item_rows"])).numpy())
    return np.concatenate(queries)


def popularity_in_context(
    model: Recommender,
    transform: tft.TFTransformOutput,
    train_files: Sequence[str],
    eval_files: Sequence[str],
    config: IndexConfig,
    summary: Mapping[str, Any],
) -> ContextPopularity | None:
    """What is popular in which context; None where no context is a category, or none says anything."""
    names = [f.name for f in model.config.features.context if f.type == "category"]
    if not names:
        return None
    popularity = model.catalog.popularity[1:]
    top = rows_of(popularity, min(OVERSAMPLING * config.num_candidates, model.catalog.size))
    place_of = np.full(model.catalog.size + 1, -1)
    place_of[top] = np.arange(len(top))
    is_positive = np.array([False, *(weight > 0 for weight in model.config.features.interaction_types.values())])

    def targets(files: Sequence[str]) -> Interactions:
        read = sequences(model, transform, files, CONTEXT_EXAMPLES)
        arrays = ({name: value.numpy() for name, value in batch.items()} for batch in read)
        return targets_of(arrays, names, place_of, is_positive)

    sizes = {name: len(model.side_vocabularies[name]) for name in names}
    shares = shares_of(popularity)[top]
    found = learn(shares, sizes, targets(train_files), targets(eval_files), summary["eval_from_seconds"])
    told = " · ".join(f"{name} {gain:+.3f}" for name, gain in found.gains.items())
    log.info("popular in context: %s (log-likelihood; %s)", ", ".join(found.first) or "no context counts", told)
    return found if found.first else None


def sequences(
    model: Recommender, transform: tft.TFTransformOutput, files: Sequence[str], at_most: int
) -> Iterator[Batch]:
    """Examples as the model reads them, some at a time."""
    layer, spec = transform.transform_features_layer(), transform.raw_feature_spec()
    features = model.config.features
    items = RowLookup(model.catalog.ids, "items")
    types = RowLookup([name.encode() for name in features.interaction_types], "types")
    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP").take(at_most)
    for serialized in records.batch(256):
        yield dense_sequences(layer(tf.io.parse_example(serialized, spec)), features, items, types)
