"""Training examples per second, and seconds until a model knows more than popularity, beside TFRS's tutorial:

    python benchmarks/training_speed.py                 fetches MovieLens 100K; or --data FOLDER

The peer is the code of TFRS's basic retrieval tutorial (tensorflow.org/recommenders/examples/basic_retrieval): a
user's and a film's embedding of 32 numbers, Adagrad at 0.1; once as published (batch of 8,192, top-k metrics in every
training step), once as it is fastest here (1,024, no metrics in training). Ours is the Trainer's model and loop with
the `mean` encoder at the same width. An example is a rating: in ours a target, learned from what stands before it.

The contenders take turns in one process of as many threads as are given; the first epoch of each turn traces its graph
and is not in the median. Quality is top-100 accuracy on a random fifth (protocols/top_100.py), looked at after each
epoch with the clock stopped; the clock runs from the model's making, tracing included.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to train. `make` returns a new run: `learn(epochs, callback)` and `scores(part)` of protocols.questions."""

    name: str
    make: Callable[[], tuple[Callable[[int, Any], None], Callable[[slice], np.ndarray]]]
    examples: int  # of an epoch
    epochs: int  # at most, until it is better than popularity
    speeds: list[float] = field(default_factory=list)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--epochs", default=1, show_default=True, help="Timed ones of each repeat, after the one that traces.")
@click.option("--patience", default=60.0, show_default=True, help="Seconds of training in which to beat popularity.")
def main(data: Path | None, threads: int, repeats: int, epochs: int, patience: float) -> None:
    """Prints examples per second, the ratios, and the seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import tensorflow as tf

    import trainer  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from protocols import top_100
    from protocols.ml_100k import arrays, read_strings, split
    from protocols.questions import scores_of, to_learn

    from trainer.baselines import Popularity

    raw = read_strings(data)
    ratings = arrays(raw.ratings, raw.items, raw.users)
    parts = split(len(ratings.rating), "test", seed=1)
    contenders = [*tutorials(raw, ratings, parts), ours(ratings, parts)]
    for repeat in range(repeats):
        for contender in contenders:
            timer = epoch_timer()
            learn, _ = contender.make()
            learn(1 + epochs, timer)
            contender.speeds.extend(contender.examples / seconds for seconds in timer.seconds[1:])
        click.echo(f"repeat {repeat + 1} of {repeats} done", err=True)
    judged = top_100.questions(ratings, parts)
    popularity = Popularity(ratings.num_items)
    popularity.fit(to_learn(top_100.by_user(ratings, parts.train, ratings.item)).sequences)
    floor = top_100.figures(judged, scores_of(popularity, judged), ratings.num_items)[0]
    published = statistics.median(contenders[0].speeds)
    print(f"\nMovieLens 100K, {len(parts.train):,} ratings to learn, {threads} threads, {repeats} × {epochs} epochs")
    print(f"{'':<34}{'examples/s':>12}{'× published':>13}   seconds to top-100 > {floor:.4f} (popularity)")
    for contender in contenders:
        speed = statistics.median(contender.speeds)
        told = until_better(contender, lambda s: top_100.figures(judged, s, ratings.num_items)[0], floor, patience)
        print(f"{contender.name:<34}{speed:>12,.0f}{speed / published:>12.1f}×   {told}")


def epoch_timer(
    judge: Callable[[], float] | None = None, floor: float = 0.0, patience_seconds: float = float("inf")
) -> Any:
    """A callback: `seconds` of each epoch; stops where `judge()` passes `floor`, or the seconds do their limit."""
    import tensorflow as tf

    class Timer(tf.keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []
            self.quality: list[float] = []
            self._began = time.perf_counter()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:  # the first one holds what came before: making the model, tracing
                self._began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self._began)
            if judge is not None:
                self.quality.append(judge())
                self.model.stop_training = self.quality[-1] > floor or sum(self.seconds) > patience_seconds

    return Timer()


def until_better(
    contender: Contender, judge: Callable[[Callable[[slice], np.ndarray]], float], floor: float, patience: float
) -> str:
    """Seconds of making, tracing and training until it passes the floor, in words."""
    timer = epoch_timer(lambda: judge(scores), floor, patience)
    learn, scores = contender.make()
    learn(contender.epochs, timer)
    spent, best = sum(timer.seconds), max(timer.quality)
    if best > floor:
        return f"{spent:.1f} s, {len(timer.seconds)} epochs"
    return f"never in {spent:.0f} s, {len(timer.seconds)} epochs: at best {best:.4f}"


def tutorials(raw: Any, ratings: Any, parts: Any) -> list[Contender]:
    """TFRS's basic retrieval tutorial, as published and as it is fastest."""
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    titles = [item[1] for item in raw.items]
    user_ids = np.array([user[0] for user in raw.users])
    train = tf.data.Dataset.from_tensor_slices(
        {
            "user_id": user_ids[ratings.user[parts.train]],
            "movie_title": np.array(titles)[ratings.item[parts.train] - 1],
        }
    )
    movies = tf.data.Dataset.from_tensor_slices(titles)

    class MovielensModel(tfrs.Model):
        def __init__(self, user_model: tf.keras.Model, movie_model: tf.keras.Model, has_metrics: bool) -> None:
            super().__init__()
            self.movie_model, self.user_model = movie_model, user_model
            self._has_metrics = has_metrics
            self.task = tfrs.tasks.Retrieval(
                metrics=tfrs.metrics.FactorizedTopK(candidates=movies.batch(128).map(movie_model))
            )

        def compute_loss(self, features: Any, training: bool = False) -> Any:  # AutoGraph reads annotations too
            user_embeddings = self.user_model(features["user_id"])
            positive_movie_embeddings = self.movie_model(features["movie_title"])
            has_metrics = self._has_metrics or not training
            return self.task(user_embeddings, positive_movie_embeddings, compute_metrics=has_metrics)

    def tower(vocabulary: np.ndarray) -> tf.keras.Model:
        return tf.keras.Sequential(
            [
                tf.keras.layers.StringLookup(vocabulary=vocabulary, mask_token=None),
                tf.keras.layers.Embedding(len(vocabulary) + 1, 32),
            ]
        )

    def make(batch_size: int, has_metrics: bool) -> tuple[Callable[[int, Any], None], Callable[[slice], np.ndarray]]:
        tf.keras.utils.set_random_seed(42)
        user_model, movie_model = tower(user_ids), tower(np.unique(titles))
        model = MovielensModel(user_model, movie_model, has_metrics)
        model.compile(optimizer=tf.keras.optimizers.Adagrad(learning_rate=0.1))
        shuffled = train.shuffle(100_000, seed=42, reshuffle_each_iteration=False)
        cached = shuffled.batch(batch_size).cache()

        def learn(epochs: int, callback: Any) -> None:
            model.fit(cached, epochs=epochs, verbose=0, callbacks=[callback])

        def scores(part: slice) -> np.ndarray:
            users = user_model(tf.constant(user_ids[ratings.user[parts.asked[part]]]))
            return tf.matmul(users, movie_model(tf.constant(titles)), transpose_b=True).numpy()

        return learn, scores

    size = len(parts.train)
    return [
        Contender(name="TFRS tutorial, as published", make=lambda: make(8_192, True), examples=size, epochs=100),
        Contender(name="TFRS tutorial, 1,024, no metrics", make=lambda: make(1_024, False), examples=size, epochs=500),
    ]


