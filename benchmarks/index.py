"""Recall and latency of the servable's index, beside exact search, hnswlib and faiss in the same run:

    python benchmarks/index.py                             1,000,000 made items × 64, in clusters
    python benchmarks/index.py --data gowalla-lightgcn     the 41k places of Gowalla, factorised; users as queries

Every contender gets the least effort with which it finds `--min-recall` of the true nearest K on one half of the
queries; recall, milliseconds and queries per second are of the other half. The contenders take turns, `--rounds` times;
milliseconds are the median of 100 queries asked one after the other, queries per second are of
the same in batches of 20. Peers are there where they are installed:

    uv pip install --python .venv/bin/python -r benchmarks/requirements.txt
"""

import importlib.util
import os
import resource
import statistics
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np


class Contender(ABC):
    """An index. `search` returns positions [Q, K] of items, 0..N − 1, and −1 where none was found."""

    name: str
    efforts: tuple[Any, ...] = (None,)
    effort: Any = None

    @abstractmethod
    def search(self, queries: np.ndarray) -> np.ndarray: ...


@dataclass
class Result:
    """What one contender gave."""

    contender: Contender
    build_seconds: float
    recall: float
    milliseconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)


class Ours(Contender):
    """An index of components.index_builder as the servable runs it; its own tuner finds the effort."""

    def __init__(self, table, queries: np.ndarray, kind: str, k: int, min_recall: float) -> None:
        import tensorflow as tf

        from components.index_builder.config import IndexConfig
        from components.index_builder.tune import choose

        tuned = choose(table, queries, IndexConfig(kind=kind, top_k=1, num_candidates=k, min_recall=min_recall))
        self.name = str(tuned.index)
        self._search = tf.function(
            lambda asked: tuned.index.search(asked, k)[0],
            input_signature=[tf.TensorSpec([None, queries.shape[1]], tf.float32)],
            autograph=False,
        )

    def search(self, queries: np.ndarray) -> np.ndarray:
        return self._search(queries).numpy() - 1


class Hnsw(Contender):
    efforts = (100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400)

    def __init__(self, items: np.ndarray, k: int, threads: int) -> None:
        import hnswlib

        self._k = k
        self._index = hnswlib.Index(space="ip", dim=items.shape[1])
        self._index.init_index(max_elements=len(items), M=16, ef_construction=200, random_seed=1)
        self._index.set_num_threads(threads)
        self._index.add_items(items)

    @property
    def name(self) -> str:
        return f"hnswlib, M 16, ef {self.effort}"

    def search(self, queries: np.ndarray) -> np.ndarray:
        self._index.set_ef(self.effort)
        return self._index.knn_query(queries, k=self._k)[0].astype(np.int64)


