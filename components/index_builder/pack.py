"""Packs a trained model into one servable: embeds the catalog, indexes it, measures the index, saves, describes."""

import hashlib
import json
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from pydantic import TypeAdapter

from components.index_builder import curve
from components.index_builder.availability import Hidden, describe
from components.index_builder.config import IndexConfig, Rules
from components.index_builder.filters import Filters
from components.index_builder.index import checked
from components.index_builder.servable import Servable
from components.index_builder.signatures import signatures
from components.index_builder.tune import choose
from components.index_builder.users import read_users
from trainer.inputs import RowLookup, dense_sequences
from trainer.model import Recommender
from trainer.saved import CONFIG, load
from trainer.warm_start import LEDGER_NAME

log = logging.getLogger("evergreen.index_builder")
LIBRARIES = ("tensorflow", "scann", "tensorflow-recommenders", "tensorflow-transform", "tfx")
MEASURED_QUERIES = 1_000
RULES = TypeAdapter(Rules)


def pack(
    model_path: Path,
    user_files: Sequence[str],
    eval_files: Sequence[str],
    summary: dict[str, Any],
    config: IndexConfig,
    output_path: Path,
    unavailable: Sequence[str] = (),
) -> None:
    """Writes the SavedModel, with `assets.extra/release.json` (what it is) and `contract.json` (how to ask it).

    `unavailable`: ids of items that are not to be shown for now.

    Raises:
      BuildError: an embedding is not finite.
    """
    model = load(model_path)
    transform = tft.TFTransformOutput(str(model_path / "transform_graph"))
    embeddings = model.embed_catalog().numpy()
    embeddings[0] = 0.0
    checked(embeddings[1:], model.catalog.ids.tolist())
    table = tf.Variable(embeddings, trainable=False, name="embeddings")
    queries = real_queries(model, table, transform, eval_files)
    tuned = choose(table, queries, config)
    users = read_users(user_files, model, transform.transform_features_layer())
    filterable = [f.name for f in model.config.features.item if f.type in ("category", "categories")]
    servable = Servable(model, table, tuned.index, users, Filters(model.catalog, filterable), config, unavailable)
    servable.save(str(output_path), signatures(servable, transform))
    measured = f"recall {tuned.chosen.recall:.3f} on real queries" if tuned.tried else "not measured"
    log.info("%s items indexed (%s) · %s", f"{model.catalog.size:,}", tuned.index, measured)
    extra = output_path / "assets.extra"
    extra.mkdir()
    most_popular = np.argsort(-model.catalog.popularity[1:], kind="stable")[:3]
    contract = {
        "top_k": servable.top_k,
        "is_ordered_by_score": servable.rules.keeps_order,
        "embedding_dim": model.config.trainer.embedding_dim,
        "max_history": model.config.max_history,
        "context": [{"name": f.name, "type": f.type} for f in model.config.features.context],
        "canary": {
            "user_ids": [user_id.decode() for user_id in users.ids[:3].tolist()],
            "item_ids": [model.catalog.ids[row].decode() for row in most_popular],
            "allow": servable.filters.values[0].decode() if servable.filters.values else "",
        },
    }
    ledger = json.loads((model_path / LEDGER_NAME).read_text()) if (model_path / LEDGER_NAME).exists() else {}
    release = {
        "warm_started_from": ledger.get("started_from"),
        "spans": sorted({*summary["spans_read"], *summary["spans_from_state"]}),
        "lineage": summary["lineage"],
        "learned_until_seconds": summary["eval_from_seconds"],
        "items": model.catalog.size,
        "users": len(users.ids),
        "index": {
            "kind": tuned.index.kind,
            "effort": str(tuned.index),
            "recall": tuned.chosen.recall if tuned.tried else None,
            "candidates": servable.num_candidates,
            "why_not": list(tuned.why_not),
        },
        "rules": {**RULES.dump_python(config.rules, mode="json"), "idle": servable.rules.idle},
        "config_sha256": hashlib.sha256(CONFIG.dump_json(model.config)).hexdigest(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    curve.write(curve.to_json(tuned, config.min_recall, len(queries), servable.num_candidates), extra)
    (extra / "contract.json").write_text(json.dumps(contract, indent=2))
    (extra / "release.json").write_text(json.dumps(release, indent=2))
    known = len(set(unavailable) & {item.decode() for item in model.catalog.ids.tolist()})
    describe(output_path, list(unavailable), Hidden(known, len(set(unavailable)) - known))


def real_queries(
    model: Recommender, table: tf.Variable, transform: tft.TFTransformOutput, eval_files: Sequence[str]
) -> np.ndarray:
    """Query embeddings of held-out interactions [Q, D]: an index is judged by what will be asked of it."""
    layer, spec = transform.transform_features_layer(), transform.raw_feature_spec()
    features = model.config.features
    items = RowLookup(model.catalog.ids, "items")
    types = RowLookup([name.encode() for name in features.interaction_types], "types")
    queries = [np.zeros([0, model.config.trainer.embedding_dim], np.float32)]
    records = tf.data.TFRecordDataset(list(eval_files), compression_type="GZIP").take(MEASURED_QUERIES)
    for serialized in records.batch(256):
        batch = dense_sequences(layer(tf.io.parse_example(serialized, spec)), features, items, types)
        queries.append(model.target_queries(batch, tf.gather(table, batch["item_rows"])).numpy())
    return np.concatenate(queries)
