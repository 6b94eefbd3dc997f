"""No skew between training and serving: the Trainer's model and the served one, on the raw users of a real run.

    python benchmarks/parity.py --pipeline movielens      the newest run that packed a servable

For every user: the raw example that ExampleGen wrote, through the Transform graph and the Trainer's model, eagerly and
as a graph; and the user's id alone, through a model server, by gRPC and by REST. Compared are query embeddings and the
scores of items (`rank`). Differences are those of float32 sums in another order.
"""

import glob
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `serving` is the package, not the script beside this

ITEMS_RANKED, USERS_AT_A_TIME = 50, 256


@click.command(help=__doc__)
@click.option("--pipeline", help="Name of the pipeline; not needed when there is only one.")
@click.option("--users", "at_most", default=1_000, show_default=True)
def main(pipeline: str | None, at_most: int) -> None:
    """Compares and prints; ends with 1 where something differs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from pipeline.commands.options import places_of
    from pipeline.runs import runs

    packed = [node for run in runs(places_of(pipeline)) if (node := run.node("IndexBuilder")) and node.outputs]
    if not packed:
        raise click.ClickException("no run has packed a servable yet; run the pipeline once")
    places = {**packed[0].inputs, **packed[0].outputs}
    model, users, servable = (Path(places[name].uri) for name in ("model", "users", "servable"))
    found = compare(model / "Format-Serving", users / "Split-all", servable, at_most)
    print(f"{'greatest difference from the eager model':<44}{'embedding':>12}{'score':>12}")
    for path, (embedding, score) in found.items():
        print(f"{path:<44}{embedding:>12.1e}{score:>12.1e}")
    if max(max(differences) for differences in found.values()) > 1e-3:
        raise click.ClickException("training and serving differ")


def compare(model_path: Path, users_path: Path, servable: Path, at_most: int) -> dict[str, tuple[float, float]]:
    """Greatest differences of embeddings and of scores from those of the eager model, by the way they were got."""
    import trainer  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)
    from serving.client import Client
    from serving.server import ServerConfig, start
    from trainer.saved import load

    model = load(model_path)
    differences: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder) / "serving"
        base_path.mkdir()
        (base_path / "1").symlink_to(servable.absolute())
        server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0))
        try:
            server.wait_until_ready(120)
            with Client("127.0.0.1", server.port, server.rest_api_port, deadline_seconds=120) as client:
                for ids, items, trained in trained_answers(model, model_path, users_path, Path(folder), at_most):
                    asked = [model.catalog.ids[row - 1] for row in items]
                    answers = {"the Trainer's model as a graph": trained["graph"]}
                    for name, ask in (("served, gRPC", client.predict), ("served, REST", client.predict_rest)):
                        embedding = ask("embed_query", {"user_id": ids})["embedding"]
                        scores = ask("rank", {"user_id": ids, "item_ids": [asked] * len(ids)})["scores"]
                        answers[name] = (embedding, scores)
                    for name, answer in answers.items():
                        worst = [np.abs(mine - his).max() for mine, his in zip(answer, trained["eager"], strict=True)]
                        before = differences.get(name, (0.0, 0.0))
                        differences[name] = (max(before[0], float(worst[0])), max(before[1], float(worst[1])))
        finally:
            server.stop()
    return differences


def trained_answers(
    model: Any, model_path: Path, users_path: Path, folder: Path, at_most: int
) -> Iterator[tuple[list[bytes], np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """Some users at a time: ids [B], rows of the items that are scored [N], and what the model says of them, both ways.

    Users of whom the model knows no item are left out: popularity answers them, not the model.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.index_builder.pack import sequences
    from trainer.ranking import log_worth

    table = model.embed_catalog().numpy()
    table[0] = 0
    weights = tf.constant(list(model.config.features.interaction_types.values()), tf.float32)
    rows = np.linspace(1, model.catalog.size, min(ITEMS_RANKED, model.catalog.size)).round().astype(np.int64)
    known = {item: row for row, item in enumerate(model.catalog.ids.tolist(), start=1)}

    def answer(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        queries = model.target_queries(batch, tf.gather(tf.constant(table), batch["item_rows"]))
        pairs = tf.repeat(queries[:, tf.newaxis], len(rows), axis=1)
        candidates = tf.repeat(tf.constant(table[rows])[tf.newaxis], tf.shape(queries)[0], axis=0)
        all_rows = tf.repeat(tf.constant(rows)[tf.newaxis], tf.shape(queries)[0], axis=0)
        products = tf.einsum("bd,bnd->bn", queries, candidates) / model.config.trainer.temperature
        return queries, products + log_worth(model.outcome_logits(pairs, candidates, all_rows), weights)

    as_graph = tf.function(answer, autograph=False, reduce_retracing=True)
    transform = tft.TFTransformOutput(str(model_path / "transform_graph"))
    layer_names = [(f.name, f.type) for f in model.config.features.context]
    for ids, examples in _with_a_target(sorted(glob.glob(f"{users_path}/*")), layer_names, known, at_most):
        path = folder / "some.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for example in examples:
                writer.write(example)
        (batch,) = sequences(model, transform, [str(path)], len(ids))
        given = {"eager": answer(batch), "graph": as_graph(batch)}
        yield ids, rows, {name: tuple(part.numpy() for part in parts) for name, parts in given.items()}


def _with_a_target(
    files: list[str], context: list[tuple[str, str]], known: dict[bytes, int], at_most: int
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Users as the Trainer reads sequences: a target a second after the last interaction, in an unknown context."""
    import tensorflow as tf

    ids, examples = [], []
    for serialized in tf.data.TFRecordDataset(files, compression_type="GZIP").take(at_most).as_numpy_iterator():
        example = tf.train.Example.FromString(serialized)
        feature = example.features.feature
        items = feature["item_ids"].bytes_list.value
        if not any(item in known for item in items):
            continue
        feature["is_target"].int64_list.value.extend([0] * len(items) + [1])
        items.append(next(iter(known)))
        feature["interaction_types"].bytes_list.value.append(feature["interaction_types"].bytes_list.value[-1])
        feature["timestamps"].int64_list.value.append(feature["timestamps"].int64_list.value[-1] + 1)
        for name, kind in context:  # what is stored of a user has none, and the target's is unknown
            values, unknown = (
                (feature[name].float_list, np.nan) if kind == "number" else (feature[name].bytes_list, b"")
            )
            values.value.extend([unknown] * (len(items) - len(values.value)))
        ids.append(feature["user_id"].bytes_list.value[0])
        examples.append(example.SerializeToString())
        if len(ids) == USERS_AT_A_TIME:
            yield ids, examples
            ids, examples = [], []
    if ids:
        yield ids, examples


if __name__ == "__main__":
    main()