class FaissIvf(Contender):
    efforts = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

    def __init__(self, items: np.ndarray, k: int, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._k = k
        self._leaves = round(4 * len(items) ** 0.5)
        quantizer = faiss.IndexFlatIP(items.shape[1])
        self._index = faiss.IndexIVFFlat(quantizer, items.shape[1], self._leaves, faiss.METRIC_INNER_PRODUCT)
        self._index.train(items[np.random.default_rng(0).permutation(len(items))[: 40 * self._leaves]])
        self._index.add(items)
        self._quantizer = quantizer  # the index only points to it

    @property
    def name(self) -> str:
        return f"faiss IVF, {self.effort} of {self._leaves:,} leaves"

    def search(self, queries: np.ndarray) -> np.ndarray:
        self._index.nprobe = self.effort
        return self._index.search(queries, self._k)[1]


class FaissExact(Contender):
    name = "faiss, exact"

    def __init__(self, items: np.ndarray, k: int) -> None:
        import faiss

        self._k = k
        self._index = faiss.IndexFlatIP(items.shape[1])
        self._index.add(items)

    def search(self, queries: np.ndarray) -> np.ndarray:
        return self._index.search(queries, self._k)[1]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--items", "num_items", default=1_000_000, show_default=True, help="Made ones, without --data.")
@click.option("--dim", default=64, show_default=True)
@click.option("--k", default=100, show_default=True)
@click.option("--min-recall", default=0.99, show_default=True)
@click.option("--queries", "num_queries", default=1_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--peers/--no-peers", default=True, show_default=True)
def main(
    data: Path | None,
    num_items: int,
    dim: int,
    k: int,
    min_recall: float,
    num_queries: int,
    rounds: int,
    threads: int,
    peers: bool,
) -> None:
    """Builds, tunes, measures, prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import tensorflow as tf

    import trainer  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from protocols import vectors

    items, queries = vectors.gowalla(data, dim, num_queries) if data else vectors.clustered(num_items, dim, num_queries)
    tuned_on, judged = queries[::2], queries[1::2]
    table = tf.Variable(np.vstack([np.zeros([1, dim], np.float32), items]))
    before = peak_gb()
    makes = {
        kind: lambda kind=kind: Ours(table, tuned_on, kind, k, min_recall) for kind in ("exact", "scann", "portable")
    }
    if peers and importlib.util.find_spec("hnswlib"):
        makes["hnswlib"] = lambda: Hnsw(items, k, threads)
    if peers and importlib.util.find_spec("faiss"):
        makes["faiss IVF"] = lambda: FaissIvf(items, k, threads)
        makes["faiss exact"] = lambda: FaissExact(items, k)
    truth: dict[str, np.ndarray] = {}
    results: list[Result] = []
    for name, make in makes.items():
        began = time.perf_counter()
        contender = make()
        seconds = time.perf_counter() - began
        if name == "exact":
            truth = {"tuned": answers(contender, tuned_on), "judged": answers(contender, judged)}
        for effort in contender.efforts:
            contender.effort = effort
            if recall(answers(contender, tuned_on), truth["tuned"]) >= min_recall:
                break
        results.append(Result(contender, seconds, recall(answers(contender, judged), truth["judged"])))
        click.echo(f"{contender.name}: built and tuned in {seconds:.1f} s", err=True)
        if name == "portable":
            click.echo(f"memory: {before:.1f} GB before, {peak_gb():.1f} GB at most while ours were built", err=True)
    for _ in range(rounds):
        for result in results:
            measure(result, judged)
    show(results, f"{len(items):,} items × {dim}, nearest {k}, {threads} threads, {len(judged)} queries")


def answers(contender: Contender, queries: np.ndarray) -> np.ndarray:
    """Twenty queries at a time: exact search holds all products of a batch."""
    return np.concatenate([contender.search(queries[begin : begin + 20]) for begin in range(0, len(queries), 20)])


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """Mean share of the true nearest that were found: [Q, K] each."""
    return float(np.mean([np.isin(f, t).mean() for f, t in zip(found, true, strict=True)]))


def measure(result: Result, queries: np.ndarray) -> None:
    """The first hundred queries alone, then in batches."""
    asked = queries[:100]
    result.contender.search(asked[:1])
    for query in asked:
        began = time.perf_counter()
        result.contender.search(query[np.newaxis])
        result.milliseconds.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    answers(result.contender, asked)
    result.per_second.append(len(asked) / (time.perf_counter() - began))


def show(results: list[Result], title: str) -> None:
    """A line per contender; ratios to the faster exact search."""
    exact = min(statistics.median(r.milliseconds) for r in results if r.contender.name.endswith("exact"))
    width = max(len(result.contender.name) for result in results)
    print(f"\n{title}\n{'':{width}}   recall   ms alone   × exact   queries/s   build")
    for result in results:
        alone = statistics.median(result.milliseconds)
        print(
            f"{result.contender.name:<{width}}   {result.recall:.4f}   {alone:8.3f}   {exact / alone:7.1f}"
            f"   {statistics.median(result.per_second):9,.0f}   {result.build_seconds:3.0f} s"
        )


def peak_gb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
