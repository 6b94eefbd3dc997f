"""Servables of small worlds, packed as production packs them, saved, loaded, and how to ask them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.index_builder.config import IndexConfig
from components.index_builder.pack import pack
from trainer.saved import save
from trainer.warm_start import cold_start

MAX_HISTORY, LOWEST = 4, np.finfo(np.float32).min


@dataclass
class Packed:
    """A loaded servable, what it was packed from, and how to ask it."""

    path: Path
    model: Any
    servable: Any
    users: dict[str, dict[str, list[Any]]]
    config: IndexConfig
    release: dict[str, Any]
    contract: dict[str, Any]
    serialize: Any
    transform: Any

    @property
    def ids(self) -> list[bytes]:
        return self.model.catalog.ids.tolist()

    def rows(self, ids):
        return [self.ids.index(i) + 1 if i in self.ids else 0 for i in ids]

    def ask(self, signature, **inputs):
        tensors = {k: tf.constant(v, tf.float32 if k == "hour" else tf.string) for k, v in inputs.items()}
        answer = self.servable.signatures[signature](**tensors)
        return SimpleNamespace(**{name: value.numpy() for name, value in answer.items()})

    def recommend(self, user_id="", history=(), exclude=(), allow=(), device="", hour=float("nan")):
        """One request; fields without their batch dimension, answers without '' pads."""
        rows = {"history": [list(history)], "exclude": [list(exclude)], "allow": [list(allow)]}
        padded = {name: value if value[0] else [[""]] for name, value in rows.items()}
        answer = self.ask("recommend", user_id=[user_id], device=[device], hour=[hour], **padded)
        answer.ids = [i for i in answer.item_ids[0].tolist() if i]
        return answer

    def example(self, items, **kwargs):
        return self.serialize(eval_example([i.decode() if isinstance(i, bytes) else i for i in items], **kwargs))

    def table(self):
        table = self.model.embed_catalog().numpy()
        table[0] = 0
        return table

    def query(self, items, types, group=0, age=0.0, device=0, hour=0.0, likes=(0,), bio=(0,), face=(0.0, 0.0)):
        """The Trainer's own query embedding after these interactions [D]; rows and transformed values."""
        rows = tf.constant([[*items, 1]], tf.int64)
        length = len(items) + 1
        batch = {
            "item_rows": rows,
            "type_rows": tf.constant([[*types, 1]], tf.int64),
            "timestamps": tf.constant([range(length)], tf.int64),
            "is_target": tf.constant([[False] * (length - 1) + [True]]),
            "group": tf.constant([group], tf.int64),
            "age": tf.constant([age]),
            "likes": tf.constant([likes], tf.int64),
            "bio": tf.constant([bio], tf.int64),
            "face": tf.constant([face], tf.float32),
            "device": tf.constant([[device] * length], tf.int64),
            "hour": tf.constant([[hour] * length]),
        }
        return self.model.target_queries(batch, tf.gather(tf.constant(self.table()), rows)).numpy()[0]

    def worth(self, query):
        """log(1 e^view + 3 e^buy) of all items [N]: what the ranking head adds to log p(item | query)."""
        table = tf.constant(self.table()[1:])
        queries, rows = tf.constant(np.tile(query, (len(table), 1))), tf.range(1, len(table) + 1)
        return np.log(np.exp(self.model.outcome_logits(queries, table, rows).numpy()) @ [1.0, 3.0])

    def scores(self, query):
        """What each of all items is worth to the query [N], a logarithm."""
        return self.table()[1:] @ query / self.model.config.trainer.temperature + self.worth(query)

    def expected(self, query, unwanted, allowed=None):
        """The list that the contract promises, for one request: ids, best first."""
        products = self.table()[1:] @ query
        count = min(self.config.num_candidates, len(products))
        k = min(self.config.top_k, len(products))
        shown = np.ones(len(products), bool) if allowed is None else allowed.copy()
        shown[[row - 1 for row in unwanted if row]] = False
        found = [i for i in np.argsort(-products)[:count] if shown[i]]
        if allowed is not None or len(found) < k:
            found = [i for i in np.argsort(-products) if shown[i]][:count]
        scores = self.scores(query)
        return [self.ids[i] for i in sorted(found, key=lambda i: -scores[i])][:k]


def history_of(ids, *rows):
    return [ids[row - 1].decode() for row in rows]


def build(world, model, path, train=None, held_out=None, **config):
    ids = model.catalog.ids
    many = [1 + i % len(ids) for i in range(9)]
    users = {
        "ann": {"item_ids": history_of(ids, 1), "types": ["buy"], "group": ["forward"], "age": [20.0]},
        "bob": {"item_ids": history_of(ids, *many), "types": ["view", "buy", "view"] * 3, "group": [], "age": []},
        "cäcilie": {"item_ids": ["gone"], "types": ["view"], "group": ["back"], "age": [40.0]},  # nothing known: cold
        "dan": {"item_ids": ["gone", *history_of(ids, len(ids))], "types": ["buy", "view"], "group": ["?"], "age": []},
    }
    said = {
        "likes": {"ann": ["rock"], "bob": ["jazz", "polka", "rock"]},
        "bio": {"ann": ["the END"], "dan": ["piano?"]},
    }
    said["face"] = {"ann": [0.5, 1.0], "bob": [-1.0, 2.0]}
    for name, user in users.items():
        user |= {feature: values.get(name, []) for feature, values in said.items()}
    rows = [
        {
            "user_id": [name],
            **{feature: user[feature] for feature in ("group", "age", "likes", "bio", "face")},
            "item_ids": user["item_ids"],
            "interaction_types": user["types"],
            "timestamps": list(range(len(user["item_ids"]))),
            "device": ["phone"] * len(user["item_ids"]),
            "hour": [1.0] * len(user["item_ids"]),
        }
        for name, user in users.items()
    ]
    rng = np.random.default_rng(9)
    held_out = held_out or [eval_example(history_of(ids, *rng.integers(1, len(ids) + 1, 1 + i % 6))) for i in range(60)]
    save(model, path / "model", world.transform_graph, world.catalog_transform_graph)
    replace(cold_start(model, "it stems from nowhere"), started_from=7).save(path / "model")
    index_config = IndexConfig(**config)
    pack(
        path / "model",
        [world.write(path / "users-0.gz", rows[:3]), world.write(path / "users-1.gz", rows[3:])],
        [world.write(path / "train.gz", train or [])],
        [world.write(path / "eval.gz", held_out)],
        {"spans_read": [2], "spans_from_state": [1], "lineage": {}, "eval_from_seconds": 100},
        index_config,
        path / "servable",
    )
    extra = path / "servable" / "assets.extra"
    return Packed(
        path / "servable",
        model,
        tf.saved_model.load(str(path / "servable")),
        users,
        index_config,
        json.loads((extra / "release.json").read_text()),
        json.loads((extra / "contract.json").read_text()),
        world.serialize,
        tft.TFTransformOutput(world.transform_graph),
    )


def eval_example(items, types=None, device="", hour=float("nan"), group=(), likes=(), face=()):
    """A held-out interaction: the last of `items`, one second after the other."""
    length = len(items)
    return {
        "user_id": ["someone"],
        "group": list(group),
        "age": [],
        "likes": list(likes),
        "bio": [],
        "face": list(face),
        "item_ids": items,
        "interaction_types": types or ["buy"] * length,
        "timestamps": list(range(1_000, 1_000 + length)),
        "device": [device] * length,
        "hour": [hour] * length,
        "is_target": [0] * (length - 1) + [1],
    }
