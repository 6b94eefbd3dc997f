"""Milliseconds of a whole request, in process: retrieve, filter, exclude, rank, apply rules, explain.

    python benchmarks/servable.py --servable .evergreen/movielens/serving/recommender/VERSION   one that was pushed
    python benchmarks/servable.py --items 1000000                                              one of made items

The made one has the Trainer's model at its defaults with vectors in clusters (protocols/vectors.py), 10,000 users with
50 items each, a feature of 20 common values and one of 10,000 rare ones; `--kind` as `index.kind`. What is asked is
what the model server asks: numpy in, numpy out, one request at a time.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `serving` is the package, not the script beside this

HISTORY, USERS, COMMON, RARE = 50, 10_000, 20, 10_000


@click.command(help=__doc__)
@click.option("--servable", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--items", "num_items", default=100_000, show_default=True)
@click.option("--kind", default="auto", show_default=True)
@click.option("--min-recall", default=0.99, show_default=True)
@click.option("--requests", default=300, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(servable: Path | None, num_items: int, kind: str, min_recall: float, requests: int, threads: int) -> None:
    """Packs if it has to, loads, asks, prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import tensorflow as tf

    import trainer  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)
    from serving.model import load_model, register_scann_ops

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    register_scann_ops()
    with tempfile.TemporaryDirectory() as folder:
        if servable is None:
            began = time.perf_counter()
            servable = packed(Path(folder), num_items, kind, min_recall)
            gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
            print(f"packed in {time.perf_counter() - began:.0f} s, at most {gigabytes:.1f} GB of memory")
        release = json.loads((servable / "assets.extra/release.json").read_text())
        size = sum(path.stat().st_size for path in servable.rglob("*") if path.is_file()) / 2**20
        began = time.perf_counter()
        model = load_model(servable, version=1)
        model.warm_up()
        print(f"loaded in {time.perf_counter() - began:.1f} s, {size:,.0f} MB on disk")
        recall = release["index"]["recall"]
        print(f"{release['items']:,} items, {release['index']['effort']}, recall {recall and round(recall, 4)}\n")
        print(f"{'':<44}     p50      p99   ms, {threads} threads")
        for name, signature, inputs in questions(servable, model.signatures):
            ask = partial(model.predict, signature)
            taken = []
            for n in range(requests + 10):
                request = inputs(n)
                began = time.perf_counter()
                ask(request)
                taken.append(1000 * (time.perf_counter() - began))
            median, high = statistics.median(taken[10:]), np.quantile(taken[10:], 0.99)
            print(f"{name:<44}{median:8.2f} {high:8.2f}")


def questions(servable: Path, signatures):
    """Name, signature, and the n-th request of each kind."""
    canary = json.loads((servable / "assets.extra/contract.json").read_text())["canary"]
    users, items = canary["user_ids"], canary["item_ids"]
    blank = signatures["recommend"].dummy_inputs()

    def recommend(n: int, **given: list[str]) -> dict[str, np.ndarray]:
        said = {name: np.array([values], dtype=object) for name, values in given.items()}
        return {**blank, "user_id": np.array([users[n % len(users)]], dtype=object), **said}

    hundred = [items[n % len(items)] if n < len(items) else f"nothing {n}" for n in range(100)]
    rare = canary.get("rare_value") or canary["allow"]
    yield "serving_default", "serving_default", lambda n: {"user_id": np.array([users[n % len(users)]], dtype=object)}
    yield "recommend, stored history", "recommend", recommend
    yield "recommend, a history of 3", "recommend", lambda n: recommend(n, history=items[:3])
    yield "recommend, 100 exclusions", "recommend", lambda n: recommend(n, exclude=hundred)
    yield f"recommend, allow {canary['allow']}", "recommend", lambda n: recommend(n, allow=[canary["allow"]])
    if rare != canary["allow"]:
        yield f"recommend, allow {rare}", "recommend", lambda n: recommend(n, allow=[rare])
    yield "recommend, a stranger", "recommend", lambda n: {**blank, "user_id": np.array([f"?{n}"], dtype=object)}
    yield "similar_items", "similar_items", lambda n: {"item_id": np.array([items[n % len(items)]], dtype=object)}


