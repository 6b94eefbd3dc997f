"""Seconds per component of a run, beside the pure work in it: training steps, index build, evaluation. One command:

    make bench            (or: python benchmarks/pipeline_time.py --config … --data … --span N)

Runs the pipeline for one span in an empty home, then does the pure work again on that run's own artifacts, with nothing
around it: `fit` of the same model on the same batches, the index alone, both servables' answers to the eval examples.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `serving` is the package, not the script beside this

ROOT = Path(__file__).resolve().parent.parent


@click.command(help=__doc__)
@click.option("--config", default=ROOT / "examples/movielens/config.yaml", type=click.Path(path_type=Path))
@click.option("--data", help="Instead of the configuration's data_root.")
@click.option("--span", default=2, show_default=True)
def main(config: Path, data: str | None, span: int) -> None:
    """Prints two tables and their difference."""
    started = time.perf_counter()
    from pipeline import local_runner, runs
    from pipeline.config import read_config
    from pipeline.places import Places

    imports = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as home:
        tree = read_config(config, data)
        places = Places(Path(home), tree.name)
        started = time.perf_counter()
        outcome = local_runner.run(tree, places, span)
        total = time.perf_counter() - started
        assert outcome is not None
        print(local_runner.tell(outcome))
        nodes = {node.id: node for node in runs.run(places, outcome.run_id).nodes}
        pure = pure_work(nodes)
    print(f"\n{'imports':<26}{imports:8.1f} s")
    for node in nodes.values():
        print(f"{node.id:<26}{node.seconds:8.1f} s")
    print(f"{'run, without imports':<26}{total:8.1f} s\n")
    for name, seconds in pure.items():
        print(f"{'pure ' + name:<26}{seconds:8.1f} s")
    print(f"{'beyond pure work':<26}{total - sum(pure.values()):8.1f} s")


def pure_work(nodes: dict) -> dict[str, float]:
    """Seconds of the work that no pipeline can save, done on the artifacts of a run."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.evaluator.score import score
    from components.index_builder.config import IndexConfig
    from components.index_builder.pack import real_queries
    from components.index_builder.servable import OVERSAMPLING
    from components.index_builder.tune import choose
    from trainer.inputs import RowLookup, batches, read_sequences
    from trainer.loop import fit
    from trainer.saved import build, load

    logging.getLogger("evergreen").setLevel(logging.WARNING)

    def files(node_id: str, channel: str, split: str) -> list[str]:
        return sorted(map(str, (Path(nodes[node_id].outputs[channel].uri) / f"Split-{split}").glob("*")))

    model_path = Path(nodes["Trainer"].outputs["model"].uri) / "Format-Serving"
    trained = load(model_path)
    transform = tft.TFTransformOutput(str(model_path / "transform_graph"))
    features = trained.config.features
    items = RowLookup(trained.catalog.ids, "items")
    types = RowLookup([name.encode() for name in features.interaction_types], "types")
    source = (transform, features, items, types)
    train, validation = (
        batches(
            read_sequences(files("Transform", "transformed_examples", split), *source),
            trained.config,
            shuffle_seed=seed,
        )
        for split, seed in (("train", 1), ("eval", None))
    )
    fresh = build(trained.config, trained.catalog, trained.side_vocabularies)
    eval_files = files("InteractionExampleGen", "examples", "eval")
    table = tf.Variable(trained.embed_catalog())
    queries = real_queries(trained, table, transform, eval_files)
    servable = Path(nodes["IndexBuilder"].outputs["servable"].uri)
    with tempfile.TemporaryDirectory() as logs:
        return {
            "training and validation": seconds_of(lambda: fit(fresh, train, validation, Path(logs))),
            "index": seconds_of(lambda: choose(table, queries, IndexConfig(), OVERSAMPLING)),
            "evaluation": seconds_of(lambda: score(servable, eval_files, 50_000)),
            "saved model": seconds_of(lambda: tf.saved_model.load(str(servable))),
        }


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
