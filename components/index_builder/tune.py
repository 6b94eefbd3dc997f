"""Which index, and how hard it searches: the least work that finds `min_recall` of the true nearest items.

Judged on queries that users asked, never on items. The effort is chosen by the memory that a search reads, which is the
same on every machine; milliseconds are measured beside it, for people. Measured are searches as the servable makes
them: for more than C items, of which the nearest C count.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.errors import BuildError
from components.index_builder.config import IndexConfig
from components.index_builder.exact_index import ExactIndex
from components.index_builder.index import Effort, Index
from components.index_builder.portable_index import PortableIndex
from components.index_builder.scann_index import ScannIndex

log = logging.getLogger("evergreen.index_builder")

TIMED_QUERIES = 30
PRODUCTS_AT_A_TIME = 2**25  # of queries with all items: 128 MB
ROUNDING = 1e-5  # of a product, relative: what else adds up in another order


@dataclass(frozen=True)
class Point:
    """One way to search, and what it gave: the share of the true nearest C found, and the median of single queries."""

    index: str
    kind: str
    leaves: int
    scored_again: int
    recall: float
    p50_ms: float


@dataclass(frozen=True)
class Tuned:
    """The index that was chosen, and all that was tried on the way; `why_not` says what fell short, kind by kind."""

    index: Index
    chosen: Point
    tried: tuple[Point, ...]
    why_not: tuple[str, ...]


class Meter:
    """Measures, on real queries [Q, D], how many of the nearest C items a search for S ≥ C items finds."""

    def __init__(self, exact: ExactIndex, queries: np.ndarray, count: int, searched: int | None = None) -> None:
        self.count = count
        self.searched = searched or count
        self._table = exact.table
        self._queries = queries.astype(np.float32)
        self._at_a_time = max(1, min(256, PRODUCTS_AT_A_TIME // (exact.num_items + 1)))
        self._worst = self._products_of(exact)[:, -1]

    def measure(self, index: Index) -> Point:
        """Recall, where an item as near as the last of the true ones is as good as that; and milliseconds."""
        bar = self._worst - ROUNDING * np.abs(self._worst)
        recall = np.mean(self._products_of(index) >= bar[:, np.newaxis])
        effort = index.effort
        return Point(str(index), index.kind, effort.leaves, effort.reordered, float(recall), self._p50_ms(index))

    def _products_of(self, index: Index) -> np.ndarray:
        """What the found items really have, by the table: [Q, C]; −inf where none was found."""
        search = self._searches(index)
        found = []
        for begin in range(0, len(self._queries), self._at_a_time):
            some = tf.constant(self._queries[begin : begin + self._at_a_time])
            rows = search(some)[0]
            products = tf.einsum("qd,qcd->qc", some, tf.gather(self._table, rows))
            found.append(tf.where(rows > 0, products, -np.inf).numpy())
        return np.concatenate(found)

    def _p50_ms(self, index: Index) -> float:
        search = self._searches(index)
        taken = []
        for query in self._queries[: TIMED_QUERIES + 1]:
            begun = time.perf_counter()
            search(tf.constant(query[np.newaxis]))[1].numpy()
            taken.append(1000 * (time.perf_counter() - begun))
        return round(statistics.median(taken[1:] or taken), 3)

    def _searches(self, index: Index) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        return tf.function(
            lambda queries: tuple(found[:, : self.count] for found in index.search(queries, self.searched)),
            input_signature=[tf.TensorSpec([None, self._queries.shape[1]], tf.float32)],
            autograph=False,
        )


def choose(table: tf.Variable, queries: np.ndarray, config: IndexConfig, oversampling: int = 1) -> Tuned:
    """The index of a catalog [N + 1, D], of which row 0 is no item, tuned on queries [Q, D].

    `oversampling`: how many times C the servable searches for.
    Of kind `auto`: exact below `exact_below_items`; above, the first of ScaNN, portable and exact that reaches the bar.

    Raises:
      BuildError: the kind is fixed and misses the bar, or there is no query to judge it by, or one is not finite.
    """
    if not np.isfinite(queries).all():
        raise BuildError(
            f"{np.sum(~np.isfinite(queries).all(axis=1))} of {len(queries)} query embeddings are not finite; the model "
            "is broken: lower its learning rate, or look at the features of users and contexts"
        )
    exact = ExactIndex(table)
    count = min(config.num_candidates, exact.num_items)
    if not len(queries):
        return _unmeasured(exact, config)
    meter = Meter(exact, queries, count, min(oversampling * count, exact.num_items))
    embeddings = table.numpy()[1:]
    tried: list[Point] = []
    why_not: list[str] = []
    for kind in _kinds(config, exact.num_items):
        index = exact if kind == "exact" else _MAKES[kind](embeddings, config.num_leaves)
        of_kind = list(_tried(index, meter, config.min_recall))
        tried += of_kind
        good = [point for point in of_kind if point.recall >= config.min_recall]
        if good:
            chosen = min(good, key=lambda point: index.bytes_read(_effort(point)))
            index.effort = _effort(chosen)
            return Tuned(index, chosen, tuple(tried), tuple(why_not))
        highest = max(of_kind, key=lambda point: point.recall)
        why_not.append(
            f"{kind}: recall {highest.recall:.4f} of the nearest {count} at most ({highest.index}), "
            f"on {len(queries):,} queries; the bar is {config.min_recall:g}"
        )
        log.warning("index %s", why_not[-1])
    raise BuildError(
        f"index.kind {config.kind} misses its bar: {why_not[-1]}. Lower index.min_recall, or let index.kind be auto"
    )


_MAKES: dict[str, Callable[[np.ndarray, int | None], Index]] = {"scann": ScannIndex, "portable": PortableIndex}


def _kinds(config: IndexConfig, num_items: int) -> tuple[str, ...]:
    if config.kind != "auto":
        return (config.kind,)
    return ("exact",) if num_items < config.exact_below_items else ("scann", "portable", "exact")


def _tried(index: Index, meter: Meter, min_recall: float) -> Iterator[Point]:
    """Walks along the bar: more leaves where a search falls short, fewer reorderings where it does not.

    Recall grows with both, so no other effort that reaches the bar is less in both than one that is met here.
    """
    leaves, reorderings = index.efforts(meter.searched)
    row, column = 0, len(reorderings) - 1
    while row < len(leaves) and column >= 0:
        index.effort = Effort(leaves[row], reorderings[column])
        point = meter.measure(index)
        yield point
        if point.recall >= min_recall:
            column -= 1
        else:
            row += 1


def _unmeasured(exact: ExactIndex, config: IndexConfig) -> Tuned:
    if config.kind not in ("auto", "exact"):
        raise BuildError(
            f"index.kind is {config.kind}, and the eval split has no query to measure its recall by; "
            "let index.kind be auto (every item is scored then), or give the split more data"
        )
    why_not = ("the eval split has no query to judge an index by: every item is scored",)
    return Tuned(exact, Point(str(exact), exact.kind, 0, 0, 1.0, 0.0), (), why_not)


def _effort(point: Point) -> Effort:
    return Effort(point.leaves, point.scored_again)