def ours(ratings: Any, parts: Any) -> Contender:
    """The Trainer's model and loop, retrieval alone, with the `mean` encoder at the tutorial's width."""
    import tensorflow as tf
    from protocols import top_100
    from protocols.learned import Unordered, plain_catalog, queries, table
    from protocols.ml_100k import by_user
    from protocols.questions import to_learn

    from trainer.config import ModelConfig, TrainerConfig
    from trainer.features import Features
    from trainer.inputs import batches
    from trainer.loop import learn as learn_epochs
    from trainer.loop import size
    from trainer.run import convert_no_keras_to_graphs
    from trainer.saved import build

    record = TrainerConfig(
        embedding_dim=32,
        history_encoder="mean",
        id_dropout=0.0,
        batch_positions=8_192,
        learning_rate=5e-3,
        epochs=30,
        ranking_weight=0.0,
    )
    config = ModelConfig(trainer=record, features=Features(interaction_types={"rating": 1.0}), max_history=64)
    learned = to_learn(by_user(ratings, parts.train, ratings.item))
    popularity = np.bincount(learned.sequences.rows, minlength=ratings.num_items + 1)
    asked = top_100.questions(ratings, parts, config.max_history)

    def make() -> tuple[Callable[[int, Any], None], Callable[[slice], np.ndarray]]:
        convert_no_keras_to_graphs()
        tf.keras.utils.set_random_seed(record.seed)
        model = build(config, plain_catalog(ratings.num_items, popularity), {})
        train = batches(Unordered(**vars(table(learned))), config, shuffle_seed=record.seed)
        found: dict[str, np.ndarray] = {}

        def learn(epochs: int, callback: Any) -> None:
            steps, _ = size(train)
            until = tf.keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: setattr(
                    model, "stop_training", model.stop_training or epoch + 1 >= epochs
                )
            )
            learn_epochs(model, train, steps, [callback, until])

        def scores(part: slice) -> np.ndarray:
            if part.start == 0:  # the first slice of a judgement: what was learned since the last one counts
                found["queries"], found["items"] = queries(model, asked), model.embed_catalog().numpy()[1:]
            return found["queries"][part] @ found["items"].T

        return learn, scores

    return Contender(
        name="Evergreen, mean encoder", make=make, examples=int(learned.is_target.sum()), epochs=record.epochs
    )


if __name__ == "__main__":
    main()