def packed(folder: Path, num_items: int, kind: str, min_recall: float) -> Path:
    """A servable of made items, by the parts that IndexBuilder puts together."""
    import tensorflow as tf
    import tensorflow_transform as tft
    from protocols import vectors

    from components.index_builder.config import IndexConfig
    from components.index_builder.filters import Filters
    from components.index_builder.servable import OVERSAMPLING, Servable
    from components.index_builder.signatures import signatures
    from components.index_builder.tune import choose
    from components.index_builder.users import UserState
    from trainer.catalog import Catalog
    from trainer.config import ModelConfig, TrainerConfig
    from trainer.features import Feature, Features
    from trainer.saved import build

    rng = np.random.default_rng(0)
    features = Features(interaction_types={"view": 1.0}, item=(Feature(name="genre"), Feature(name="brand")))
    trainer_config = TrainerConfig()
    dim = trainer_config.embedding_dim
    embeddings, queries = vectors.clustered(num_items, dim, 1_000)
    catalog = Catalog(
        ids=np.array([f"item{n}".encode() for n in range(num_items)]),
        features={
            "genre": np.append(0, rng.integers(1, COMMON + 1, num_items)),
            "brand": np.append(0, rng.integers(1, RARE + 1, num_items)),
        },
        popularity=np.append(0, rng.pareto(1.0, num_items)).astype(np.float32),
        vocabularies={
            "genre": np.array([f"g{n}".encode() for n in range(COMMON)]),
            "brand": np.array([f"b{n}".encode() for n in range(RARE)]),
        },
    )
    model = build(ModelConfig(trainer=trainer_config, features=features, max_history=HISTORY), catalog, {})
    table = tf.Variable(np.vstack([np.zeros([1, dim], np.float32), embeddings]), trainable=False, name="embeddings")
    histories = rng.integers(0, num_items - HISTORY, [USERS, 1]) + np.arange(HISTORY)  # neighbours: one cluster mostly
    histories = np.vstack([np.zeros([1, HISTORY]), histories + 1]).astype(np.int64)
    users = UserState(
        ids=np.array([f"user{n}".encode() for n in range(USERS)]),
        items=histories,
        types=(histories > 0).astype(np.int64),
        features={},
    )
    config = IndexConfig(kind=kind, min_recall=min_recall)
    tuned = choose(table, queries, config, OVERSAMPLING)
    filters = Filters(catalog, ["genre", "brand"])
    servable = Servable(model, table, tuned.index, users, filters, config)
    path = folder / "servable"
    servable.save(str(path), signatures(servable, tft.TFTransformOutput(transform_graph(folder, features))))
    canary = {
        "user_ids": [user.decode() for user in users.ids[:100].tolist()],
        "item_ids": [item.decode() for item in catalog.ids[:: num_items // 100].tolist()],
        "allow": "genre=g1",
        "rare_value": "brand=b1",
    }
    index = {"effort": str(tuned.index), "recall": tuned.chosen.recall}
    (path / "assets.extra").mkdir()
    (path / "assets.extra/contract.json").write_text(json.dumps({"canary": canary}))
    (path / "assets.extra/release.json").write_text(json.dumps({"items": num_items, "index": index}))
    return path


def transform_graph(folder: Path, features) -> str:
    """What Transform would leave for these features: the signatures parse examples with it."""
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform.beam as tft_beam
    from pydantic import TypeAdapter
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from trainer.features import Features
    from trainer.preprocessing import preprocessing_fn

    row = {"user_id": ["u"], "item_ids": ["a"], "interaction_types": ["view"], "timestamps": [1], "is_target": [1]}
    types = {key: tf.int64 if isinstance(values[0], int) else tf.string for key, values in row.items()}
    spec = {key: tf.io.VarLenFeature(dtype) for key, dtype in types.items()}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    custom_config = {"features": TypeAdapter(Features).dump_json(features).decode()}
    graph = str(folder / "graph")
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        data = (pipeline | beam.Create([row]), metadata)
        learned = data | tft_beam.AnalyzeDataset(partial(preprocessing_fn, custom_config=custom_config))
        _ = learned | tft_beam.WriteTransformFn(graph)
        _ = metadata | tft_beam.WriteMetadata(f"{graph}/metadata", pipeline)
    return graph


if __name__ == "__main__":
    main()
