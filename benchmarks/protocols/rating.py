"""MovieLens 100K: which rating a user gives, RMSE over a random fifth of the ratings, some seeds.

The five ratings are the interaction types. The ranking head gives each type of an interaction a logit, so a rating is
expected to be Σ_r r · P(r | the user rates the film); the history before it holds films and the ratings they got. Every
user is known from training, so the query tower has a user id too (`learn_user_ids` of a contract).
"""

from pathlib import Path

import numpy as np
import scipy.sparse as sparse
import tensorflow as tf
from scipy.sparse.linalg import spsolve

from trainer.config import ModelConfig, TrainerConfig
from trainer.features import USER_KEY, Feature, Features
from trainer.model import Recommender

from .learned import learned, plain_catalog, queries
from .ml_100k import ITEM_FEATURES, USER_FEATURES, Ratings, Split, by_user, read, split
from .options import Options
from .questions import Examples, to_answer, to_learn
from .table import Line, Table

MAX_HISTORY = 256
PAIRS_AT_A_TIME = 8_192
GRADES = np.arange(1, 6)
USER_ID = Feature(name=USER_KEY)
RECORD = TrainerConfig(
    embedding_dim=32,
    history_encoder="mean",
    dropout=0.5,
    embedding_l2=0.025,
    kernel_l2=0.2,
    id_dropout=0.0,
    normalized=False,
    temperature=0.35,
    batch_positions=8_192,
    learning_rate=2e-2,
    epochs=30,
    patience_epochs=None,
    validation_examples=2_000,
    ranking_weight=100.0,
    ranking_negatives=0,
    ranking_gradient=1.0,
    graded_types=True,
)
PUBLISHED = (
    Line("TFRS tutorial, ranking", (1.10,), "published"),
    Line("TFRS DCN", (0.9326,), "published"),
    Line("keras-rs DCN", (0.9136,), "± .003 over its seeds"),
)
BAR = (0.915,)


def rmse(predicted: np.ndarray, rated: np.ndarray) -> float:
    """Root of the mean squared error: [T], [T]."""
    return float(np.sqrt(np.mean((predicted - rated) ** 2)))


def bias_ratings(ratings: Ratings, parts: Split, regularization: float = 5.0) -> np.ndarray:
    """μ + b_u + b_i by ridge regression, the least of Σ (r − μ − b_u − b_i)² + λ (Σ b_u² + Σ b_i²): [T].

    Koren et al. 2009, eq. 4. Solved as a sparse least squares problem.
    """
    users, items = ratings.user, ratings.num_users + ratings.item - 1
    width = ratings.num_users + ratings.num_items

    def pairs(chosen: np.ndarray) -> sparse.csr_matrix:
        place = np.repeat(np.arange(len(chosen)), 2)
        columns = np.stack([users[chosen], items[chosen]], axis=1).ravel()
        return sparse.csr_matrix((np.ones(len(place)), (place, columns)), (len(chosen), width))

    known = pairs(parts.train)
    mean = ratings.rating[parts.train].mean()
    equations = (known.T @ known + regularization * sparse.identity(width)).tocsc()
    biases = spsolve(equations, known.T @ (ratings.rating[parts.train] - mean))
    return np.clip(mean + pairs(parts.asked) @ biases, 1, 5)


def questions(ratings: Ratings, parts: Split, has_features: bool = False) -> Examples:
    """One per held-out rating: the films that its user rated in the train part, how, and the film."""
    films = by_user(ratings, parts.train, ratings.item)
    grades = by_user(ratings, parts.train, ratings.rating)
    users = ratings.user[parts.asked]
    return to_answer(
        [films[user][-MAX_HISTORY:] for user in users],
        ratings.item[parts.asked],
        [grades[user][-MAX_HISTORY:] for user in users],
        {name: values[users] for name, values in described(ratings, has_features).items()},
    )


def described(ratings: Ratings, has_features: bool) -> dict[str, np.ndarray]:
    """What is known of each user: the id, and features where they are wanted."""
    return {USER_ID.name: np.arange(ratings.num_users) + 1, **(ratings.users if has_features else {})}


def expected_ratings(model: Recommender, asked: Examples) -> np.ndarray:
    """Σ_r r · e^{z_r} / Σ_s e^{z_s} of the ranking head's logits z: [T]."""
    found = queries(model, asked)
    items = model.embed_catalog()
    expected = []
    for begin in range(0, len(found), PAIRS_AT_A_TIME):
        rows = tf.constant(asked.targets[begin : begin + PAIRS_AT_A_TIME])
        logits = model.outcome_logits(found[begin : begin + PAIRS_AT_A_TIME], tf.gather(items, rows), rows)
        expected.append(tf.linalg.matvec(tf.nn.softmax(logits), GRADES.astype(np.float32)).numpy())
    return np.concatenate(expected)


def run(path: Path | None, options: Options) -> Table:
    """Reads; per seed splits, learns, judges; and the mean over the seeds."""
    ratings = read(path)
    ours, biases = [], []
    for seed in options.seeds:
        parts = split(len(ratings.rating), options.judged, seed)
        rated = ratings.rating[parts.asked]
        biases.append(rmse(bias_ratings(ratings, parts), rated))
        if options.is_learned:
            model, seconds = teach(ratings, parts, options, seed)
            asked = questions(ratings, parts, options.has_features)
            ours.append(
                Line(f"Evergreen, seed {seed}", (rmse(expected_ratings(model, asked), rated),), f"{seconds:.0f} s")
            )
    if len(ours) > 1:
        found = [line.figures[0] for line in ours if line.figures[0] is not None]
        ours.append(Line(f"Evergreen, mean of {len(found)}", (float(np.mean(found)),), f"± {np.std(found):.4f}"))
    return Table(
        title=f"Ratings, MovieLens 100K ({options.judged}): RMSE, random split",
        metrics=("RMSE",),
        ours=ours,
        baselines=[
            Line(f"user + item bias, mean of {len(biases)}", (float(np.mean(biases)),), f"± {np.std(biases):.4f}")
        ],
        published=PUBLISHED,
        bar=BAR,
        less_is_better=("RMSE",),
    )


def teach(ratings: Ratings, parts: Split, options: Options, seed: int) -> tuple[Recommender, float]:
    """One training on the train part; and its seconds."""
    has_features = options.has_features
    declared = Features(
        user=(USER_ID, *(USER_FEATURES if has_features else ())),
        item=ITEM_FEATURES if has_features else (),
        interaction_types={str(grade): 1.0 for grade in GRADES},
    )
    config = ModelConfig(trainer=options.config(RECORD, seed), features=declared, max_history=MAX_HISTORY)
    films, grades = (by_user(ratings, parts.train, column) for column in (ratings.item, ratings.rating))
    train = to_learn(films, grades, described(ratings, has_features))
    sample = np.random.default_rng(0).permutation(len(parts.asked))[: config.trainer.validation_examples]
    result = learned(
        config,
        plain_catalog(
            ratings.num_items,
            np.bincount(train.sequences.rows, minlength=ratings.num_items + 1),
            ratings.items if has_features else {},
            ratings.item_vocabularies if has_features else {},
        ),
        train,
        questions(ratings, Split(train=parts.train, asked=parts.asked[sample]), has_features),
        side_vocabularies={
            USER_ID.name: np.array([str(user).encode() for user in range(ratings.num_users)]),
            **(ratings.user_vocabularies if has_features else {}),
        },
        minutes=options.minutes,
        has_order=False,
    )
    return result.model, result.seconds
