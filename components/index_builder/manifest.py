"""What a servable says of itself, in `assets.extra`: how to ask it (contract.json) and what it is (release.json).

Hashes are SHA-256: two releases with one hash are the same in that part, however they came to be.
"""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from components.availability import shown_value
from components.index_builder.config import IndexConfig
from components.index_builder.servable import Servable
from components.index_builder.tune import Tuned
from components.index_builder.users import UserState
from trainer.saved import CONFIG

LIBRARIES = ("tensorflow", "scann", "tensorflow-recommenders", "tensorflow-transform", "tfx")
CANARIES = 3
PADDED_INPUTS = ("history", "exclude", "allow")  # of `recommend`: '' says nothing there
INDEX_CONFIG = TypeAdapter(IndexConfig)


def contract_of(servable: Servable, users: UserState) -> dict[str, Any]:
    """The sizes of its answers, and users, items and a filter that it knows."""
    model = servable.learned.model
    filters, may_be_shown = servable.filters, servable.may_be_shown.numpy()
    most_popular = np.argsort(-model.catalog.popularity[1:], kind="stable")[:CANARIES]
    return {
        "top_k": servable.top_k,
        "is_ordered_by_score": servable.rules.keeps_order,
        "embedding_dim": model.config.trainer.embedding_dim,
        "max_history": model.config.max_history,
        "padded_inputs": list(PADDED_INPUTS),
        "context": [{"name": f.name, "type": f.type} for f in model.config.features.context],
        "canary": {
            "user_ids": [user_id.decode() for user_id in users.ids[:CANARIES].tolist()],
            "item_ids": [model.catalog.ids[row].decode() for row in most_popular],
            "allow": shown_value(filters.values.numpy().tolist(), filters.values_of.numpy(), may_be_shown),
        },
    }


def release_of(
    servable: Servable, tuned: Tuned, users: UserState, summary: Mapping[str, Any], ledger: Mapping[str, Any]
) -> dict[str, Any]:
    """The model, what it learned from, its index, its rules, and with what it was made.

    `summary` is that of the examples, `ledger` the Trainer's (trainer.warm_start).
    """
    model = servable.learned.model
    weights = [*model.trainable_variables, model.statistics]
    vocabularies = [model.catalog.ids, *(model.side_vocabularies[name] for name in sorted(model.side_vocabularies))]
    rules = INDEX_CONFIG.dump_python(servable.config, mode="json")["rules"]
    return {
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
        "rules": {**rules, "idle": servable.rules.idle},
        "model_sha256": _hash(variable.numpy().tobytes() for variable in weights),
        "embeddings_sha256": _hash([servable.embeddings.numpy().tobytes()]),
        "vocabulary_sha256": _hash(b"\n".join(ids.tolist()) for ids in vocabularies),
        "config_sha256": _hash([CONFIG.dump_json(model.config)]),
        "index_config_sha256": _hash([INDEX_CONFIG.dump_json(servable.config)]),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
