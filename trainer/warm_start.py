"""Warm start: what production learned, moved to where it belongs in the new model.

Row numbers change between runs (vocabularies are made anew), so rows are matched by id through both vocabularies.
A surviving id keeps its vector exactly, and what the optimizer knows of it. A new item starts at zero, that is, where
its content alone puts it; where items have no features, at the mean of what stands beside it in the new sequences.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
import tensorflow as tf

from trainer.model import Recommender
from trainer.optimizer import Moments
from trainer.sequences import SequenceTable

LEDGER_NAME = "vocabulary_ledger.json"
REACH = 3  # positions to either side of a new item that say where it belongs


@dataclass(frozen=True)
class Change:
    """How many ids of a vocabulary stayed, came and left between two models."""

    stayed: int
    came: int
    left: int

    def __str__(self) -> str:
        return f"{self.stayed:,} stayed, {self.came:,} came, {self.left:,} left"


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What became of each vocabulary, `items` first, and of all else that production had learned.

    cold_because: why nothing came along; None after a warm start. with_moments: whether the optimizer's state did.
    placed: how many new items began beside their neighbours. started_from: the version, None where it has no number or
    after a cold start. start_because: why that is not the version in production, '' where it is.
    """

    vocabularies: Mapping[str, Change]
    cold_because: str | None = None
    with_moments: bool = False
    placed: int = 0
    started_from: int | None = None
    start_because: str = ""

    def __str__(self) -> str:
        return "; ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """In words, for the log and the report."""
        items = self.vocabularies["items"]
        said = [self.start_because] if self.start_because else []
        if self.cold_because is not None:
            return [*said, f"cold start: {self.cold_because}", f"{items.came:,} items came"]
        moments = "came along" if self.with_moments else "began anew: the model was saved without it"
        source = f" from version {self.started_from}" if self.started_from else ""
        said.append(f"warm start{source}: {items.stayed:,} items stayed, {items.came:,} came, {items.left:,} left")
        if self.placed:
            said.append(f"{self.placed:,} of the items that came began beside their neighbours in the new sequences")
        return [*said, f"the optimizer's state {moments}"]

    def save(self, folder: Path) -> None:
        """Writes `vocabulary_ledger.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**asdict(self), "sentences": self.sentences}, indent=2)
        (folder / LEDGER_NAME).write_text(text)


@dataclass(frozen=True)
class Table:
    """A variable with a row per id, the unknown one first: [V + 1, D] and ids [V]. `fresh`: where a new id begins."""

    rows: tf.Variable
    ids: np.ndarray
    fresh: np.ndarray


def tables(model: Recommender) -> dict[str, Table]:
    """Every table of a model by its vocabulary, `items` first."""
    ids = model.candidate_tower.ids
    found = {"items": Table(ids, model.catalog.ids, np.zeros(ids.shape, np.float32))}
    for features, words in (
        (model.candidate_tower.content, model.catalog.vocabularies),
        (model.query_tower.sides, model.side_vocabularies),
    ):
        for name, table in features.tables.items() if features is not None else ():
            if name in words:
                found[name] = Table(table, words[name], table.numpy())
    return found


def move_rows(old_rows: np.ndarray, old_ids: np.ndarray, new_rows: np.ndarray, new_ids: np.ndarray) -> np.ndarray:
    """Rows of surviving ids: old [Vo + 1, D], old ids [Vo], new [Vn + 1, D], new ids [Vn] → [Vn + 1, D].

    Row 0 (unknown) always survives. Rows of new ids are those of `new_rows`.
    """
    row_of = {item_id: row for row, item_id in enumerate(old_ids.tolist(), start=1)}
    rows = np.array([0, *(row_of.get(item_id, -1) for item_id in new_ids.tolist())])
    moved = new_rows.copy()
    moved[rows >= 0] = old_rows[rows[rows >= 0]]
    return moved


def place_beside(rows: np.ndarray, is_new: np.ndarray, items: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Mean row of the known items beside each new one: rows [V + 1, D], bool [V + 1] → [V + 1, D].

    `items` [P] are the rows of sequences end to end; which sequence each is of, ascending, say `owners` [P]. Beside
    means at most REACH positions away. What is beside nothing known has zeros; what is not new keeps its row.
    """
    is_known = ~is_new
    is_known[0] = False
    pairs = [np.zeros((2, 0), np.int64)]
    for lag in range(1, REACH + 1):
        together = owners[lag:] == owners[:-lag]
        earlier, later = items[:-lag][together], items[lag:][together]
        for new, known in ((earlier, later), (later, earlier)):
            counted = is_new[new] & is_known[known]
            pairs.append(np.stack([new[counted], known[counted]]))
    new, known = np.concatenate(pairs, axis=1)
    beside = sparse.csr_matrix((np.ones(len(new)), (new, known)), (len(rows), len(rows)))  # how often
    mean = (beside @ rows) / np.maximum(beside.sum(axis=1), 1)
    return np.where(is_new[:, np.newaxis], np.asarray(mean).astype(rows.dtype), rows)


def cold_start(model: Recommender, because: str) -> Ledger:
    """The ledger of a model that begins from nothing."""
    came = {name: Change(stayed=0, came=len(table.ids), left=0) for name, table in tables(model).items()}
    return Ledger(vocabularies=came, cold_because=because)


def warm_start(
    model: Recommender,
    production: Recommender,
    moments: Moments | None = None,
    sequences: SequenceTable | None = None,
) -> Ledger:
    """Copies what `production` learned into `model`, which stays as it is where the two have not the same parts.

    Args:
      moments: of production's optimizer; moved to `model.moments`, where the training finds them.
      sequences: what the model is about to learn: new items of no features begin beside their neighbours there.
    """
    if reason := _mismatch(model, production):
        return cold_start(model, reason)
    new, old, names = tables(model), tables(production), _names(model)

    def carry(values: Iterable[np.ndarray], fresh: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [
            value if name is None else move_rows(value, old[name].ids, fresh[name], new[name].ids)
            for name, value in zip(names, values, strict=True)
        ]

    fresh = {name: table.fresh for name, table in new.items()}
    weights = carry([variable.numpy() for variable in production.trainable_variables], fresh)
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    came = ~np.isin(model.catalog.ids, production.catalog.ids)
    placed = 0
    if sequences is not None and model.candidate_tower.content is None and came.any():
        known, is_new = model.candidate_tower.ids.numpy(), np.append(False, came)
        rows = place_beside(known, is_new, sequences.positions["item_rows"], sequences.owners)
        model.candidate_tower.ids.assign(rows)
        placed = int(np.count_nonzero(rows[1:][came].any(axis=1)))
    if moments is not None:
        nothing = {name: np.zeros(table.rows.shape, np.float32) for name, table in new.items()}
        first, second = (tuple(carry(values, nothing)) for values in (moments.first, moments.second))
        model.moments = Moments(moments.steps, first, second)
    changes = {name: _change(table.ids, old[name].ids) for name, table in new.items()}
    return Ledger(vocabularies=changes, with_moments=moments is not None, placed=placed)


def _change(new_ids: np.ndarray, old_ids: np.ndarray) -> Change:
    stayed = len(np.intersect1d(new_ids, old_ids))
    return Change(stayed=stayed, came=len(new_ids) - stayed, left=len(old_ids) - stayed)


def _names(model: Recommender) -> list[str | None]:
    """Of each trainable variable: the vocabulary whose rows it has, None for none."""
    names = {table.rows.ref(): name for name, table in tables(model).items()}
    return [names.get(variable.ref()) for variable in model.trainable_variables]


def _mismatch(model: Recommender, production: Recommender) -> str | None:
    """Why the two models have not the same parts, or None."""
    new, old = model.config, production.config
    settings = (
        "embedding_dim",
        "history_encoder",
        "history_blocks",
        "history_heads",
        "hidden_ratio",
        "normalized",
        "graded_types",
    )
    for what, mine, theirs in (
        *((name, getattr(new.trainer, name), getattr(old.trainer, name)) for name in settings),
        ("max_history", new.max_history, old.max_history),
        ("features", new.features, old.features),
    ):
        if mine != theirs:
            return f"{what} is {mine!r}, production has {theirs!r}; the next run can warm-start again"
    mine, theirs = ([*zip(_names(m), _shapes(m), strict=True)] for m in (model, production))
    if mine != theirs:
        return (
            f"this code makes another model of the same configuration: {len(mine)} variables, production has "
            f"{len(theirs)}, or of other shapes; the next run can warm-start again"
        )
    return None


def _shapes(model: Recommender) -> list[tuple[int, ...]]:
    """Of each trainable variable, without the rows of a vocabulary."""
    variables = zip(model.trainable_variables, _names(model), strict=True)
    return [tuple(variable.shape)[0 if name is None else 1 :] for variable, name in variables]
