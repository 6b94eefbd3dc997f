"""Warm start: what production learned, moved to where it belongs in the new model.

Row numbers change between runs (vocabularies are made anew), so rows are matched by id through both vocabularies.
A surviving id keeps its vector exactly; a new id starts at zero, that is, where its content alone puts it.
"""

import logging
from dataclasses import dataclass

import numpy as np

from trainer.model import Recommender

log = logging.getLogger("evergreen.trainer")


@dataclass(frozen=True)
class VocabularyLedger:
    """How many item ids stayed, came and left between two models."""

    stayed: int
    came: int
    left: int

    def __str__(self) -> str:
        return f"{self.stayed:,} items stayed, {self.came:,} came, {self.left:,} left"


def move_rows(old_rows: np.ndarray, old_ids: np.ndarray, new_rows: np.ndarray, new_ids: np.ndarray) -> np.ndarray:
    """Rows of surviving ids: old [Vo + 1, D], old ids [Vo], new [Vn + 1, D], new ids [Vn] → [Vn + 1, D].

    Row 0 (unknown) always survives. Rows of new ids are those of `new_rows`.
    """
    row_of = {item_id: row for row, item_id in enumerate(old_ids.tolist(), start=1)}
    moved = new_rows.copy()
    moved[0] = old_rows[0]
    for row, item_id in enumerate(new_ids.tolist(), start=1):
        if item_id in row_of:
            moved[row] = old_rows[row_of[item_id]]
    return moved


def warm_start(model: Recommender, production: Recommender) -> VocabularyLedger | None:
    """Copies what `production` learned into `model`; None, with the reason logged, where the two cannot be matched."""
    if reason := _mismatch(model, production):
        log.info("cold start: %s", reason)
        return None
    new_ids, old_ids = model.catalog.ids, production.catalog.ids
    fresh = np.zeros(model.candidate_tower.ids.shape, np.float32)
    model.candidate_tower.ids.assign(move_rows(production.candidate_tower.ids.numpy(), old_ids, fresh, new_ids))
    moved = {model.candidate_tower.ids.ref()}
    for new_tables, old_tables, new_words, old_words in (
        (model.candidate_tower.content, production.candidate_tower.content,
         model.catalog.vocabularies, production.catalog.vocabularies),
        (model.query_tower.sides, production.query_tower.sides,
         model.side_vocabularies, production.side_vocabularies),
    ):  # fmt: skip
        if new_tables is None or old_tables is None:
            continue
        for name, table in new_tables.tables.items():
            if name in new_words:
                rows = move_rows(old_tables.tables[name].numpy(), old_words[name], table.numpy(), new_words[name])
                table.assign(rows)
                moved.add(table.ref())
    for new, old in zip(model.trainable_variables, production.trainable_variables, strict=True):
        if new.ref() not in moved:
            new.assign(old)
    stayed = len(np.intersect1d(new_ids, old_ids))
    return VocabularyLedger(stayed=stayed, came=len(new_ids) - stayed, left=len(old_ids) - stayed)


def _mismatch(model: Recommender, production: Recommender) -> str | None:
    """Why the two models have not the same parts, or None."""
    new, old = model.config, production.config
    for what, mine, theirs in (
        ("embedding_dim", new.trainer.embedding_dim, old.trainer.embedding_dim),
        ("history_encoder", new.trainer.history_encoder, old.trainer.history_encoder),
        ("max_history", new.max_history, old.max_history),
        ("features", new.features, old.features),
    ):
        if mine != theirs:
            return f"{what} is {mine!r}, production has {theirs!r}; the next run can warm-start again"
    return None
