"""ServableValidator: a real server over small hand-made servables, good, broken, and unloadable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import InfraBlessing, Model

from components.servable_validator import judge
from components.servable_validator.component import ServableValidator
from components.servable_validator.config import ValidatorConfig
from components.servable_validator.probe import Report, probe

USERS = ["ann", "bob", "cleo"]
ITEMS = [f"i{number}" for number in range(12)]
GENRES = ["genres=Comedy" if number < 4 else "genres=Drama" for number in range(12)]  # fewer comedies than K
K, D = 5, 3
CONTRACT = {
    "top_k": K,
    "embedding_dim": D,
    "max_history": 4,
    "context": [{"name": "device", "type": "category"}, {"name": "hour", "type": "number"}],
    "canary": {"user_ids": USERS[:2], "item_ids": ITEMS[2:6], "allow": "genres=Comedy"},
    "written_for": "others too",
}
CONFIG = ValidatorConfig(max_p50_ms=1000, requests_per_signature=3, load_timeout_seconds=60)
Answer = dict[str, tf.Tensor]


def ids(*shape: int | None) -> tf.TensorSpec:
    """Strings of a shape."""
    return tf.TensorSpec(shape, tf.string)


def one_hot(given: tf.Tensor, known: list[str]) -> tf.Tensor:
    """[…] → […, len(known)]; an id that is not known is a row of zeros."""
    return tf.cast(given[..., None] == tf.constant(known), tf.float32)


class TinyServable(tf.Module):
    """Dot products of random vectors; `faults` names what it does wrong."""

    def __init__(self, faults: set[str]) -> None:
        super().__init__()
        random = np.random.default_rng(3)
        self.faults = faults
        self.user_vectors = tf.Variable(random.normal(size=(len(USERS), D)), dtype=tf.float32)
        self.item_vectors = tf.Variable(random.normal(size=(len(ITEMS), D)), dtype=tf.float32)

    def _top(self, scores: tf.Tensor) -> Answer:
        best, places = tf.math.top_k(scores, K)
        items = tf.where(tf.math.is_finite(best), tf.gather(tf.constant(ITEMS), places), "")
        return {"item_ids": items, "scores": best}

    def _query(self, user_id: tf.Tensor) -> tf.Tensor:
        return one_hot(user_id, USERS) @ self.user_vectors + 0.1

    @tf.function(input_signature=[ids(None)])
    def serve(self, user_id: tf.Tensor) -> Answer:
        """[B] → [B, K]."""
        return self._top(self._query(user_id) @ tf.transpose(self.item_vectors))

    @tf.function(input_signature=[ids(None), *[ids(None, None)] * 3, ids(None), tf.TensorSpec([None], tf.float32)])
    def recommend(
        self,
        user_id: tf.Tensor,
        history: tf.Tensor,
        exclude: tf.Tensor,
        allow: tf.Tensor,
        device: tf.Tensor,
        hour: tf.Tensor,
    ) -> Answer:
        """[B], [B, H], [B, X], [B, F], [B], [B] → [B, K]."""
        query = self._query(user_id) + hour[:, None] * 0 + tf.cast(device == "?", tf.float32)[:, None]
        if "deaf" not in self.faults:
            query += tf.reduce_sum(one_hot(history, ITEMS) @ self.item_vectors, axis=1)
        scores = query @ tf.transpose(self.item_vectors)
        is_out = tf.reduce_any(one_hot(exclude, ITEMS) > 0, axis=1)
        is_allowed = tf.reduce_any(allow[..., None] == tf.constant(GENRES), axis=1)
        is_out |= tf.reduce_any(allow != "", axis=1, keepdims=True) & ~is_allowed
        top = self._top(tf.where(is_out, -np.inf, scores))
        reasons = tf.where(top["item_ids"] == "", "", "because")
        return {**top, "retrieval_scores": top["scores"], "reasons": reasons}

    @tf.function(input_signature=[ids(None)])
    def similar_items(self, item_id: tf.Tensor) -> Answer:
        """[B] → [B, K]."""
        self_or_not = one_hot(item_id, ITEMS)
        scores = (self_or_not @ self.item_vectors) @ tf.transpose(self.item_vectors)
        if "narcissus" not in self.faults:
            scores = tf.where(self_or_not > 0, -np.inf, scores)
        is_known = tf.reduce_any(self_or_not > 0, axis=1, keepdims=True)
        return self._top(tf.where(is_known, scores, -np.inf))

    @tf.function(input_signature=[ids(None), ids(None, None)])
    def rank(self, user_id: tf.Tensor, item_ids: tf.Tensor) -> Answer:
        """[B], [B, N] → [B, N]."""
        choice = one_hot(item_ids, ITEMS)
        if "brittle" in self.faults:
            tf.debugging.assert_equal(tf.reduce_sum(choice, axis=2), 1.0, "an item is not in the vocabulary")
        scores = tf.einsum("bni,id,bd->bn", choice, self.item_vectors, self._query(user_id))
        return {"scores": tf.where(tf.reduce_any(choice > 0, axis=2), scores, -1e9)}

    @tf.function(input_signature=[ids(None)])
    def embed_query(self, user_id: tf.Tensor) -> Answer:
        """[B] → [B, D]."""
        return {"embedding": self._query(user_id)}

    @tf.function(input_signature=[ids(None)])
    def embed_items(self, item_id: tf.Tensor) -> Answer:
        """[B] → [B, D]."""
        return {"embedding": one_hot(item_id, ITEMS) @ self.item_vectors}


@pytest.fixture
def servable(tmp_path: Path) -> Callable[..., Path]:
    """faults → the folder of a SavedModel that has them."""

    def build(*faults: str) -> Path:
        module, folder = TinyServable(set(faults)), tmp_path / "servable"
        names = ("recommend", "similar_items", "rank", "embed_query", "embed_items")
        signatures = {"serving_default": module.serve} | {name: getattr(module, name) for name in names}
        tf.saved_model.save(module, str(folder), signatures=signatures)
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra/contract.json").write_text(json.dumps(CONTRACT))
        return folder

    return build


def failed(report: Report) -> dict[str, str]:
    """Name → sentence of the checks that failed."""
    return {check.name: check.sentence for check in report.checks if not check.passed}


def test_a_good_servable_is_blessed(servable: Callable[..., Path], tmp_path: Path) -> None:
    model, blessing = Model(), InfraBlessing()
    model.uri, blessing.uri = str(servable()), str(tmp_path / "blessing")
    config = {"max_p50_ms": 1000, "requests_per_signature": 3}
    ServableValidator.test_call(model=model, blessing=blessing, config=json.dumps(config))
    report = json.loads((tmp_path / "blessing/report.json").read_text())
    assert report["reasons"] == []
    assert [check["name"] for check in report["checks"]] == [
        "contract", "load", "serving_default", "recommend", "exclude", "history", "similar_items", "rank",
        "embeddings", "gRPC = REST", "latency",
    ]  # fmt: skip
    assert blessing.get_int_custom_property("blessed") == 1
    assert (tmp_path / "blessing/INFRA_BLESSED").is_file()
    assert set(report["p50_ms"]) == {
        "serving_default", "recommend", "similar_items", "rank", "embed_query", "embed_items"
    }  # fmt: skip


def test_each_fault_is_told_and_nothing_else(servable: Callable[..., Path]) -> None:
    found = failed(probe(servable("narcissus", "brittle", "deaf"), CONFIG))
    assert "i2 came back, though it was asked about" in found["similar_items"]
    assert "an item is not in the vocabulary" in found["rank"]
    assert "ann gets the same answer after i2 as after i5" in found["history"]
    assert set(found) == {"similar_items", "rank", "history", "gRPC = REST"}  # the last sends an unknown item to `rank`


def test_a_model_that_cannot_be_loaded_is_a_verdict_with_the_log(servable: Callable[..., Path], tmp_path: Path) -> None:
    folder = servable()
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])
    blessing, model = InfraBlessing(), Model()
    model.uri, blessing.uri = str(folder), str(tmp_path / "blessing")
    ServableValidator.test_call(model=model, blessing=blessing, config="{}")
    (reason,) = json.loads((tmp_path / "blessing/report.json").read_text())["reasons"]
    assert "its log ends:\n" in reason
    assert "recommender" in reason
    assert blessing.get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing/INFRA_NOT_BLESSED").is_file()


def test_a_contract_that_is_missing_or_wrong_is_a_verdict(servable: Callable[..., Path]) -> None:
    folder = servable()
    path = folder / "assets.extra/contract.json"
    path.write_text(json.dumps(CONTRACT | {"top_k": 0}))
    assert "top_k" in failed(probe(folder, CONFIG))["contract"]
    shutil.rmtree(path.parent)
    assert "no assets.extra/contract.json" in failed(probe(folder, CONFIG))["contract"]


@pytest.mark.parametrize(
    ("items", "scores", "words"),
    [
        (["a", "b", "c"], [3, 2, 1], []),
        (["a", "b", ""], [3, 2, -np.inf], ["bo gets 2 items; expected 3"]),
        (["a", "a", "c"], [3, 2, 1], ["bo gets a more than once"]),
        (["a", "b", "c"], [3, 1, 2], ["the scores of bo increase"]),
        (["a", "b", "c"], [3, np.nan, 1], ["bo gets a score that is not finite"]),
        (["", "", ""], [0, 0, 0], ["bo gets no item"]),
        (["a", "", "c"], [3, 2, 1], ["bo gets 2 items; expected 3", "bo gets an empty place before an item"]),
    ],
)
def test_what_is_wrong_with_a_list(items: list[str], scores: list[float], words: list[str]) -> None:
    item_ids = np.array([item.encode() for item in items], dtype=object)
    assert judge.wrong_list(item_ids, np.array(scores, dtype=np.float32), "bo", is_full=True) == words


def test_a_list_that_rules_arrange_need_not_be_ordered_by_score() -> None:
    item_ids, scores = np.array([b"a", b"b"], dtype=object), np.array([1, 2], np.float32)
    assert judge.wrong_list(item_ids, scores, "bo", is_full=True, is_ordered=False) == []
    assert judge.wrong_list(item_ids, scores * np.inf, "bo", is_full=True, is_ordered=False) != []


def test_answers_differ_beyond_the_precision_of_json() -> None:
    def answer(score: float, item: bytes = b"a") -> judge.Answer:
        return {"scores": np.array([[score]], np.float32), "item_ids": np.array([[item]], object)}

    assert judge.differences(answer(1.0), answer(1.00001)) == []
    assert judge.differences(answer(1.0), answer(1.001)) == ["scores"]
    assert judge.differences(answer(1.0), answer(1.0, b"b")) == ["item_ids"]
